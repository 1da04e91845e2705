"""How much of each partition is of a class, read region by region."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import partial

import numpy as np
import numpy.typing as npt

from cube import nodata, urls
from cube.errors import CubeError, SpecError
from cube.partitions import IntArray, check_boxes, checked_boxes
from cube.reading import read_region
from cube.regions import Region, regions
from cube.run import run_tasks
from cube.spec import CubeSpec, LayerSpec
from cube.template import read_spec
from cube.windows import rectangle_sums, whole


def partition_shares(
    url: str | os.PathLike[str],
    layer: str,
    classes: int | Iterable[int],
    boxes: npt.ArrayLike,
    *,
    time: str | None = None,
    workers: int | None = None,
) -> npt.NDArray[np.float64]:
    """Share of the observed pixels of each partition that has one of some classes.

    Every region is read once. Counts are whole numbers, so results are the same for any layout
    and number of workers.

    Args:
        url: The cube.
        layer: A layer of whole numbers.
        classes: Stored values; those of the layer's classes if it declares any.
        boxes: Partitions, int64 (partition, 4), see :class:`cube.partitions.PartitionWindows`.
        time: Period; None for a static layer.
        workers: Local threads.

    Returns:
        float64 (partition,), 0..1; NaN where no pixel was observed.

    Raises:
        SpecError: The layer holds no classes, or not these; a partition leaves the grid; or see
            :meth:`CubeSpec.time_of`.
        StoreError: A region cannot be read.
    """
    place = urls.normalise(url)
    spec = read_spec(place)
    wanted = np.array(class_values(classes), "int64")
    _check_classes(spec.layer(layer), wanted)
    corners = checked_boxes(boxes)
    check_boxes(corners, (int(spec.grid.shape[0]), int(spec.grid.shape[1])), 1)
    counts = np.zeros((2, len(corners)), "int64")
    job = partial(_region_counts, url=place, spec=spec, layer=layer, wanted=wanted, boxes=corners)
    todo = list(regions(spec, layer, time=spec.time_of(layer, time)))
    for _, found in run_tasks(job, todo, verb=f"shares of {layer}", url=place, workers=workers):
        if isinstance(found, CubeError):
            raise found
        counts += found
    known, hits = counts
    return np.divide(hits, known, out=np.full(len(corners), np.nan), where=known > 0)


def class_values(classes: int | Iterable[int]) -> tuple[int, ...]:
    """Stored values of classes, ascending, each once.

    Raises:
        SpecError: One is no whole number.
    """
    given: object = classes
    if isinstance(given, str) or not isinstance(given, Iterable):
        return (whole("classes", given),)
    return tuple(sorted({whole("classes", value) for value in given}))


def _check_classes(layer: LayerSpec, wanted: IntArray) -> None:
    if layer.storage.kind not in "iu" or layer.packed:
        raise SpecError(
            f"Shares are of classes, stored as whole numbers. {layer.name!r} holds {layer.dtype}"
            f"{' with a scale' if layer.packed else ''}."
        )
    declared = {value for value, _ in layer.classes}
    unknown = set(wanted.tolist()) - declared if declared else set()
    if not len(wanted) or unknown:
        raise SpecError(
            f"{layer.name!r} has the classes {', '.join(map(str, sorted(declared))) or 'any'}. "
            f"Received {', '.join(map(str, sorted(unknown))) or 'none'}."
        )


def _region_counts(
    region: Region, *, url: str, spec: CubeSpec, layer: str, wanted: IntArray, boxes: IntArray
) -> IntArray:
    """Observed pixels of each partition in a region, and those of the classes; int64 (2, n)."""
    starts = np.array([region.rows[0], region.cols[0]])
    low = np.clip(boxes[:, [0, 2]] - starts, 0, region.shape)
    high = np.clip(boxes[:, [1, 3]] - starts, low, region.shape)
    counts = np.zeros((2, len(boxes)), "int64")
    inside = np.flatnonzero((low < high).all(axis=1))
    if not len(inside):
        return counts
    stored = read_region(url, layer, region, spec=spec)
    known = nodata.valid(stored, spec.layer(layer))
    for row, raster in enumerate((known, known & np.isin(stored, wanted))):
        counts[row, inside] = rectangle_sums(raster, low[inside], high[inside])
    return counts
