"""Studies on a real Dask cluster, whose workers and scheduler are killed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from studies import is_alive, is_training, until

from lopbench.testing import checks
from lopbench_plugins.executors.dask import Dask

pytest.importorskip("distributed")

pytestmark = pytest.mark.slow


class Cluster:
    """A scheduler and a nanny with two workers, as commands of their own.

    Args:
        folder: Where they may write.
        environment: Theirs.
    """

    def __init__(self, folder, environment):
        self._folder, self._environment = folder, environment
        self._processes = {}

    def start(self):
        told = self._folder / "scheduler.json"
        self._start("scheduler", "--host=127.0.0.1", "--port=0", "--no-dashboard", f"--scheduler-file={told}")
        self.address = until(lambda: told.exists() and json.loads(told.read_text() or "{}").get("address"))
        self._start(
            *("worker", self.address, "--host=127.0.0.1", "--no-dashboard", "--nworkers=2", "--nthreads=1"),
            f"--local-directory={self._folder}",
        )

    def kill_scheduler(self):
        self._processes["scheduler"].kill()

    def stop(self):
        for process in reversed(self._processes.values()):
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def _start(self, name, *options):
        with (self._folder / f"{name}.log").open("wb") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", "dask", name, *options],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )


@pytest.fixture
def study(commands):
    return commands(SLEEPS_S="0.01")


@pytest.fixture
def cluster(tmp_path, study):
    (tmp_path / "dask").mkdir()
    made = Cluster(tmp_path / "dask", study.environment)
    try:
        made.start()
        yield made
    finally:
        made.stop()


def parent(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_killed_dask_worker_is_no_loss(cluster, study, serial):
    process = study.start(f"--executor=dask:{cluster.address}", "--jobs=2")
    pid = study.until(is_training).pid
    os.kill(parent(pid), signal.SIGKILL)
    until(lambda: not is_alive(pid))  # it saves and leaves
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert study.records() == serial
    assert "sleeps" in out
    assert err.count(": completed, ") == 4 + 2
    assert not (study.results / ".partial").exists()


def test_an_interrupt_leaves_nothing_running(cluster, study):
    process = study.start(f"--executor=dask:{cluster.address}", "--jobs=2")
    pid = study.until(is_training).pid
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert not is_alive(pid)


def test_without_its_scheduler_workers_save_and_leave_and_the_study_says_so(cluster, study, serial):
    process = study.start(f"--executor=dask:{cluster.address}", "--jobs=2")
    pid = study.until(is_training).pid
    cluster.kill_scheduler()
    _, err = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "dask: the scheduler has gone, and the workers with it; the same command goes on" in err.splitlines()[-1]
    assert "Traceback" not in err
    until(lambda: not is_alive(pid))
    study.environment["SLEEPS_S"] = "0"
    code, _, err = study.run("--jobs=1")
    assert code == 0, err
    assert study.records() == serial


def test_workers_leave_when_the_command_was_killed(cluster, study):
    process = study.start(f"--executor=dask:{cluster.address}", "--jobs=2")
    pid = study.until(is_training).pid
    process.kill()
    process.communicate()
    until(lambda: not is_alive(pid))


def test_a_scheduler_that_does_not_answer_is_one_sentence(study):
    code, _, err = study.run("--executor=dask:tcp://127.0.0.1:1", methods=["none"])
    assert code == 1
    last = err.splitlines()[-1]
    assert last.startswith("Error: dask: no scheduler has answered at tcp://127.0.0.1:1 within 10 s; start one with")
    assert "Traceback" not in err
    assert not (study.results / ".partial").exists()
    code, _, err = study.run("--executor=dask", methods=["none"])
    assert code == 2
    assert "dask needs address, as in dask:address=..." in err


def test_conformance(cluster):
    for check in checks(Dask(address=cluster.address)):
        outcome = check.run(Dask(address=cluster.address))
        applies = check.name not in ("joins-workers", "nonsense-is-refused", "presets-can-be-run")
        assert outcome.status == ("passed" if applies else "not applicable"), outcome.message
