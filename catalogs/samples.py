"""Small samples of stored numbers, to check what metadata says."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from catalogs.access import REMOTE, Access
from catalogs.redirects import with_file
from cube.rasters import read_window
from cube.scenes import SceneBand, Span

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

Numbers = npt.NDArray[np.floating[Any]]

_PER_AXIS = 4
"""Windows along an axis: enough places for water, shade and land to be among them."""


def sample(band: SceneBand, *, sample_px: int, access: Access = REMOTE, where: str = "") -> Numbers:
    """Stored numbers of a band where something was observed, from a few windows.

    Windows of whole pixels, not overviews: an overview averages, and mixes pixels with their
    neighbours beyond the edge of an image.

    Args:
        band: With its own nodata, as :meth:`cube.scenes.Scene.band` gives it.
        sample_px: Side of the square whose area is read, at most; 4 x 4 windows spread evenly
            over the file make it up.
        access: Where servers may redirect to.
        where: Whose band it is, for messages.

    Returns:
        Floats as stored, shape (n,); none if nothing was observed there.

    Raises:
        SourceError: The file cannot be read.
    """

    def read(raster: DatasetReader) -> Numbers:
        spans = windows(raster.shape, sample_px=sample_px)
        parts = [read_window(raster, [band], *span).ravel() for span in spans]
        numbers: Numbers = np.concatenate(parts)
        return numbers[~np.isnan(numbers)]

    return with_file(band.href, read, what=f"{where}band {band.name!r}", access=access)


def windows(shape: tuple[int, int], *, sample_px: int) -> Iterator[tuple[Span, Span]]:
    """Rows and columns of windows spread evenly over a raster; one, the whole, of a small one.

    Args:
        shape: Rows and columns of the raster.
        sample_px: See :func:`sample`.
    """
    for rows in _spans(shape[0], sample_px):
        for cols in _spans(shape[1], sample_px):
            yield rows, cols


def _spans(size: int, sample_px: int) -> Iterator[Span]:
    """Half-open ranges along an axis."""
    length = math.ceil(sample_px / _PER_AXIS)
    if size <= length * _PER_AXIS:
        yield 0, size
        return
    for i in range(_PER_AXIS):
        start = round(i * (size - length) / (_PER_AXIS - 1))
        yield start, start + length
