"""What a worker looks at for each group that it takes: as much in a folder of many finished runs as in one of few."""

import os
from contextlib import nullcontext
from dataclasses import replace

import pytest

from lopbench.results.measurements import Measurements
from lopbench.results.record import write_record
from lopbench.runner import groups
from lopbench.runner.holder import Holder
from lopbench.runner.run import Run
from lopbench.runner.unfinished import PARTIAL, make_folder

STATUS = {
    "status": "completed",
    "error": None,
    "wall_time_s": 60.0,
    "train_time_s": 60.0,
    "steps": 1,
    "peak_bytes": 1,
    "state_bytes": 1,
    "started_utc": "2026-01-01T00:00:00+00:00",
    "sessions": 1,
    "diverged_at": None,
    "idle": None,
}


class Counter:
    """Counts calls that look at files, and the entries of folders that they give."""

    def __init__(self, monkeypatch):
        self.looks, self.entries = 0, 0
        self._scandir = os.scandir
        for name in ("stat", "open", "mkdir", "rename", "unlink", "rmdir", "lstat"):
            monkeypatch.setattr(os, name, self._counted(getattr(os, name)))
        monkeypatch.setattr(os, "scandir", self.scandir)
        monkeypatch.setattr(os, "listdir", self._listed(os.listdir))

    def _counted(self, function):
        def call(*arguments, **options):
            self.looks += 1
            return function(*arguments, **options)

        return call

    def _listed(self, function):
        def call(*arguments):
            found = function(*arguments)
            self.looks, self.entries = self.looks + 1, self.entries + len(found)
            return found

        return call

    def scandir(self, *arguments):
        self.looks += 1
        return _Entries(self, self._scandir(*arguments))


class _Entries:
    def __init__(self, counter, entries):
        self._counter, self._entries = counter, entries

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._entries.close()

    def __iter__(self):
        return self

    def __next__(self):
        entry = next(self._entries)
        self._counter.entries += 1
        return entry

    def close(self):
        self._entries.close()


@pytest.fixture
def take(make_study, monkeypatch):
    """Return a function that counts what a worker looks at to take a group, train nothing, and record the run."""
    planned = make_study()
    spec = planned.specs[0]

    def execute(self):
        self._session.open()
        (spec,) = self.specs
        write_record(planned.results, spec.recorded(), spec.run_id, {}, STATUS, Measurements(), None)
        self._session.close()

    monkeypatch.setattr(Run, "execute", execute)
    monkeypatch.setattr(groups, "cheap_collections", nullcontext)

    def count(seed):
        device, results = groups.torch.device("cpu"), planned.results
        with Holder(results) as holder, monkeypatch.context() as patch:
            worker = groups._Worker(planned.specs, results, holder, device, groups.Quiet(), 10.0, True, ())
            counter = Counter(patch)
            assert worker.attempt([replace(spec, seed=seed)], planned.images)
        return counter.looks, counter.entries

    return planned, count


def test_a_group_costs_as_much_among_many_finished_runs(take):
    planned, count = take
    count(0)  # what is looked at once
    few = count(1)
    for number in range(1000):
        path = planned.results / "runs" / f"bitflip-lite-mlp-none-s{number}-{number:016x}"
        path.mkdir()
        (path / "spec.json").touch()
    assert count(2) == few


def test_a_group_costs_a_name_more_for_each_run_that_others_are_at(take):
    planned, count = take
    spec = planned.specs[0]
    count(0)
    looks, entries = count(1)
    for seed in range(100, 200):
        other = replace(spec, seed=seed)
        make_folder(planned.results, [other])
        (planned.results / PARTIAL / f"{other.run_id}.lock").touch()
    more, names = count(2)
    assert more - looks < 10
    assert 0 < names - entries <= 2 * 3 * 200  # listed a few times
