"""Pixels of STAC items through stackstac, a box at a time: the one module that names it.

stackstac makes items into one array (item, asset, y, x) and asks a reader for the pixels of each.
It is given no choice: the grid's own bounds and resolution, and a reader that is the one warp of
the cube, so that a scene has the same pixels, to the bit, as from a file. No graph holds more
than a box, and nothing of a box outlives it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from catalogs.access import REMOTE, Access
from catalogs.redirects import final_url
from cube.errors import PartialError, SourceError, SpecError
from cube.scenes import Scene, Span
from cube.warp import read_scene

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox
    from rasterio.windows import Window

Floats = npt.NDArray[np.floating[Any]]

_EPSG = 4326
"""stackstac labels an array with a code. Ours stands for the grid's CRS, which may have none; where
items and array share a label, it transforms nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StackReader:
    """Pixels of scenes that come from STAC; see :class:`cube.scenes.PixelReader`.

    Attributes:
        sign: Makes a URL of an href that can be opened now, such as
            ``planetary_computer.sign_url``; called for each file just before it is opened. Must
            pickle. None opens hrefs as they are.
        access: Where servers may redirect to; see :mod:`catalogs.redirects`. None leaves it to
            GDAL, which goes anywhere, and saves a request for each file.
        dtype: Of the values: ``"float32"``, or ``"float64"``.
    """

    sign: Callable[[str], str] | None = None
    access: Access | None = REMOTE
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.dtype not in ("float32", "float64"):
            raise SpecError(f"dtype must be float32 or float64. Received {self.dtype!r}.")

    def read(
        self, scenes: Sequence[Scene], bands: Sequence[str], grid: GeoBox, rows: Span, cols: Span
    ) -> Floats:
        """See :meth:`cube.scenes.PixelReader.read`."""
        from stackstac.prepare import prepare_items
        from stackstac.to_dask import asset_table_to_reader_and_window, fetch_raster_window

        readers = _Readers(scenes=scenes, grid=grid, rows=rows, cols=cols, opened=self._opened)
        bounds = _bounds(grid, rows, cols)
        shape = len(scenes), len(bands), rows[1] - rows[0], cols[1] - cols[0]
        dtype = np.dtype(self.dtype)
        # What stackstac.stack does for one chunk. The graph and the coordinates that it would make
        # to do so take long beside a box, and are not needed.
        table, spec, *_ = prepare_items(
            [_item(place, scene, bands, bounds) for place, scene in enumerate(scenes)],
            assets=list(bands),
            epsg=_EPSG,
            bounds=bounds,
            resolution=(abs(grid.transform.a), abs(grid.transform.e)),
            snap_bounds=False,
            rescale=False,
            dtype=dtype,
        )
        if (*table.shape, *spec.shape) != shape:
            raise SourceError(f"stackstac made {table.shape}, {spec.shape} of a box of {shape}.")
        of_each = asset_table_to_reader_and_window(
            table,
            spec,
            resampling=None,
            dtype=dtype,
            fill_value=np.nan,
            rescale=False,
            gdal_env=None,
            errors_as_nodata=(),
            reader=readers,
        )
        whole = slice(0, shape[2]), slice(0, shape[3])
        values: Floats = fetch_raster_window(of_each, whole, dtype, np.nan)
        if readers.lost:
            raise PartialError.of(readers.lost)
        # Where nothing was read, stackstac repeats one NaN, which cannot be written to.
        return values if values.flags.writeable else values.copy()

    def _opened(self, href: str) -> str:
        """What is opened for an href."""
        signed = href if self.sign is None else self.sign(href)
        return signed if self.access is None else final_url(signed, self.access)


def _bounds(grid: GeoBox, rows: Span, cols: Span) -> tuple[float, float, float, float]:
    """Left, bottom, right, top of a box."""
    left, top = grid.transform @ (cols[0], rows[0])
    right, bottom = grid.transform @ (cols[1], rows[1])
    return left, bottom, right, top


def _item(
    place: int, scene: Scene, bands: Sequence[str], bounds: tuple[float, float, float, float]
) -> dict[str, Any]:
    """A STAC item as stackstac reads it, whose hrefs say which band of which scene is meant."""
    return {
        "id": scene.id,
        "properties": {"datetime": scene.time or "1970-01-01T00:00:00Z", "proj:epsg": _EPSG,
                       "proj:bbox": bounds},
        "assets": {band: {"href": f"{place}/{band}"} for band in bands},
    }  # fmt: skip


@dataclass(slots=True, kw_only=True)
class _Readers:
    """Makes readers as stackstac wants them; and knows which scenes they lost.

    Attributes:
        scenes: Those of the items, in order.
        grid: The whole target grid.
        rows: The box.
        cols: The box.
        opened: Makes of an href what is opened.
        lost: Scenes that cannot be read, with the reason.
    """

    scenes: Sequence[Scene]
    grid: GeoBox
    rows: Span
    cols: Span
    opened: Callable[[str], str]
    lost: dict[str, str] = field(default_factory=dict)

    def __call__(self, *, url: str, dtype: np.dtype[Any], **_: Any) -> _Reader:
        place, _slash, band = url.partition("/")
        return _Reader(of=self, scene=self.scenes[int(place)], band=band, dtype=dtype)


@dataclass(slots=True, kw_only=True)
class _Reader:
    """One band of one scene, in windows of a box; stackstac's protocol."""

    of: _Readers
    scene: Scene
    band: str
    dtype: np.dtype[Any]

    def read(self, window: Window) -> Floats:
        (top, left), (height, width) = (
            (self.of.rows[0], self.of.cols[0]),
            (
                window.height,
                window.width,
            ),
        )
        rows = top + window.row_off, top + window.row_off + height
        cols = left + window.col_off, left + window.col_off + width
        if self.scene.id not in self.of.lost:
            try:
                scene = _with_hrefs(self.scene.select([self.band]), self.of.opened)
                return read_scene(scene, self.of.grid, rows, cols)[0].astype(self.dtype, copy=False)
            except SourceError as error:
                self.of.lost[self.scene.id] = str(error)
        return np.full((height, width), np.nan, self.dtype)

    def close(self) -> None:
        """Nothing stays open."""


def _with_hrefs(scene: Scene, opened: Callable[[str], str]) -> Scene:
    return replace(scene, layers=tuple(replace(one, href=opened(one.href)) for one in scene.layers))
