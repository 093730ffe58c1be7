"""Programs of long runs are compiled, which takes a while: what is said about it, and what it counts for."""

import logging
import os
import re
import time
from dataclasses import replace

import pytest
import torch._inductor

from lopbench.learner import compiling
from lopbench.results.record import find_records
from lopbench.runner import report, study, worth

BITS = {
    "scenario": "bitflip:samples=60,m=8,f=5,T=10,steps_per_task=30,probe_every=3",
    "architecture": None,
    "metrics": [],
    "seeds": [0, 1],
}


class Notes(report.Quiet):
    def __init__(self):
        self.notes = []

    def note(self, message):
        self.notes.append(message)


@pytest.fixture
def compiler(monkeypatch, tmp_path):
    """Put a compiler that only warns and takes its time in the place of torch's; returns its folders, one a call."""
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    calls = []

    def compile_(graph, *_, **__):
        calls.append(os.environ["TORCHINDUCTOR_CACHE_DIR"])
        logging.getLogger("torch.utils.cpp_extension").warning("No CUDA runtime is found")
        time.sleep(0.3)
        return graph

    monkeypatch.setattr(torch._inductor, "compile", compile_)
    monkeypatch.setattr(compiling, "_compiled", {})
    monkeypatch.setattr(worth, "COMPILE_STEPS", 60)
    monkeypatch.setenv("LOPBENCH_CACHE", str(tmp_path / "cache"))
    # As torch leaves it when it is imported.
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", default_cache_dir())
    return calls


def test_compiling_is_announced_where_it_happens_and_only_there(make_study, compiler, tmp_path, caplog):
    reporter = Notes()
    planned = make_study(**BITS)
    assert study.execute(planned, reporter) == []
    # The references take the same steps as the runs, so that theirs is compiled already.
    assert len(compiler) == 1
    name = "none, seeds 0-1 (online_mlp)"
    assert reporter.notes[0] == f"{name}: compiling, about a minute where it was not done before"
    assert re.fullmatch(rf"{re.escape(name)}: compiled in \d s", reporter.notes[1])
    assert len(reporter.notes) == 2
    assert compiler == [str(tmp_path / "cache" / "compiled")]
    assert len([*(tmp_path / "cache" / "compiled" / "programs").iterdir()]) == 1
    assert not [record for record in caplog.records if "CUDA" in record.message]
    assert logging.getLogger("torch.utils.cpp_extension").level == logging.NOTSET
    for record in find_records(planned.results):
        assert record.environment["steps"] == "compiled program"
        assert "a compiled program of 3 steps a call" in (record.path / "log.txt").read_text()


def test_compiled_programs_are_kept_where_the_user_wants_them(make_study, compiler, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "mine"))
    planned = make_study(**BITS)
    study.execute(replace(planned, pending=planned.specs))
    assert compiler == [str(tmp_path / "mine")]


def test_compiling_is_no_training_time(make_study, compiler):
    planned = make_study(**BITS)
    study.execute(replace(planned, pending=planned.specs))
    record, other = find_records(planned.results)
    seconds = 2 * (record.status["wall_time_s"] - record.status["train_time_s"])
    assert seconds > 0.3
    assert record.status["wall_time_s"] == pytest.approx(other.status["wall_time_s"], rel=0.5)


def test_program_of_methods_that_turn_on_later_is_compiled_then(make_study, compiler):
    reporter = Notes()
    planned = make_study(**BITS, methods=["l2"], start=0.5)
    study.execute(replace(planned, pending=planned.specs), reporter)
    assert len(compiler) == 2
    assert len([note for note in reporter.notes if "compiling" in note]) == 2


def test_runs_too_short_to_earn_it_are_not_compiled(make_study, compiler, monkeypatch):
    monkeypatch.setattr(worth, "COMPILE_STEPS", 61)
    reporter = Notes()
    planned = make_study(**BITS)
    study.execute(planned, reporter)
    assert (compiler, reporter.notes) == ([], [])
    assert {record.environment["steps"] for record in find_records(planned.results)} == {"program"}


def test_steps_run_as_they_are_where_there_is_no_compiler_and_it_is_said(make_study, compiler, monkeypatch, tmp_path):
    def broken(*_, **__):
        raise RuntimeError("no working C++ compiler\nmore about it")

    whole = make_study(tmp_path / "whole", **BITS)
    study.execute(replace(whole, pending=whole.specs))
    monkeypatch.setattr(torch._inductor, "compile", broken)
    monkeypatch.setattr(compiling, "_compiled", {})
    reporter = Notes()
    planned = make_study(**BITS)
    assert study.execute(replace(planned, pending=planned.specs), reporter) == []
    reason = "RuntimeError: no working C++ compiler"
    assert reporter.notes[1].endswith(f"(online_mlp): no compiled program here, and so slower: {reason}")
    for one, other in zip(find_records(planned.results), find_records(whole.results), strict=True):
        assert one.environment["steps"] == "program"
        assert one.table.equals(other.table)


def test_large_steps_are_taken_one_by_one(make_study, compiler, monkeypatch):
    monkeypatch.setattr(worth, "MOST_OPERATIONS", 1000)
    planned = make_study(
        scenario="tinyimagenet40:tasks=2,steps_per_task=40,classes_per_task=2,images_per_class=20,resolution=8"
    )
    study.execute(planned)
    assert compiler == []
    assert {record.environment["steps"] for record in find_records(planned.results)} == {"one by one"}
    assert {record.environment["replicas"] for record in find_records(planned.results)} == {1}
