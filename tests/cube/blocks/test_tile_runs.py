"""Tiles made ready for summing hold what their shares hold, and no more memory than allowed."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cube.blocks import tile_runs
from cube.blocks.tile_runs import TileRuns, normalised
from cube.coverage.shares import NONE, Shares

SIDE = 9


@st.composite
def tiles(draw, *, exact=True):
    """Shares of a small tile: any labels, and any entries in the pixels without one."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    ids = rng.choice(10**6, 6, replace=False).astype("int32")
    label = np.where(rng.random((SIDE, SIDE)) < 0.6, rng.choice(ids, (SIDE, SIDE)), NONE)
    free = np.flatnonzero(label.ravel() == NONE)
    pairs = [(p, q) for p in free for q in np.sort(ids) if rng.random() < 0.3]
    share = rng.random(len(pairs)) + 0.01
    return Shares(
        label=label.astype("int32"),
        pixel=np.array([p for p, _ in pairs], "int64"),
        polygon=np.array([q for _, q in pairs], "int32"),
        share=share.astype("float32").astype("float64") if exact else share,
    )


def entries_of(shares):
    """All entries (polygon, pixel, share), sorted."""
    members = shares.polygons
    into, pixel, share = shares.entries(members)
    return sorted(zip(members[into].tolist(), pixel.tolist(), share.tolist(), strict=True))


def entries_in(tile):
    first, row, start, stop = tile.runs
    edge, edge_row, edge_col, share = tile.edges
    found = []
    for m, polygon in enumerate(tile.members.tolist()):
        for i in range(first[m], first[m + 1]):
            pixels = int(row[i]) * SIDE + np.arange(start[i], stop[i])
            found += [(polygon, int(pixel), 1.0) for pixel in pixels]
        for e in range(edge[m], edge[m + 1]):
            pixel = int(edge_row[e]) * SIDE + int(edge_col[e])
            found.append((polygon, pixel, float(share[e])))
    return sorted(found)


@settings(deadline=None, max_examples=30)
@given(shares=tiles())
def test_they_hold_every_entry_once(shares):
    tile = TileRuns.of(shares)
    assert entries_in(tile) == entries_of(shares)
    assert tile.edges[3].dtype == "float32"
    total = dict.fromkeys(tile.members.tolist(), 0.0)
    for polygon, _, share in entries_in(tile):
        total[polygon] += share
    np.testing.assert_allclose(tile.size, list(total.values()), rtol=1e-12)


@settings(deadline=None, max_examples=30)
@given(shares=tiles(exact=False))
def test_shares_that_float32_cannot_hold_stay_as_they_are(shares):
    assert entries_in(TileRuns.of(shares)) == entries_of(shares)


@settings(deadline=None, max_examples=30)
@given(shares=tiles())
def test_normalised_shares_add_up_to_one_in_every_pixel_that_has_any(shares):
    covered = normalised(shares).covered()
    np.testing.assert_allclose(covered[shares.covered() > 0], 1.0, rtol=1e-12)
    np.testing.assert_array_equal(covered > 0, shares.covered() > 0)


def test_a_tile_without_polygons_is_empty():
    none = np.zeros(0)
    shares = Shares(
        label=np.full((4, 4), NONE, "int32"),
        pixel=none.astype("int64"),
        polygon=none.astype("int32"),
        share=none,
    )
    tile = TileRuns.of(shares)
    assert (len(tile.members), len(tile.runs[0]), len(tile.edges[0])) == (0, 1, 1)


def test_what_was_used_last_is_kept_within_its_bytes(monkeypatch):
    one = TileRuns.of(
        Shares(
            label=np.zeros((4, 4), "int32"),
            pixel=np.zeros(0, "int64"),
            polygon=np.zeros(0, "int32"),
            share=np.zeros(0),
        )
    )
    monkeypatch.setattr(tile_runs, "CACHE_BYTES", 2 * one.nbytes)
    kept = tile_runs._Cache()
    for key in "ab":
        kept.put((key,), one)
    kept.get(("a",))
    kept.put(("c",), one)
    assert [kept.get((key,)) is not None for key in "abc"] == [True, False, True]
