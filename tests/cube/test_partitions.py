"""Windows in partitions are those of plain loops; partitions cover the grid; shares are counts."""

from __future__ import annotations

import itertools
import json
import pickle
import tracemalloc

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

import cube
from cube.errors import PolygonError, SpecError
from cube.partition_shares import partition_shares
from cube.partitions import PartitionWindows, mixed, partition_boxes, partition_grid
from cube.windows import Windows

quick = settings(deadline=None, max_examples=60)
GRID = GeoBox((96, 104), Affine(30, 0, 290_000, 0, -30, 9_112_880), "EPSG:31985")


@st.composite
def cuts(draw):
    """Partitions of a grid, some dense, with windows in them."""
    shape = draw(st.tuples(st.integers(4, 40), st.integers(4, 40)))
    size = draw(st.integers(1, min(shape) // 2))
    boxes = partition_grid(shape, draw(st.integers(size, 20)), window=size)
    boxes = boxes[draw(st.permutations(range(len(boxes))))]
    dense = draw(
        st.one_of(st.none(), st.lists(st.booleans(), min_size=len(boxes), max_size=len(boxes)))
    )
    return PartitionWindows(
        shape=shape,
        size=size,
        stride=draw(st.integers(1, 12)),
        boxes=boxes,
        dense=None if dense is None else np.array(dense),
    )


def by_loops(windows):
    """Partition and origin of every window, one partition after the other, row-major."""
    found = []
    for k, (top, bottom, left, right) in enumerate(windows.boxes.tolist()):
        dense = windows.dense is not None and windows.dense[k]
        step = max(windows.stride // 2, 1) if dense else windows.stride

        def starts(first, last, step=step):
            end = last - windows.size
            return [*range(first, end, step), end]

        pairs = itertools.product(starts(top, bottom), starts(left, right))
        found += [(k, y, x) for y, x in pairs]
    return found


class TestWindows:
    @quick
    @given(cuts())
    def test_they_are_those_of_a_plain_loop(self, windows):
        expected = by_loops(windows)
        ids = np.arange(len(windows))
        assert windows.origins().tolist() == [[y, x] for _, y, x in expected]
        assert windows.partition_of(ids).tolist() == [k for k, _, _ in expected]
        assert len(windows) == len(expected)

    @quick
    @given(cuts(), st.data())
    def test_some_are_those_among_all(self, windows, data):
        ids = data.draw(st.lists(st.integers(0, len(windows) - 1)))
        np.testing.assert_array_equal(windows.origins(ids), windows.origins()[np.array(ids, int)])

    @quick
    @given(cuts())
    def test_every_window_is_numbered_in_its_partition(self, windows):
        numbers = [i for k in range(len(windows.boxes)) for i in windows.of_partition(k)]
        assert numbers == list(range(len(windows)))

    @quick
    @given(cuts())
    def test_none_leaves_its_partition_and_pixels_up_to_a_stride_of_the_size_are_covered(
        self, windows
    ):
        for k, (top, bottom, left, right) in enumerate(windows.boxes.tolist()):
            seen = np.zeros(windows.shape, bool)
            for y, x in windows.origins(windows.of_partition(k)):
                assert top <= y <= bottom - windows.size
                assert left <= x <= right - windows.size
                seen[y : y + windows.size, x : x + windows.size] = True
            assert windows.stride > windows.size or seen[top:bottom, left:right].all()

    @quick
    @given(cuts(), st.data())
    def test_those_that_touch_a_box_are_those_of_a_plain_loop(self, windows, data):
        rows, cols = (
            tuple(sorted(data.draw(st.tuples(*[st.integers(-5, n + 5)] * 2))))
            for n in windows.shape
        )
        expected = [
            number
            for number, (y, x) in enumerate(windows.origins().tolist())
            if max(y, rows[0]) < min(y + windows.size, rows[1])
            and max(x, cols[0]) < min(x + windows.size, cols[1])
        ]
        assert windows.touching(rows, cols).tolist() == expected

    @pytest.mark.parametrize(("stride", "count"), [(8, 289), (32, 25)])
    def test_a_partition_of_256_pixels_gives_the_published_counts(self, stride, count):
        boxes = np.array([[0, 256, 0, 256]])
        windows = PartitionWindows(shape=(256, 256), size=128, stride=stride, boxes=boxes)
        assert len(windows) == count

    def test_a_dense_partition_has_half_the_stride(self):
        boxes = np.array([[0, 256, 0, 256], [256, 512, 0, 256]])
        windows = PartitionWindows(
            shape=(512, 256), size=128, stride=8, boxes=boxes, dense=np.array([False, True])
        )
        assert [len(windows.of_partition(k)) for k in (0, 1)] == [289, 33 * 33]

    def test_one_partition_of_the_whole_grid_gives_its_plain_windows(self):
        plain = Windows(shape=(50, 61), size=8, stride=5)
        whole = PartitionWindows(shape=(50, 61), size=8, stride=5, boxes=np.array([[0, 50, 0, 61]]))
        np.testing.assert_array_equal(whole.origins(), plain.origins())

    def test_some_of_very_many_windows_take_no_memory_for_the_others(self):
        boxes = partition_grid((100_000, 100_000), 1000, window=128)
        tracemalloc.start()
        windows = PartitionWindows(shape=(100_000, 100_000), size=128, stride=8, boxes=boxes)
        assert len(windows) == 110**2 * 10_000
        windows.origins([0, len(windows) - 1])
        assert len(windows.touching((500, 501), (500, 501))) == 16**2
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 5_000_000  # of 10,000 partitions; all windows take 1.9 GB

    def test_they_pickle_and_compare_by_content_and_their_facts_are_json(self):
        boxes = partition_grid((40, 40), 20, window=8)
        windows = PartitionWindows(shape=(40, 40), size=8, stride=4, boxes=boxes)
        other = PartitionWindows(shape=(40, 40), size=8, stride=4, boxes=boxes[::-1])
        assert pickle.loads(pickle.dumps(windows)) == windows
        assert hash(pickle.loads(pickle.dumps(windows))) == hash(windows)
        assert windows != other
        assert json.loads(json.dumps(windows.to_dict()))["partitions"] == 4

    @pytest.mark.parametrize(
        ("change", "match"),
        [
            ({"size": 9}, "hold a window of 9 pixels. 1 of 2 are smaller"),
            ({"boxes": [[0, 41, 0, 20]]}, "in the grid of 40 x 40 pixels. 1 of 1 do not"),
            ({"boxes": [[-1, 20, 0, 20]]}, "in the grid of 40 x 40 pixels. 1 of 1 do not"),
            ({"boxes": np.zeros((0, 4))}, "at least one partition. Received none"),
            ({"stride": 0}, "at least 1 pixel. Received size=8, stride=0"),
            ({"size": 8.5}, "size is a whole number. Received 8.5"),
            ({"boxes": [[0.6, 20, 0, 20]]}, "whole numbers .partition, 4.* float64 of shape"),
            ({"boxes": [[0], [20], [0], [20]]}, r"\(partition, 4\).* of shape \(4, 1\)"),
            (
                {"boxes": [[0, 10, 0, 20], [20, 30, 0, 20], [9, 20, 12, 40]]},
                "must share no pixel. 1 pairs of 3 do, first partitions 0 and 2",
            ),
            ({"dense": np.array([1, 0])}, "each of the 2 partitions True or False"),
            ({"dense": np.array([True])}, "each of the 2 partitions True or False"),
        ],
    )
    def test_what_makes_no_windows_is_refused(self, change, match):
        boxes = np.array([[0, 20, 0, 20], [20, 28, 0, 40]])
        given = {"shape": (40, 40), "size": 8, "stride": 4, "boxes": boxes} | change
        with pytest.raises(SpecError, match=match):
            PartitionWindows(**given)

    def test_numbers_that_nothing_has_are_refused(self):
        boxes = np.array([[0, 8, 0, 8]])
        windows = PartitionWindows(shape=(8, 8), size=8, stride=4, boxes=boxes)
        with pytest.raises(SpecError, match="There are 1 windows, .* from 1 to 1"):
            windows.origins([1])
        with pytest.raises(SpecError, match="There are 1 partitions, .* Received 1"):
            windows.of_partition(1)


def test_a_mask_is_no_number_of_a_window():
    windows = PartitionWindows(shape=(16, 16), size=8, stride=8, boxes=[[0, 16, 0, 16]])
    for look in (windows.origins, windows.partition_of):
        with pytest.raises(SpecError, match=r"Numbers of windows are whole. Received bool"):
            look(np.array([True, False]))


class TestGrid:
    @quick
    @given(st.integers(1, 60), st.integers(1, 60), st.data())
    def test_every_pixel_is_in_one_partition_and_each_holds_a_window(self, height, width, data):
        window = data.draw(st.integers(1, min(height, width)))
        size = data.draw(st.integers(window, 70))
        boxes = partition_grid((height, width), size, window=window)
        count = np.zeros((height, width), int)
        for top, bottom, left, right in boxes:
            count[top:bottom, left:right] += 1
            assert window <= min(bottom - top, right - left)
            assert max(bottom - top, right - left) < size + window
        assert (count == 1).all()

    def test_a_partition_smaller_than_a_window_is_refused(self):
        with pytest.raises(SpecError, match=r"40 x 50, size=7, window=8"):
            partition_grid((40, 50), 7, window=8)

    def test_a_side_that_is_no_whole_number_is_refused(self):
        with pytest.raises(SpecError, match=r"size is a whole number. Received 16.0"):
            partition_grid((40, 50), 16.0, window=8)


class TestBoxes:
    def test_rectangles_of_pixels_come_back_but_for_what_rounding_moves(self):
        boxes = partition_grid((96, 104), 32, window=8)
        there_and_back = _frame(boxes).to_crs("EPSG:31984").to_crs("EPSG:31985")
        np.testing.assert_array_equal(partition_boxes(GRID, there_and_back), boxes)

    def test_rectangles_in_degrees_are_reprojected(self):
        degrees = GeoBox((40, 50), Affine(0.001, 0, -35, 0, -0.001, -8), "EPSG:4326")
        boxes = partition_grid((40, 50), 20, window=8)
        frame = _frame(boxes, degrees).to_crs("EPSG:3857")
        np.testing.assert_array_equal(partition_boxes(degrees, frame), boxes)

    def test_corners_off_the_pixels_are_refused_with_the_worst(self):
        frame = _frame(np.array([[0, 8, 0, 8], [8, 16, 0, 8]]))
        frame.geometry = frame.translate(0.2 * 30, 0)
        with pytest.raises(PolygonError, match="within 0.01 px. The worst is off by 0.2 px"):
            partition_boxes(GRID, frame)

    def test_other_shapes_are_refused(self):
        triangle = shapely.Polygon(
            [(290_000, 9_112_880), (290_300, 9_112_880), (290_000, 9_112_580)]
        )
        frame = gpd.GeoDataFrame(geometry=[triangle], crs=GRID.crs.proj)
        with pytest.raises(PolygonError, match="rectangles along the axes .* 1 of 1 are none"):
            partition_boxes(GRID, frame)

    def test_rectangles_outside_the_cube_are_counted(self):
        frame = _frame(np.array([[0, 8, 0, 8], [90, 98, 0, 8], [0, 8, -8, 0]]))
        with pytest.raises(PolygonError, match="in the cube of 96 x 104 pixels. 2 of 3 do not"):
            partition_boxes(GRID, frame)

    def test_a_missing_crs_is_asked_for(self):
        with pytest.raises(PolygonError, match="does not say its CRS"):
            partition_boxes(GRID, gpd.GeoDataFrame(geometry=[shapely.box(0, 0, 1, 1)]))


def _frame(boxes, grid=GRID):
    t = grid.transform
    top, bottom, left, right = np.asarray(boxes).T
    shapes = shapely.box(t.c + left * t.a, t.f + bottom * t.e, t.c + right * t.a, t.f + top * t.e)
    return gpd.GeoDataFrame(geometry=shapes, crs=grid.crs.proj)


class TestMixed:
    def test_neither_the_class_nor_the_rest_prevails(self):
        shares = [0, 0.39, 0.4, 0.5, 0.6, 0.61, 1, np.nan]
        assert mixed(shares).tolist() == [False, False, True, True, True, False, False, False]

    def test_the_rest_must_lie_in_the_range_too(self):
        assert mixed([0.3, 0.55, 0.8], 0.25, 0.7).tolist() == [True, True, False]

    def test_no_range_of_shares_is_refused(self):
        with pytest.raises(SpecError, match="low before high. Received low=0.6, high=0.4"):
            mixed([0.5], 0.6, 0.4)


@pytest.fixture(scope="module")
def ice(tmp_path_factory):
    """A layer of three classes with holes, and its stored values."""
    layer = cube.LayerSpec(
        name="ice", dtype="uint8", nodata=255, classes=((0, "none"), (1, "debris"), (2, "clean"))
    )
    plain = cube.LayerSpec(name="height", dtype="float32")
    spec = cube.CubeSpec(
        grid=GRID, calendar=cube.years(2020), layers=(layer, plain),
        layout=cube.LayoutSpec(chunk=16, region=32),
    )  # fmt: skip
    url = cube.create(tmp_path_factory.mktemp("ice") / "ice.zarr", spec)
    values = np.random.default_rng(0).integers(0, 3, GRID.shape).astype("uint8")
    values[10:30, 5:50] = 255
    for region in cube.regions(spec, "ice", time=0):
        cube.write_region(url, "ice", region, values[region.slices], spec=spec)
    return url, values


class TestShares:
    @pytest.mark.parametrize("classes", [2, [1, 2], np.uint8(2), np.array([1, 2])])
    def test_they_are_those_of_the_observed_pixels(self, ice, classes):
        url, values = ice
        boxes = np.array([[0, 40, 0, 40], [3, 7, 90, 104], [40, 96, 50, 104], [12, 20, 6, 40]])
        found = partition_shares(url, "ice", classes, boxes, time="2020")
        for share, (top, bottom, left, right) in zip(found, boxes, strict=True):
            inside = values[top:bottom, left:right]
            known = inside[inside != 255]
            if len(known):
                assert share == np.isin(known, classes).mean()
            else:
                assert np.isnan(share)
        assert np.isnan(found[3])

    @pytest.mark.parametrize(
        ("layer", "classes", "match"),
        [
            ("ice", [3], "has the classes 0, 1, 2. Received 3"),
            ("ice", [], "has the classes 0, 1, 2. Received none"),
            ("height", 1, "stored as whole numbers. 'height' holds float32"),
            ("ice", [1.5], "classes is a whole number. Received 1.5"),
            ("ice", "clean", "classes is a whole number. Received 'clean'"),
            ("ice", True, "classes is a whole number. Received True"),
        ],
    )
    def test_what_is_no_class_is_refused(self, ice, layer, classes, match):
        with pytest.raises(SpecError, match=match):
            partition_shares(ice[0], layer, classes, [[0, 8, 0, 8]], time="2020")

    def test_partitions_outside_the_grid_are_refused(self, ice):
        with pytest.raises(SpecError, match="in the grid of 96 x 104 pixels. 1 of 2 do not"):
            partition_shares(ice[0], "ice", 1, [[0, 8, 0, 8], [90, 97, 0, 8]], time="2020")
