"""Chips as pictures: bands stretched together, labels in colours, and nodata left transparent.

Arithmetic on arrays; :mod:`training.contact_sheets.drawing` draws it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cube import nodata
from cube.errors import SpecError
from cube.spec import CubeSpec, LayerSpec, StackSpec
from training.samples import SampleSpec
from training.targets import Target

FloatArray = npt.NDArray[np.float64]
Pictures = npt.NDArray[np.uint8]

# Okabe and Ito's colours, which colour-blind readers can tell apart (jfly.uni-koeln.de/color).
_COLOURS = (
    (0, 114, 178),
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (86, 180, 233),
    (213, 94, 0),
    (240, 228, 66),
    (60, 60, 60),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """A band of a sample: where it lies in a batch, and how it is packed.

    Attributes:
        name: Its name.
        stack: The stack that it belongs to.
        place: Its number among the sample's bands of that stack.
    """

    name: str
    stack: StackSpec
    place: int

    def values(self, inputs: Mapping[str, npt.NDArray[Any]]) -> FloatArray:
        """Physical values, float64 (chip, time, y, x), NaN for nodata; one time if static."""
        stored = inputs[self.stack.name][..., self.place]
        decoded = nodata.decode(stored, self.stack).astype("float64")
        return decoded if decoded.ndim == 4 else decoded[:, None]


def chosen_bands(
    sample: SampleSpec, spec: CubeSpec, names: Sequence[str] | None
) -> tuple[Band, ...]:
    """Bands that make a picture: one, or three as red, green and blue.

    Args:
        sample: What chips hold.
        spec: The cube.
        names: Names of bands, ``"stack/band"`` where several stacks have one of that name. By
            default red, green and blue where there are such; else the first three bands of the
            first stack, or its first.

    Raises:
        SpecError: There are not one or three names, or a name is unknown or ambiguous.
    """
    every = {
        f"{wanted.stack}/{name}": Band(name=name, stack=spec.stack(wanted.stack), place=place)
        for wanted in sample.inputs
        for place, name in enumerate(wanted.bands)
    }
    if names is None:
        return _suggested(list(every.values()))
    if isinstance(names, str) or len(names) not in (1, 3):
        raise SpecError(
            f"A picture is of one band, or of three as red, green and blue. Received {names!r}."
        )
    return tuple(_named(every, name) for name in names)


def _suggested(every: list[Band]) -> tuple[Band, ...]:
    by_name = {band.name: band for band in reversed(every)}
    if by_name.keys() >= {"red", "green", "blue"}:
        return tuple(by_name[name] for name in ("red", "green", "blue"))
    first = [band for band in every if band.stack == every[0].stack]
    return tuple(first[: 3 if len(first) >= 3 else 1])


def _named(every: Mapping[str, Band], name: str) -> Band:
    found = [path for path, band in every.items() if name in (path, band.name)]
    if len(found) != 1:
        raise SpecError(
            f"Band {name!r} is {'ambiguous' if found else 'not in the sample'}; name one of: "
            f"{', '.join(found or every)}."
        )
    return every[found[0]]


def check_inputs(inputs: Mapping[str, npt.NDArray[Any]], sample: SampleSpec) -> None:
    """Refuse inputs of another sample: bands are found by their place.

    Raises:
        SpecError: The message names what was expected.
    """
    for stack in sample.inputs:
        held = inputs[stack.stack].shape[-1] if stack.stack in inputs else 0
        if held != len(stack.bands):
            raise SpecError(
                f"A batch with {len(stack.bands)} bands of {stack.stack!r} was expected, as the "
                f"sample says. Received {held}; give the sample that the batch was streamed with."
            )


def images(
    inputs: Mapping[str, npt.NDArray[Any]], bands: Sequence[Band], stretch: tuple[float, float]
) -> Pictures:
    """Pictures of chips, each band stretched between percentiles of all chips and times.

    Args:
        inputs: Stack to stored values, (chip, y, x, band) or (chip, time, y, x, band).
        bands: One, drawn in greys, or three.
        stretch: Shares of the values, 0..1, that become black and are not yet white.

    Returns:
        uint8 (chip, time, y, x, 4): red, green, blue and alpha, 0 where any band is nodata.

    Raises:
        SpecError: The shares are not 0 <= low < high <= 1.
    """
    if not 0 <= stretch[0] < stretch[1] <= 1:
        raise SpecError(f"stretch is (low, high) with 0 <= low < high <= 1. Received {stretch}.")
    values = np.stack(np.broadcast_arrays(*(band.values(inputs) for band in bands)), axis=-1)
    valid = np.isfinite(values).all(axis=-1)
    out = np.zeros((*valid.shape, 4), "uint8")
    if valid.any():
        low, high = np.quantile(values[valid], stretch, axis=0)
        width = np.where(high > low, high - low, 1.0)
        shades = np.rint(255 * np.clip((values[valid] - low) / width, 0, 1))
        out[valid, :3] = shades  # one band fills all three
        out[valid, 3] = 255
    return out


def observed(label: npt.NDArray[Any], weight: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Where labels count, bool of the shape of ``label``: (chip, y, x, channel) or without y, x."""
    counts = np.asarray(weight)[..., None] > 0
    return np.broadcast_to(counts, label.shape) & np.isfinite(label)


@dataclass(frozen=True, slots=True, kw_only=True)
class Classes:
    """Classes with their names and colours.

    Attributes:
        values: Class numbers, ascending.
        names: Of each.
    """

    values: tuple[int, ...]
    names: tuple[str, ...]

    @classmethod
    def of(cls, layer: LayerSpec, seen: npt.NDArray[Any]) -> Classes:
        """Those that the layer declares, and those of the labels that are seen."""
        declared = dict(layer.classes)
        values = sorted({*declared, *(int(v) for v in np.unique(seen))})
        names = tuple(declared.get(value, str(value)) for value in values)
        return cls(values=tuple(values), names=names)

    @property
    def colours(self) -> npt.NDArray[np.uint8]:
        """Red, green and blue of each, uint8 (class, 3); different up to 24 classes."""
        turns, places = np.divmod(np.arange(len(self.values)), len(_COLOURS))
        plain = np.array(_COLOURS, "float64")[places]
        # The second eight are lighter, the third darker.
        shades = np.stack([plain, 0.5 * plain + 127, 0.5 * plain])
        return shades[turns % 3, np.arange(len(places))].astype("uint8")

    def name(self, value: float) -> str:
        """Name of a class number."""
        return self.names[self.values.index(int(value))]

    def pictures(self, label: npt.NDArray[Any], seen: npt.NDArray[np.bool_]) -> Pictures:
        """Labels in colours, uint8 of the shape of ``label`` and 4; alpha 0 where not seen."""
        out = np.zeros((*label.shape, 4), "uint8")
        out[seen, :3] = self.colours[np.searchsorted(self.values, label[seen])]
        out[seen, 3] = 255
        return out


def limits(
    label: npt.NDArray[Any], seen: npt.NDArray[np.bool_], *, middle: bool
) -> tuple[float, float]:
    """Ends of the colours of numbers: their 2nd and 98th percentile.

    Args:
        label: Numbers.
        seen: Which count.
        middle: Lay the ends at equal distances from 0, for changes.
    """
    if not seen.any():
        return (0.0, 1.0)
    low, high = (float(end) for end in np.quantile(label[seen], [0.02, 0.98]))
    if middle:
        reach = max(abs(low), abs(high)) or 1.0
        return -reach, reach
    return (low, high) if low < high else (low - 0.5, low + 0.5)


def learned(target: Target, spec: CubeSpec) -> str:
    """What the numbers of a label are, for a colour bar, such as ``"ln(persons per km²)"``."""
    layer = spec.layer(target.layer)
    name = target.layer.replace("_", " ")
    if target.over == "window" and target.transform != "classes":
        name = f"{target.statistic} {name}"
    unit = "" if layer.units == "1" else f" [{layer.units}]"
    text = f"{name}{unit}" + (" per km²" if target.per == "km2" else "")
    text = f"ln({text})" if target.transform == "log" else text
    return f"change of {text}" if target.change else text
