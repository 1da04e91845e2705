"""Statistics of a training fold: what its chips hold, each pixel of a period once."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from cube import urls
from cube.errors import SpecError, SplitError
from cube.template import read_spec
from cube.windows import WindowSet
from training.chips import Chips
from training.samples import SampleSpec
from training.sampling import class_weights
from training.statistics.passes import Found, Key, label_channels, read_through
from training.statistics.pixels import FoldPixels, tiles_with
from training.statistics.tallies import Sums
from training.stream import Supervision
from training.stream.preparing import check_kinds, whole_numbers
from training.stream.stream import Selection
from training.targets import Target

if TYPE_CHECKING:
    import pandas as pd
    from distributed import Client

TILE = 512
"""Side of the tiles that are read at once; sums do not depend on the cube's chunks."""

LABEL = "label"
"""Name under which the moments of what the model learns stand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """Mean and deviation per channel.

    Attributes:
        mean: float64 (channel,).
        std: Population deviation, float64 (channel,); 1 for a channel without any.
        count: Observed pixels, int64 (channel,).
    """

    mean: npt.NDArray[np.float64]
    std: npt.NDArray[np.float64]
    count: npt.NDArray[np.int64]

    @classmethod
    def of(cls, channels: Sequence[ChannelStatistics]) -> Self:
        """Of channels, in their order."""
        std = np.array([channel.std for channel in channels])
        return cls(
            mean=np.array([channel.mean for channel in channels]),
            std=np.where(std > 0, std, 1.0),
            count=np.array([channel.count for channel in channels], "int64"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelStatistics:
    """A band of an input, or a channel of the label, in physical or learned values.

    Attributes:
        name: Of the stack, or of the label's layer.
        channel: Name of the band, or number of the label's channel.
        count: Observed pixels of a period; chips, for the label of a window.
        mean: Their mean.
        std: Their population deviation; 0 for a constant.
        min: Least.
        max: Greatest.
        quantiles: One for each level, each a value that was observed.
    """

    name: str
    channel: str
    count: int
    mean: float
    std: float
    min: float
    max: float
    quantiles: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """What the chips of a training fold hold.

    Attributes:
        levels: Of the quantiles.
        inputs: Bands of the stacks, in the order of the sample.
        label: Channels of what is learned; none for classes.
        classes: Class and number of its pixels (or windows), ascending; for classes alone.
    """

    levels: tuple[float, ...]
    inputs: tuple[ChannelStatistics, ...]
    label: tuple[ChannelStatistics, ...] = ()
    classes: tuple[tuple[int, int], ...] = ()

    def of(self, stack: str) -> tuple[ChannelStatistics, ...]:
        """Bands of one stack, in the order of the sample.

        Raises:
            SpecError: It is not among them.
        """
        found = tuple(band for band in self.inputs if band.name == stack)
        if not found:
            names = dict.fromkeys(band.name for band in self.inputs)
            raise SpecError(f"There are statistics of {', '.join(names)}. Received {stack!r}.")
        return found

    def moments(self) -> dict[str, Moments]:
        """Stack name to moments of its bands, and ``"label"`` to those of what is learned."""
        names = dict.fromkeys(band.name for band in self.inputs)
        found = {name: Moments.of(self.of(name)) for name in names}
        return {**found, LABEL: Moments.of(self.label)} if self.label else found

    def class_weights(self) -> dict[int, float]:
        """Weight of each class, by which all weigh the same; see :func:`class_weights`.

        Raises:
            SplitError: The label has no classes.
        """
        return class_weights(dict(self.classes))

    @property
    def frame(self) -> pd.DataFrame:
        """One row a channel."""
        import pandas as pd

        rows = []
        for channel in (*self.inputs, *self.label):
            row = asdict(channel)
            values = row.pop("quantiles")
            named = zip(self.levels, values, strict=True)
            rows.append({**row, **{f"q{level:g}": value for level, value in named}})
        return pd.DataFrame(rows)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; the inverse of :meth:`from_dict`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild from :meth:`to_dict`.

        Raises:
            SpecError: A field is missing or unknown.
        """
        try:
            inputs, label = (
                tuple(
                    ChannelStatistics(**{**row, "quantiles": tuple(row["quantiles"])})
                    for row in data[part]
                )
                for part in ("inputs", "label")
            )
            classes = tuple((int(value), int(count)) for value, count in data["classes"])
            return cls(levels=tuple(data["levels"]), inputs=inputs, label=label, classes=classes)
        except (KeyError, TypeError) as error:
            raise SpecError(f"Statistics cannot be read: {error}.") from error

    def __str__(self) -> str:
        table = self.frame.to_string(index=False, float_format=lambda v: f"{v:.4g}")
        return "\n".join([table, *self._class_lines()])

    def _repr_html_(self) -> str:
        table = self.frame.to_html(index=False, float_format=lambda v: f"{v:.4g}", border=0)
        return "".join([table, *(f"<p>{line}</p>" for line in self._class_lines())])

    def _class_lines(self) -> list[str]:
        if not self.classes:
            return []
        return ["classes: " + ", ".join(f"{value}: {count}" for value, count in self.classes)]


def training_statistics(  # noqa: PLR0913  (where, what, on which chips; then what of them, and how)
    url: str | os.PathLike[str],
    sample: SampleSpec,
    windows: WindowSet,
    chips: npt.ArrayLike | Selection,
    *,
    quantiles: Sequence[float] = (0.02, 0.98),
    supervision: Supervision | None = None,
    client: Client | None = None,
) -> Statistics:
    """Statistics of every input band, and of the label, over the chips that train.

    A pixel counts once for each of its periods that a chip uses, however many chips hold it;
    nodata is left out. Inputs are in physical values, the label in what the model learns of it;
    a pixel's label counts where it is known, whether or not inputs were observed there, and
    the label of a window counts once for each window and its periods. Quantiles are exact, those
    of labels as float32. Integers of up to 16 bits are read once, values of 32 bits twice and
    values of 64 bits four times; without quantiles all are read once. The result is the same to
    the bit whatever the chunks and the workers.

    Args:
        url: The cube.
        sample: Inputs, target and timings. A target in a table is left out.
        windows: Where chips lie.
        chips: Training chips, integers (n,), or a :class:`~training.ChipIndex` of them;
            windows are chips where there is one timing. Pixels outside them never count.
        quantiles: Levels from 0 to 1, ascending.
        supervision: Pixels that weigh nothing are left out of the label's statistics.
        client: A Dask client; None runs on local threads.

    Raises:
        SplitError: A band or the label has no observed pixel there, or infinite ones; or there
            are no chips.
        SpecError: An argument is of another kind; a level is out of range; there is no such
            chip; classes that are no whole numbers; or ``supervision`` without a map.
    """
    levels = _checked_levels(quantiles)
    check_kinds(sample=sample, windows=windows, supervision=supervision)
    url = urls.normalise(url)
    pixels = FoldPixels(
        url=url, spec=read_spec(url), sample=sample, windows=windows, supervision=supervision
    )
    ids = _checked_ids(pixels, chips)
    tiles = tiles_with(pixels.chips, ids, side=TILE)
    found = read_through(pixels, tiles, levels, client=client)
    target = sample.target
    if isinstance(target, Target) and target.transform == "classes" and not found.classes:
        raise SplitError(
            f"{target.layer!r} has no observed pixel in the training windows; ingest it, or "
            f"choose other windows."
        )
    return Statistics(
        levels=levels,
        inputs=tuple(
            _known((stack.stack, number), band, found, _packing(pixels, stack.stack))
            for stack in sample.inputs
            for number, band in enumerate(stack.bands)
        ),
        label=tuple(_known(key, str(key[1]), found) for key in label_channels(pixels)),
        classes=tuple(sorted(found.classes.items())),
    )


def training_moments(
    url: str | os.PathLike[str],
    sample: SampleSpec,
    windows: WindowSet,
    ids: npt.ArrayLike,
    *,
    supervision: Supervision | None = None,
) -> dict[str, Moments]:
    """Mean and deviation of every input band, and of the target, over windows that train.

    See :func:`training_statistics`; windows count at all timings of the sample.

    Returns:
        Stack name to moments per band of physical values, and ``"label"`` to
        those of what the model learns.

    Raises:
        SplitError: A band or the label has no observed pixel there.
    """
    check_kinds(sample=sample, windows=windows)
    every = Chips(windows=windows, timings=len(sample.timings))
    chips = every.of_windows(whole_numbers(ids, "Windows"))
    found = training_statistics(url, sample, windows, chips, quantiles=(), supervision=supervision)
    return found.moments()


def _checked_levels(quantiles: Sequence[float]) -> tuple[float, ...]:
    try:
        levels = tuple(float(level) for level in quantiles)
    except (TypeError, ValueError) as error:
        raise SpecError(f"quantiles= takes a list of levels. Received {quantiles!r}.") from error
    if any(not 0 <= level <= 1 for level in levels) or list(levels) != sorted(set(levels)):
        raise SpecError(
            f"Levels of quantiles are from 0 to 1, ascending, each once. Received {levels}."
        )
    return levels


def _checked_ids(pixels: FoldPixels, chips: npt.ArrayLike | Selection) -> npt.NDArray[np.int64]:
    """Chip ids, each once, ascending; refuses what does not fit the cube."""
    pixels.check()
    grid = tuple(pixels.spec.grid.shape)
    if pixels.windows.shape != grid:
        raise SplitError(f"Windows lie on a grid of {pixels.windows.shape}, the cube on {grid}.")
    if isinstance(chips, Selection):
        chips.check(pixels.spec, pixels.sample, pixels.windows)
        chips = chips.ids
    ids = np.unique(whole_numbers(chips, "Chips"))
    if not len(ids):
        raise SplitError("Statistics need training chips. Received none.")
    return ids.astype("int64")


def _known(
    key: Key, channel: str, found: Found, packing: tuple[float, float] = (1.0, 0.0)
) -> ChannelStatistics:
    """Statistics of one channel, whose quantiles are packed by scale and offset.

    Raises:
        SplitError: Nothing was observed, or something infinite.
    """
    sums = found.sums.get(key, Sums())
    if not sums.count:
        raise SplitError(
            f"{key[0]!r} has no observed pixel in the training windows; ingest it, or choose "
            f"other windows."
        )
    if not np.isfinite([sums.mean, sums.squares]).all():
        raise SplitError(
            f"{key[0]!r} holds values in the training windows that have no mean or deviation, from "
            f"{sums.low:g} to {sums.high:g}; ingest it with those beyond its range as nodata."
        )
    scale, offset = packing
    quantiles = tuple(value * scale + offset for value in found.quantiles[key])
    # The sum of a constant leaves dust of about 1e-16 of it, by which nothing may be divided.
    constant = sums.low == sums.high
    return ChannelStatistics(
        name=key[0],
        channel=channel,
        count=sums.count,
        mean=sums.low if constant else sums.mean,
        std=0.0 if constant else float(np.sqrt(sums.squares / sums.count)),
        min=sums.low,
        max=sums.high,
        quantiles=quantiles,
    )


def _packing(pixels: FoldPixels, stack: str) -> tuple[float, float]:
    spec = pixels.spec.stack(stack)
    return spec.scale, spec.offset
