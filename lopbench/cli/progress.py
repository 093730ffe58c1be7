"""Progress on stderr: live bars on a terminal, a line now and then anywhere else."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from lopbench.cli.bars import Row, Rows
from lopbench.cli.output import roughly, tell
from lopbench.runner.pace import TimeLeft
from lopbench.runner.report import Reporter

#: Seconds between two lines of one run where there is no terminal.
LINE_S = 30.0

_STYLES = {"completed": "green", "diverged": "yellow", "failed": "red"}


class StudyReporter(Reporter, Protocol):
    """Receives the progress of the runs of a study, as a context around all of them."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def study_reporter(console: Console, *, runs: int, steps: int) -> StudyReporter:
    """Return what shows a study on ``console``: bars on a terminal, else lines.

    Args:
        console: Where to show it.
        runs: Number of runs to do.
        steps: Training steps of them all.
    """
    kind = Bars if console.is_terminal else Lines
    return kind(console, runs=runs, steps=steps)


class Bars:
    """A bar for the current run and, when there are several, one for all of them."""

    def __init__(self, console: Console, *, runs: int, steps: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._clock = console, clock
        self._runs, self._ended = runs, 0
        self._score = ""  #: What the score of the current run is called.
        self._together = 1  #: Runs that the current bar is of.
        self._taken = 0  #: Steps of all runs, taken by this process.
        self._steps, self._skipped = steps, 0  #: Steps of all runs, and those of them that earlier ones took.
        self._all_left, self._run_left = TimeLeft(clock), TimeLeft(clock)
        self._all, self._run = Row(f"all {runs} runs", total=steps, at=f"0/{runs} finished"), Row("")
        self.shown = Rows()
        self._live = Live(self.shown, console=console, transient=True)
        self._show()

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def started(self, label: str, steps: int, done: int, runs: int = 1, score: str = "accuracy") -> None:
        """Show a new bar; what a checkpoint kept is done at once."""
        self._together, self._score = runs, score
        # What an earlier session did is no fast work of this one, and the time in which programs are made no slow work.
        self._skipped += done
        self._run_left = TimeLeft(self._clock)
        self._all_left.rest()
        self._run = Row(label, done=done, total=steps)
        self._show()
        if done:
            self.note(f"{label}: resumes at step {done:,} of {steps:,}")

    def advanced(self, steps: int, task: int, tasks: int, score: float) -> None:
        """Move the bars."""
        self._taken += steps
        run = replace(self._run, done=self._run.done + steps, at=f"task {task + 1}/{tasks}")
        left = self._run_left.add(int(run.done), int(run.total - run.done))
        speed = self._run_left.speed
        self._run = replace(run, score=f"{self._score} {score:.3f}", speed=speed, left_s=left)
        done = self._taken + self._skipped
        left = self._all_left.add(self._taken, max(0, self._steps - done))
        self._all = replace(self._all, done=done, speed=self._all_left.speed, left_s=left)
        self._show()

    def finished(self, label: str, status: str, path: Path) -> None:
        """Replace the run's bar by a line that stays."""
        self._run = Row("")
        self._ended += self._together
        self._runs = max(self._runs, self._ended)  # what tuning chooses may need references that nobody foresaw
        self._all = replace(self._all, at=f"{self._ended}/{self._runs} finished")
        self._show()
        self._console.print(Text.assemble((status, _STYLES.get(status, "")), f"  {label}"))

    def waits(self, label: str) -> None:
        """Print that others are at what is left."""
        self.note(f"waiting for another process to finish {label}")

    def note(self, message: str) -> None:
        """Print a line above the bars."""
        self._console.print(Text(message, style="dim"))

    def _show(self) -> None:
        self.shown.rows = [*([self._all] if self._runs > 1 else []), *([self._run] if self._run.label else [])]


class Lines:
    """A line at the start and the end of each run, and every `LINE_S` seconds between."""

    def __init__(self, console: Console, *, runs: int, steps: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._runs = runs
        self._left_all = steps
        self._score = ""  #: What the score of the current run is called.
        self._clock = clock
        self._started = 0
        self._label = ""
        self._left, self._steps = 0, 1
        self._taken_all, self._taken = 0, 0
        self._all_left_s, self._left_s = TimeLeft(clock), TimeLeft(clock)
        self._said = clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is left open."""

    def started(self, label: str, steps: int, done: int, runs: int = 1, score: str = "accuracy") -> None:
        """Print what starts."""
        self._started += runs
        self._runs = max(self._runs, self._started)  # what tuning chooses may need references that nobody foresaw
        self._score = score
        self._label, self._left, self._taken = f"[{self._started}/{self._runs}] {label}", steps - done, 0
        self._steps = max(steps, 1)
        self._left_all -= done
        self._left_s, self._said = TimeLeft(self._clock), self._clock()
        self._all_left_s.rest()  # before the first advance, programs are compiled
        resumed = f" (resumes at step {done:,})" if done else ""
        self.note(f"{self._label}: {steps:,} steps{resumed}")

    def advanced(self, steps: int, task: int, tasks: int, score: float) -> None:
        """Print how far it is, if the last line is old enough."""
        self._left -= steps
        self._left_all -= steps
        self._taken += steps
        self._taken_all += steps
        left, left_all = (
            self._left_s.add(self._taken, self._left),
            self._all_left_s.add(self._taken_all, self._left_all),
        )
        now, speed = self._clock(), self._left_s.speed
        if now - self._said < LINE_S or left is None or speed is None:
            return
        self._said = now
        text = f"{roughly(left)} left"
        if self._runs > 1 and left_all is not None:
            text += f", {roughly(max(left, left_all), '')} for all runs"  # each is a guess by its own speed
        share = f"{1 - self._left / self._steps:.0%}"
        self.note(
            f"{self._label}: {share}, task {task + 1}/{tasks}, {self._score} {score:.3f}, {speed:,.0f} steps/s, {text}"
        )

    def finished(self, label: str, status: str, path: Path) -> None:
        """Print how it ended, and where its record is."""
        self.note(f"[{self._started}/{self._runs}] {label}: {status}, {path}")

    def waits(self, label: str) -> None:
        """Print that others are at what is left."""
        self.note(f"waiting for another process to finish {label}")

    def note(self, message: str) -> None:
        """Print a line."""
        tell(self._console, message)


class Work:
    """Shows decoding, downloads and the like: called with a description, what is done, and the total."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._rows: dict[str, Row] = {}
        self._left: dict[str, TimeLeft] = {}
        self._said: dict[str, float] = {}  #: When a line told of each, where there is no terminal.
        self.shown = Rows()
        self._live = Live(self.shown, console=console, transient=True)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def __call__(self, description: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` units of the work ``description`` are finished."""
        if description not in self._rows:
            self._say(description, "...")
        elif time.monotonic() - self._said[description] >= LINE_S:
            self._say(description, f"{done / max(total, 1):.0%}")
        left = self._left.setdefault(description, TimeLeft()).add(done, total - done)
        self._rows[description] = Row(description, done, total, f"{done:,}/{total:,}", left_s=left)
        self.shown.rows = [*self._rows.values()]

    def _say(self, description: str, what: str) -> None:
        """Print a line where there is no terminal."""
        self._said[description] = time.monotonic()
        if not self._console.is_terminal:
            tell(self._console, f"{description} {what}")
