"""Every error this project raises on purpose, in one small tree.

A message says what was expected, what came and what to do, in one line that a
command can print as it is.
"""

from __future__ import annotations


class CubeError(Exception):
    """Base of every error this project raises on purpose."""


class SpecError(CubeError, ValueError):
    """A declared grid, band, layer, layout or argument cannot be used."""


class RegionError(CubeError, ValueError):
    """A region leaves the cube or cuts a chunk or shard."""


class StoreError(CubeError, OSError):
    """A cube is missing, is no cube, differs, or cannot be written."""


class SourceError(CubeError, ValueError):
    """A raster that should fill the cube cannot be read as declared."""


class PolygonError(CubeError, ValueError):
    """Polygons, or what they carry, cannot be used as declared."""


class SplitError(CubeError, ValueError):
    """A split cannot be made, or lets neighbours into the test set."""


class BundleError(CubeError, ValueError):
    """A trained model cannot be saved, loaded or applied to this cube."""


class IncompleteError(CubeError, RuntimeError):
    """A run ended with regions that are not done; run it again to redo only those.

    Attributes:
        report: The :class:`cube.run.Report` of the run.
    """

    def __init__(self, message: str, report: object = None) -> None:
        super().__init__(message)
        self.report = report
