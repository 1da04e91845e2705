"""Errors: one tree, and they travel between processes."""

from __future__ import annotations

import inspect
import pickle

import pytest

from cube import errors
from cube.errors import CubeError, IncompleteError, Interrupted
from cube.report import Outcome, Report

EVERY = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]


@pytest.mark.parametrize("kind", EVERY)
def test_every_error_is_a_cube_error_but_an_interrupt_is_none(kind):
    assert issubclass(kind, CubeError) != issubclass(kind, KeyboardInterrupt)


@pytest.mark.parametrize("kind", EVERY)
def test_every_error_arrives_from_a_worker_with_its_message(kind):
    again = pickle.loads(pickle.dumps(kind("what came, what to do")))
    assert type(again) is kind
    assert str(again) == "what came, what to do"


@pytest.mark.parametrize("kind", [IncompleteError, Interrupted])
def test_a_run_that_did_not_go_through_carries_its_report_across_processes(kind):
    report = Report(verb="ingest", outcomes=(Outcome(task="a", status="failed", reason="b"),))
    assert pickle.loads(pickle.dumps(kind("c", report))).report == report


@pytest.mark.parametrize(
    ("kind", "also"),
    [
        (errors.SpecError, ValueError),
        (errors.RegionError, ValueError),
        (errors.StoreError, OSError),
        (errors.SourceError, ValueError),
        (errors.IncompleteError, RuntimeError),
        (errors.TransientError, errors.StoreError),
        (errors.DamagedError, errors.StoreError),
        (errors.PartialError, errors.SourceError),
        (errors.ClusterError, RuntimeError),
    ],
)
def test_errors_are_what_python_programmers_expect_too(kind, also):
    assert issubclass(kind, also)
