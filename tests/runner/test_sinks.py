"""Sinks are told what the records hold, and whatever they do the records stay what they are."""

import json
import math
import random
import signal
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import pytest
import torch

from lopbench.core.errors import UnsupportedError, UsageError
from lopbench.core.globals import SETTINGS
from lopbench.core.interfaces import Sink, SinkWriter
from lopbench.results.record import find_records
from lopbench.runner import members, report, session, study
from lopbench.runner.sinks import sinks_of, usable
from lopbench_plugins.metrics.dead_fraction import DeadFraction

IMAGES = "tinyimagenet40:tasks=6,steps_per_task=4,classes_per_task=2,images_per_class=20,resolution=8,batch_size=16"
BITS = {
    "scenario": "bitflip:samples=100,m=8,f=5,T=10,steps_per_task=20,probe_every=4",
    "architecture": None,
    "metrics": ["dead_fraction", "weight_norm"],
    "seeds": [0, 1],
}


@dataclass(frozen=True, kw_only=True)
class Keeps(Sink):
    """Keeps what it is told, by the name of the run."""

    name: ClassVar[str] = "keeps"
    runs: dict = field(default_factory=lambda: defaultdict(list))
    opened: list = field(default_factory=list)

    def open(self, run):
        self.opened.append(run)
        return Kept(self, run)

    def rows(self, name):
        """Return what holds in the end: what was told of a step from which a run went on is void."""
        found = []
        for event, *told in self.runs[name]:
            if event == "open":
                found = [row for row in found if row[0] < told[0]]
            elif event == "write":
                step, task, values = told
                found += [(step, task, key, value) for key, value in values.items()]
        return found

    def outcomes(self, name):
        return [told[0] for event, *told in self.runs[name] if event == "close"]


class Kept(SinkWriter):
    def __init__(self, sink, run):
        self.told = sink.runs[run.name]
        self.told.append(("open", run.step))

    def write(self, step, task, values):
        self.told.append(("write", step, task, values))

    def close(self, outcome):
        self.told.append(("close", outcome))


def rows_of(record):
    """Return what a record holds as a sink is told it."""
    return [
        (row["step"], row["task"], row["metric"] + (f"/{row['layer']}" if row["layer"] else ""), row["value"])
        for row in record.table.to_pylist()
    ]


def assert_told(sink, records):
    assert records
    assert sink.runs.keys() == {record.path.name for record in records}
    for record in records:
        told = [(*rest, None if math.isnan(value) else value) for *rest, value in sink.rows(record.path.name)]
        assert told == rows_of(record)
        assert sink.outcomes(record.path.name)[-1:] == [record.outcome]


@pytest.mark.parametrize("plan", [{"scenario": IMAGES, "methods": ["cbp"]}, {**BITS, "sweeps": ["lr=0.01,0.003"]}])
def test_a_sink_is_told_what_the_records_hold(make_study, plan):
    planned, sink = make_study(**plan), Keeps()
    assert study.execute(planned, sinks=[sink]) == []
    records = find_records(planned.results)
    assert len(records) == len(planned.pending) > 1
    assert_told(sink, records)
    for record in records:
        (run,) = [run for run in sink.opened if run.name == record.path.name]
        assert (run.run_id, run.label, run.step) == (record.run_id, report.label(record.spec), 0)
        assert run.spec == json.loads((record.path / "spec.json").read_text())
        assert run.results == planned.results
    assert study.execute(make_study(**plan), sinks=[again := Keeps()]) == []
    assert not again.runs  # they are recorded


def test_replicas_of_one_program_are_open_at_once(make_study):
    planned, sink, open_at_once = make_study(**BITS), Keeps(), []

    class Counts(Kept):
        def write(self, step, task, values):
            opened = [name for name, told in sink.runs.items() if told[-1][0] != "close"]
            open_at_once.append(len(opened))
            super().write(step, task, values)

    sink_open = type("CountingKeeps", (Keeps,), {"open": lambda self, run: Counts(sink, run)})
    assert study.execute(planned, sinks=[sink_open()]) == []
    assert max(open_at_once) == 2
    assert_told(sink, find_records(planned.results))


def test_what_diverges_is_told_as_the_record_has_it(make_study):
    planned, sink = make_study(scenario=IMAGES, optimizers=["sgd:lr=1e20"]), Keeps()
    study.execute(planned, sinks=[sink])
    records = find_records(planned.results)
    assert "diverged" in {record.outcome for record in records}
    assert_told(sink, records)


def test_what_was_measured_before_a_metric_failed_is_told(make_study, monkeypatch):
    planned, sink, calls = make_study(scenario=IMAGES, metrics=["dead_fraction"]), Keeps(), []
    compute = DeadFraction.compute

    def fails_at_last(self, probe):
        calls.append(probe.name)
        return compute(self, probe) if len(calls) < 8 else 1 / 0

    monkeypatch.setattr(DeadFraction, "compute", fails_at_last)
    study.execute(replace(planned, pending=planned.pending[:1], steps=planned.steps[:1]), sinks=[sink])
    (record,) = find_records(planned.results)
    assert record.outcome == "failed"
    assert sum(row[2].startswith("dead_fraction") for row in rows_of(record)) == 7
    assert_told(sink, [record])


# -- what a sink cannot change


class Meddles(Keeps):
    """Draws global random numbers, changes what it is told and the settings of torch."""

    def open(self, run):
        run.spec.clear()
        self.meddle()
        opened = super().open(run)
        write = opened.write

        def changed(step, task, values):
            values.update({"online_accuracy": -1.0, "mine": 0.0})
            write(step, task, values)
            self.meddle()

        opened.write = changed
        return opened

    def meddle(self):
        torch.manual_seed(7)
        random.seed(7)
        np.random.seed(7)
        torch.rand(3)
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        torch.set_num_threads(2)
        torch.use_deterministic_algorithms(False)
        torch.set_float32_matmul_precision("medium")


#: What differs between two records of one spec.
TIMES = ("wall_time_s", "train_time_s", "peak_bytes", "started_utc")


def contents(results):
    """Return what all records hold, byte for byte but for when they were made and how long it took."""
    found = {}
    for path in sorted((results / "runs").rglob("*")):
        name = str(path.relative_to(results))
        if path.name == "status.json":
            found[name] = {key: value for key, value in json.loads(path.read_text()).items() if key not in TIMES}
        elif path.name == "log.txt":
            found[name] = [line.partition(" ")[2] for line in path.read_text().splitlines()]
        elif path.is_file():
            found[name] = path.read_bytes()
    return found


@pytest.fixture
def undisturbed(make_study, tmp_path):
    """Return a function that returns the contents of the records of a plan that is done without sinks."""

    def get(**plan):
        planned = make_study(results=tmp_path / "undisturbed", **plan)
        assert study.execute(planned) == []
        return contents(planned.results)

    return get


@pytest.mark.parametrize("plan", [{"scenario": IMAGES, "methods": ["dropout"]}, BITS], ids=["images", "bits"])
def test_records_are_byte_for_byte_what_they_are_without_sinks(make_study, undisturbed, plan):
    planned, beside, before = make_study(**plan), Keeps(), [setting.read() for setting in SETTINGS]
    assert study.execute(planned, sinks=[Meddles(), beside]) == []
    assert [setting.read() for setting in SETTINGS] == before
    assert contents(planned.results) == undisturbed(**plan)
    assert_told(beside, find_records(planned.results))


class Mute(BaseException):
    """Cannot be told."""

    def __str__(self):
        raise SystemExit(3)


ERRORS = {
    "plain": OSError("no route to host\nat all"),
    "assertion": AssertionError("theirs"),
    "exit": SystemExit(0),
    "memory": MemoryError("no room"),
    "mute": Mute(),
    "refusal": UnsupportedError("log in first"),
}


def fails(name, where, calls):
    """Return a sink that raises an error where it is told to; ``calls`` takes what it was called for."""

    class Fails(Keeps):
        name: ClassVar[str] = "fails"

        def open(self, run):
            calls.append("open")
            if where == "open":
                raise ERRORS[name]
            made = Keeps.open(self, run)
            for hook in ("write", "close"):
                setattr(made, hook, self.hook(hook))
            return made

        def hook(self, hook):
            def called(*arguments):
                calls.append(hook)
                if where == hook:
                    raise ERRORS[name]

            return called

    return Fails()


class Notes(report.Quiet):
    def __init__(self):
        self.notes = []

    def note(self, message):
        self.notes.append(message)


@pytest.mark.parametrize("where", ["open", "write", "close"])
@pytest.mark.parametrize("name", ERRORS)
def test_a_sink_that_fails_is_told_once_and_called_no_more(make_study, undisturbed, capsys, name, where):
    plan = {"scenario": IMAGES, "metrics": ["dead_fraction"]}
    planned, beside, calls = make_study(**plan), Keeps(), []
    planned = replace(planned, pending=planned.pending[:1], steps=planned.steps[:1])
    assert study.execute(planned, sinks=[fails(name, where, calls), beside]) == []
    (sentence,) = capsys.readouterr().err.splitlines()
    assert sentence.startswith(
        f"{report.label(planned.pending[0])}: the sink fails stopped: {type(ERRORS[name]).__name__}"
    )
    assert sentence.endswith("; the run goes on without it")
    assert calls.count(where) == 1
    assert calls[-1] == where
    found = contents(planned.results)
    assert found.items() <= undisturbed(**plan).items()
    assert_told(beside, find_records(planned.results))


def test_of_replicas_that_fail_alike_one_is_named(make_study, capsys):
    calls = []
    planned = make_study(**BITS)
    continual = replace(planned, pending=planned.specs, steps=planned.steps[: len(planned.specs)])
    assert study.execute(continual, sinks=[fails("plain", "open", calls)]) == []
    assert calls == ["open", "open"]
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert [record.outcome for record in find_records(planned.results)] == ["completed"] * 2


def test_a_reporter_that_shows_notes_is_told(make_study, monkeypatch, capsys):
    planned, notes = make_study(scenario=IMAGES), Notes()
    monkeypatch.setattr("lopbench.runner.sinks.Quiet", int)
    assert study.execute(planned, notes, sinks=[fails("plain", "write", [])]) == []
    told = [note for note in notes.notes if "the sink fails stopped: OSError: no route to host;" in note]
    assert len(told) == len(planned.pending)  # once a run
    assert capsys.readouterr().err == ""


# -- killed and gone on with


class Stops(report.Quiet):
    """Interrupts after a number of looks."""

    def __init__(self, looks):
        self.looks = looks

    def advanced(self, steps, task, tasks, score):
        self.looks -= 1
        if self.looks == 0:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("looks", range(1, 22, 3))
def test_after_a_kill_it_is_told_from_which_step_it_goes_on(make_study, undisturbed, monkeypatch, looks):
    monkeypatch.setattr(session, "LOOK_S", 0.0)
    planned, sink = make_study(**BITS), Keeps()
    with pytest.raises(KeyboardInterrupt):
        study.execute(planned, Stops(looks), checkpoint_s=0.0, sinks=[sink])
    stopped = {name: sink.outcomes(name) for name in sink.runs}
    assert ["stopped"] in stopped.values()
    assert study.execute(planned, checkpoint_s=0.0, sinks=[sink]) == []
    assert_told(sink, find_records(planned.results))
    for name, ends in stopped.items():
        if ends == ["stopped"]:
            assert sink.outcomes(name) == ["stopped", "completed"]
            steps = [told[0] for event, *told in sink.runs[name] if event == "open"]
            assert len(steps) == 2
            assert steps[0] == 0
    assert any(told[0] > 0 for events in sink.runs.values() for event, *told in events if event == "open") or looks == 1


def test_a_run_that_its_group_has_recorded_already_is_not_told_again(make_study, monkeypatch):
    planned, sink = make_study(**BITS), Keeps()
    written, original = [], members.write_record

    def once(*arguments):
        if written:
            signal.raise_signal(signal.SIGINT)
        written.append(original(*arguments))
        return written[0]

    monkeypatch.setattr(members, "write_record", once)
    with pytest.raises(KeyboardInterrupt):
        study.execute(planned, sinks=[sink])
    monkeypatch.setattr(members, "write_record", original)
    before = len(sink.runs[written[0].name])
    assert study.execute(planned, sinks=[sink]) == []
    assert len(sink.runs[written[0].name]) == before


# -- naming them


def test_sinks_are_given_by_name_or_as_objects(tmp_path):
    keeps = Keeps()
    named, mine = sinks_of([f"tensorboard:{tmp_path}", keeps])
    assert named.folder == str(tmp_path)
    assert mine is keeps
    with pytest.raises(UsageError, match=r"Unknown sink 'tensorbord'\. Did you mean 'tensorboard'"):
        sinks_of(["tensorbord"])
    with pytest.raises(UsageError, match="is no Sink; give a name, or an object"):
        sinks_of([Keeps])


def test_one_that_cannot_be_used_is_refused_before_anything_is_run():
    broken = type("Broken", (Keeps,), {"check": lambda self: 1 / 0})
    with pytest.raises(UnsupportedError, match="the sink 'keeps' cannot be used: ZeroDivisionError"):
        usable([broken()])
