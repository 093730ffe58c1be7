"""Studies of several workers, which are killed, stopped and left alone: each run is done once, as in one process."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from studies import PLUGIN, SCENARIO, Commands, done_serially, is_alive, is_training, until
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lopbench.cli.work import parse_slot
from lopbench.core.errors import DataError, PluginError, ResultsError, UnsupportedError, UsageError
from lopbench.core.guard import left_alone
from lopbench.results.record import find_records
from lopbench.runner import attempts
from lopbench.runner.heart import has_ended
from lopbench.runner.pool import Pool, check, executor_of
from lopbench.runner.session import TakenOverError
from lopbench.runner.unfinished import checkpoints, folder_of
from lopbench.runner.worker import OUT_OF_TIME, Report, Stop, Telling
from lopbench.runner.worklist import Part, Worklist, here, remove, tidy


@pytest.fixture
def study(tmp_path):
    """Return the commands of a study, of which a run lasts long enough to be disturbed."""
    return Commands(tmp_path / "results", LOPBENCH_CACHE=str(tmp_path / "cache"), SLEEPS_S="0.002")


@pytest.fixture(scope="module")
def serial():
    """Return what the runs of these studies measure in one process."""
    return done_serially()


def test_a_worker_that_is_killed_is_started_again_and_its_run_goes_on(study, serial):
    process = study.start("--jobs=2")
    report = study.until(is_training, process)
    os.kill(report.pid, signal.SIGKILL)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert study.records() == serial
    assert "sleeps" in out
    assert err.count(": completed, ") == 4 + 2  # those of "none" train together
    assert not (study.results / ".partial").exists()


def test_sinks_are_told_by_the_workers(study, serial):
    code, _, err = study.run("--jobs=2", "--sink=tensorboard")
    assert code == 0, err
    assert "the sink" not in err
    assert study.records() == serial
    shown = {}
    for folder in (study.results / "tensorboard").iterdir():
        events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
        events.Reload()
        shown[folder.name] = sum(len(events.Scalars(tag)) for tag in events.Tags()["scalars"])
    assert shown == {record.path.name: len(record.table) for record in find_records(study.results)}


def test_an_interrupted_study_leaves_nothing_running_and_goes_on(study, serial):
    process = study.start("--jobs=2")
    study.until(is_training, process)
    pids = {report.pid for report in study.reports()}
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "stopping: running work is being saved" in err
    assert "the same command resumes it" in err
    assert not any(map(is_alive, pids))
    assert not (study.results / ".partial" / "workers").exists()
    code, _, err = study.run("--jobs=1")  # one process goes on with what two were at
    assert code == 0, err
    assert study.records() == serial


def test_workers_leave_when_their_parent_was_killed(study, serial):
    process = study.start("--jobs=2")
    study.until(is_training, process)
    pids = {report.pid for report in study.reports()}
    process.kill()
    process.communicate(timeout=300)
    until(lambda: not any(map(is_alive, pids)))
    code, _, err = study.run("--jobs=2")
    assert code == 0, err
    assert study.records() == serial
    assert not (study.results / ".partial").exists()  # what the workers of the killed one told, too


def test_what_kills_its_workers_is_set_aside_and_the_rest_is_done(study, serial):
    code, _, err = study.run("--jobs=2", methods=["kills", "none"], seeds="0")
    assert code == 1
    assert f"killed {attempts.MOST_DEATHS} workers without getting further than step 0" in err
    done = study.records()
    assert len(done) == 2
    assert done.items() <= serial.items()
    assert "Traceback" not in err


def test_a_worker_that_is_started_by_hand_joins_and_saves_when_its_time_is_over(study):
    study.environment["SLEEPS_S"] = "0.1"  # so that a run takes longer than any process does to start
    process = study.start("--jobs=2", methods=["sleeps"], seeds="0-5")
    study.until(is_training, process)
    (work,) = (study.results / ".partial" / "studies").glob("*.json")
    command = [sys.executable, "-m", "lopbench", "work", str(work), "--slot=3/4", f"--plugin={PLUGIN}"]
    by_hand = subprocess.Popen(command, env=study.environment)
    report = study.until(lambda report: report.pid == by_hand.pid and is_training(report), process)
    by_hand.send_signal(signal.SIGUSR2)
    assert by_hand.wait(60) == OUT_OF_TIME
    assert report.label not in {other.label for other in study.reports() if other.pid != by_hand.pid}
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=300)
    kept = [folder.parent for folder in (study.results / ".partial").glob("*/members.json")]
    assert len(kept) >= 2  # what was at work is saved, that of the one by hand too
    assert all(checkpoints(folder) for folder in kept)


# --- in this process --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "slot"), [("0/1", (0, 1)), ("3/4", (3, 4))])
def test_slots(text, slot):
    assert parse_slot(text) == slot


@pytest.mark.parametrize("text", ["", "1", "4/4", "a/b", "-1/2", "1/", "0/0"])
def test_other_slots_are_refused(text):
    with pytest.raises(UsageError, match="write 0/4 for the first of four workers"):
        parse_slot(text)


def test_a_list_of_work_is_read_as_it_was_written(make_study):
    planned = make_study(scenario=SCENARIO, architecture=None, methods=["none", "l2"], seeds=range(3))
    work = Worklist.of([planned], data_dir=None, checkpoint_s=3.0, sinks=("tensorboard",))
    path = work.write()
    found = Worklist.read(path)
    assert found == Worklist(
        planned.results, None, 3.0, [Part(None, [[*group] for group in work.parts[0].groups])], ("tensorboard",)
    )
    assert [data for _, data in found.loaded()] == [None]
    remove(path)
    assert not (planned.results / ".partial").exists()


def test_data_that_changed_since_the_study_began_are_refused(make_study):
    planned = make_study()
    work = Worklist.of([planned], data_dir=None)
    changed = replace(work, parts=[replace(part, data={**part.data, "content_hash": "0" * 32}) for part in work.parts])
    with pytest.raises(DataError, match="is not what it was when the study began"):
        list(changed.loaded())


def test_components_of_other_code_than_that_of_the_study_are_refused(make_study):
    planned = make_study(scenario=SCENARIO, architecture=None, methods=["l2"])
    work = Worklist.of([planned], data_dir=None)
    (spec, *_), *_ = work.parts[0].groups
    changed = replace(spec, methods=tuple(replace(each, origin="unpublished mine.py+0123") for each in spec.methods))
    work = replace(work, parts=[replace(work.parts[0], groups=[[changed]])])
    with pytest.raises(PluginError, match=r"l2 is of lopbench here, and was of unpublished mine.py\+0123 when"):
        list(work.loaded())


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"version": 2}', '{"version": 1, "parts": 3}', "[" * 99999, "\xff"], ids=lambda t: t[:20]
)
def test_a_list_of_work_that_cannot_be_read_is_told(tmp_path, text):
    path = tmp_path / "work.json"
    path.write_text(text, encoding="latin1")
    with pytest.raises(
        ResultsError, match=r"The work .*work.json cannot be read: .*; begin it anew with 'lopbench run'"
    ):
        Worklist.read(path)
    with pytest.raises(ResultsError, match="cannot be read: No such file"):
        Worklist.read(tmp_path / "none.json")


def test_three_deaths_at_one_step_set_a_run_aside_until_it_is_forgotten(make_study):
    planned = make_study()
    results, members = planned.results, planned.specs
    beside = folder_of(results, members).with_suffix(".attempts")

    def die():
        with suppress(SystemExit), attempts.counted(results, members):
            kept.append(beside.read_bytes())
            raise SystemExit
        beside.write_bytes(kept[-1])  # as if the process had not come so far

    kept = []
    for _ in range(3):
        die()
    with pytest.raises(UnsupportedError, match="killed 3 workers without getting further than step 0"):
        die()
    beside.write_text("0\n0\n20\n")  # it got further meanwhile
    with attempts.counted(results, members):
        pass
    assert not beside.exists()
    beside.write_text("0\n0\n0\n")
    attempts.forget(results)
    with attempts.counted(results, members):
        pass


def test_who_is_taken_over_keeps_the_count_of_whoever_did(make_study):
    planned = make_study()
    beside = folder_of(planned.results, planned.specs).with_suffix(".attempts")
    with pytest.raises(TakenOverError), attempts.counted(planned.results, planned.specs):
        raise TakenOverError
    assert beside.read_text() == "0\n"


def test_what_dead_processes_of_this_machine_left_behind_is_removed(tmp_path):
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], stdout=subprocess.PIPE, check=True)
    pid, host = int(gone.stdout), socket.gethostname()
    folder = tmp_path / ".partial" / "workers"
    folder.mkdir(parents=True)
    for name in (
        f"{host}-{pid}-aa.json",
        f"{host}-{pid}-aa.claim",
        f"{host}-{pid}-0.log",
        f"{here()}-bb.json",
        f"else-{pid}-cc.json",
        "note.txt",
    ):
        (folder / name).touch()
    tidy(tmp_path)
    assert {path.name for path in folder.iterdir()} == {f"{here()}-bb.json", f"else-{pid}-cc.json", "note.txt"}


def test_reports_of_other_machines_go_with_their_study_after_a_day(tmp_path):
    studies, folder = tmp_path / ".partial" / "studies", tmp_path / ".partial" / "workers"
    studies.mkdir(parents=True)
    folder.mkdir()
    (studies / "n1-7.json").touch()
    for name, study in {"n2-8-aa": "n1-7", "n2-9-bb": "n1-6", "n2-9-cc": "n1-6"}.items():
        (folder / f"{name}.json").write_text(json.dumps({"study": study}))
    for name in ("n1-7-0.log", "n1-6-0.log", "n2-9-dd.json", "n2-8-aa.claim", "n2-9-bb.claim", "n2-9-ee.taken"):
        (folder / name).touch()
    for path in folder.iterdir():
        os.utime(path, (0, 0))
    (folder / "n2-9-cc.json").touch()  # it has just told something
    tidy(tmp_path)
    left = {"n2-8-aa.json", "n2-8-aa.claim", "n2-9-cc.json", "n1-7-0.log", "n2-9-dd.json"}
    assert {path.name for path in folder.iterdir()} == left


def test_a_pool_removes_what_its_workers_on_any_machine_left_behind(tmp_path, make_study):
    worklist = Worklist.of([make_study()], data_dir=None).write()
    results = worklist.parents[2]
    folder = results / ".partial" / "workers"
    folder.mkdir()
    telling = Telling(worklist, results, 0)
    telling.tell()
    report = json.loads(telling.path.read_text())
    (folder / "far-7-aa.json").write_text(json.dumps({**report, "name": "far-7-aa"}))
    for name in ("far-7-aa.claim", "far-7-aa.taken", "far-7-aa.new"):
        (folder / name).touch()
    Pool(worklist, results, executor_of("local"), jobs=1, devices=["cpu"]).tidy()
    assert not (results / ".partial").exists()


def test_a_process_that_nobody_waited_for_has_ended():
    process = subprocess.Popen([sys.executable, "-c", ""])
    try:
        assert not has_ended(os.getpid())
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it stays as one that has ended
        assert has_ended(process.pid)
    finally:
        process.wait()


def test_a_report_keeps_the_last_lines_and_counts_them_all(tmp_path):
    telling = Telling(tmp_path / "n1-7.json", tmp_path, 3)
    telling.started("none, mlp, seed 0", 100, 40, 2, "error")
    telling.advanced(10, 1, 4, 0.5)
    for number in range(150):
        telling.note(f"note {number}")
    found = Report.read(telling.path)
    assert (found.slot, found.state, found.label, found.runs) == (3, "running", "none, mlp, seed 0", 2)
    assert (found.steps, found.done, found.skipped, found.taken) == (100, 50, 40, 10)
    assert (found.told, len(found.lines), found.lines[-1]) == (150, 100, "note 149")
    telling.finished("none, mlp, seed 0", "completed", Path("there"))
    found = Report.read(telling.path)
    assert (found.state, found.ended, found.lines[-1]) == ("between", 2, "none, mlp, seed 0: completed, there")
    telling.path.write_text('{"name": "x"}')
    with pytest.raises(ValueError, match="is no report"):
        Report.read(telling.path)


def test_a_place_is_given_up_when_its_worker_ends_before_it_begins(tmp_path):
    worklist = tmp_path / ".partial" / "studies" / "no work.json"
    pool = Pool(worklist, tmp_path, executor_of("local"), jobs=1, devices=["cpu"])
    pool.start()
    while pool.poll():
        time.sleep(0.05)
    (failure,) = pool.failures
    assert "no work.json cannot be read: No such file or directory" in failure
    pool.tidy()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ResultsError, match="1 worker had to give up: "):
        check(pool.failures)


def test_a_worker_is_interrupted_again_where_something_dropped_the_interrupt(tmp_path):
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2)}
    try:
        stop = Stop()
        telling = Telling(tmp_path / "work.json", tmp_path, 0, stop)
        with suppress(KeyboardInterrupt), stop.armed():
            telling.started("a run", 10, 0)  # nobody has asked yet
            with suppress(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(1)
            with pytest.raises(KeyboardInterrupt):
                telling.started("a run", 10, 0)
            with pytest.raises(KeyboardInterrupt), left_alone("method 'm': "):  # it is no method's
                telling.started("a run", 10, 0)
            assert telling.report.label == "a run"
            telling.started("another", 10, 0)
        assert telling.report.label == "a run"
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
