"""A split from its manifest: its windows computed again, and held against what it says."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, TypeVar

from cube.coverage import Coverage
from cube.errors import CubeError, SplitError
from cube.windows import Windows, WindowSet
from training.splits import manifest
from training.splits.periods import TimeSplit
from training.splits.places import PlaceSplit
from training.splits.polygons import Split

_Split = TypeVar("_Split", PlaceSplit, Split, TimeSplit)


def load_split(
    path: str | os.PathLike[str],
    *,
    windows: WindowSet | None = None,
    coverage: Coverage | None = None,
) -> PlaceSplit | Split | TimeSplit:
    """Read a split that was saved, and prove that it still gives the same windows.

    Args:
        path: Of the manifest.
        windows: Those of the split; not needed for plain :class:`cube.windows.Windows`.
        coverage: Shares of the polygons; for a split by polygons, which keeps polygons alone.

    Raises:
        StoreError: There is no file, or it holds no JSON.
        SplitError: It was edited; it is of other windows or polygons; or windows or coverage are
            needed, or given in vain.
    """
    data = manifest.read(path)
    try:
        return _rebuilt(data, windows, coverage)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, CubeError):
            raise
        raise SplitError(
            f"{str(path)!r} is no manifest of a split that this version knows: {error!r}. Make the "
            f"split again."
        ) from error


def _rebuilt(
    data: Mapping[str, Any], windows: WindowSet | None, coverage: Coverage | None
) -> PlaceSplit | Split | TimeSplit:
    if "place" in data:
        _refuse("coverage", coverage, "It is a split of windows, not of polygons")
        return _checked(PlaceSplit.from_dict(data, _windows(data, windows)), data)
    if "timings" in data:
        _refuse("coverage", coverage, "It is a split by time")
        _refuse("windows", windows, "It is a split by time")
        return _checked(TimeSplit.from_dict(data), data)
    _refuse("windows", windows, "It is a split by polygons, which keeps its windows")
    if coverage is None:
        raise SplitError(
            f"The split is of the polygons {data['coverage']!r}, {data['polygons_digest']}; give "
            f"their coverage=."
        )
    return _checked(Split.from_dict(data, coverage), data)


def _refuse(name: str, given: object, what: str) -> None:
    if given is not None:
        raise SplitError(f"{what}; leave {name}= out.")


def _windows(data: Mapping[str, Any], windows: WindowSet | None) -> WindowSet:
    made = data["windows"]
    if windows is None:
        if set(made) != {"shape", "size", "stride"}:
            raise SplitError(f"The split is of windows {made}; give them as windows=.")
        return Windows(shape=tuple(made["shape"]), size=made["size"], stride=made["stride"])
    if windows.to_dict() != made:
        raise SplitError(f"The split is of other windows, {made}. Received {windows.to_dict()}.")
    return windows


def _checked(split: _Split, data: Mapping[str, Any]) -> _Split:
    if split.to_dict() != data:
        raise SplitError(
            f"The split ({data['kind']}) gives other windows today than when it was saved. Make it "
            f"again, or use the version that made it."
        )
    return split
