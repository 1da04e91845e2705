"""Errors: one tree, and they travel between processes."""

from __future__ import annotations

import inspect
import pickle

import pytest

from cube import errors
from cube.errors import CubeError, IncompleteError
from cube.run import Outcome, Report

EVERY = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]


@pytest.mark.parametrize("kind", EVERY)
def test_every_error_is_a_cube_error(kind):
    assert issubclass(kind, CubeError)


@pytest.mark.parametrize("kind", EVERY)
def test_every_error_arrives_from_a_worker_with_its_message(kind):
    again = pickle.loads(pickle.dumps(kind("what came, what to do")))
    assert type(again) is kind
    assert str(again) == "what came, what to do"


def test_an_incomplete_run_carries_its_report_across_processes():
    report = Report(verb="ingest", outcomes=(Outcome(task="a", status="failed", reason="b"),))
    assert pickle.loads(pickle.dumps(IncompleteError("c", report))).report == report


@pytest.mark.parametrize(
    ("kind", "also"),
    [
        (errors.SpecError, ValueError),
        (errors.RegionError, ValueError),
        (errors.StoreError, OSError),
        (errors.SourceError, ValueError),
        (errors.IncompleteError, RuntimeError),
    ],
)
def test_errors_are_what_python_programmers_expect_too(kind, also):
    assert issubclass(kind, also)
