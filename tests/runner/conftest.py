"""Studies of tiny runs: in this process, and in processes that can be killed."""

import importlib.util
import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from lopbench.results.record import read_record, record_path
from lopbench.runner import study, worth

sys.path.insert(0, str(Path(__file__).parents[1]))  # where studies.py is

DRIVER = Path(__file__).with_name("driver.py")
_spec = importlib.util.spec_from_file_location("runner_driver", DRIVER)
driver = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(driver)


@pytest.fixture
def make_study(monkeypatch, tmp_path, request):
    """Return `plan` for tiny runs; results go to ``tmp_path / "results"`` unless told otherwise.

    Networks on images take their steps one by one, unless the module of the test has its own ``MOST_OPERATIONS``.
    """
    monkeypatch.setattr(worth, "MOST_OPERATIONS", getattr(request.module, "MOST_OPERATIONS", 50_000))
    monkeypatch.setattr(study, "load_data", driver.tiny_images)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield lambda results=tmp_path / "results", **changes: driver.make_study(results, **changes)
    torch.set_num_threads(threads)


@pytest.fixture
def record_of():
    """Return a function that reads the record of a spec."""
    return lambda planned, spec: read_record(record_path(planned.results, spec))


class Server:
    """Runs tiny studies in processes of their own."""

    def __init__(self, folder):
        self.folder = folder
        self._server = subprocess.Popen(
            [sys.executable, "-W", "error", str(DRIVER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1", "LOPBENCH_CACHE": str(folder / "cache")},
        )
        self._count = 0

    def _ask(self, value):
        self._server.stdin.write(json.dumps(value).encode() + b"\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline())

    def start(self, results, *, method="none", kind="continual", checkpoint_s=10.0, **request):
        """Start a study; returns the process id and the reading end of its pulse."""
        self._count += 1
        pulse = self.folder / f"pulse{self._count}"
        os.mkfifo(pulse)
        request |= {"results": str(results), "method": method, "kind": kind, "checkpoint_s": checkpoint_s}
        child = self._ask({**request, "pulse": str(pulse)})
        return child, pulse.open("rb", buffering=0)

    def wait(self, child):
        """Return the exit code of a study: minus the signal, if one killed it."""
        return self._ask(child)

    def run(self, results, **request):
        """Do a study to its end, and return its exit code."""
        child, pulse = self.start(results, **request)
        with pulse:
            pulse.readall()
        return self.wait(child)

    def signal_after(self, number, looks, results, **request):
        """Do a study and send it signal ``number`` after ``looks`` of its looks; returns its exit code."""
        child, pulse = self.start(results, **request)
        with pulse:
            seen = 0
            while seen < looks and (read := pulse.read(looks - seen)):
                seen += len(read)
            if seen == looks:
                os.kill(child, number)
            pulse.readall()
        return self.wait(child)

    def signal_in(self, number, seconds, results, **request):
        """Do a study and send it signal ``number`` so many seconds after its start; returns its exit code."""
        child, pulse = self.start(results, **request)
        with pulse:
            until = time.monotonic() + seconds
            while select.select([pulse], [], [], max(0.0, until - time.monotonic()))[0]:
                if not pulse.read(2**16):
                    return self.wait(child)  # it is over
            os.kill(child, number)
            pulse.readall()
        return self.wait(child)

    def close(self):
        self._server.stdin.close()
        self._server.stdout.close()
        self._server.wait()


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    made = Server(tmp_path_factory.mktemp("server"))
    yield made
    made.close()
