"""Progress of several workers on stderr: a bar for each and one for all, or lines where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.live import Live

from lopbench.cli.bars import Row, Rows
from lopbench.cli.output import tell
from lopbench.cli.progress import LINE_S
from lopbench.core.text import counted
from lopbench.runner.pace import TimeLeft

if TYPE_CHECKING:
    from rich.console import Console

    from lopbench.runner.pool import Pool
    from lopbench.runner.worker import Report

#: Seconds between two looks at what the workers tell.
LOOK_S = 0.5

#: Most workers that have a bar of their own.
_MOST_BARS = 8


def follow(pool: Pool, console: Console, *, runs: int, steps: int) -> list[tuple[str, str]]:
    """Show what workers do until all have ended; an interrupt stops them, and a second one ends them at once.

    Workers that another process started stay at work when this one is interrupted, or fails.

    Args:
        pool: The workers, not started, or joined.
        console: Where to show it.
        runs: Number of runs to do.
        steps: Their steps.

    Returns:
        What could not be run, each with the reason.

    Raises:
        ResultsError: If the results folder cannot be written to, or the workers gave up.
        KeyboardInterrupt: If the user wanted it; it says what becomes of workers that go on.
    """
    from lopbench.runner.pool import check

    shown = _Shown(console, runs=runs, steps=steps)
    interrupts, at_work = 0, True
    try:
        with shown:
            pool.start()
            if pool.is_joined:
                shown.say(f"{pool.called} are at these runs already.")
            while True:
                try:
                    at_work = pool.poll()
                    shown.update(pool.reports())
                    if not at_work:
                        break
                    time.sleep(LOOK_S)
                except KeyboardInterrupt:
                    interrupts += 1
                    if interrupts > 1 or pool.is_joined:
                        raise
                    shown.say("stopping: running work is being saved; interrupt again to end it at once")
                    pool.stop()
        reports = pool.reports()
    except KeyboardInterrupt:
        if not pool.is_joined:
            raise
        stops = f", and '{pool.stop_command}' stops them" if pool.stop_command else ""
        raise KeyboardInterrupt(f"{pool.called} go on; the same command shows them again{stops}.") from None
    finally:
        if not (pool.is_joined and at_work):
            pool.kill()
            pool.tidy()
    if interrupts:
        raise KeyboardInterrupt
    check(pool.failures)
    return list(dict.fromkeys((label, reason) for report in reports for label, reason in report.refused))


class _Shown:
    """What is shown of workers.

    Args:
        console: Where to show it.
        runs: Number of runs to do.
        steps: Their steps.
    """

    def __init__(self, console: Console, *, runs: int, steps: int) -> None:
        self._console, self._runs, self._steps = console, runs, steps
        self._lines: dict[str, int] = {}  #: Number of lines printed, by worker.
        self._left = TimeLeft()
        self._said = time.monotonic()
        self.shown = Rows()
        self._live = Live(self.shown, console=console, transient=True) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, line: str) -> None:
        """Print a line above the bars."""
        tell(self._console, line, "dim")

    def update(self, reports: Sequence[Report]) -> None:
        """Print what is new, and move the bars."""
        for report in reports:
            new = report.told - self._lines.get(report.name, 0)
            for line in report.lines[-new:] if new else ():
                self.say(line)
            self._lines[report.name] = report.told
        ended = sum(report.ended for report in reports)
        taken = sum(report.taken for report in reports)
        done = min(self._steps, taken + sum(report.skipped for report in reports))
        left = self._left.add(taken, self._steps - done)
        at = f"{ended}/{self._runs} finished"
        whole = Row(f"all {self._runs} runs", done, self._steps, at, speed=self._left.speed, left_s=left)
        latest = {report.slot: report for report in reports}
        self.shown.rows = [whole, *map(_row, self._told(list(latest.values())))]
        now = time.monotonic()
        if self._live is None and now - self._said >= LINE_S:
            self._said = now
            busy = sum(report.state == "running" for report in latest.values())
            self.say(f"{whole.tail(10**6).replace('  ', ', ')}; {counted(busy, 'worker')} at work")

    def _told(self, latest: list[Report]) -> list[Report]:
        """Return the workers that have a bar: of many those that have most to do, by slot."""
        lines = self.shown.lines(self._console.width)
        most = max(1, min(_MOST_BARS, self._console.height // lines - 2))
        slowest = sorted(latest, key=lambda report: _left_of(report) or 0.0, reverse=True)[:most]
        return sorted(slowest, key=lambda report: report.slot)


def _left_of(report: Report) -> float | None:
    return (report.steps - report.done) / report.speed if report.speed else None


def _row(report: Report) -> Row:
    at = f"task {report.task + 1}/{report.tasks}" if report.tasks else ""
    score = f"{report.score_name} {report.score:.3f}" if report.tasks else ""
    total = report.steps or 1
    return Row(report.label or report.state, report.done, total, at, score, report.speed, _left_of(report))
