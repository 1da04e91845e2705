"""Scenes that hold the same pixels under other ids or dates."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from catalogs.access import REMOTE, Access
from catalogs.redirects import with_file
from catalogs.samples import windows
from cube.rasters import read_window
from cube.scenes import Scene, SceneBand

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

    from catalogs.manifest import Manifest

_VARIETY = 16
"""Different numbers that a sample must hold to tell one scene from another."""

_BLOCK_PX = 1 << 20
"""Pixels compared at a time."""


def find_duplicates(
    scenes: Manifest | Iterable[Scene], *, sample_px: int = 64, access: Access = REMOTE
) -> tuple[tuple[str, ...], ...]:
    """Groups of scenes that give the same pixels.

    A small sample of every scene finds candidates, which are then compared pixel by pixel, all
    bands, so that no group rests on a sample. Where too little was observed to tell scenes apart,
    such as in one that is all sea or all nodata, a scene is in no group.

    Args:
        scenes: A manifest, or scenes in any order.
        sample_px: Side of the square of pixels whose area is read for the sample of a band.
        access: Where servers may redirect to; see :mod:`catalogs.redirects`.

    Returns:
        Ids of each group of two or more, the first in time first, then by id; the groups by their
        first.

    Raises:
        SourceError: A file cannot be read.
    """
    from catalogs.manifest import Manifest

    these = scenes.scenes if isinstance(scenes, Manifest) else scenes
    candidates: dict[str, list[Scene]] = {}
    for scene in sorted(these, key=lambda scene: (scene.time or "", scene.id)):
        print_ = fingerprint(scene, sample_px=sample_px, access=access)
        if print_ is not None:
            candidates.setdefault(print_, []).append(scene)
    groups = [group for those in candidates.values() for group in _confirmed(those, access)]
    return tuple(tuple(scene.id for scene in group) for group in groups if len(group) > 1)


def without_duplicates(
    manifest: Manifest, *, sample_px: int = 64, access: Access = REMOTE
) -> Manifest:
    """The manifest with the first scene of every group alone.

    The others are excluded, with the reason "same pixels as" and the id of the first.

    Args:
        manifest: Scenes.
        sample_px: See :func:`find_duplicates`.
        access: See :func:`find_duplicates`.

    Raises:
        SourceError: A file cannot be read.
    """
    groups = find_duplicates(manifest, sample_px=sample_px, access=access)
    copies = {id_: f"same pixels as {first}" for first, *others in groups for id_ in others}
    return manifest.exclude(copies)


def fingerprint(scene: Scene, *, sample_px: int = 64, access: Access = REMOTE) -> str | None:
    """What scenes with the same pixels have in common; None where the pixels tell nothing.

    It holds the names of the bands, how numbers become physical values, the grid of the file and
    a sample of the first band that has variety.

    Raises:
        SourceError: A file cannot be read.
    """
    bands = [scene.band(name) for name in scene.bands]
    for band in bands:
        read = partial(_band_print, band=band, sample_px=sample_px)
        print_ = with_file(band.href, read, what=_of(scene), access=access)
        if print_:
            facts = (scene.crs, scene.transform, [_facts(each) for each in bands], band.name)
            return hashlib.sha256(repr((facts, print_)).encode()).hexdigest()
    return None


def _facts(band: SceneBand) -> tuple[Any, ...]:
    """What makes other values of the same stored numbers."""
    return band.name, repr(band.nodata), band.scale, band.offset, band.valid_range, band.clip


def _band_print(raster: DatasetReader, *, band: SceneBand, sample_px: int) -> str:
    digest, seen = hashlib.sha256(), set[Any]()
    digest.update(repr((_grid(raster), raster.dtypes[band.index - 1])).encode())
    for rows, cols in windows(raster.shape, sample_px=sample_px):
        values = read_window(raster, [band], rows, cols)
        observed = ~np.isnan(values)
        seen |= set(np.unique(values[observed])[:_VARIETY].tolist())
        digest.update(observed.tobytes())
        digest.update(values[observed].tobytes())
    return digest.hexdigest() if len(seen) >= _VARIETY else ""


def _grid(raster: DatasetReader) -> tuple[Any, ...]:
    return raster.shape, tuple(raster.transform)


def _confirmed(candidates: Sequence[Scene], access: Access) -> list[list[Scene]]:
    """Candidates in groups of equal ones, each in the order given."""
    groups: list[list[Scene]] = []
    for scene in candidates:
        for group in groups:
            if _same_pixels(group[0], scene, access):
                group.append(scene)
                break
        else:
            groups.append([scene])
    return groups


def _same_pixels(one: Scene, other: Scene, access: Access) -> bool:
    """True if every band holds the same numbers, and lacks the same."""
    return all(_same_band(one, other, name, access) for name in one.bands)


def _same_band(one: Scene, other: Scene, name: str, access: Access) -> bool:
    a, b = one.band(name), other.band(name)
    if (a.href, a.index) == (b.href, b.index):
        return True

    def compare(raster: DatasetReader) -> bool:
        def equal(its: DatasetReader) -> bool:
            return _equal(raster, a, its, b)

        return with_file(b.href, equal, what=_of(other), access=access)

    return with_file(a.href, compare, what=_of(one), access=access)


def _of(scene: Scene) -> str:
    return f"Scene {scene.id!r}"


def _equal(one: DatasetReader, a: SceneBand, other: DatasetReader, b: SceneBand) -> bool:
    if _grid(one) != _grid(other):
        return False
    step = max(_BLOCK_PX // one.width, 1)
    for top in range(0, one.height, step):
        box = (top, min(top + step, one.height)), (0, one.width)
        values, its = read_window(one, [a], *box), read_window(other, [b], *box)
        if not np.array_equal(values, its, equal_nan=True):
            return False
    return True
