"""A report survives JSON and GeoParquet, and says in a few lines what was found."""

from __future__ import annotations

import json

import geopandas as gpd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cube.errors import SpecError
from cube.polygons import report as polygon_report
from cube.polygons.report import PolygonReport
from tests.cube.geometry import frame_of, square

FULL = PolygonReport(
    polygons=1200, repaired=3, repaired_area_share=0.00123, duplicates=7, dropped=2, below_pixel=11,
    partly_outside=40, outside=5, antimeridian=1, densified=9, overlapping=14, overlap_px=3.25,
)  # fmt: skip


class TestJson:
    @settings(deadline=None)
    @given(
        counts=st.lists(st.integers(0, 10**7), min_size=9, max_size=9),
        shares=st.tuples(st.floats(0, 1), st.none() | st.floats(0, 1e9)),
    )
    def test_it_survives_json(self, counts, shares):
        names = [f for f in FULL.to_dict() if f not in ("repaired_area_share", "overlap_px")]
        report = PolygonReport(
            **dict(zip(names, counts, strict=False)),
            repaired_area_share=shares[0],
            overlap_px=shares[1],
        )
        assert PolygonReport.from_dict(json.loads(json.dumps(report.to_dict()))) == report

    def test_what_is_not_known_stays_unknown(self):
        report = PolygonReport(polygons=3)
        assert report.to_dict()["overlapping"] is None
        assert PolygonReport.from_dict(report.to_dict()) == report

    @pytest.mark.parametrize("data", [{}, {"polygons": 3, "islands": 2}])
    def test_another_form_is_refused(self, data):
        with pytest.raises(SpecError, match="The polygon report cannot be read: "):
            PolygonReport.from_dict(data)

    @pytest.mark.parametrize("value", [-1, float("nan")])
    def test_a_count_that_is_none_is_refused(self, value):
        with pytest.raises(SpecError, match="repaired of a polygon report must be 0 or more"):
            PolygonReport(polygons=3, repaired=value)


class TestText:
    def test_it_has_a_line_for_each_thing_that_happened(self):
        assert str(FULL).splitlines() == [
            "1200 polygons",
            "   3 repaired (0.0012 of the area)",
            "   7 duplicates (2 dropped)",
            "  11 smaller than a pixel",
            "  40 partly outside the grid",
            "   5 outside the grid",
            "   1 across the antimeridian",
            "   9 with corners added",
            "  14 overlapping (3.25 pixels too much)",
        ]

    def test_where_nothing_happened_it_is_one_line(self):
        assert str(PolygonReport(polygons=3)) == "3 polygons"

    def test_a_notebook_shows_a_table(self):
        shown = FULL._repr_html_()
        assert shown.count("<tr>") == 9
        assert "<th>smaller than a pixel</th><td>11</td>" in shown


class TestFrame:
    def test_a_frame_without_one_has_none(self):
        assert polygon_report.of(frame_of([square(1, 1, 2)])) is None

    def test_it_goes_with_the_frame_into_geoparquet(self, tmp_path):
        frame = frame_of([square(1, 1, 2)])
        frame.attrs["polygon_report"] = FULL.to_dict()
        frame.to_parquet(tmp_path / "p.parquet")
        assert polygon_report.of(frame.copy()) == FULL
        # pandas 2.2 does not keep attributes in files; a report is never half there.
        assert polygon_report.of(gpd.read_parquet(tmp_path / "p.parquet")) in (FULL, None)
