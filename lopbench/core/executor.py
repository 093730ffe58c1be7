"""Executors: what starts workers, and starts them again. No executor sees a run.

A worker is one command, which takes the next runs that nobody is at until nothing is left; who does what is decided by
what lies in the results folder. An executor starts that command so many times, here or elsewhere.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from lopbench.core.component import Component

#: Exit codes of a worker: stopped because its time is over, and stopped because somebody wanted it.
OUT_OF_TIME, STOPPED = 75, 130

#: Starts of a worker in a row, each ended before it took up a run, after which its place is given up.
MOST_STARTS = 3

#: Most characters of a worker's last words that are told.
_MOST_WORDS = 300


@dataclass(frozen=True)
class Workers:
    """The workers that an executor is to start.

    Args:
        study: Name of what they work at, which no other study of the results folder has.
        program: Command of a worker, but for what `command` adds.
        jobs: Number of workers, at least 1.
        folder: Where logs go, and what else an executor writes; it is there.
        devices: Where they train, one after the other.
        threads: CPU threads of each, None if the executor is to choose.
        environment: Variables that they need beside those of the machine.
        begun: Returns how many workers of a slot have taken up a run so far.
        left: Returns whether the last worker of a slot said that it leaves: a run may end the process with any code.
    """

    study: str
    program: Sequence[str]
    jobs: int
    folder: Path
    devices: Sequence[str] = ("auto",)
    threads: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    begun: Callable[[int], int] = lambda slot: 0
    left: Callable[[int], bool] = lambda slot: True

    def command(self, slot: int, *, follow: bool = False) -> list[str]:
        """Return the command of one worker.

        It exits with 0 when nothing is left, 75 when SIGUSR2 told it that its time is over, 130 when SIGTERM stopped
        it, and 1 when it cannot work at all. What it says on stderr is for its log.

        Args:
            slot: Which of the workers it is, from 0.
            follow: Whether it also stops when its standard input ends, as it does with the process that holds it.
        """
        device = self.devices[slot % len(self.devices)]
        asked = [*self.program, f"--device={device}", f"--slot={slot}/{self.jobs}"]
        return [*asked, "--follow"] if follow else asked

    def log(self, slot: int) -> Path:
        """Return where a worker's stderr goes."""
        return self.folder / f"{self.study}-{slot}.log"


def threads_of(count: int) -> dict[str, str]:
    """Return the variables that give a worker so many CPU threads; torch reads them when it is imported."""
    return {"OMP_NUM_THREADS": str(count), "MKL_NUM_THREADS": str(count)}


#: Most CPU threads of a worker: more than any machine has cores for.
MOST_THREADS = 1024


def usable_cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Handle(ABC):
    """Workers that an executor has started.

    Attributes:
        failures: Why places of workers were given up, a sentence each.
        token: What `Executor.join` finds them by from another process; empty if they end with this one.
        stop_command: The command with which a user stops those that have a token.
    """

    def __init__(self) -> None:
        self.failures: list[str] = []
        self.token = ""
        self.stop_command = ""

    @abstractmethod
    def poll(self) -> bool:
        """Start again what has died, and return whether some are at work; called twice a second."""

    @abstractmethod
    def stop(self) -> None:
        """Ask all to save and leave; those that are not at work yet are not started any more."""

    @abstractmethod
    def kill(self) -> None:
        """End all at once, and return when they have ended as far as can be known; nothing if none is left."""


class RestartingHandle(Handle):
    """Workers that are started one by one, each again where it died.

    A subclass says how one is started and how it ended, and calls `start` once it is made.

    Args:
        workers: The workers.
    """

    def __init__(self, workers: Workers) -> None:
        super().__init__()
        self.workers = workers
        self.is_stopping = False
        self._starts = dict.fromkeys(range(workers.jobs), 0)  #: In a row, each ended before it took up a run.
        self._begun = dict.fromkeys(range(workers.jobs), 0)
        self._at_work: set[int] = set()

    @abstractmethod
    def launch(self, slot: int) -> None:
        """Start the worker of a slot."""

    @abstractmethod
    def code(self, slot: int) -> int | None:
        """Return the exit code of a worker, None while it is at work; any other number if its end is not known."""

    def start(self) -> None:
        """Start all, or none."""
        try:
            for slot in range(self.workers.jobs):
                self._start(slot)
        except BaseException:
            self.kill()
            raise

    def poll(self) -> bool:
        """Start again what has died, and return whether some are at work."""
        for slot in sorted(self._at_work):
            code = self.code(slot)
            if code is not None:
                self._at_work.discard(slot)
                self._ended(slot, code)
        return bool(self._at_work)

    def stop(self) -> None:
        """Start none again; a subclass asks them to leave."""
        self.is_stopping = True

    def _start(self, slot: int) -> None:
        self.launch(slot)
        self._starts[slot] += 1
        self._at_work.add(slot)

    def _ended(self, slot: int, code: int) -> None:
        if self.is_stopping or (code in (0, OUT_OF_TIME, STOPPED) and self.workers.left(slot)):
            return
        begun = self.workers.begun(slot)
        if begun > self._begun[slot]:
            self._begun[slot], self._starts[slot] = begun, 0
        # One that left said why, and would say it again; a run that was begun may end the process with any code.
        has_said = code == 1 and (self._starts[slot] > 0 or self.workers.left(slot))
        if has_said or self._starts[slot] >= MOST_STARTS:
            words = last_words(self.workers.log(slot))
            self.failures.append(words or f"a worker ended with code {code} and said nothing")
        else:
            self._start(slot)


@dataclass(frozen=True, kw_only=True)
class Executor(Component, ABC):
    """Starts workers, here or elsewhere.

    It raises `UnsupportedError`, in the words of what it uses, where that is absent or refuses.
    """

    #: The field, texts ``name=value``, that takes what the user gives and is no field.
    others: ClassVar[str | None] = None
    #: Whether workers train on the devices of this machine.
    is_here: ClassVar[bool] = False
    #: Whether workers go on when the process that started them ends, and `join` finds them.
    lasts: ClassVar[bool] = False
    #: Whether it starts workers at all, and does not only say how to.
    starts: ClassVar[bool] = True

    @abstractmethod
    def start(self, workers: Workers) -> Handle:
        """Start workers and return a hold on them.

        Raises:
            UnsupportedError: If they cannot be started; then none of them is left running.
        """

    def join(self, workers: Workers, token: str) -> Handle:
        """Return a hold on workers that another process started, given its `Handle.token`.

        Raises:
            UnsupportedError: If that cannot be done.
        """
        raise NotImplementedError

    def script(self, workers: Workers) -> str:
        """Return what would be given to a batch system, for the user to see; empty if nothing is."""
        return ""


def last_words(log: Path) -> str:
    """Return the last line of a log, empty if there is none."""
    with suppress(OSError):
        words = log.read_text(errors="replace").strip().splitlines()
        if words:
            return words[-1].removeprefix("Error: ")[-_MOST_WORDS:]
    return ""
