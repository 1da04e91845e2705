"""What fills a cube: the source protocol, and a scene of raster files."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from cube.errors import SpecError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from odc.geo.geobox import GeoBox

RESAMPLING = ("nearest", "bilinear", "cubic", "average", "mode")
"""How pixels of another grid become pixels of the cube, in GDAL's terms."""


@runtime_checkable
class Source(Protocol):
    """Anything that can fill pixels of a grid; must pickle, and be safe in threads."""

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands it gives, in order."""
        ...

    def read(
        self, grid: GeoBox, rows: tuple[int, int], cols: tuple[int, int]
    ) -> npt.NDArray[np.floating[Any]]:
        """Physical values of a pixel box of a grid.

        The same pixels come out the same whatever the box, to the bit.

        Args:
            grid: The whole target grid.
            rows: Half-open range along y; may reach outside the grid.
            cols: Half-open range along x; may reach outside the grid.

        Returns:
            Floats of shape (band, rows, cols), NaN where nothing was observed.
        """
        ...

    def check(self, grid: GeoBox) -> None:
        """Refuse a grid that it cannot fill, with a :class:`cube.errors.SourceError`."""
        ...

    def describe(self) -> dict[str, Any]:
        """JSON-able facts that decide the values; no path, host or clock."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneBand:
    """One band of a scene.

    Attributes:
        name: As in the stack.
        href: File that holds it.
        index: Its place in the file, from 1.
    """

    name: str
    href: str
    index: int = 1

    def __post_init__(self) -> None:
        if self.index < 1:
            raise SpecError(f"Band {self.name!r}: places in a file count from 1.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Raster files of one moment, with everything that their metadata must say.

    Attributes:
        id: Name for reports.
        layers: The bands.
        crs: CRS of the files, as EPSG code or WKT.
        nodata: Stored value of "not observed"; None if every pixel of the files
            is an observation.
        scale: ``physical = stored * scale + offset``.
        offset: See ``scale``.
        resampling: One of :data:`RESAMPLING`.
        footprint: Bounds (left, bottom, right, top) in ``crs``, where known.
    """

    id: str
    layers: tuple[SceneBand, ...]
    crs: str
    nodata: float | None
    scale: float = 1.0
    offset: float = 0.0
    resampling: str = "nearest"
    footprint: tuple[float, float, float, float] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        for name in ("scale", "offset"):
            # One spelling of a number (1.0, never 1), or equal scenes would have two digests.
            object.__setattr__(self, name, float(getattr(self, name)))
        if not self.layers or len(set(self.bands)) != len(self.layers):
            raise SpecError(f"Scene {self.id!r}: bands must be named, once each: {self.bands}.")
        if self.resampling not in RESAMPLING:
            raise SpecError(
                f"Scene {self.id!r}: resampling must be one of {', '.join(RESAMPLING)}. "
                f"Received {self.resampling!r}."
            )
        if not (math.isfinite(self.scale) and math.isfinite(self.offset) and self.scale):
            raise SpecError(f"Scene {self.id!r}: scale and offset must be finite, scale not 0.")

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands in order."""
        return tuple(layer.name for layer in self.layers)

    def read(
        self, grid: GeoBox, rows: tuple[int, int], cols: tuple[int, int]
    ) -> npt.NDArray[np.floating[Any]]:
        """See :meth:`Source.read`."""
        from cube.warp import read_scene

        return read_scene(self, grid, rows, cols)

    def check(self, grid: GeoBox) -> None:
        """See :meth:`Source.check`."""
        from cube.warp import check_overlap

        check_overlap(self, grid)

    def describe(self) -> dict[str, Any]:
        """See :meth:`Source.describe`; files by their name alone."""
        data = asdict(self)
        data["layers"] = [{**layer, "href": _file_name(layer["href"])} for layer in data["layers"]]
        data["nodata"] = None if self.nodata is None else repr(float(self.nodata))
        return data


def _file_name(href: str) -> str:
    """Last part of a path or URL, without a query, which may hold a signature."""
    return PurePath(href.partition("?")[0] if "://" in href else href).name
