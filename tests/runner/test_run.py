"""One run: what it records however it ends, and what it leaves behind."""

import errno
import inspect
import itertools
import os
import re
import signal
import textwrap
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from lopbench.core.errors import ResultsError, UnsupportedError
from lopbench.core.interfaces import Perturbation
from lopbench.core.manager import plugins
from lopbench.core.registry import Distribution, Registration
from lopbench.learner.learner import StackLearner
from lopbench.results.leaderboard import leaderboard
from lopbench.results.record import record_path
from lopbench.runner import groups, members, report, session, setting, study
from lopbench.runner.forecast import forecast
from lopbench_plugins.metrics.dead_fraction import DeadFraction

TINY = "tinyimagenet40:tasks=6,steps_per_task={},classes_per_task=2,images_per_class=20,resolution=8,batch_size=16"
FEW_STEPS = TINY.format(4)


class UnprintableError(Exception):
    """Has no text."""

    def __str__(self):
        raise ValueError("no text")


class MuteError(Exception):
    """Ends the process when it is told."""

    def __str__(self):
        raise SystemExit(3)


@dataclass(frozen=True, kw_only=True)
class Trouble(Perturbation):
    """Raises an error, or breaks the weights, where and when it is told to."""

    name: ClassVar[str] = "trouble"
    error: str = "runtime"
    hook: str = "step"
    at: int = 0

    def _raise(self):
        if self.error == "interrupt":  # as the user does
            signal.raise_signal(signal.SIGINT)
            return
        raise {
            "exit": SystemExit(0),
            "generator": GeneratorExit(),
            "mute": MuteError(),
            "unprintable": UnprintableError(),
            "surrogate": RuntimeError("\udcff"),
            "long": RuntimeError("x" * 10**7),
            "assertion": AssertionError("theirs"),
            "allocator": RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory"),
            "disk": OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
            "runtime": RuntimeError("no luck"),
            "memory": MemoryError("no room"),
            "unsupported": UnsupportedError("trouble cannot serve this network"),
        }[self.error]

    def configure(self, module, *, example, generator):
        if self.hook == "configure":
            self._raise()
        return module

    def after_step(self, learner, state):
        if "host_step" not in state:
            state["host_step"] = torch.zeros((), dtype=torch.int64)
        if self.hook == "step" and int(state["host_step"]) == self.at:
            if self.error == "nan":
                for parameter in learner.parameters.values():
                    parameter.fill_(torch.nan)
            else:
                self._raise()
        state["host_step"] += 1


@pytest.fixture
def trouble(monkeypatch):
    """Register `Trouble` for one test."""
    methods = plugins().registry._entries["methods"]
    entry = Registration("methods", "trouble", Trouble, "", Distribution("tests", "1"))
    monkeypatch.setitem(methods, "trouble", entry)


def log_of(record):
    return (record.path / "log.txt").read_text()


class Clock:
    """Stands for the module `time`; a second passes at each look."""

    def __init__(self):
        ticks = itertools.count()
        self.perf_counter = lambda: float(next(ticks))


def test_checkpoints_are_taken_though_every_task_is_shorter_than_their_interval(make_study, monkeypatch):
    saved = []
    monkeypatch.setattr(session, "save_checkpoint", lambda *arguments: saved.append(arguments[-1]))
    monkeypatch.setattr(session, "time", Clock())
    planned = make_study(scenario=TINY.format(2))
    study.execute(planned, checkpoint_s=15)
    assert len({header["place"] for header in saved}) > 1


# -- running again


def contents(folder):
    """Return every path under a folder with the time of its last change and what it holds."""
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None) for path in folder.rglob("*")
    }


def test_running_again_changes_no_file_and_trains_nothing(make_study, monkeypatch):
    planned = make_study(scenario=FEW_STEPS, methods=["none", "cbp"])
    study.execute(planned)
    before = contents(planned.results)
    assert {path.name for path in planned.results.iterdir()} == {"runs"}
    assert not any(path.name.startswith(".") for path in before)
    monkeypatch.setattr(groups, "Run", None)  # not even made
    again = make_study(scenario=FEW_STEPS, methods=["none", "cbp"])
    assert (again.pending, again.steps, again.finished) == ((), (), len(planned.pending))
    assert study.execute(again) == []
    # A plan made before the runs were finished does nothing either.
    assert study.execute(planned) == []
    assert contents(planned.results) == before


def test_lock_stays_while_there_is_something_to_resume(make_study, trouble, monkeypatch):
    monkeypatch.setattr(session, "LOOK_S", 0.0)
    planned = make_study(scenario=FEW_STEPS, methods=["trouble:error=interrupt,at=5"])
    with pytest.raises(KeyboardInterrupt):
        study.execute(planned, checkpoint_s=0.0)
    run_id = planned.specs[0].run_id
    assert {path.name for path in (planned.results / ".partial").iterdir()} == {"locks", run_id, f"{run_id}.lock"}


# -- how runs end


def test_completed_run_records_its_times_steps_and_log(make_study, record_of):
    planned = make_study(scenario=FEW_STEPS)
    assert study.execute(planned) == []
    record = record_of(planned, planned.specs[0])
    status = record.status
    assert record.outcome == "completed"
    assert (status["error"], status["diverged_at"], status["sessions"]) == (None, None, 1)
    assert status["steps"] == 24
    assert 0 < status["train_time_s"] < status["wall_time_s"]
    assert status["peak_bytes"] > status["state_bytes"] > 0
    lines = log_of(record).splitlines()
    assert "session 1 starts at task 0 of 6, step 0" in lines[0]
    assert [line.split(" ")[1:5] for line in lines[1:-1]] == [["task", f"{task}", "of", "6:"] for task in range(6)]
    assert lines[-1].endswith("completed")
    reference = record_of(planned, planned.specs[0].reference())
    assert reference.status["steps"] == 24  # of all six tasks
    assert "session 1 starts at task 0 of 6, step 0" in log_of(reference)


@pytest.mark.parametrize("look_s", [0.0, 0.25])
def test_diverged_run_names_its_first_step_without_a_finite_loss(make_study, record_of, monkeypatch, look_s):
    monkeypatch.setattr(session, "LOOK_S", look_s)
    losses = []
    step = StackLearner.step

    def watched(self, *arguments, **options):
        out = step(self, *arguments, **options)
        losses.append(float(out.losses))
        return out

    monkeypatch.setattr(StackLearner, "step", watched)
    planned = make_study(scenario=FEW_STEPS, optimizers=["sgd:lr=1e30"])
    (spec,) = planned.specs
    study.execute(replace(planned, pending=(spec,)))
    record = record_of(planned, spec)
    first = next(step for step, loss in enumerate(losses) if not abs(loss) < float("inf"))
    assert record.outcome == "diverged"
    assert record.status["diverged_at"] == first
    assert record.status["train_time_s"] > 0
    assert f"diverged: the loss was not finite at step {first}" in log_of(record)


@pytest.mark.parametrize("at", [6, 7])  # in the middle and at the end of task 1
def test_diverged_run_keeps_what_it_measured_and_counts_at_the_floor(make_study, record_of, trouble, at):
    request = {"scenario": FEW_STEPS, "methods": [f"trouble:error=nan,at={at}", "none"]}
    planned = make_study(**request)
    assert study.execute(planned) == []
    record = record_of(planned, planned.specs[0])
    assert record.outcome == "diverged"
    assert record.status["diverged_at"] == at + 1
    finished = record.per_task("online_accuracy")
    assert list(finished) == list(range((at + 1) // 4))
    row = leaderboard(planned.results).set_index("method").loc[f"trouble:at={at},error=nan"]
    assert row["diverged"] == 1
    assert row["lifetime_online"] == pytest.approx((sum(finished.values()) + 0.5 * (6 - len(finished))) / 6)
    fresh = record_of(planned, planned.specs[0].reference()).per_task("online_accuracy")
    # Of the late tasks 1 to 5, the run has finished none or one.
    gained = sum(finished[task] - 0.5 for task in finished if task >= 1)
    assert row["retention"] == pytest.approx(gained / sum(fresh[task] - 0.5 for task in range(1, 6)))
    assert make_study(**request).pending == ()


@pytest.mark.parametrize(("hook", "at", "steps"), [("step", 9, 9), ("configure", 0, 0)])
def test_failed_run_is_recorded_with_its_error_and_the_others_go_on(make_study, record_of, trouble, hook, at, steps):
    planned = make_study(scenario=FEW_STEPS, methods=[f"trouble:hook={hook},at={at}", "none"])
    assert study.execute(planned) == []
    record = record_of(planned, planned.specs[0])
    assert record.outcome == "failed"
    assert record.status["error"] == "RuntimeError: no luck"
    assert record.status["steps"] == steps
    assert record.status["sessions"] == 1
    assert record.status["started_utc"]
    assert list(record.per_task("online_accuracy")) == list(range(steps // 4))
    assert "Traceback (most recent call last)" in log_of(record)
    assert re.search(r'File "lopbench[/\\]learner[/\\]learner.py", line', log_of(record))
    assert record_of(planned, planned.specs[1]).outcome == "completed"
    assert make_study(scenario=FEW_STEPS, methods=[f"trouble:hook={hook},at={at}", "none"]).pending == ()


@pytest.mark.parametrize(("error", "hook"), [("unsupported", "step"), ("memory", "step"), ("memory", "configure")])
def test_refused_run_leaves_no_record_and_the_others_go_on(make_study, record_of, trouble, error, hook):
    planned = make_study(scenario=FEW_STEPS, methods=[f"trouble:error={error},hook={hook}", "none"])
    refused = study.execute(planned)
    assert [spec for spec, _ in refused] == [planned.specs[0]]
    expected = {"unsupported": "trouble cannot serve this network", "memory": "does not fit into the memory of cpu"}
    assert all(expected[error] in reason for _, reason in refused)
    assert not record_path(planned.results, planned.specs[0]).exists()
    assert record_of(planned, planned.specs[1]).outcome == "completed"
    assert record_of(planned, planned.specs[1].reference()).outcome == "completed"
    assert not (planned.results / ".partial").exists()


def test_references_of_refused_runs_alone_are_not_trained(make_study, trouble):
    planned = make_study(scenario=FEW_STEPS, methods=["trouble:error=memory,hook=configure"])
    assert len(study.execute(planned)) == 1
    assert not any(record_path(planned.results, spec).exists() for spec in planned.pending)


def test_what_cannot_even_start_is_refused_with_the_whole_request(make_study, trouble, tmp_path):
    with pytest.raises(UnsupportedError, match=r"trouble cannot serve this network.*; leave out trouble:"):
        make_study(scenario=FEW_STEPS, methods=["trouble:error=unsupported,hook=configure", "none"])
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("error", "text"),
    [
        ("exit", "SystemExit: 0"),
        ("generator", "GeneratorExit: "),
        ("mute", "MuteError: (an error that cannot be told)"),
        ("unprintable", "UnprintableError: (an error that cannot be told)"),
        ("surrogate", r"RuntimeError: \udcff"),
        ("long", "RuntimeError: xxx"),
        ("assertion", "AssertionError: theirs"),
    ],
)
def test_whatever_a_method_raises_ends_its_own_run_at_most(make_study, record_of, trouble, error, text):
    planned = make_study(scenario=FEW_STEPS, methods=[f"trouble:error={error},at=5", "none"])
    assert study.execute(replace(planned, pending=planned.specs)) == []
    failed, other = (record_of(planned, spec) for spec in planned.specs)
    assert (failed.outcome, other.outcome) == ("failed", "completed")
    assert failed.status["error"].startswith(text)
    assert len(failed.status["error"]) <= 2_000
    assert len(log_of(failed)) < 30_000


@pytest.mark.parametrize("error", ["exit", "generator", "mute", "assertion"])
def test_whatever_a_method_raises_as_runs_are_prepared_ends_its_own_run_at_most(make_study, record_of, trouble, error):
    planned = make_study(scenario=FEW_STEPS, methods=[f"trouble:error={error},hook=configure", "none"])
    forecast(planned)
    assert study.execute(replace(planned, pending=planned.specs)) == []
    assert [record_of(planned, spec).outcome for spec in planned.specs] == ["failed", "completed"]


@pytest.mark.parametrize("error", [RuntimeError("no bits"), SystemExit(0), MuteError()])
def test_a_stream_that_cannot_be_set_up_is_told_and_never_recorded(make_study, monkeypatch, error):
    def stream(self, *arguments, **options):
        raise error

    planned = make_study(scenario=FEW_STEPS)
    monkeypatch.setattr(type(planned.scenario), "stream", stream)
    refused = study.execute(planned)
    assert [spec for spec, _ in refused] == list(planned.specs)  # and their references are not tried
    assert all(f"cannot be set up: {type(error).__name__}: " in reason for _, reason in refused)
    assert not (planned.results / "runs").exists()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("no room"),
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_what_ran_out_in_a_metric_leaves_no_record(make_study, monkeypatch, error):
    def compute(self, probe):
        raise error

    monkeypatch.setattr(DeadFraction, "compute", compute)
    planned = make_study(scenario=FEW_STEPS, metrics=["dead_fraction"])
    ((spec, reason),) = study.execute(replace(planned, pending=planned.specs))
    assert "does not fit into the memory of cpu, or into another limit of this machine" in reason
    assert not record_path(planned.results, spec).exists()


@pytest.mark.parametrize("error", ["memory", "allocator", "disk"])
def test_what_ran_out_leaves_no_record_and_the_rest_goes_on(make_study, trouble, error):
    planned = make_study(scenario=FEW_STEPS, methods=[f"trouble:error={error},at=5", "none"])
    ((spec, reason),) = study.execute(replace(planned, pending=planned.specs))
    assert spec == planned.specs[0]
    assert "does not fit into the memory of cpu, or into another limit of this machine" in reason
    assert [record_path(planned.results, each).exists() for each in planned.specs] == [False, True]


def test_assertion_of_ours_is_told_and_never_recorded(make_study, monkeypatch):
    def broken(self, *arguments):
        assert self is None, "cannot be"

    planned = make_study(scenario=FEW_STEPS, methods=["none", "l2"])
    code = compile(textwrap.dedent(inspect.getsource(broken)), setting.__file__, "exec")
    names = {}
    exec(code, names)
    monkeypatch.setattr(setting.Setting, "new_learner", names["broken"])
    refused = study.execute(replace(planned, pending=planned.specs))
    assert [spec for spec, _ in refused] == list(planned.specs)
    assert all("a fault of lopbench (AssertionError: cannot be); please report it" in reason for _, reason in refused)
    assert not (planned.results / "runs").exists()


def test_a_method_that_goes_to_another_folder_takes_no_record_with_it(trouble, make_study, monkeypatch, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Trouble, "_raise", lambda self: os.chdir(tmp_path / "elsewhere"))
    planned = make_study(Path("mine"), scenario=FEW_STEPS, methods=["trouble:at=3", "none"])
    refused = study.execute(planned)
    assert {reason.partition(" changed")[0].rpartition("left the ")[2] for _, reason in refused} == {
        "working directory"
    }
    assert Path.cwd() == tmp_path
    assert len(list((tmp_path / "mine" / "runs").iterdir())) == 2  # of none and its reference
    assert not list((tmp_path / "elsewhere").iterdir())


def test_weights_broken_by_the_very_last_step_are_a_divergence(make_study, record_of, trouble):
    planned = make_study(scenario=FEW_STEPS, methods=["trouble:error=nan,at=23", "trouble:error=nan,at=22"])
    assert study.execute(planned) == []
    last, before = (record_of(planned, spec) for spec in planned.specs)
    assert (last.outcome, last.status["diverged_at"]) == ("diverged", 24)
    assert last.status["error"] == "the weights were not finite after step 24"
    assert (before.outcome, before.status["diverged_at"]) == ("diverged", 23)
    assert before.status["error"] == "the loss was not finite at step 23"
    for record in (last, before):  # what was finished counts
        assert set(record.per_task("online_accuracy")) == set(record.per_task("heldout_accuracy")) == set(range(5))
    # A fresh network lives for one task, here of four steps: both methods' never come to break theirs.
    assert record_of(planned, planned.specs[0].own_reference()).outcome == "completed"


def test_weights_broken_by_the_last_step_of_a_fresh_network_are_a_divergence(make_study, record_of, trouble):
    planned = make_study(scenario=FEW_STEPS, methods=["trouble:error=nan,at=3"])
    study.execute(planned)
    record = record_of(planned, planned.specs[0].own_reference())
    assert (record.outcome, record.status["diverged_at"]) == ("diverged", 8)  # that of the first late task, of index 1


def test_refusal_is_told_to_the_reporter(make_study, trouble):
    notes = []

    class Notes(report.Quiet):
        def note(self, message):
            notes.append(message)

    planned = make_study(scenario=FEW_STEPS, methods=["trouble:error=unsupported"])
    study.execute(replace(planned, pending=planned.specs), Notes())
    (note,) = notes
    assert note.startswith("trouble:error=unsupported, seed 0 (mlp:depth=2,width=16): ")
    assert note.endswith("trouble cannot serve this network")


# -- interrupts


def test_interrupt_after_the_last_step_publishes_the_run_and_stops_the_study(make_study, monkeypatch):
    monkeypatch.setattr(members, "write_record", interrupted(members.write_record))
    planned = make_study(scenario=FEW_STEPS)
    with pytest.raises(KeyboardInterrupt):
        study.execute(planned)
    assert [record_path(planned.results, spec).exists() for spec in planned.pending] == [True, False]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_second_interrupt_is_not_put_off(make_study, monkeypatch):
    planned = make_study(scenario=FEW_STEPS)
    monkeypatch.setattr(members, "write_record", interrupted(interrupted(members.write_record)))
    with pytest.raises(KeyboardInterrupt):
        study.execute(planned)
    assert not record_path(planned.results, planned.specs[0]).exists()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_handler_of_the_program_around_it_is_left_alone(make_study, monkeypatch):
    seen = []
    monkeypatch.setattr(members, "write_record", interrupted(members.write_record))
    before = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    try:
        planned = make_study(scenario=FEW_STEPS)
        assert study.execute(replace(planned, pending=planned.specs)) == []
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [signal.SIGINT]


def test_study_runs_outside_the_main_thread(make_study, record_of):
    planned = make_study(scenario=FEW_STEPS)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(study.execute, planned).result() == []
    assert record_of(planned, planned.specs[0]).outcome == "completed"


def interrupted(function):
    """Return ``function``, sending an interrupt to this process first."""

    def call(*arguments):
        signal.raise_signal(signal.SIGINT)
        return function(*arguments)

    return call


# -- folders that cannot be written to


def test_results_folder_under_a_file_is_one_sentence(make_study, tmp_path):
    (tmp_path / "file").write_text("")
    planned = make_study(tmp_path / "file" / "results", scenario=FEW_STEPS)
    with pytest.raises(
        ResultsError,
        match=r"file/results cannot be written to: Not a directory\. Make it writable, make room, or choose",
    ):
        study.execute(planned)


def test_folder_with_too_little_room_is_refused_before_anything_is_done(make_study, monkeypatch):
    monkeypatch.setattr(study, "MIN_FREE_BYTES", 2**80)
    planned = make_study(scenario=FEW_STEPS)
    with pytest.raises(ResultsError, match=r"has \d+ MiB free and needs"):
        study.execute(planned)
    assert not planned.results.exists()


class Full:
    """Lets files be opened for writing a number of times, then says that the disk is full."""

    def __init__(self, monkeypatch, left):
        self.left = left
        opened = Path.open

        def open_(path, mode="r", *arguments, **options):
            if mode[0] in "wa":
                self.left -= 1
                if self.left < 0:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return opened(path, mode, *arguments, **options)

        monkeypatch.setattr(Path, "open", open_)


@pytest.mark.parametrize("left", [0, 1, 2, 3, 4, 6, 14, 21])
def test_full_disk_is_one_sentence_and_a_rerun_finishes(make_study, record_of, monkeypatch, tmp_path, left):
    whole = make_study(tmp_path / "whole", scenario=FEW_STEPS)
    study.execute(replace(whole, pending=whole.specs))
    planned = make_study(scenario=FEW_STEPS)
    planned = replace(planned, pending=planned.specs)
    monkeypatch.setattr(session, "LOOK_S", 0.0)
    with monkeypatch.context() as patch:
        Full(patch, left)
        with pytest.raises(ResultsError, match="No space left on device"):
            study.execute(planned, checkpoint_s=0.0)
    assert not record_path(planned.results, planned.specs[0]).exists()
    kept = list(planned.results.rglob("checkpoint-*"))
    assert [path.suffix for path in kept] == [".safetensors"] * (left >= 4)
    study.execute(planned)
    record = record_of(planned, planned.specs[0])
    assert record.measurements_digest == record_of(whole, whole.specs[0]).measurements_digest
    assert record.status["sessions"] == 1 + (left >= 4)
