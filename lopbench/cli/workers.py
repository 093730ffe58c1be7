"""Progress of several workers on stderr: a bar for each and one for all, or lines where there is no terminal."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from lopbench.cli.output import duration
from lopbench.cli.progress import LINE_S, _escaped

if TYPE_CHECKING:
    from rich.console import Console

    from lopbench.runner.local import Pool
    from lopbench.runner.worker import Report

#: Seconds between two looks at what the workers tell.
LOOK_S = 0.5

#: Seconds over which their speed is averaged.
_SPEED_S = 60.0

#: Most workers that have a bar of their own.
_MOST_BARS = 8


class Speed:
    """Steps a second of all workers, over the last minute.

    Args:
        clock: Gives seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, int]] = deque()

    def add(self, taken: int) -> float | None:
        """Note how many steps have been taken in all; returns how many a second, None if that is not known yet."""
        now = self._clock()
        if not taken:
            self._seen.clear()  # programs are being compiled
        self._seen.append((now, taken))
        while self._seen[0][0] < now - _SPEED_S and len(self._seen) > 2:
            self._seen.popleft()
        began, before = self._seen[0]
        return None if taken == before else (taken - before) / (now - began)


def follow(pool: Pool, console: Console, *, runs: int, steps: int) -> list[tuple[str, str]]:
    """Show what workers do until all have ended; an interrupt stops them, and a second one ends them at once.

    Args:
        pool: The workers, not started.
        console: Where to show it.
        runs: Number of runs to do.
        steps: Their steps.

    Returns:
        What could not be run, each with the reason.

    Raises:
        ResultsError: If the results folder cannot be written to, or the workers gave up.
        KeyboardInterrupt: If the user wanted it.
    """
    from lopbench.runner.local import check

    shown = _Shown(console, runs=runs, steps=steps)
    interrupts = 0
    try:
        with shown.progress:
            pool.start()
            while True:
                try:
                    at_work = pool.poll()
                    shown.update(pool.reports())
                    if not at_work:
                        break
                    time.sleep(LOOK_S)
                except KeyboardInterrupt:
                    interrupts += 1
                    if interrupts > 1:
                        raise
                    shown.say("stopping: what is at work is saved; interrupt again to end it at once")
                    pool.stop()
        reports = pool.reports()
    finally:
        pool.kill()
        pool.tidy()
    if interrupts:
        raise KeyboardInterrupt
    check(pool.failures)
    return list(dict.fromkeys((label, reason) for report in reports for label, reason in report.refused))


class _Shown:
    def __init__(self, console: Console, *, runs: int, steps: int) -> None:
        self._console, self._runs, self._steps = console, runs, steps
        self._lines: dict[str, int] = {}  #: Number of lines printed, by worker.
        self._bars: dict[int, TaskID] = {}  #: By slot.
        self._speed = Speed()
        self._said = time.monotonic()
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[detail]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._all = self.progress.add_task(f"all {runs} runs", total=steps, detail="")

    def say(self, line: str) -> None:
        """Print a line above the bars."""
        self.progress.console.print(Text(line, style="dim"), soft_wrap=True)

    def update(self, reports: Sequence[Report]) -> None:
        """Print what is new, and move the bars."""
        for report in reports:
            new = report.told - self._lines.get(report.name, 0)
            for line in report.lines[-new:] if new else ():
                self.say(line)
            self._lines[report.name] = report.told
        ended = sum(report.ended for report in reports)
        taken = sum(report.taken for report in reports)
        done = taken + sum(report.skipped for report in reports)
        speed = self._speed.add(taken)
        detail = f"{ended}/{self._runs} finished"
        if speed:
            left = max(0, self._steps - done) / speed
            detail += f"  {speed:,.0f} steps/s  {duration(left)} left"
        self.progress.update(self._all, completed=min(done, self._steps), detail=detail)
        latest = {report.slot: report for report in reports}
        for slot in sorted(latest)[:_MOST_BARS]:
            self._show(latest[slot])
        now = time.monotonic()
        if not self._console.is_terminal and now - self._said >= LINE_S:
            self._said = now
            busy = sum(report.state == "running" for report in latest.values())
            self.say(f"{detail.replace('  ', ', ')}; {busy} workers at work")

    def _show(self, report: Report) -> None:
        if report.slot not in self._bars:
            self._bars[report.slot] = self.progress.add_task("", total=None, detail="")
        detail = (
            f"task {report.task + 1}/{report.tasks}  {report.score_name} {report.score:.3f}" if report.tasks else ""
        )
        self.progress.update(
            self._bars[report.slot],
            description=_escaped(report.label or report.state),
            total=report.steps or None,
            completed=report.done,
            detail=detail,
        )
