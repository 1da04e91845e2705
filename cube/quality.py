"""Which pixels of a scene are clear, from its quality band: bit fields and classes.

A spec is data: it says what makes a pixel unclear, and survives in the digest of whatever is
made with it. Quality bands are read as stored, nearest neighbour: a mean of two flags is none.
"""

from __future__ import annotations

import math
import operator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cube.errors import SourceError, SpecError

FloatArray = npt.NDArray[np.floating[Any]]
BoolArray = npt.NDArray[np.bool_]

_FIELD_BITS = 32
_EXACT_IN_FLOAT32 = 2**24


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Flag:
    """A condition on a number within a bit field.

    Attributes:
        bit: Its lowest bit; 0 is the least significant of the field.
        width: Its bits; confidences often have two.
        at_least: True where the number is this or more; 1..2**width - 1.
    """

    bit: int
    width: int = 1
    at_least: int = 1

    def __post_init__(self) -> None:
        for name in ("bit", "width", "at_least"):
            _set_whole(self, name)
        if self.bit < 0 or self.width < 1 or self.bit + self.width > _FIELD_BITS:
            raise SpecError(
                f"A flag must lie within bits 0..{_FIELD_BITS - 1}, with a width of 1 or more. "
                f"Received bit={self.bit}, width={self.width}."
            )
        if not 1 <= self.at_least < 2**self.width:
            raise SpecError(
                f"A flag of {self.width} bits can be at least 1..{2**self.width - 1}. "
                f"Received at_least={self.at_least}."
            )

    def of(self, field: npt.NDArray[np.uint32]) -> BoolArray:
        """Where it is true; uint32 bit fields of any shape."""
        number = (field >> np.uint32(self.bit)) & np.uint32(2**self.width - 1)
        return number >= np.uint32(self.at_least)


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityBits:
    """Clear is what none of some combinations of flags rejects.

    Attributes:
        band: The quality band.
        reject: A pixel is rejected where every flag of any one of these groups is true. Their
            order says nothing, and is not kept.
        complete: A pixel of a scene counts only where all its bands are observed.
        grow_px: A rejected pixel also rejects those whose centre lies within so many pixels.
    """

    band: str
    reject: tuple[tuple[Flag, ...], ...]
    complete: bool = False
    grow_px: int = 0

    def __post_init__(self) -> None:
        groups = {tuple(sorted(set(group))) for group in self.reject}
        if not groups or () in groups:
            raise SpecError(
                f"Quality bits of band {self.band!r} must reject one group of flags or more, "
                f"none of them empty. Received {self.reject!r}."
            )
        object.__setattr__(self, "reject", tuple(sorted(groups)))
        _check_common(self)

    def clear(self, values: FloatArray) -> BoolArray:
        """Where the quality band says that a pixel is clear.

        Args:
            values: Bit fields as stored, 0..2**32 - 1, shape (y + 2 g, x + 2 g) where g is
                ``grow_px``; NaN where nothing was observed. Fields of 2**24 and more need
                float64: float32 rounds them.

        Returns:
            Shape (y, x). Never true where nothing was observed; that does not grow.

        Raises:
            SourceError: A value is no bit field: somebody resampled or scaled the band.
        """
        observed = ~np.isnan(values)
        field = _stored(values, observed, self).astype("uint32")
        rejected = np.zeros(values.shape, bool)
        for group in self.reject:
            every = observed.copy()
            for flag in group:
                every &= flag.of(field)
            rejected |= every
        return _clear(observed, rejected, self.grow_px)

    def describe(self) -> dict[str, Any]:
        """JSON-able facts that decide what is clear; the same for equal specs."""
        groups = [[asdict(flag) for flag in group] for group in self.reject]
        return _common_facts(self) | {"reject": groups}


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityClasses:
    """Clear is what has one of some classes.

    Attributes:
        band: The quality band.
        keep: The classes. Their order says nothing, and is not kept.
        complete: A pixel of a scene counts only where all its bands are observed.
        grow_px: A rejected pixel also rejects those whose centre lies within so many pixels.
    """

    band: str
    keep: tuple[int, ...]
    complete: bool = False
    grow_px: int = 0

    def __post_init__(self) -> None:
        keep = {_whole(value, "Classes to keep") for value in self.keep}
        if not keep or min(keep) < 0:
            raise SpecError(
                f"Quality classes of band {self.band!r} must keep one class or more, from 0 on. "
                f"Received {self.keep!r}."
            )
        object.__setattr__(self, "keep", tuple(sorted(keep)))
        _check_common(self)

    def clear(self, values: FloatArray) -> BoolArray:
        """Where the quality band says that a pixel is clear.

        Args:
            values: Classes as stored, 0..2**32 - 1, shape (y + 2 g, x + 2 g) where g is
                ``grow_px``; NaN where nothing was observed. Classes of 2**24 and more need
                float64: float32 rounds them.

        Returns:
            Shape (y, x). Never true where nothing was observed; that does not grow.

        Raises:
            SourceError: A value is no class: somebody resampled or scaled the band.
        """
        observed = ~np.isnan(values)
        kept = np.isin(_stored(values, observed, self), self.keep)
        return _clear(observed, observed & ~kept, self.grow_px)

    def describe(self) -> dict[str, Any]:
        """JSON-able facts that decide what is clear; the same for equal specs."""
        return _common_facts(self) | {"keep": list(self.keep)}


Quality = QualityBits | QualityClasses
"""What says which pixels are clear."""


def grow(rejected: BoolArray, radius_px: int) -> BoolArray:
    """Pixels that lie within a distance of a rejected one, that distance included.

    Args:
        rejected: Shape (y + 2 r, x + 2 r), where r is the radius.
        radius_px: Euclidean, between centres of pixels.

    Returns:
        Shape (y, x): of the pixels whose whole disk was given.
    """
    height, width = (size - 2 * radius_px for size in rejected.shape)
    # Rejected pixels left of each edge between columns: a run has some if its two ends differ.
    before = np.zeros((rejected.shape[0], rejected.shape[1] + 1), "int32")
    np.cumsum(rejected, axis=1, out=before[:, 1:])
    near = np.zeros((height, width), bool)
    for down in range(-radius_px, radius_px + 1):
        across = math.isqrt(radius_px**2 - down**2)
        rows = before[radius_px + down :][:height]
        left, right = radius_px - across, radius_px + across + 1
        near |= rows[:, left : left + width] != rows[:, right : right + width]
    return near


def _clear(observed: BoolArray, rejected: BoolArray, grow_px: int) -> BoolArray:
    if grow_px == 0:
        return observed & ~rejected
    inner = slice(grow_px, -grow_px)
    return observed[inner, inner] & ~grow(rejected, grow_px)


def _stored(values: FloatArray, observed: BoolArray, quality: Quality) -> npt.NDArray[np.int64]:
    """Stored whole numbers, 0 where nothing was observed."""
    least = 2 * quality.grow_px
    if values.ndim != 2 or min(values.shape) < least:
        raise SpecError(
            f"Quality band {quality.band!r} must come as (y, x) with {quality.grow_px} more pixels "
            f"on every side, as grow_px says. Received shape {values.shape}."
        )
    exact = _EXACT_IN_FLOAT32 if values.dtype == np.float32 else 2**_FIELD_BITS
    stored = np.where(observed, values, 0)
    wrong = (stored < 0) | (stored >= exact) | (stored != np.trunc(stored))
    if wrong.any():
        raise SourceError(
            f"Quality band {quality.band!r} must hold whole numbers from 0 to {exact - 1} in "
            f"{values.dtype}. Received {stored[wrong][0]}; read it as stored, unscaled, with "
            f"resampling 'nearest', in float64 if it is wide."
        )
    return stored.astype("int64")


def _check_common(quality: Quality) -> None:
    if not quality.band:
        raise SpecError(f"A quality band must have a name. Received {quality.band!r}.")
    object.__setattr__(quality, "complete", bool(quality.complete))
    _set_whole(quality, "grow_px")
    if quality.grow_px < 0:
        raise SpecError(
            f"Quality band {quality.band!r}: grow_px must be 0 or more. Received {quality.grow_px}."
        )


def _common_facts(quality: Quality) -> dict[str, Any]:
    return {
        "quality": "bits" if isinstance(quality, QualityBits) else "classes",
        "band": quality.band,
        "complete": quality.complete,
        "grow_px": quality.grow_px,
    }


def _set_whole(spec: object, name: str) -> None:
    """One spelling of a number (an int of Python), or equal specs would have two digests."""
    object.__setattr__(spec, name, _whole(getattr(spec, name), name))


def _whole(value: Any, name: str) -> int:
    try:
        return int(operator.index(value))
    except TypeError as error:
        raise SpecError(f"{name} must be whole. Received {value!r}.") from error


LANDSAT_C2 = QualityBits(
    band="qa_pixel",
    reject=tuple((Flag(bit=bit),) for bit in (0, 1, 2, 3, 4)),
)
"""Landsat Collection 2, QA_PIXEL: no fill, dilated cloud, cirrus, cloud or cloud shadow.

Snow is kept: it is what glaciers are. Bits of USGS LSDS-1619, Landsat 8-9 Collection 2 Level 2
Science Product Guide; before Landsat 8, bit 2 is unused and always 0 (LSDS-1618).
"""

LANDSAT_C1_SR = QualityBits(
    band="pixel_qa",
    reject=((Flag(bit=5), Flag(bit=7)), (Flag(bit=3),)),
    complete=True,
)
"""Landsat 4-7 Collection 1 surface reflectance, pixel_qa: no cloud shadow and no likely cloud.

A pixel is rejected with cloud (bit 5) of medium or high confidence (bit 7, the upper of two), or
with cloud shadow (bit 3), and counts only where all bands were observed. Bits of USGS LSDS-1370,
Landsat 4-7 Collection 1 Surface Reflectance (LEDAPS) Product Guide.
"""

SENTINEL2_SCL = QualityClasses(band="scl", keep=(4, 5, 6, 7))
"""Sentinel-2 Level 2A scene classification: vegetation, bare soil, water, unclassified.

Left out are 0 no data, 1 saturated, 2 dark, 3 cloud shadow, 8 and 9 cloud, 10 cirrus and 11 snow
or ice: classes of https://developers.google.com/earth-engine/datasets/catalog/COPERNICUS_S2_SR.
"""

SENTINEL2_SCL_SNOW = QualityClasses(band="scl", keep=(4, 5, 6, 7, 11))
""":data:`SENTINEL2_SCL` with snow and ice."""
