"""Workers as processes of this machine; tests/runner/test_workers.py has more, and kills them."""

import os
import sys
import time

import pytest

import lopbench
from lopbench.core.errors import UnsupportedError, UsageError
from lopbench.core.executor import Workers
from lopbench_plugins.executors.local import Local

#: Writes what it is given where it is told, and waits for the end of its input.
WAITS = (
    "import os, sys, pathlib; path = pathlib.Path({folder!r}, f'{{os.getpid()}}.told'); "
    "path.with_suffix('.new').write_text(' '.join([os.environ['OMP_NUM_THREADS'], *sys.argv[1:]])); "
    "path.with_suffix('.new').rename(path); sys.stdin.read()"
)


@pytest.fixture
def workers(tmp_path):
    program = [sys.executable, "-c", WAITS.format(folder=str(tmp_path))]
    return Workers("study", program, 2, tmp_path, devices=("cpu", "meta"), threads=3)


def told(folder, count):
    end = time.monotonic() + 60
    while len(found := sorted(folder.glob("*.told"))) < count:
        assert time.monotonic() < end
        time.sleep(0.02)
    return sorted(path.read_text() for path in found)


def test_each_worker_has_its_slot_its_device_and_its_threads(workers, tmp_path):
    handle = Local().start(workers)
    assert told(tmp_path, 2) == ["3 --device=cpu --slot=0/2 --follow", "3 --device=meta --slot=1/2 --follow"]
    assert handle.poll()
    handle.stop()
    while handle.poll():
        time.sleep(0.02)
    assert handle.failures == []


def test_workers_share_the_cores_unless_told_otherwise(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(7)))
    program = [sys.executable, "-c", WAITS.format(folder=str(tmp_path))]
    handle = Local().start(Workers("study", program, 2, tmp_path))
    assert [text.split()[0] for text in told(tmp_path, 2)] == ["3", "3"]
    handle.kill()
    assert not handle.poll()
    handle.kill()


ASKED = {
    "scenario": "bitflip:samples=40,m=8,f=5,T=10,steps_per_task=10",
    "methods": ["none", "layernorm"],
    "metrics": ["dead_fraction"],
    "device": "cpu",
}


def test_python_has_the_rows_of_several_workers_as_of_one(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    shared = lopbench.run(**ASKED, results="shared", jobs=2)
    assert capfd.readouterr() == ("", "")
    alone = lopbench.run(**ASKED, results="alone")
    told = ["entry_id", "trainability", "generalisation"]
    assert shared[told].equals(alone[told])
    assert not (tmp_path / "shared" / ".partial").exists()


def test_python_is_told_what_cannot_start_workers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="executor='script' starts no workers, so there is nothing to wait for"):
        lopbench.run(**ASKED, executor="script")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnsupportedError, match="there is no 'scontrol' on the path"):
        lopbench.run(**ASKED, executor="slurm", jobs=2)
    assert not (tmp_path / "results" / ".partial").exists()
