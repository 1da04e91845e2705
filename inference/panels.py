"""What one map shows: arithmetic on its values, without drawing.

:mod:`inference.maps` draws it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cube.errors import SpecError

FloatArray = npt.NDArray[np.float64]

SEQUENTIAL = ("viridis", "cividis", "magma", "inferno")
DIVERGING = ("RdBu", "RdBu_r", "PuOr", "PuOr_r")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MapPanel:
    """One map: an image, polygons coloured by a value, or outlines over an image.

    Up is north: the extent is that of a projected, north-up grid.

    Attributes:
        title: Above the map.
        extent: (left, right, bottom, top) in metres, the outer edges of the image.
        image: float (y, x) with NaN for nodata, drawn in ``colormap``; or uint8
            (y, x, 3) RGB or (y, x, 4) with alpha 0 for nodata, drawn as it is;
            or None. The first row is the northernmost.
        outlines: (n,) shapely polygons, in the coordinates of ``extent``, or None.
        values: float (n,), one for each outline, NaN for nodata, drawn in
            ``colormap``; or None for outlines alone.
        scale: (low, high) of the colours, in the unit of what they show; values
            beyond get the end colours, and the colour bar says so. By default
            the 2nd and 98th percentile, made symmetric for a diverging map.
        colormap: One of ``SEQUENTIAL`` or ``DIVERGING``: all can be told apart
            by people who are colour-blind.
        label: What the colours show, with its unit.
        log: Colours by the logarithm; values of 0 and less get the low end's.
        classes: Names of the values 0, 1, 2 ...; every class has one colour, and
            the colour bar a block for each. Without ``scale`` and ``log``.

    Raises:
        SpecError: Parts are missing, contradict each other, differ in length, or
            hold an infinite value.
    """

    title: str
    extent: tuple[float, float, float, float]
    image: npt.NDArray[Any] | None = None
    outlines: npt.ArrayLike | None = None
    values: npt.ArrayLike | None = None
    scale: tuple[float, float] | None = None
    colormap: str = "viridis"
    label: str = ""
    log: bool = False
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        left, right, bottom, top = self.extent
        if not (left < right and bottom < top and np.isfinite(self.extent).all()):
            raise SpecError(
                f"{self.title!r}: extent must be (left, right, bottom, top) with left < right and "
                f"bottom < top. Received {self.extent}."
            )
        if self.colormap not in SEQUENTIAL + DIVERGING:
            raise SpecError(
                f"{self.title!r}: colormap must be one that colour-blind readers can use: "
                f"{', '.join(SEQUENTIAL + DIVERGING)}. Received {self.colormap!r}."
            )
        _check_scale(self)
        _check_layers(self)
        if self.classes:
            _check_classes(self)

    @property
    def shown(self) -> FloatArray | None:
        """What the colours show, float64 of any shape; None where there is no such thing."""
        if self.values is not None:
            return np.asarray(self.values, dtype="float64")
        if self.image is not None and self.image.ndim == 2:
            return np.asarray(self.image, dtype="float64")
        return None

    @property
    def aspect(self) -> float:
        """Height over width of the extent."""
        left, right, bottom, top = self.extent
        return (top - bottom) / (right - left)

    @property
    def limits(self) -> tuple[float, float]:
        """(low, high) of the colours: ``scale``, or what the data suggest."""
        if self.classes:
            return -0.5, len(self.classes) - 0.5
        return self.scale or _suggested(self)

    @property
    def beyond(self) -> tuple[bool, bool]:
        """Whether values lie below and above ``limits``."""
        shown = self.shown
        if shown is None or np.isnan(shown).all():
            return False, False
        return bool(np.nanmin(shown) < self.limits[0]), bool(np.nanmax(shown) > self.limits[1])

    @property
    def has_nodata(self) -> bool:
        """Whether the map holds a place without data."""
        if self.shown is not None and np.isnan(self.shown).any():
            return True
        image = self.image
        return image is not None and image.ndim == 3 and bool((image[..., 3:] == 0).any())


def percentile_stretch(
    rgb: npt.ArrayLike, *, low: float = 0.02, high: float = 0.98, gamma: float = 1.5
) -> npt.NDArray[np.uint8]:
    """Three bands as a picture of natural look.

    Each band is stretched between its own percentiles, which takes the blue of
    the haze away, and brightened by ``value ** (1 / gamma)``.

    Args:
        rgb: (3, y, x): red, green, blue in any unit, NaN for nodata.
        low: Share of the pixels, 0..1, that become black.
        high: Share below which pixels are not yet white; above ``low``.
        gamma: Above 1 brightens the middle tones; positive.

    Returns:
        uint8 (y, x, 4): red, green, blue and alpha, which is 0 where any band is
        NaN and 255 elsewhere.

    Raises:
        SpecError: ``rgb`` is not (3, y, x), or a percentile or gamma is out of range.
    """
    bands = np.asarray(rgb, dtype="float64")
    if bands.ndim != 3 or bands.shape[0] != 3:
        raise SpecError(f"rgb must be (3, y, x), red first. Received {bands.shape}.")
    if not (0 <= low < high <= 1 and gamma > 0):
        raise SpecError(
            f"low and high must be shares with 0 <= low < high <= 1, and gamma positive. "
            f"Received low={low}, high={high}, gamma={gamma}."
        )
    valid = np.isfinite(bands).all(axis=0)
    picture = np.zeros((*valid.shape, 4), dtype="uint8")
    if valid.any():
        ends = np.quantile(bands[:, valid], [low, high], axis=1)
        width = np.where(ends[1] > ends[0], ends[1] - ends[0], 1.0)
        bright = np.clip((bands[:, valid].T - ends[0]) / width, 0.0, 1.0) ** (1.0 / gamma)
        picture[valid, :3] = np.rint(255 * bright)
        picture[valid, 3] = 255
    return picture


def _suggested(panel: MapPanel) -> tuple[float, float]:
    shown = panel.shown
    seen = np.zeros(0) if shown is None else shown[~np.isnan(shown)]
    if not len(seen):
        return 0.1, 1.0  # nothing to colour; any scale will do, a logarithm's too
    if panel.log:
        seen = seen[seen > 0]
    low, high = (float(end) for end in np.quantile(seen, [0.02, 0.98]))
    if panel.colormap in DIVERGING:
        reach = max(abs(low), abs(high)) or 1.0
        return -reach, reach
    if low < high:
        return low, high
    return (low / 2, low * 2) if panel.log else (low - 0.5, low + 0.5)


def _check_scale(panel: MapPanel) -> None:
    if panel.log and panel.colormap in DIVERGING:
        raise SpecError(
            f"{panel.title!r}: a diverging colormap has its middle at 0, which has no logarithm. "
            f"Received colormap={panel.colormap!r} with log=True; use viridis."
        )
    if panel.scale is None:
        return
    low, high = panel.scale
    if not (low < high and np.isfinite(panel.scale).all()) or (panel.log and low <= 0):
        raise SpecError(
            f"{panel.title!r}: scale must be (low, high) with low < high, and low > 0 with log. "
            f"Received scale={panel.scale}, log={panel.log}."
        )


def _check_layers(panel: MapPanel) -> None:
    image = panel.image
    if image is None and panel.outlines is None:
        raise SpecError(f"{panel.title!r}: a map needs an image or outlines. Received neither.")
    if image is not None and not _is_picture(image) and (image.ndim, image.dtype.kind) != (2, "f"):
        raise SpecError(
            f"{panel.title!r}: image must be float (y, x), or uint8 (y, x, 3 or 4). Received "
            f"{image.dtype} {image.shape}."
        )
    if panel.values is not None:
        _check_values(panel)
    _check_shown(panel)


def _check_values(panel: MapPanel) -> None:
    if panel.image is not None and not _is_picture(panel.image):
        raise SpecError(
            f"{panel.title!r}: one colour scale cannot show an image and values of polygons. "
            f"Give an RGB image, or two panels."
        )
    values = np.shape(np.asarray(panel.values))
    shapes = np.shape(() if panel.outlines is None else np.asarray(panel.outlines))
    if len(values) != 1 or shapes != values:
        raise SpecError(
            f"{panel.title!r}: values must be one for each outline. Received values {values} and "
            f"outlines {shapes}."
        )


def _check_shown(panel: MapPanel) -> None:
    shown = panel.shown
    if shown is None:
        return
    if np.isinf(shown).any():
        raise SpecError(
            f"{panel.title!r}: what the colours show must be finite, or NaN for nodata. Received "
            f"an infinite value; make it NaN."
        )
    seen = shown[~np.isnan(shown)]
    if panel.log and panel.scale is None and len(seen) and not (seen > 0).any():
        raise SpecError(
            f"{panel.title!r}: a logarithm needs a positive value, and there is none. Set "
            f"log=False, or give scale."
        )


def _check_classes(panel: MapPanel) -> None:
    seen = np.zeros(0) if panel.shown is None else panel.shown[~np.isnan(panel.shown)]
    count = len(panel.classes)
    if not np.isin(seen, np.arange(count)).all() or panel.scale or panel.log:
        raise SpecError(
            f"{panel.title!r}: with {count} classes, values must be 0 to {count - 1}, without "
            f"scale and log. Received values {np.unique(seen)[:9]}, scale={panel.scale}, "
            f"log={panel.log}."
        )


def _is_picture(image: npt.NDArray[Any]) -> bool:
    return image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] in (3, 4)
