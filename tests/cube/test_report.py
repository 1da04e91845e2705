"""Reports: what they say, and that they survive JSON and lie beside the cube."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cube
from cube import report
from cube.errors import IncompleteError, SpecError, StoreError
from cube.report import Outcome, Report

text = st.text(max_size=20)
outcomes = st.builds(
    Outcome,
    task=text,
    status=st.sampled_from(["done", "skipped", "partial", "failed"]),
    reason=text,
    tries=st.integers(0, 9),
    seconds=st.floats(0, 1e6),
    bytes_out=st.integers(0, 10**15),
    lost=st.dictionaries(text, text, max_size=3),
)
made = st.builds(
    Report,
    verb=text,
    outcomes=st.lists(outcomes, max_size=5).map(tuple),
    left=st.integers(0, 10**6),
    stopped=text,
    started=text,
    seconds=st.floats(0, 1e6),
)

DONE = Outcome(task="rows 0:32", status="done", tries=1, seconds=0.5, bytes_out=2048)
FAILED = Outcome(task="rows 32:64", status="failed", reason="torn.", tries=5)
PARTIAL = Outcome(task="rows 64:96", status="partial", reason="one scene timed out.", tries=5)
SKIPPED = Outcome(task="rows 96:100", status="skipped")


def made_of(*outcomes, **fields):
    return Report(verb="ingest", outcomes=outcomes, **fields)


class TestText:
    def test_outcomes_are_counted(self):
        found = made_of(DONE, DONE, SKIPPED, FAILED)
        assert str(found) == "ingest: 2 done, 1 skipped, 1 failed"
        assert (found.written, found.regions, found.bytes_out) == (3, 4, 4096)

    def test_partial_and_left_regions_are_told_where_there_are_any(self):
        found = made_of(DONE, PARTIAL, left=7, stopped="The disk is full.")
        assert (
            str(found)
            == "ingest: 1 done, 0 skipped, 1 partial, 0 failed, 7 left. The disk is full."
        )
        assert found.regions == 9

    def test_html_shows_failures_and_escapes_what_came_from_outside(self):
        evil = Outcome(task="<b>", status="failed", reason="<script>alert('&')</script>")
        html = Report(verb="<i>", outcomes=(evil, PARTIAL))._repr_html_()
        assert "<script>" not in html
        assert "<td>&lt;b&gt;</td>" in html
        assert "&lt;script&gt;alert(&#x27;&amp;&#x27;)&lt;/script&gt;" in html
        assert "one scene timed out" in html
        assert html.startswith("<p>&lt;i&gt;: 0 done")

    def test_html_without_failures_has_no_table(self):
        assert "<table>" not in made_of()._repr_html_()


class TestCheck:
    def test_without_failures_it_passes(self):
        found = made_of(DONE, SKIPPED)
        assert found.check() is found

    def test_the_first_reason_and_what_to_do_are_told(self):
        with pytest.raises(
            IncompleteError,
            match=r"^ingest: 1 of 2 regions failed; the others are written. First at rows 32:64: "
            r"torn\. Run it again",
        ) as incomplete:
            made_of(DONE, FAILED).check()
        assert incomplete.value.report == made_of(DONE, FAILED)

    def test_a_region_that_lost_an_input_is_missing_too(self):
        with pytest.raises(IncompleteError, match="1 of 1 regions failed or lost an input; .*one"):
            made_of(PARTIAL).check()

    def test_a_status_that_there_is_not_is_refused(self):
        with pytest.raises(SpecError, match="A status is one of done, skipped, partial, failed"):
            Outcome(task="a", status="perhaps")


class TestLost:
    LOST = Outcome(
        task="rows 64:96",
        status="partial",
        reason="two are lost.",
        lost={"b": "torn.", "a": "gone."},
    )

    def test_inputs_are_told_once_each_by_name(self):
        again = replace(self.LOST, task="rows 96:128", lost={"b": "torn.", "c": "late."})
        found = made_of(DONE, self.LOST, again)
        assert found.lost == {"a": "gone.", "b": "torn.", "c": "late."}
        assert list(found.lost) == ["a", "b", "c"]
        assert str(found) == "ingest: 1 done, 0 skipped, 2 partial, 0 failed, 3 inputs lost"
        assert made_of(DONE, FAILED).lost == {}

    def test_html_names_them_and_escapes_what_came_from_outside(self):
        evil = replace(self.LOST, lost={"<b>": "<script>"})
        html = made_of(evil)._repr_html_()
        assert "<tr><td>&lt;b&gt;</td><td>&lt;script&gt;</td></tr>" in html
        assert "two are lost." in html

    def test_what_to_do_about_those_that_stay_lost_is_told(self):
        with pytest.raises(IncompleteError, match="Should 'a', 'b' stay lost, exclude them from"):
            made_of(self.LOST).check()
        many = replace(self.LOST, lost=dict.fromkeys("edcba", "gone."))
        with pytest.raises(IncompleteError, match="Should 'a', 'b', 'c' and 2 more stay lost"):
            made_of(many).check()

    def test_an_older_report_without_them_is_read(self):
        data = made_of(DONE, PARTIAL).to_dict()
        assert all("lost" not in outcome for outcome in data["outcomes"])
        assert Report.from_dict(data).lost == {}


class TestJson:
    @given(made)
    def test_a_report_survives_it(self, found):
        assert Report.from_dict(json.loads(json.dumps(found.to_dict()))) == found

    def test_what_was_skipped_takes_little(self):
        assert made_of(SKIPPED).to_dict()["outcomes"] == [
            {"task": "rows 96:100", "status": "skipped"}
        ]

    @pytest.mark.parametrize("data", [{}, {"format_version": 1}, {"format_version": 1, "x": 1}])
    def test_something_else_is_refused(self, data):
        with pytest.raises(SpecError, match="This is no report of a run"):
            Report.from_dict(data)

    def test_a_newer_one_is_refused(self):
        with pytest.raises(
            SpecError, match="format 99; this version reads up to 1. Install a newer"
        ):
            Report.from_dict({**made_of().to_dict(), "format_version": 99})


class TestKept:
    def test_they_are_read_in_the_order_of_their_runs(self, url):
        later = made_of(DONE, started="2026-11-21T10:00:02.000000+00:00")
        sooner = made_of(FAILED, started="2026-11-21T10:00:01.000000+00:00")
        for found in (later, sooner):
            report.save(found, url)
        assert report.reports(url) == [sooner, later]

    def test_its_name_says_when_and_what(self, tmp_path):
        found = replace(
            made_of(), verb="ingest predictors/x", started="2026-11-21T10:00:02.5+00:00"
        )
        report.save(found, str(tmp_path / "a.zarr"))
        (file,) = (tmp_path / "a.zarr.reports").iterdir()
        assert file.name == "20261121T100002.5Z-ingest-predictors-x.json"

    def test_a_cube_keeps_its_bytes(self, url, contents):
        before = contents(url)
        report.save(made_of(DONE), url)
        assert contents(url) == before

    def test_a_cube_without_any_has_none(self, url):
        assert report.reports(url) == []

    def test_a_cube_in_memory_has_none(self):
        report.save(made_of(), "memory://report")
        assert report.reports("memory://report") == []

    def test_one_that_cannot_be_kept_is_a_warning(self, url, monkeypatch, caplog):
        def refuse(place):
            raise StoreError("Permission denied.")

        monkeypatch.setattr("cube.objects.at", refuse)
        with caplog.at_level(logging.WARNING, "quadrat.run"):
            report.save(made_of(), url)
        assert caplog.messages == ["The report of ingest could not be kept: Permission denied."]

    def test_a_damaged_one_is_told(self, url, tmp_path):
        report.save(made_of(), url)
        (file,) = (tmp_path / "toy.zarr.reports").iterdir()
        file.write_text("{")
        with pytest.raises(SpecError, match=rf"The report .*{file.name} cannot be read: "):
            report.reports(url)

    def test_every_store_keeps_them(self, store_url, spec):
        place = cube.create(store_url, spec)
        report.save(made_of(DONE), place)
        kept = report.reports(place)
        assert kept == ([] if store_url.startswith("memory") else [made_of(DONE)])


def test_the_clock_is_in_utc():
    assert report.now().endswith("+00:00")
