"""Tiny studies as commands of their own, which workers do; they last as long as their method sleeps."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest

from lopbench.results.record import find_records
from lopbench.runner.worker import Report

PLUGIN = Path(__file__).with_name("sleepy.py")
SCENARIO = "bitflip:samples=400,m=8,f=5,T=100,steps_per_task=100"
METHODS = ("sleeps", "none")
SEEDS = "0-1"


class Commands:
    """Studies of one results folder, as commands of their own.

    Args:
        results: The folder.
        changes: Variables that differ from those of this process.
    """

    def __init__(self, results, **changes):
        self.results = results
        self.environment = {**os.environ, "COLUMNS": "1000", "OMP_NUM_THREADS": "1", "SLEEPS_S": "0", **changes}

    def start(self, *options, methods=METHODS, seeds=SEEDS):
        asked = [f"--plugin={PLUGIN}", f"--scenario={SCENARIO}", *(f"--method={method}" for method in methods)]
        asked += ["--architecture=online_mlp:width=4", f"--seeds={seeds}", "--metrics=dead_fraction"]
        asked += [f"--results={self.results}", "--device=cpu", *map(str, options)]
        return subprocess.Popen(
            ["/bin/sh", "-c", 'export SPARED=$$; exec "$@"', "sh", sys.executable, "-m", "lopbench", "run", *asked],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    def run(self, *options, **asked):
        process = self.start(*options, **asked)
        out, err = process.communicate(timeout=300)
        return process.returncode, out, err

    def reports(self):
        found = []
        for path in sorted((self.results / ".partial" / "workers").glob("*.json")):
            with suppress(OSError, ValueError):  # just removed
                found.append(Report.read(path))
        return found

    def until(self, wanted, process=None):
        """Wait until a worker's report is as wanted, and return it; fail if the command ends before."""

        def found():
            if process is not None and process.poll() is not None:
                pytest.fail(f"the study ended: {process.communicate()}")
            return next(filter(wanted, self.reports()), None)

        return until(found)

    def records(self):
        return {record.run_id: record.measurements_digest for record in find_records(self.results)}


@cache
def done_serially():
    """Return what the runs of these studies measure in one process."""
    with tempfile.TemporaryDirectory() as folder:
        alone = Commands(Path(folder))
        code, _, err = alone.run("--jobs=1")
        assert code == 0, err
        return alone.records()


def until(wanted, *, seconds=120):
    """Return the first value of ``wanted`` that is true; fail if there is none for so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := wanted():
            return found
        time.sleep(0.05)
    return pytest.fail(f"nothing for {seconds} s")


def is_training(report):
    return report.state == "running" and report.label.startswith("sleeps") and report.done > 0


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
