"""Every error this project raises on purpose, in one small tree.

A message says what was expected, what came and what to do, in one line that a
command can print as it is. An interrupt is no error, and stands beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class CubeError(Exception):
    """Base of every error this project raises on purpose."""


class SpecError(CubeError, ValueError):
    """A declared grid, band, layer, layout or argument cannot be used."""


class RegionError(CubeError, ValueError):
    """A region leaves the cube or cuts a chunk or shard."""


class StoreError(CubeError, OSError):
    """A cube is missing, is no cube, differs, or cannot be written."""


class TransientError(StoreError):
    """A store did not answer as it should, and may do so when asked again."""


class DamagedError(StoreError):
    """A chunk is not what was written: its checksum or its length is wrong."""


class SourceError(CubeError, ValueError):
    """A raster that should fill the cube cannot be read as declared."""


class PartialError(SourceError):
    """One of the inputs of a region could not be read; the next run may find it again.

    Attributes:
        scenes: The inputs by name, with the reason of each.
    """

    def __init__(self, message: str, scenes: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.scenes = dict(scenes or {})

    @classmethod
    def of(cls, scenes: Mapping[str, str]) -> PartialError:
        """Of some inputs, whose reasons name them."""
        reason = next(iter(scenes.values())).rstrip(".")
        more = f", and {len(scenes) - 1} more" if len(scenes) > 1 else ""
        return cls(f"lost scene {reason}{more}.", scenes)

    def __reduce__(self) -> tuple[object, ...]:
        # An exception pickles its message alone.
        return type(self), (str(self), self.scenes)


class PolygonError(CubeError, ValueError):
    """Polygons, or what they carry, cannot be used as declared."""


class SplitError(CubeError, ValueError):
    """A split cannot be made, or lets neighbours into the test set."""


class BundleError(CubeError, ValueError):
    """A trained model cannot be saved, loaded or applied to this cube."""


class ClusterError(CubeError, RuntimeError):
    """A Dask cluster is gone, has no workers, or lost them over a task."""


class IncompleteError(CubeError, RuntimeError):
    """A run ended with regions that are not done; run it again to redo only those.

    Attributes:
        report: The :class:`cube.report.Report` of the run.
    """

    def __init__(self, message: str, report: object = None) -> None:
        super().__init__(message)
        self.report = report


class Interrupted(KeyboardInterrupt):
    """A run was interrupted; the message says how far it came, and how to go on.

    Attributes:
        report: The :class:`cube.report.Report` of the run until then.
    """

    def __init__(self, message: str, report: object = None) -> None:
        super().__init__(message)
        self.report = report
