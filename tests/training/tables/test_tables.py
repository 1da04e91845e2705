"""Numbers of tables go to the chips that they are of, and what is unknown stays unknown."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import MinMaxScaler, StandardScaler

import cube
from cube.coverage import entries
from cube.errors import SpecError, SplitError
from cube.windows import Windows
from tests import toy
from training.chips import Chips
from training.tables import (
    FeatureStatistics,
    TimeColumn,
    beside,
    by_block,
    by_chip,
    by_window,
    check_complete,
    complete,
    feature_statistics,
    fill_missing,
)
from training.tables import overlaps as measured
from training.tables.overlaps import overlaps
from training.timings import Timing, same

WINDOWS = Windows(shape=toy.SHAPE, size=13, stride=9)
CHIPS = Chips(windows=WINDOWS, timings=2)
TIMINGS = same(["2000", "2010"])


@pytest.fixture(scope="module")
def polygons():
    frame = toy.patchwork()
    rng = np.random.default_rng(3)
    frame["tract"] = [f"{n:03d}" for n in range(len(frame))]
    frame["persons"] = rng.integers(50, 900, len(frame)).astype(float)
    frame["rate"] = rng.uniform(size=len(frame))
    return frame


@pytest.fixture(scope="module")
def coverage(polygons, tmp_path_factory):
    """Shares in small tiles, so that windows lie in up to four of them."""
    url = cube.create(tmp_path_factory.mktemp("tables") / "toy.zarr", toy.spec())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(entries, "TILE", 32)
        return cube.coverage.build(url, "tracts", polygons, id="tract")


def _areas(polygons, windows, ids):
    """Area of every polygon inside every window, in pixels, by shapely; (window, polygon)."""
    squares = [
        shapely.box(x * 30, -(y + windows.size) * 30, (x + windows.size) * 30, -y * 30)
        for y, x in windows.origins(ids)
    ]
    left, top = toy.GRID.transform.c, toy.GRID.transform.f
    moved = shapely.transform(np.array(polygons.geometry), lambda at: at - [left, top])
    return np.array([shapely.area(shapely.intersection(moved, s)) for s in squares]) / 900


@pytest.fixture(scope="module")
def areas(polygons):
    return _areas(polygons, WINDOWS, np.arange(len(WINDOWS)))


def _whole(polygons):
    return shapely.area(np.array(polygons.geometry)) / 900


def test_overlaps_are_the_areas_of_intersections(coverage, areas, polygons):
    found = overlaps(coverage, WINDOWS, np.arange(len(WINDOWS)))
    np.testing.assert_allclose(found.pixels.toarray(), areas, atol=1e-4)
    np.testing.assert_allclose(found.area_px, _whole(polygons), rtol=1e-9)


@settings(max_examples=15)
@given(st.data())
def test_overlaps_do_not_depend_on_other_windows_or_batches(coverage, data):
    windows = Windows(
        shape=toy.SHAPE,
        size=data.draw(st.integers(1, 60)),
        stride=data.draw(st.integers(7, 40)),
    )
    ids = data.draw(st.lists(st.integers(0, len(windows) - 1), min_size=1, max_size=9))
    every = overlaps(coverage, windows, np.arange(len(windows)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measured, "_AT_ONCE", 1)
        some = overlaps(coverage, windows, ids)
    np.testing.assert_array_equal(some.windows, np.unique(ids))
    np.testing.assert_array_equal(some.pixels.toarray(), every.pixels.toarray()[np.unique(ids)])
    np.testing.assert_array_equal(some.centre, every.centre[np.unique(ids)])


def test_overlaps_refuse_what_they_cannot_measure(coverage):
    with pytest.raises(SplitError, match="none was named"):
        overlaps(coverage, WINDOWS, [])
    with pytest.raises(SplitError, match=r"grid of \(50, 50\), the polygons on \(96, 104\)"):
        overlaps(coverage, Windows(shape=(50, 50), size=8, stride=8), [0])


def _block_oracle(areas, whole, frame, how):
    """Plain loops over windows and polygons."""
    out = np.full((len(areas), 2), np.nan)
    for window, row in enumerate(areas):
        met = np.flatnonzero(row > 1e-3)
        for column, name in enumerate(["persons", "rate"]):
            v, w = frame[name].to_numpy()[met], frame["weight"].to_numpy()[met]
            if not len(met):
                continue
            if how == "sum":
                out[window, column] = (v * row[met] / whole[met]).sum()
                continue
            weight = row[met] * (w / whole[met] if how == "share" else 1)
            ok = ~np.isnan(v * weight)
            if weight[ok].sum() > 0:
                out[window, column] = (v * weight)[ok].sum() / weight[ok].sum()
    return out


@pytest.mark.parametrize("how", ["mean", "sum", "share"])
def test_numbers_of_polygons_go_to_windows_by_the_area_inside(polygons, coverage, areas, how):
    frame = pd.DataFrame(polygons.drop(columns="geometry")).sample(frac=1, random_state=0)
    frame["weight"] = np.arange(len(frame), dtype=float)
    frame.loc[[0, 7], "persons"] = np.nan
    frame.loc[12, "weight"] = np.nan
    ids = np.arange(len(CHIPS))
    of = "weight" if how == "share" else None
    join = by_block(
        frame, coverage, CHIPS, ids, columns=["persons", "rate"], how=how, of=of, id="tract"
    )
    rows = join.rows(ids)
    expected = _block_oracle(areas, _whole(polygons), frame.sort_index(), how)
    assert rows.dtype == np.float32
    assert 0 < np.isnan(expected).sum() < expected.size / 2
    np.testing.assert_allclose(rows, expected[CHIPS.window_of(ids)], rtol=2e-4)


def test_sums_over_windows_that_tile_the_grid_are_the_totals_inside_it(polygons, coverage):
    windows = Windows(shape=toy.SHAPE, size=8, stride=8)
    chips = Chips(windows=windows)
    join = by_block(
        polygons, coverage, chips, np.arange(len(chips)), columns=["persons"], how="sum", id="tract"
    )
    total = np.nansum(join.rows(np.arange(len(chips))).astype("float64"))
    assert total == pytest.approx((polygons["persons"] * coverage.covered_share).sum(), rel=1e-5)


def test_a_constant_stays_one_wherever_a_window_meets_a_polygon(polygons, coverage, areas):
    frame = polygons.assign(one=1.0)
    join = by_block(frame, coverage, CHIPS, np.arange(len(CHIPS)), columns=["one"])
    found = join.rows(CHIPS.of_windows(np.arange(len(WINDOWS))))[::2, 0]
    np.testing.assert_array_equal(found, np.where(areas.sum(axis=1) > 1e-3, 1.0, np.nan))


def test_the_centre_is_the_polygon_below_it(polygons, coverage):
    join = by_block(
        polygons, coverage, CHIPS, np.arange(len(CHIPS)), columns=["persons"], how="centre"
    )
    owner = coverage.shares((0, toy.SHAPE[0]), (0, toy.SHAPE[1])).owner()
    for chip in CHIPS.of_windows(range(20)):
        y, x = WINDOWS.origins(CHIPS.window_of(chip))
        here = owner[y + 6, x + 6]
        expected = polygons["persons"].iloc[here] if here >= 0 else np.nan
        np.testing.assert_equal(join.rows([chip])[0, 0], np.float32(expected))


def test_rows_of_a_period_go_to_the_timings_of_it(polygons, coverage):
    early, late = polygons.assign(year=2000), polygons.assign(year=2007, rate=polygons["rate"] + 5)
    frame = pd.concat([late, early]).drop(columns="geometry")
    time = TimeColumn.of("year", TIMINGS, renamed={"2010": "2007"})
    ids = np.arange(len(CHIPS))
    join = by_block(frame, coverage, CHIPS, ids, columns=["rate"], id="tract", time=time)
    rows = join.rows(ids)[:, 0]
    static = by_block(early, coverage, CHIPS, ids, columns=["rate"], id="tract").rows(ids)[:, 0]
    np.testing.assert_array_equal(rows[::2], static[::2])
    np.testing.assert_allclose(rows[1::2], static[1::2] + 5, rtol=1e-6)


def test_polygons_that_cannot_be_matched_are_refused(polygons, coverage):
    def make(frame, **options):
        return by_block(frame, coverage, CHIPS, [0, 1, 40], **{"columns": ["rate"], **options})

    with pytest.raises(SpecError, match=r"1 of \d polygons that windows hold have no row"):
        make(polygons[polygons["tract"] != "000"], id="tract")
    with pytest.raises(SpecError, match="30 polygons, in their order, and no periods. Received 29"):
        make(polygons.iloc[1:])
    with pytest.raises(SpecError, match="1 have several; merge them, or name their periods"):
        make(pd.concat([polygons, polygons.iloc[:1]]), id="tract")
    with pytest.raises(SpecError, match="no column 'code'"):
        make(polygons, id="code")
    with pytest.raises(SpecError, match="Received how='median', of=None"):
        make(polygons, how="median")
    with pytest.raises(SpecError, match="Received how='sum', of='persons'"):
        make(polygons, how="sum", of="persons")
    with pytest.raises(SpecError, match="0 or more. Received -1"):
        make(polygons.assign(w=-1.0), how="share", of="w")
    with pytest.raises(SplitError, match="1 of 2 chips lie in windows that the table was not made"):
        make(polygons).rows([0, 90])


def test_a_coverage_without_ids_is_matched_by_order_alone(polygons, coverage):
    plain = cube.coverage.build(coverage.url, "plain", polygons)
    with pytest.raises(SpecError, match="'plain' keeps no ids to match column 'tract' with"):
        by_block(polygons, plain, CHIPS, [0], columns=["rate"], id="tract")
    rows = by_block(polygons, plain, CHIPS, [40], columns=["rate"]).rows([40])
    assert rows == by_block(polygons, coverage, CHIPS, [40], columns=["rate"], id="tract").rows(
        [40]
    )


# ---------------------------------------------------------------------------- chips and windows


@given(st.integers(0, 2**32 - 1))
def test_a_chip_gets_its_own_row_and_nan_without_one(seed):
    rng = np.random.default_rng(seed)
    ids = rng.permutation(60)[: rng.integers(0, 40)]
    frame = pd.DataFrame({"chip": ids, "a": rng.normal(size=len(ids)), "b": ids * 2})
    frame.loc[frame["a"] > 1, "a"] = np.nan
    wanted = rng.integers(-1, 60, 30)
    rows = by_chip(frame, columns=["b", "a"]).rows(wanted)
    known = {c: (b, a) for c, a, b in frame.itertuples(index=False)}
    expected = [known.get(chip, (np.nan, np.nan)) for chip in wanted]
    np.testing.assert_array_equal(rows, np.array(expected, "float32"))


def test_a_window_s_row_is_that_of_all_its_timings_or_of_its_period():
    frame = pd.DataFrame({"window": [4, 2], "v": [40.0, 20.0]})
    rows = by_window(frame, columns=["v"], chips=CHIPS).rows([4, 5, 8, 9, 6])
    np.testing.assert_array_equal(rows[:, 0], [20, 20, 40, 40, np.nan])
    frame = pd.DataFrame(
        {"window": [4, 4, 2], "v": [41.0, 40.0, 20.0], "when": ["2010", "2000", "2000"]}
    )
    time = TimeColumn.of("when", TIMINGS)
    rows = by_window(frame, columns=["v"], chips=CHIPS, time=time).rows([4, 5, 8, 9])
    np.testing.assert_array_equal(rows[:, 0], [20, np.nan, 40, 41])
    one = TimeColumn(column="when", periods=("2000", "2000"))
    rows = by_window(frame, columns=["v"], chips=CHIPS, time=one).rows([4, 5, 8, 9])
    np.testing.assert_array_equal(rows[:, 0], [20, 20, 40, 40])


BAD = {
    "no column 'gone'. There are: chip, v": {"columns": ["gone"]},
    "Column 'v' must hold numbers. It holds": {"v": ["1", "2", "3"]},
    "finite as float32, or missing. 2 of 3 values": {"v": [1.0, np.inf, 1e39]},
    "one row for each chip. 1 of 3 rows come again": {"chip": [1, 2, 1]},
    "'chip' must hold whole numbers from 0, none missing. It holds float64, 1": {
        "chip": [1, 2, np.nan]
    },
    "'chip' must hold whole numbers from 0, none missing. It holds int64, from -1 to": {
        "chip": [1, 2, -1]
    },
    r"a list, each once. Received \['v', 'v'\]": {"columns": ["v", "v"]},
    "a list, each once. Received 'v'": {"columns": "v"},
}


@pytest.mark.parametrize("message", BAD)
def test_tables_that_cannot_be_joined_are_refused(message):
    given = {"chip": [1, 2, 3], "v": [1.0, 2.0, 3.0], "columns": ["v"], **BAD[message]}
    columns = given.pop("columns")
    with pytest.raises(SpecError, match=message):
        by_chip(pd.DataFrame(given), columns=columns)


def test_keys_and_columns_that_name_nothing_or_several_are_refused():
    frame = pd.DataFrame([[0, 1.0, 2.0]], columns=["chip", "v", "v"])
    with pytest.raises(SpecError, match="There are 2 columns 'v'; one was expected"):
        by_chip(frame, columns=["v"])
    frame = pd.DataFrame({"chip": np.array([0, 2**63 + 1], "uint64"), "v": [1.0, 2.0]})
    with pytest.raises(SpecError, match="It holds uint64, from 0 to 9223372036854775809, 0 miss"):
        by_chip(frame, columns=["v"])
    frame = pd.DataFrame({"window": [0, len(WINDOWS)], "v": [1.0, 2.0]})
    with pytest.raises(
        SpecError, match=rf"numbered from 0. Column 'window' goes up to {len(WINDOWS)}"
    ):
        by_window(frame, columns=["v"], chips=CHIPS)


def test_nullable_numbers_and_keys_are_numbers():
    frame = pd.DataFrame(
        {
            "chip": pd.array([3, 1], dtype="Int64"),
            "i": pd.array([7, None], dtype="Int64"),
            "b": pd.array([True, None], dtype="boolean"),
        }
    )
    found = by_chip(frame, columns=["i", "b"]).rows([3, 1])
    np.testing.assert_array_equal(found, [[7, 1], [np.nan, np.nan]])


def test_periods_that_say_nothing_are_refused():
    frame = pd.DataFrame({"window": [1, 2], "v": [1.0, 2.0], "year": [2000, 2000]})

    def make(**options):
        time = TimeColumn(**{"column": "year", "periods": (2000, 2000), **options})
        return by_window(frame, columns=["v"], chips=CHIPS, time=time)

    with pytest.raises(SpecError, match="each of 2 timings was expected. Received 2000"):
        make(periods=("2000",))
    with pytest.raises(SpecError, match="'year' has no row of 2010. It has: 2000"):
        make(periods=("2000", "2010"))
    with pytest.raises(SpecError, match="'v' must hold periods as text or whole numbers"):
        make(column="v")
    with pytest.raises(SpecError, match=r"one label period was expected. Received 'static → 1\+2'"):
        TimeColumn.of("year", [Timing(label=("1", "2"))])


def test_joins_beside_one_another_keep_their_columns():
    frame = pd.DataFrame({"chip": [0, 1], "a": [1.0, 2.0], "b": [3.0, 4.0]})
    one, other = by_chip(frame, columns=["a"]), by_chip(frame.iloc[1:], columns=["b"])
    both = beside(one, other)
    assert both.columns == ("a", "b")
    np.testing.assert_array_equal(both.rows([1, 0]), [[2, 4], [1, np.nan]])
    with pytest.raises(SpecError, match="each once. Received twice: a"):
        beside(one, one)
    with pytest.raises(SpecError, match="no join"):
        beside()


# ------------------------------------------------------------------------------------- features


@pytest.fixture
def features():
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(rng.normal(50, 9, (80, 3)), columns=list("abc"))
    frame.loc[::7, "b"] = np.nan
    return by_chip(frame.assign(flat=4.1, chip=range(80)), columns=["a", "b", "c", "flat"])


def test_statistics_are_those_of_the_training_chips_alone(features):
    train = np.random.default_rng(0).permutation(80)[:50]
    found = feature_statistics(features, np.concatenate([train, train[:9]]))
    values = features.rows(train).astype("float64")
    scaler, ends = StandardScaler().fit(values), MinMaxScaler().fit(values)
    np.testing.assert_allclose(found.mean, scaler.mean_, rtol=1e-12)
    np.testing.assert_allclose(found.std, scaler.scale_, rtol=1e-12)
    np.testing.assert_array_equal(found.min, ends.data_min_)
    np.testing.assert_array_equal(found.max, ends.data_max_)
    np.testing.assert_array_equal(found.count, scaler.n_samples_seen_)
    again = feature_statistics(features, train[::-1])
    np.testing.assert_array_equal(again.mean, found.mean)
    assert FeatureStatistics.from_dict(found.to_dict()).to_dict() == found.to_dict()


def test_a_normalization_layer_takes_the_statistics(features):
    keras = pytest.importorskip("keras")
    found = feature_statistics(features, np.arange(80))
    layer = keras.layers.Normalization(mean=found.mean, variance=found.variance)
    values = np.asarray(layer(features.rows([1, 2, 3])))
    expected = (features.rows([1, 2, 3]) - found.mean) / found.std
    np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-5)


def test_unknown_features_are_refused_or_filled_by_declaration(features):
    chips = np.arange(80)
    np.testing.assert_array_equal(complete(features, chips), chips % 7 != 0)
    check_complete(features, chips[complete(features, chips)])
    with pytest.raises(SplitError, match=r"12 of 80 chips lack features \(b 12\)"):
        check_complete(features, chips)
    found = feature_statistics(features, chips[:40])
    filled = fill_missing(features, found)
    check_complete(filled, [*chips, 1000])
    assert filled.columns == features.columns
    np.testing.assert_array_equal(filled.rows([1]), features.rows([1]))
    np.testing.assert_array_equal(filled.rows([7])[0, 1], np.float32(found.mean[1]))
    with pytest.raises(SpecError, match="columns a were expected. Received a, b, c, flat"):
        fill_missing(by_chip(pd.DataFrame({"chip": [1], "a": [1.0]}), columns=["a"]), found)
    with pytest.raises(SplitError, match=r"No training chip has a value of b \(1 chips\)"):
        feature_statistics(features, [0])


@pytest.mark.parametrize("how", ["mean", "share"])
def test_a_text_is_no_list_of_columns(how, polygons, coverage):
    table = pd.DataFrame({"tract": polygons["tract"], "r": polygons["rate"], "w": 1.0})
    of = "w" if how == "share" else None
    with pytest.raises(SpecError, match="Columns of a table are a list, each once. Received 'r'"):
        by_block(table, coverage, CHIPS, [0], columns="r", id="tract", how=how, of=of)


def test_ids_that_name_no_polygon_are_shown_beside_those_that_there_are(polygons, coverage):
    table = polygons[["rate"]].assign(tract=np.arange(len(polygons)) + 900)
    message = "'tract' names none of the polygons. It holds 900, 901, 902 ...; their ids are 000, "
    with pytest.raises(SpecError, match=message):
        by_block(table, coverage, CHIPS, [0], columns=["rate"], id="tract")


def test_one_period_stands_for_a_list_of_one():
    assert TimeColumn(column="year", periods="2010") == TimeColumn(column="year", periods=("2010",))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"mean": None}, "Statistics of 1 features need as many numbers of each"),
        ({"count": ["many"]}, "Statistics of features cannot be read: "),
        ({"std": [1.0, 2.0]}, "Statistics of 1 features need as many numbers of each"),
    ],
)
def test_statistics_that_cannot_be_read_are_refused(changed, message):
    known = by_chip(pd.DataFrame({"chip": [0, 1], "a": [1.0, 2.0]}), columns=["a"])
    data = feature_statistics(known, [0, 1]).to_dict()
    assert FeatureStatistics.from_dict(data).to_dict() == data
    with pytest.raises(SpecError, match=message):
        FeatureStatistics.from_dict({**data, **changed})
    with pytest.raises(SpecError, match="cannot be read: 'mean'"):
        FeatureStatistics.from_dict({})
