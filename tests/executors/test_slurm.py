"""Studies under a real SLURM, whose jobs are killed, preempted, run out of time and are cancelled."""

import os
import re
import signal
from pathlib import Path

import pytest
from slurm_cluster import Cluster, missing
from studies import is_alive, is_training, until

from lopbench.runner.unfinished import checkpoints
from lopbench.testing import checks
from lopbench_plugins.executors.slurm import Slurm

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=f"SLURM is not installed: there is no {', '.join(missing())}"),
]

ASKED = ("--executor=slurm", "--jobs=2")


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    made = Cluster(tmp_path_factory.mktemp("slurm") / "cluster")
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture
def cluster(running):
    """Return a cluster with all its nodes and without jobs."""
    running.start()
    yield running
    running.call("scancel", f"--user={os.getuid()}")
    until(lambda: not running.queue())


def job(cluster):
    """Return the number of the array that is in the queue."""
    (found,) = {name.partition("_")[0] for name in cluster.queue()}
    return found


@pytest.fixture
def make(commands, cluster):
    """Return a function that makes the commands of a study, of which a step takes so many seconds."""
    return lambda seconds=0.01: commands(**cluster.environment, SLEEPS_S=str(seconds))


def done(process, study, serial):
    """Wait for a command, and hold it to have done all runs as one process does."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert study.records() == serial
    assert "sleeps" in out
    assert not (study.results / ".partial").exists()
    return err


def test_an_array_does_a_study(cluster, make, serial):
    study = make(0.002)
    err = done(study.start(*ASKED), study, serial)
    assert err.count(": completed, ") == 4 + 2  # those of "none" train together
    assert cluster.queue() == {}


def test_others_take_over_what_a_killed_task_was_at(make, serial):
    study = make()
    process = study.start(*ASKED)
    os.kill(study.until(is_training).pid, signal.SIGKILL)
    done(process, study, serial)


def test_a_dead_node_is_no_loss(cluster, make, serial):
    study = make()
    process = study.start(*ASKED)
    pid = study.until(is_training).pid
    variables = Path(f"/proc/{pid}/environ").read_text().split("\0")
    (node,) = (each.partition("=")[2] for each in variables if each.startswith("SLURMD_NODENAME="))
    cluster.kill_node(node)
    done(process, study, serial)
    assert not is_alive(pid)


def test_workers_save_and_are_queued_again_when_their_time_is_over(cluster, make, serial):
    study = make()
    process = study.start(*ASKED)
    stopped = study.until(is_training)
    cluster.call("scancel", "--signal=USR2", job(cluster))
    study.until(lambda report: report.name == stopped.name and report.state == "stopped")
    assert study.until(lambda report: report.skipped > 0).name != stopped.name
    done(process, study, serial)


def test_preempted_workers_save_and_are_queued_again(cluster, make, serial):
    study = make()
    process = study.start(*ASKED)
    stopped = study.until(is_training)
    cluster.call("sbatch", "--partition=urgent", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=sleep 1")
    study.until(lambda report: report.name == stopped.name and report.state == "stopped")
    assert study.until(lambda report: report.skipped > 0).name != stopped.name
    done(process, study, serial)


def test_what_is_cancelled_saves_and_is_told(cluster, make):
    study = make()
    process = study.start(*ASKED)
    report = study.until(is_training)
    cluster.call("scancel", job(cluster))
    _, err = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "all workers have left, and " in err
    assert "Traceback" not in err
    assert not is_alive(report.pid)
    assert cluster.queue() == {}
    kept = [path.parent for path in (study.results / ".partial").glob("*/members.json")]
    assert any(map(checkpoints, kept))


def test_an_interrupt_leaves_nothing_running(cluster, make):
    study = make()
    process = study.start(*ASKED)
    report = study.until(is_training)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
    assert "the same command resumes it" in err
    assert cluster.queue() == {}
    assert not is_alive(report.pid)
    assert not (study.results / ".partial" / "workers").exists()


def test_jobs_go_on_without_the_command_and_the_same_command_joins_them(cluster, make, serial):
    study = make(0.06)
    code, out, err = study.run(*ASKED, "--detach")
    assert (code, out) == (0, ""), err
    assert "2 workers of slurm (" in err
    jobs = {*cluster.queue()}
    assert len(jobs) == 2
    study.until(is_training)
    joined = study.start(*ASKED)
    assert "are at these runs already" in next(line for line in joined.stderr if "workers of slurm" in line)
    joined.send_signal(signal.SIGINT)
    _, err = joined.communicate()
    assert joined.returncode == 130
    assert re.search(r"Interrupted\. 2 workers of slurm \((\d+)\) go on; .*, and 'scancel \1' stops them\.", err), err
    assert {*cluster.queue()} == jobs
    done(study.start(*ASKED), study, serial)


def test_what_the_site_refuses_is_told_in_its_own_words(cluster, make):
    study = make()
    code, _, err = study.run("--executor=slurm:partition=none_such")
    assert code == 1
    assert "Error: slurm: sbatch says: " in err
    assert "invalid partition specified: none_such" in err
    assert not (study.results / ".partial").exists()


def test_a_job_that_cannot_work_is_told_in_its_own_words(cluster, make):
    study = make()
    code, _, err = study.run("--executor=slurm:setup=echo there is no such module; exit 3")
    assert code == 1
    assert err.splitlines()[-1].endswith("the same command goes on: there is no such module")
    assert cluster.queue() == {}


def test_conformance(cluster, monkeypatch):
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    for check in checks(Slurm()):
        outcome = check.run(Slurm())
        applies = check.name not in ("nonsense-is-refused", "presets-can-be-run")
        assert outcome.status == ("passed" if applies else "not applicable"), outcome.message
