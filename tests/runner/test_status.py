import json
import os
import signal
import subprocess
import sys

import pytest

from lopbench.core.errors import ResultsError
from lopbench.runner.status import status
from lopbench.runner.study import execute


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


def test_a_run_that_was_killed_is_stale_and_says_how_to_go_on(server, tmp_path):
    assert server.signal_after(signal.SIGKILL, 8, tmp_path, look_s=0.0, checkpoint_s=0.0) == -signal.SIGKILL
    (stale,) = status(tmp_path)
    assert stale.state == "stale"
    assert stale.run.startswith("none, mlp")
    assert "nobody is at it, and 'lopbench run' resumes it" in stale.reason
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


def test_a_folder_that_is_not_there_is_an_error_and_an_empty_one_has_no_runs(tmp_path):
    assert status(tmp_path) == []
    with pytest.raises(ResultsError, match="is not a folder"):
        status(tmp_path / "nothing")
