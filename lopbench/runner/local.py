"""Workers as processes of this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lopbench.core.errors import ResultsError
from lopbench.runner.unfinished import PARTIAL, unwritable
from lopbench.runner.worker import OUT_OF_TIME, STOPPED, Report
from lopbench.runner.worklist import WORKERS, here, remove, tidy

#: Starts of a worker in a row, each ended before it took up a run, after which its place is given up.
MOST_STARTS = 3

#: What a worker tells last that ends with a code of these.
_IN_ORDER = {0: "done", OUT_OF_TIME: "stopped", STOPPED: "stopped"}

#: Most characters of a worker's last words that are told.
_MOST_WORDS = 300


def cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass
class _Slot:
    number: int
    device: str
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0  #: In a row, each ended before it took up a run.


class Pool:
    """Processes that work off one file of work; one that dies is started again.

    They end when this process does, however that happens, since they read from a pipe that it holds.

    Args:
        worklist: The file.
        results: Results folder.
        jobs: Number of processes.
        devices: Where they train, one after the other.
        threads: CPU threads of each; its share of the cores that may be used if None.
    """

    def __init__(
        self, worklist: Path, results: Path, *, jobs: int, devices: Sequence[str], threads: int | None = None
    ) -> None:
        self._worklist, self._folder = worklist, results / PARTIAL / WORKERS
        self._threads = threads or max(1, cores() // jobs)
        self._slots = [_Slot(number, devices[number % len(devices)]) for number in range(jobs)]
        self._results = results
        self._is_stopping = False
        self.failures: list[str] = []  #: Why places were given up.

    def start(self) -> None:
        """Start all.

        Raises:
            ResultsError: If the results folder cannot be written to.
        """
        for slot in self._slots:
            self._start(slot)

    def poll(self) -> bool:
        """Start again what has died; returns whether some are at work."""
        for slot in self._slots:
            if slot.process is not None and slot.process.poll() is not None:
                self._ended(slot, slot.process)
        return any(slot.process is not None for slot in self._slots)

    def stop(self) -> None:
        """Ask all to save and leave."""
        self._is_stopping = True
        for slot in self._slots:
            self._close(slot)

    def kill(self) -> None:
        """End all at once."""
        self._is_stopping = True
        for slot in self._slots:
            if slot.process is not None:
                slot.process.kill()
                slot.process.wait()
                self._forget(slot)

    def reports(self) -> list[Report]:
        """Return what the workers tell, those that have ended included, by slot."""
        found = []
        for path in sorted(self._folder.glob("*.json")):
            with suppress(OSError, ValueError):
                report = Report.read(path)
                if report.study == self._worklist.stem:
                    found.append(report)
        return sorted(found, key=lambda report: (report.slot, report.time))

    def tidy(self) -> None:
        """Remove what the workers told, and their logs."""
        for slot in self._slots:
            remove(self._log(slot))
        tidy(self._results)

    def _start(self, slot: _Slot) -> None:
        command = [sys.executable, "-m", "lopbench", "work", str(self._worklist), f"--device={slot.device}"]
        command += [f"--slot={slot.number}/{len(self._slots)}", "--follow"]
        threads = str(self._threads)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with self._log(slot).open("wb") as log:
                slot.process = subprocess.Popen(
                    command,
                    env={**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=log,
                    start_new_session=True,  # an interrupt from the terminal is this process' to pass on
                )
        except OSError as error:
            raise unwritable(self._results, error) from error
        slot.starts += 1

    def _ended(self, slot: _Slot, process: subprocess.Popen[bytes]) -> None:
        self._forget(slot)
        code = process.returncode
        told = [report for report in self.reports() if report.pid == process.pid]
        # A run may end the process with any code; a worker that ends in order says so.
        if self._is_stopping or any(report.state == _IN_ORDER.get(code) for report in told):
            return
        if any(report.ended or report.steps for report in told):
            slot.starts = 0
        if code == 1 or slot.starts >= MOST_STARTS:  # it said why, and would say it again
            self.failures.append(self._last_words(slot, code))
        else:
            self._start(slot)

    def _forget(self, slot: _Slot) -> None:
        self._close(slot)
        slot.process = None

    def _close(self, slot: _Slot) -> None:
        if slot.process is not None and slot.process.stdin is not None:
            with suppress(OSError):
                slot.process.stdin.close()

    def _log(self, slot: _Slot) -> Path:
        return self._folder / f"{here()}-{slot.number}.log"

    def _last_words(self, slot: _Slot, code: int) -> str:
        with suppress(OSError):
            words = self._log(slot).read_text(errors="replace").strip().splitlines()
            if words:
                return words[-1].removeprefix("Error: ")[-_MOST_WORDS:]
        return f"a worker ended with code {code} and said nothing"


def check(failures: Sequence[str]) -> None:
    """Raise if workers could not work.

    Raises:
        ResultsError: With what the first of them said.
    """
    if failures:
        raise ResultsError(f"{len(failures)} workers had to give up: {failures[0]}")
