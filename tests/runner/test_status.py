import json
import os
import shlex
import signal
import subprocess
import sys
from dataclasses import asdict, replace

import pytest

from lopbench.core.errors import ResultsError
from lopbench.runner import heart, worklist
from lopbench.runner.holder import Holder
from lopbench.runner.report import label
from lopbench.runner.status import goes_on, status
from lopbench.runner.study import execute
from lopbench.runner.unfinished import folder_of, make_folder
from lopbench.runner.worker import Telling
from lopbench.runner.workers import workers
from lopbench.runner.worklist import Worklist

BITS = {"scenario": "bitflip:samples=60,m=8,f=5,T=10,steps_per_task=10", "architecture": None, "metrics": []}


def by_state(results):
    found = {}
    for each in status(results):
        found.setdefault(each.state, []).append(each)
    return found


def test_a_run_that_is_done_is_completed(make_study):
    planned = make_study(methods=["none"])
    execute(planned)
    found = by_state(planned.results)
    assert set(found) == {"completed"}
    assert {each.run_id for each in found["completed"]} == {
        run.run_id for spec in planned.specs for run in (spec, spec.reference(), spec.own_reference())
    }
    assert {each.reason for each in found["completed"]} == {""}


def test_a_run_that_was_killed_is_stopped_and_says_how_to_go_on(server, tmp_path):
    assert server.signal_after(signal.SIGKILL, 8, tmp_path, look_s=0.0, checkpoint_s=0.0) == -signal.SIGKILL
    (stopped,) = status(tmp_path)
    assert stopped.state == "stopped"
    assert stopped.run.startswith("none, seed ")
    assert "no process works on it, and 'lopbench run' resumes it" in stopped.reason
    server.run(tmp_path)
    assert {each.state for each in status(tmp_path)} == {"completed"}


def test_a_run_that_somebody_is_at_is_running(server, tmp_path):
    child, pulse = server.start(tmp_path, look_s=0.0)
    with pulse:
        pulse.read(3)
        os.kill(child, signal.SIGSTOP)
        try:
            (running,) = status(tmp_path)
        finally:
            os.kill(child, signal.SIGCONT)
        pulse.readall()
    assert server.wait(child) == 0
    assert running.state == "running"
    assert "nobody" not in running.reason
    assert {each.run_id for each in status(tmp_path)} == {running.run_id}


def test_reasons_of_failed_and_diverged_runs_are_told(make_study, monkeypatch):
    planned = make_study(methods=["none"], optimizers=["sgd:lr=1e30", "adam:lr=1e-3"])
    monkeypatch.setattr("lopbench.learner.learner.StackLearner.evaluate", lambda *_: 1 / 0)
    execute(planned)
    found = by_state(planned.results)
    assert "the loss was not finite at step" in found["diverged"][0].reason
    assert found["failed"][0].reason.startswith("ZeroDivisionError: division by zero; more in ")
    assert found["failed"][0].reason.endswith("log.txt")


def test_damaged_records_and_foreign_locks_are_told_of(make_study):
    planned = make_study(methods=["none"])
    execute(planned)
    path = next((planned.results / "runs").iterdir())
    (path / "status.json").unlink()
    partial = planned.results / ".partial"
    partial.mkdir()
    (partial / "0123456789abcdef.lock").write_text("")  # held by nobody
    (partial / "x").mkdir()
    (partial / "x" / "members.json").write_text(json.dumps(["nonsense"]))
    found = by_state(planned.results)
    assert path.name in found["damaged"][0].reason
    assert set(found) == {"damaged", "completed"}


HOLD = "import filelock, sys; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); print('held', flush=True); input()"


def test_a_held_lock_alone_is_a_run_about_to_begin(tmp_path):
    partial = tmp_path / ".partial"
    partial.mkdir()
    path = partial / "0123456789abcdef.lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        (running,) = status(tmp_path)
        process.communicate("\n")
    assert (running.state, running.run_id) == ("running", "0123456789abcdef")
    assert status(tmp_path) == []


@pytest.fixture
def stopped(make_study):
    """Return a study of three runs of which one is done, and its file of work."""
    planned = make_study(seeds=[0, 1, 2])
    specs = planned.specs
    path = Worklist.of([replace(planned, pending=specs)], data_dir=None).write()
    execute(replace(planned, pending=specs[:1]))
    return planned.results, specs, path


def test_runs_of_a_study_that_nobody_has_begun_are_to_do(stopped):
    results, specs, path = stopped
    found = by_state(results)
    assert [each.run for each in found["completed"]] == [label(specs[0])]
    assert [(each.run, each.seed, each.path) for each in found["to do"]] == [
        (label(spec), spec.seed, str(path)) for spec in specs[1:]
    ]
    assert goes_on(results, status(results)) == f"lopbench work {path}"
    with Holder(results) as holder, holder.claimed(specs[1:2]):
        found = by_state(results)
        assert [each.run for each in found["running"]] == [label(specs[1])]
        assert [each.run for each in found["to do"]] == [label(specs[2])]
        assert goes_on(results, status(results)) is None  # somebody is at work
        assert goes_on(results, status(results), is_silent=True) == f"lopbench work {path}"
    path.write_text("nonsense")
    assert set(by_state(results)) == {"completed"}
    assert goes_on(results, status(results)) is None


def test_the_command_that_goes_on_names_the_plugin_files(make_study, monkeypatch):
    planned = make_study()
    monkeypatch.setattr(worklist, "plugin_files", lambda: ["/some where/mine.py", "/other.py"])
    path = Worklist.of([planned], data_dir=None).write()
    command = shlex.split(goes_on(planned.results, status(planned.results)))
    assert command == ["lopbench", "work", str(path), "--plugin=/some where/mine.py", "--plugin=/other.py"]


def test_a_group_that_kills_its_workers_is_set_aside(make_study):
    planned = make_study(**BITS, seeds=[0, 1])
    results, group = planned.results, planned.specs  # replicas of one program
    path = Worklist.of([replace(planned, pending=group)], data_dir=None).write()
    note = folder_of(results, group).with_suffix(".attempts")
    note.write_text("0\n0\n")
    assert set(by_state(results)) == {"to do"}
    note.write_text("0\n0\n0\n")
    assert [each.seed for each in by_state(results)["set aside"]] == [0, 1]
    assert goes_on(results, status(results)) == "the same 'lopbench run' as before"
    make_folder(results, group)
    (aside, _) = by_state(results)["set aside"]
    assert "killed its workers" in aside.reason
    assert aside.path == str(folder_of(results, group))
    note.write_text("0\n0\n20\n")  # it got further
    assert set(by_state(results)) == {"stopped"}
    path.unlink()
    assert goes_on(results, status(results)) == "the same 'lopbench run' as before"


def test_the_task_is_that_of_the_log(make_study):
    planned = make_study()
    folder = make_folder(planned.results, planned.specs)
    for text, progress in [
        ("session 1 starts at task 0 of 6, step 0", "task 1 of 6"),
        ("task 2 of 6: online accuracy 0.5", "task 4 of 6"),
        ("task 5 of 6: online accuracy 0.5", "task 6 of 6"),  # about to be recorded
    ]:
        with (folder / "log.txt").open("a") as log:
            log.write(f"2026-01-01T00:00:00+00:00 {text}\n2026-01-01T00:00:00+00:00 something else\n")
        (found,) = status(planned.results)
        assert found.progress == progress
        assert found.reason.startswith("something else; ")
    assert (found.scenario, found.profile, found.method, found.seed) == ("tinyimagenet40", "lite+custom", "none", 0)
    assert found.optimizer == planned.specs[0].optimizer_label
    assert 0 <= found.age_s < 600


def test_workers_are_told_with_their_job_and_silent_after_a_minute(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "14")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    study = tmp_path / ".partial" / "studies" / "n1-7.json"
    at_work, ended = Telling(study, tmp_path, 1), Telling(study, tmp_path, 0)
    at_work.started("none, mlp, seed 0", 100, 0)
    at_work.advanced(25, 1, 4, 0.5)
    at_work.tell()
    ended.tell(state="done")
    (tmp_path / ".partial" / "workers" / "other.json").write_text("{}")
    first, second = workers(tmp_path)
    assert (first.report.slot, first.is_silent, first.share) == (0, False, None)
    assert second.place.endswith("slot 1 (slurm 14_0)")
    assert (second.share, second.is_silent, second.age_s < heart.LEASE_S) == (0.25, False, True)
    for telling in (at_work, ended):
        telling.report = replace(telling.report, time=0.0)
        telling.path.write_text(json.dumps(asdict(telling.report)))
        os.utime(telling.path, (0, 0))
    first, second = workers(tmp_path)
    assert (first.is_silent, second.is_silent) == (False, True)  # what has ended has nothing to say
    assert second.to_json()["silent"]
    assert "lines" not in second.to_json()


def test_a_worker_that_was_killed_here_is_silent_at_once(tmp_path):
    code = "import sys; from pathlib import Path; from lopbench.runner.worker import Telling; p = Path(sys.argv[1])"
    code += "; Telling(p / 'study.json', p, 0).tell(state='running')"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    (worker,) = workers(tmp_path)
    assert worker.is_silent


def test_a_folder_that_is_not_there_is_an_error_and_an_empty_one_has_no_runs(tmp_path):
    assert status(tmp_path) == []
    with pytest.raises(ResultsError, match="does not exist"):
        status(tmp_path / "nothing")
