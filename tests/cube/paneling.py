"""Random panels and their polygons, for laws."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import shapely
import xarray as xr
from hypothesis import strategies as st

from tests.rasters import UTM

PERIODS = ("2000", "2010")


def panel_of(ids, *, periods=PERIODS, **variables):
    """A panel with Persons by block and time, and what else is given."""
    ids = np.array(ids) if np.asarray(ids).dtype.kind == "i" else np.array(ids, object)
    count, times = len(ids), len(periods)
    coords = {"block": ids}
    dims = ("block",)
    if periods:
        dims = ("block", "time")
        starts = [f"{p}-01-01" for p in periods]
        coords |= {"time": np.array(starts, "datetime64[ns]")}
        coords |= {"period": ("time", np.array(periods, object))}
    persons = np.arange(count * max(times, 1), dtype="float64").reshape(
        count, *[times] * (times > 0)
    )
    about = {"long_name": "Persons", "units": "persons", "cell_methods": "area: sum"}
    return xr.Dataset({"persons_sum": (dims, persons, about), **variables}, coords)


def polygons_of(shapes, **columns):
    return gpd.GeoDataFrame(columns, geometry=list(shapes), crs=UTM)


def squares(count):
    return [shapely.box(i, 0, i + 1, 1) for i in range(count)]


NUMBERS = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, 2.0, 256.0, 65536.0]),
    st.floats(-1e7, 1e7, allow_subnormal=False),
)


@st.composite
def rings(draw, left, bottom, side):
    """A rectangle inside a square, its corners at any numbers there."""
    a, b = sorted(draw(st.lists(st.floats(0.05, 0.95), min_size=2, max_size=2, unique=True)))
    c, d = sorted(draw(st.lists(st.floats(0.05, 0.95), min_size=2, max_size=2, unique=True)))
    return shapely.box(left + a * side, bottom + c * side, left + b * side, bottom + d * side)


@st.composite
def polygons(draw):
    """A square with up to three holes, anywhere."""
    left, bottom = draw(NUMBERS), draw(NUMBERS)
    side = draw(st.sampled_from([1.0, 2.0, 30.0, 512.0]))
    holes = [
        draw(rings(left + i * side / 4, bottom, side / 4)) for i in range(draw(st.integers(0, 3)))
    ]
    return shapely.Polygon(shapely.box(left, bottom, left + side, bottom + side).exterior, [
        hole.exterior for hole in holes
    ])  # fmt: skip


@st.composite
def shapes(draw):
    """A polygon, or several apart from one another, each with holes or without."""
    parts = draw(st.lists(polygons(), min_size=1, max_size=3))
    if len(parts) == 1:
        return parts[0]
    return shapely.MultiPolygon(parts)  # what is no valid polygon has corners all the same


TEXT = st.text(st.characters(codec="utf-8"), max_size=8)


@st.composite
def panels(draw):
    """Any panel: with text ids or numbers, with time or without, with geometry or without."""
    count = draw(st.integers(1, 6))
    texts = st.lists(TEXT, min_size=count, max_size=count, unique=True)
    ids = draw(st.one_of(texts, st.just(list(range(count)))))
    periods = draw(st.sampled_from([(), ("2000",), PERIODS]))
    floats = st.lists(st.floats(), min_size=count, max_size=count)
    singles = st.lists(st.floats(width=32), min_size=count, max_size=count)
    whole = st.lists(st.integers(-(2**63), 2**63 - 1), min_size=count, max_size=count)
    found = panel_of(
        ids,
        periods=periods,
        rate=("block", np.array(draw(floats)), {"units": "1"}),
        small=("block", np.array(draw(singles), "float32")),
        code=("block", np.array(draw(whole), "int64"), {"flag_values": [0, 1]}),
        total=((), np.float64(draw(st.floats()))),
    )
    names = np.array(draw(st.lists(TEXT, min_size=count, max_size=count)), object)
    found = found.assign_coords(name=("block", names), kept=("block", np.arange(count) % 2 == 0))
    found.attrs = {"polygons_digest": "0123", "options": ["a", 1], "note": draw(TEXT)}
    if draw(st.booleans()):
        drawn = np.empty(count, object)
        drawn[:] = draw(st.lists(shapes(), min_size=count, max_size=count))
        crs = gpd.GeoSeries([], crs=UTM).crs.to_wkt()
        found = found.assign_coords(geometry=("block", drawn, {"crs": crs}))
    return found
