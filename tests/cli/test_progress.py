import io
from pathlib import Path

import pytest
from rich.console import Console

from lopbench.cli.progress import LINE_S, Bars, Lines, Work, study_reporter

LABEL = "none, mlp[x], seed 0"  # brackets must not be read as markup


def console(*, terminal):
    return Console(file=io.StringIO(), force_terminal=terminal, width=150, highlight=False, markup=False)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def lines():
    out, clock = console(terminal=False), Clock()
    reporter = Lines(out, runs=2, steps=3060, clock=clock)
    return reporter, clock, lambda: out.file.getvalue().splitlines()


@pytest.mark.parametrize(("terminal", "kind"), [(True, Bars), (False, Lines)])
def test_bars_are_for_terminals(terminal, kind):
    assert type(study_reporter(console(terminal=terminal), runs=1, steps=10)) is kind


def test_lines_are_printed_now_and_then(lines):
    reporter, clock, printed = lines
    with reporter:
        reporter.started(LABEL, 2000, 0)
        for _ in range(10):
            clock.now += LINE_S / 5
            reporter.advanced(60, 3, 40, 0.5)
        reporter.finished(LABEL, "completed", Path("results/runs/x"))
    # 10 steps/s: after 30 s 300 of 2,000 are done, and 300 of all 3,060
    assert printed() == [
        f"[1/2] {LABEL}: 2,000 steps",
        f"[1/2] {LABEL}: 15%, task 4/40, accuracy 0.500, 10 steps/s, about 3 min left, 5 min for all runs",
        f"[1/2] {LABEL}: 30%, task 4/40, accuracy 0.500, 10 steps/s, about 2 min left, 4 min for all runs",
        f"[1/2] {LABEL}: completed, results/runs/x",
    ]


def test_steps_of_an_earlier_session_are_not_fast_steps(lines):
    reporter, clock, printed = lines
    reporter.started(LABEL, 2000, 1500)
    reporter.advanced(100, 30, 40, 0.5)
    clock.now += LINE_S
    reporter.advanced(300, 30, 40, 0.5)
    assert printed() == [
        f"[1/2] {LABEL}: 2,000 steps (resumes at step 1,500)",
        f"[1/2] {LABEL}: 95%, task 31/40, accuracy 0.500, 10 steps/s, about 10 s left, 2 min for all runs",
    ]


def test_time_before_the_first_advance_is_no_slow_step(lines):
    reporter, clock, printed = lines
    reporter.started(LABEL, 2000, 0)
    clock.now += 100.0  # compiles
    reporter.advanced(50, 0, 40, 0.5)
    reporter.advanced(50, 0, 40, 0.5)  # at the same instant: there is no speed yet
    for _ in range(5):
        clock.now += 1.0
        reporter.advanced(100, 0, 40, 0.5)
    assert printed()[1:] == [
        f"[1/2] {LABEL}: 20%, task 1/40, accuracy 0.500, 117 steps/s, about 15 s left, 25 s for all runs",
    ]


def test_group_counts_as_its_runs(lines):
    reporter, _, printed = lines
    reporter.started("none and 1 more", 3000, 0, 2)
    reporter.finished("none and 1 more", "1 completed, 1 diverged", Path("results/runs"))
    assert printed() == [
        "[2/2] none and 1 more: 3,000 steps",
        "[2/2] none and 1 more: 1 completed, 1 diverged, results/runs",
    ]


def test_runs_that_nobody_foresaw_are_counted(lines):
    reporter, _, printed = lines
    for label in ("tuned", "chosen"):
        reporter.started(label, 100, 0, 2)
    assert printed() == ["[2/2] tuned: 100 steps", "[4/4] chosen: 100 steps"]
    out = console(terminal=True)
    with study_reporter(out, runs=2, steps=200) as bars:
        for _ in range(2):
            bars.started(LABEL, 100, 0, 2)
            bars.finished(LABEL, "completed", Path("results/runs"))
        assert bars._all.at == "4/4 finished"


def test_bars_show_task_score_and_both_bars():
    out = console(terminal=True)
    with study_reporter(out, runs=2, steps=200) as reporter:
        reporter.started(LABEL, 100, 0, score="error")
        reporter.advanced(50, 1, 4, 0.25)
        reporter._live.refresh()
        shown = out.file.getvalue()
        reporter.note("careful")
        reporter.finished(LABEL, "diverged", Path("results/runs/x"))
        reporter.started("next", 100, 0)
    for expected in (LABEL, "task 2/4", "error 0.250", "all 2 runs", "0/2 finished"):
        assert expected in shown
    final = out.file.getvalue()
    assert "careful" in final
    assert f"  {LABEL}\n" in final.replace("\r\n", "\n")
    assert "diverged" in final


def test_bars_count_the_runs_of_a_group():
    out = console(terminal=True)
    with study_reporter(out, runs=5, steps=500) as reporter:
        reporter.started("four of them", 400, 0, 4)
        reporter.finished("four of them", "completed", Path("results/runs"))
        reporter.started(LABEL, 100, 0)
        reporter._live.refresh()
        assert "4/5 finished" in out.file.getvalue()
        reporter.finished(LABEL, "completed", Path("results/runs/x"))
        reporter._live.refresh()
    assert "5/5 finished" in out.file.getvalue()


def test_bars_measure_speed_from_the_first_advance_of_each_group():
    clock = Clock()
    reporter = Bars(console(terminal=True), runs=2, steps=2000, clock=clock)
    for at, label in ((0.0, "first"), (200.0, "second")):
        reporter.started(label, 1000, 0)
        clock.now = at + 50.0  # compiles
        for _ in range(11):
            reporter.advanced(50, 0, 4, 0.5)
            clock.now += 1.0
        overall, current = reporter.shown.rows
        assert (overall.speed, current.speed) == (50.0, 50.0)
        assert overall.done == (550 if at == 0 else 1100)
        assert current.left_s == pytest.approx(9.0)
        reporter.finished(label, "completed", Path("results/runs/x"))


def test_bars_of_a_resumed_study_count_only_what_is_left():
    clock = Clock()
    reporter = Bars(console(terminal=True), runs=2, steps=200, clock=clock)
    reporter.started(LABEL, 100, 40)
    for _ in range(6):
        reporter.advanced(10, 1, 4, 0.25)
        clock.now += 1.0
    overall, run = reporter.shown.rows
    assert (overall.done, overall.total, overall.speed) == (100, 200, 10.0)
    assert (run.done, run.total, run.left_s) == (100, 100, 0.0)
    assert overall.left_s == pytest.approx(10.0)


@pytest.mark.parametrize("terminal", [True, False])
def test_work_names_each_piece_once(terminal):
    out = console(terminal=terminal)
    with Work(out) as work:
        for done in range(5):
            work("decoding", done, 4)
        work("checking", 4, 4)
    shown = out.file.getvalue()
    assert "decoding" in shown
    assert "checking" in shown
    if not terminal:
        assert shown == "decoding ...\nchecking ...\n"
