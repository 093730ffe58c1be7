"""A worker: it does the runs of a file of work that no other process does, until none is left.

Engines only start workers, and start them again. Which does what is decided by what is there: records, locks and
checkpoints. A worker tells what it is at in a file of its own, below ``.partial/workers``.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from lopbench.core.errors import LopbenchError
from lopbench.core.executor import OUT_OF_TIME, STOPPED
from lopbench.core.reading import read_regular
from lopbench.runner.heart import WORKERS, Heart, process_name
from lopbench.runner.pace import Speed
from lopbench.runner.report import label
from lopbench.runner.unfinished import PARTIAL
from lopbench.runner.worklist import Worklist

#: Least seconds between two reports.
_REPORT_S = 0.5

#: Lines that a report keeps.
_MOST_LINES = 100

#: Most bytes of a report that is read.
_MOST_BYTES = 2**20

State = Literal["starting", "running", "between", "waiting", "done", "stopped"]


@dataclass(frozen=True)
class Report:
    """What a worker tells.

    Args:
        name: Its name, which no other has.
        slot: Which of the workers of its study it is, from 0.
        host: The machine.
        pid: Its process there.
        study: Name of the file of work that it works off.
        job: The job of the batch system that it is part of, such as "slurm 14_0"; empty for none.
        state: What it is doing.
        label: The runs that it is at; empty between two.
        runs: How many they are.
        steps: Steps of theirs, in all.
        done: Steps taken of them.
        speed: Steps a second that they take, over the last minute; 0 where that is not known.
        task: The task, from 0.
        tasks: Number of tasks.
        score: Their online score so far.
        score_name: What it is called.
        ended: Number of runs that it has finished.
        lines: What there was to say last: what ended how, and notes.
        told: Number of lines in all.
        refused: Labels of the runs that it could not do, each with the reason.
        skipped: Steps that earlier sessions had taken of the runs that it took up.
        taken: Steps that it has taken.
        beats: Number of times that it told something.
        time: When it told this, in seconds since 1970.
    """

    name: str
    slot: int
    host: str
    pid: int
    study: str
    job: str = ""
    state: State = "starting"
    label: str = ""
    runs: int = 0
    steps: int = 0
    done: int = 0
    speed: float = 0.0
    task: int = 0
    tasks: int = 0
    score: float = 0.0
    score_name: str = ""
    ended: int = 0
    lines: Sequence[str] = ()
    told: int = 0
    refused: Sequence[tuple[str, str]] = ()
    skipped: int = 0
    taken: int = 0
    beats: int = 0
    time: float = field(default_factory=time.time)

    @classmethod
    def read(cls, path: Path) -> Report:
        """Return what a file tells.

        Raises:
            OSError: If it cannot be read.
            ValueError: If it is none.
        """
        try:
            return cls(**json.loads(read_regular(path, most=_MOST_BYTES)))
        except TypeError as error:
            raise ValueError(f"{path} is no report of a worker: {error}") from error


def reports(results: Path) -> Iterator[tuple[Path, Report]]:
    """Yield what the workers of a results folder told last, each with its file."""
    for path in (results / PARTIAL / WORKERS).glob("*.json"):
        with suppress(OSError, ValueError):  # just removed, or another version's
            yield path, Report.read(path)


class Telling:
    """Is told how runs go, and keeps the file of a worker.

    Args:
        worklist: The file of work.
        results: Results folder.
        slot: Which of the workers it is.
        stop: What it is stopped by.
    """

    def __init__(self, worklist: Path, results: Path, slot: int, stop: Stop | None = None) -> None:
        name = process_name()
        self._stop = stop
        self.path = results / PARTIAL / WORKERS / f"{name}.json"
        self.heart = Heart(self.path, lambda: asdict(self.report))
        self.report = Report(name, slot, socket.gethostname(), os.getpid(), worklist.stem, _job())
        self._speed = Speed()
        self._told = 0.0

    def tell(self, *, now: bool = True, **changes: Any) -> None:
        """Change the report; write it at once, or if the last one is old enough.

        A report that cannot be written is left out: it is only what is shown.
        """
        self.report = replace(self.report, **changes)
        if not now and time.monotonic() - self._told < _REPORT_S:
            return
        self._told = time.monotonic()
        self.heart.beat()

    def started(self, label: str, steps: int, done: int, runs: int = 1, score: str = "accuracy") -> None:
        """Tell what is trained.

        Raises:
            KeyboardInterrupt: If the worker was to stop.
        """
        if self._stop is not None:
            self._stop.insist()
        self._speed = Speed()
        skipped = self.report.skipped + done
        at: dict[str, Any] = {
            "label": label,
            "runs": runs,
            "steps": steps,
            "done": done,
            "speed": 0.0,
            "task": 0,
            "tasks": 0,
        }
        self.tell(state="running", **at, score=0.0, score_name=score, skipped=skipped)

    def advanced(self, steps: int, task: int, tasks: int, score: float) -> None:
        """Tell how far it is."""
        taken = self.report.taken + steps
        speed = self._speed.add(taken) or 0.0
        done = self.report.done + steps
        self.tell(now=False, done=done, taken=taken, speed=speed, task=task, tasks=tasks, score=score)

    def finished(self, label: str, status: str, path: Path) -> None:
        """Tell how it ended."""
        ended = self.report.ended + self.report.runs
        self._say(f"{label}: {status}, {path}", state="between", label="", runs=0, steps=0, done=0, ended=ended)

    def waits(self, label: str) -> None:
        """Tell that others are at what is left."""
        self.tell(state="waiting")

    def note(self, message: str) -> None:
        """Pass on a message."""
        self._say(message)

    def _say(self, line: str, **changes: Any) -> None:
        lines = (*self.report.lines, line)[-_MOST_LINES:]
        self.tell(lines=lines, told=self.report.told + 1, **changes)


def _job() -> str:
    """Return the job of the batch system that this process is part of, empty for none."""
    job = os.environ.get("SLURM_ARRAY_JOB_ID")
    number = f"{job}_{os.environ.get('SLURM_ARRAY_TASK_ID')}" if job else os.environ.get("SLURM_JOB_ID")
    return f"slurm {number}" if number else ""


class Stop:
    """Turns what asks a worker to stop into an interrupt, which a run puts off until the step in hand is saved.

    SIGTERM and the end of the parent's pipe stop it, and SIGUSR2 as well, with which batch systems tell that the time
    will soon be over. Before `armed` the wish is only noted, for nothing else can be done while torch is imported.
    """

    def __init__(self) -> None:
        self.code: int | None = None  #: Exit code of a worker that was asked to stop.
        self._is_armed = False
        for number in (signal.SIGTERM, signal.SIGUSR2):
            signal.signal(number, self._catch)

    def _catch(self, number: int, frame: object) -> None:
        self.code = OUT_OF_TIME if number == signal.SIGUSR2 else STOPPED
        if self._is_armed:
            signal.raise_signal(signal.SIGINT)

    def follow(self, file: int) -> None:
        """Stop when the other end of a pipe is closed, as it is when the parent ends, however that happens."""

        def watch() -> None:
            while os.read(file, 1024):
                pass
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=watch, daemon=True).start()

    def insist(self) -> None:
        """Interrupt once more what is armed: libraries drop interrupts, as in what a tracer or a destructor calls.

        Raises:
            KeyboardInterrupt: If the worker was to stop, and interrupts are not put off.
        """
        if self._is_armed and self.code is not None:
            signal.raise_signal(signal.SIGINT)  # so that it is not taken for a method's

    @contextmanager
    def armed(self) -> Iterator[None]:
        """Let an interrupt come through for the duration.

        Raises:
            KeyboardInterrupt: If there was one.
        """
        self._is_armed = True
        try:
            if self.code is not None:
                raise KeyboardInterrupt
            yield
        finally:
            self._is_armed = False


def work(path: Path, *, slot: int = 0, slots: int = 1, device: str = "auto", stop: Stop) -> int:
    """Do what the file ``path`` says until nothing is left, or until it is asked to stop; returns the exit code.

    Args:
        path: The file.
        slot: Which of the workers this is, from 0: each begins at a place of its own, so that they rarely meet.
        slots: Number of workers.
        device: Where to train.
        stop: What it is stopped by.

    Raises:
        LopbenchError: If the file or the data cannot be read, or the results folder not be written to.
    """
    worklist = Worklist.read(path)
    telling = Telling(path, worklist.results, slot, stop)
    telling.tell()
    with telling.heart:
        return _work(worklist, telling, slot=slot, slots=slots, device=device, stop=stop)


def _work(worklist: Worklist, telling: Telling, *, slot: int, slots: int, device: str, stop: Stop) -> int:
    import torch

    from lopbench.runner.groups import work_off
    from lopbench.runner.sinks import sinks_of
    from lopbench.runner.study import device_of

    try:
        with stop.armed():
            loaded = list(worklist.loaded())
            groups = [(group, data) for part, data in loaded for group in part.groups]
            first = len(groups) * slot // slots
            refused = work_off(
                [*groups[first:], *groups[:first]],
                later=[(entry, data) for part, data in loaded for entry in part.later],
                results=worklist.results,
                device=torch.device(device_of(device)),
                reporter=telling,
                checkpoint_s=worklist.checkpoint_s,
                counts_attempts=True,
                sinks=sinks_of(worklist.sinks),
                locks=worklist.locks,
                heart=telling.heart,
            )
    except KeyboardInterrupt:
        telling.tell(state="stopped", label="", runs=0)
        return stop.code or STOPPED
    except LopbenchError:  # which no other worker could get around
        telling.tell(state="stopped", label="", runs=0)
        raise
    telling.tell(state="done", label="", runs=0, refused=[(label(spec), reason) for spec, reason in refused])
    return 0
