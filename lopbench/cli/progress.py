"""Progress on stderr: live bars on a terminal, a line now and then anywhere else."""

import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from lopbench.cli.output import duration
from lopbench.core.text import plain
from lopbench.runner.report import Reporter

#: Seconds between two lines of one run where there is no terminal.
LINE_S = 30.0

#: From which width of the terminal on bars are long; and the characters of a label that are shown on narrower ones.
_WIDE, _SHORTEST = 100, 12

#: Seconds over which the speed of bars is averaged.
_SPEED_S = 60.0

_STYLES = {"completed": "green", "diverged": "yellow", "failed": "red"}


class StudyReporter(Reporter, Protocol):
    """Is told how the runs of a study go, and is entered before the first and left after the last of them."""

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


class _Speed(ProgressColumn):
    """Steps per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} steps/s", style="dim")


class Bars:
    """A bar for the current run and, when there are several, one for all of them."""

    def __init__(self, console: Console, *, runs: int, steps: int) -> None:
        self._runs = runs
        self._score = ""  #: What the score of the current run is called.
        self._ended = 0
        self._together = 1  #: Runs that the current bar is of.
        self._run: TaskID | None = None
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24 if console.width >= _WIDE else 8),
            TextColumn("{task.fields[detail]}"),
            _Speed(),
            TimeRemainingColumn(),
            console=console,
            speed_estimate_period=_SPEED_S,
            transient=True,
        )
        self._all = self._progress.add_task(
            f"all {runs} runs", total=steps, visible=runs > 1, detail=f"0/{runs} finished"
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def started(self, label: str, steps: int, done: int, runs: int = 1, score: str = "accuracy") -> None:
        """Show a new bar; what a checkpoint kept is done at once."""
        self._together, self._score = runs, score
        # Less work, not fast work: the time left must not be judged by steps of an earlier session. Nor by the time
        # before the first advance, which may be that of compiling: from here on, speed is measured anew.
        all_ = self._progress.tasks[0]
        self._progress.reset(self._all, total=(all_.total or 0) - done, completed=int(all_.completed))
        room = max(_SHORTEST, self._progress.console.width - _WIDE + _SHORTEST)
        shown = label if len(label) <= room else f"{label[: room - 1]}…"
        self._run = self._progress.add_task(_escaped(shown), total=steps, completed=done, detail="")
        if done:
            self.note(f"{label}: resumes at step {done:,} of {steps:,}")

    def advanced(self, steps: int, task: int, tasks: int, score: float) -> None:
        """Move the bars."""
        if self._run is not None:
            detail = f"task {task + 1}/{tasks}  {self._score} {score:.3f}"
            self._progress.update(self._run, advance=steps, detail=detail)
        self._progress.update(self._all, advance=steps)

    def finished(self, label: str, status: str, path: Path) -> None:
        """Replace the run's bar by a line that stays."""
        if self._run is not None:
            self._progress.remove_task(self._run)
            self._run = None
        self._ended += self._together
        self._progress.update(self._all, detail=f"{self._ended}/{self._runs} finished")
        self._progress.console.print(Text.assemble((status, _STYLES.get(status, "")), f"  {label}"))

    def waits(self, label: str) -> None:
        """Print that others are at what is left."""
        self.note(f"waiting for another process to finish {label}")

    def note(self, message: str) -> None:
        """Print a line above the bars."""
        self._progress.console.print(Text(message, style="dim"))


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
        self._left = 0
        self._taken = 0  #: Steps since ``_began``.
        self._began: float | None = None  #: When the first advance was reported: before it, programs are compiled.
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
        self._score = score
        self._label, self._left, self._taken = f"[{self._started}/{self._runs}] {label}", steps - done, 0
        self._left_all -= done
        self._began, self._said = None, self._clock()
        resumed = f" (resumes at step {done:,})" if done else ""
        self.note(f"{self._label}: {steps:,} steps{resumed}")

    def advanced(self, steps: int, task: int, tasks: int, score: float) -> None:
        """Print how far it is, if the last line is old enough."""
        self._left -= steps
        self._left_all -= steps
        now = self._clock()
        if self._began is None:
            self._began = now
            return
        self._taken += steps
        if now - self._said < LINE_S or now == self._began:
            return
        self._said = now
        speed = self._taken / (now - self._began)
        left = f"{duration(self._left / speed)} left"
        if self._runs > 1:
            left += f", {duration(self._left_all / speed)} for all runs"
        self.note(
            f"{self._label}: task {task + 1}/{tasks}, {self._score} {score:.3f}, {speed:,.0f} steps/s, about {left}"
        )

    def finished(self, label: str, status: str, path: Path) -> None:
        """Print how it ended, and where its record is."""
        self.note(f"[{self._started}/{self._runs}] {label}: {status}, {path}")

    def waits(self, label: str) -> None:
        """Print that others are at what is left."""
        self.note(f"waiting for another process to finish {label}")

    def note(self, message: str) -> None:
        """Print a line."""
        self._console.print(Text(message), soft_wrap=True)


class Work:
    """Shows decoding, downloads and the like: called with a description, what is done, and the total."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._tasks: dict[str, TaskID] = {}
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._progress.stop()

    def __call__(self, description: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` units of the work ``description`` are finished."""
        if description not in self._tasks:
            self._tasks[description] = self._progress.add_task(_escaped(description), total=total)
            if not self._console.is_terminal:
                self._console.print(Text(f"{description} ..."), soft_wrap=True)
        self._progress.update(self._tasks[description], completed=done, total=total)


def _escaped(text: str) -> str:
    """Return ``text``, `plain`, for a column that reads markup: brackets of a label are not tags."""
    return plain(text).replace("[", r"\[")
