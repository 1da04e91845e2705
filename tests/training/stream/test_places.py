"""A stream can be left anywhere and gone on with, and divided among workers."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cube.errors import SpecError, SplitError
from cube.windows import Windows
from tests import toy
from training.augmentation import chip_draws
from training.stream import ChipStream, StreamSpec

WINDOWS = Windows(shape=toy.SHAPE, size=8, stride=5)
ALL = np.arange(len(WINDOWS))


def _stream(city, ids=ALL, **spec):
    spec = StreamSpec(**{"seed": 0, "batch": 16, "block_px": 40, "blocks_in_flight": 2, **spec})
    return ChipStream(city.url, toy.SAMPLE, WINDOWS, ids, spec)


def _bytes(batch):
    arrays = [*batch.inputs.values(), batch.label, batch.weight, batch.chip]
    return [values.tobytes() for values in arrays]


def _chips(batches):
    ids = np.concatenate([batch.chip for batch in batches])
    return ids[ids >= 0]


class TestResuming:
    @settings(deadline=None, max_examples=12)
    @given(at=st.integers(0, 25), shuffle=st.booleans(), part=st.sampled_from([(0, 1), (1, 3)]))
    def test_the_rest_of_an_epoch_is_what_it_would_have_been(self, city, at, shuffle, part):
        stream = _stream(city, shuffle=shuffle, part=part)
        whole = [_bytes(batch) for batch in stream.epoch(3)]
        at = min(at, len(whole))
        assert [_bytes(batch) for batch in stream.epoch(3, start=at)] == whole[at:]

    def test_a_saved_state_goes_on_where_the_stream_was_left(self, city):
        stream = _stream(city)
        whole = [_bytes(batch) for batch in stream.epochs(0, 2)]
        batches = stream.epochs(0, 2)
        before = [_bytes(next(batches)) for _ in range(len(stream) + 7)]
        saved = json.loads(json.dumps(stream.state().to_dict()))
        batches.close()
        after = [_bytes(batch) for batch in _stream(city).resume(saved)]
        assert before + after == whole

    def test_only_what_is_left_is_read(self, city):
        stream = _stream(city)
        list(stream.epoch(0))
        every = stream.report.reads
        list(stream.epoch(0, start=len(stream) - 1))
        assert 0 < stream.report.reads < every / 2

    def test_a_state_counts_the_steps_of_the_model(self, city):
        stream = _stream(city)
        state = stream.state(step=2 * len(stream) + 3)
        assert (state.epoch, state.batch) == (2, 3)
        assert stream.state().batch == 0

    def test_the_end_of_an_epoch_is_the_beginning_of_the_next(self, city):
        stream = _stream(city)
        list(stream.epoch(4))
        assert (stream.state().epoch, stream.state().batch) == (5, 0)

    @pytest.mark.parametrize("change", [{"seed": 1}, {"batch": 8}, {"part": (0, 2)}])
    def test_the_state_of_another_stream_is_refused(self, city, change):
        state = _stream(city, **change).state()
        with pytest.raises(SplitError, match="state is of a stream with digest"):
            _stream(city).resume(state)
        with pytest.raises(SplitError, match="this one has"):
            _stream(city, ALL[:50]).resume(_stream(city).state())

    @pytest.mark.parametrize("place", [{"first": -1}, {"start": 26}, {"start": -1}])
    def test_a_place_that_is_not_there_is_refused(self, city, place):
        with pytest.raises(SpecError, match="count from 0, and their batches from 0 to 25"):
            _stream(city).epochs(**{"first": 0, "count": 1, **place})


class TestParts:
    @pytest.mark.parametrize("workers", [2, 3, 7])
    @pytest.mark.parametrize("ids", [ALL, ALL[:5]])
    def test_workers_stream_every_chip_once_in_equally_many_batches(self, city, workers, ids):
        streams = [_stream(city, ids, part=(k, workers)) for k in range(workers)]
        parts = [list(stream.epoch(1)) for stream in streams]
        assert len({len(part) for part in parts}) == 1
        assert len(parts[0]) == len(streams[0])
        every = np.concatenate([_chips(part) for part in parts])
        assert np.sort(every).tolist() == ids.tolist()
        counts = [len(_chips(part)) for part in parts]
        assert max(counts) - min(counts) <= 1

    def test_a_worker_reads_its_own_part_only(self, city):
        alone, one = _stream(city, block_px=16), _stream(city, block_px=16, part=(1, 4))
        for stream in (alone, one):
            list(stream.epoch())
        assert one.report.reads < alone.report.reads * 0.75


class TestReports:
    def test_a_report_says_what_an_epoch_gave_and_read(self, city):
        stream = _stream(city)
        batches = list(stream.epoch(2))
        report = stream.report
        assert (report.epoch, report.batches, report.chips) == (2, len(batches), len(ALL))
        assert report.whole
        chip = sum(a[0].nbytes for a in (*batches[0].inputs.values(), batches[0].label))
        chip += batches[0].weight[0].nbytes
        assert report.chip_bytes == pytest.approx(chip * len(ALL), rel=0.01)
        assert 0 <= report.first <= report.waited <= report.seconds
        assert str(report).startswith("epoch 3: the device waited ")

    def test_every_epoch_has_its_own(self, city):
        stream = _stream(city)
        list(stream.epochs(0, 3))
        assert [report.epoch for report in stream.reports] == [0, 1, 2]
        assert len({report.reads for report in stream.reports}) == 1

    def test_a_consumer_that_left_is_told_so(self, city):
        stream = _stream(city)
        batches = stream.epoch()
        next(batches)
        batches.close()
        assert not stream.report.whole
        assert "left before the end" in str(stream.report)

    def test_the_time_a_slow_reader_takes_is_time_waited(self, city, monkeypatch):
        from training.stream import loading

        original, asked = loading.read_bands, []

        def slow(*args, **options):
            asked.append(args[1])
            import time

            time.sleep(0.01)
            return original(*args, **options)

        monkeypatch.setattr(loading, "read_bands", slow)
        stream = _stream(city, readers=1)
        list(stream.epoch())
        assert stream.report.waited > 0.9 * 0.01 * len(asked)

    def test_what_it_will_do_is_said_before_and_how_it_went_after(self, city):
        stream = _stream(city)
        before = stream.describe()
        assert "399 of 399, 8 px at a stride of 5" in before
        assert "25 of 16 chips, shuffled, seed 0" in before
        list(stream.epoch())
        assert "the device waited" in stream.describe()
        assert "<table>" in stream._repr_html_()


class TestErrors:
    def test_an_error_of_the_store_reaches_the_consumer_and_leaves_no_thread(
        self, city, monkeypatch
    ):
        import threading

        from training.stream import loading

        def broken(*_, **__):
            raise OSError("the disk is gone")

        monkeypatch.setattr(loading, "read_bands", broken)
        before = set(threading.enumerate())
        with pytest.raises(OSError, match="the disk is gone"):
            list(_stream(city).epoch())
        assert set(threading.enumerate()) == before

    def test_leaving_early_leaves_no_thread(self, city):
        import threading

        before = set(threading.enumerate())
        batches = _stream(city).epochs(0, 5)
        next(batches)
        batches.close()
        assert set(threading.enumerate()) == before


class TestDraws:
    def test_every_chip_has_its_own_in_every_epoch_whatever_its_batch(self, city):
        def draws(epoch, **spec):
            found = {}
            for batch in _stream(city, draws=3, **spec).epoch(epoch):
                assert batch.inputs["draws"].shape == (len(batch.chip), 3)
                found |= dict(zip(batch.chip.tolist(), batch.inputs["draws"].tolist(), strict=True))
            return {chip: numbers for chip, numbers in found.items() if chip >= 0}

        assert draws(1) == draws(1, batch=7) != draws(2)
        assert np.array_equal(draws(1)[5], chip_draws(0, 1, [5], 3)[0])
