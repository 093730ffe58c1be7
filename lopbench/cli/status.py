"""``lopbench status``: who is at work in a folder, and how its runs stand."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from lopbench.cli.output import Finite, console, format_option, roughly, write_json
from lopbench.core.grid import Column, Grid
from lopbench.core.text import counted

if TYPE_CHECKING:
    from rich.console import Group

    from lopbench.runner.status import RunStatus
    from lopbench.runner.workers import WorkerStatus

#: Most runs of one state, and most workers, that are told one by one; all are counted, and in JSON.
_MOST_TOLD = 50

#: Seconds between two looks of ``--watch``.
_WATCH_S = 2.0

_STYLES = {
    "running": "green",
    "stopped": "yellow",
    "set aside": "red",
    "diverged": "yellow",
    "failed": "red",
    "damaged": "red",
    "to do": "dim",
}

#: States of runs that are told one by one, in this order.
_TOLD = ("running", "stopped", "set aside", "diverged", "failed", "damaged", "to do")

#: The columns in the order in which they go where there is no room.
_RUNS_LEAVE = ("folder", "profile", "age", "optimizer", "scenario", "progress", "seed", "state")
_WORKERS_LEAVE = ("done", "speed", "task", "worker")


@dataclass(frozen=True)
class _Found:
    results: Path
    workers: list[WorkerStatus]
    runs: list[RunStatus]
    command: str | None  #: What goes on with what is not done.
    untuned: int  #: Number of entries whose runs their tuning has not chosen yet.

    @property
    def counts(self) -> dict[str, int]:
        from lopbench.runner.status import STATES

        counts = Counter(each.state for each in self.runs)
        return {state: counts[state] for state in STATES if counts[state]}

    def to_json(self) -> dict[str, Any]:
        return {
            "workers": [each.to_json() for each in self.workers],
            "counts": self.counts,
            "runs": [each.to_json() for each in self.runs],
            "command": self.command,
            "untuned": self.untuned,
        }


@click.command("status")
@click.argument("results", default="results", type=click.Path(path_type=Path))
@click.option(
    "--watch",
    is_flag=False,
    flag_value=str(_WATCH_S),
    metavar="[SECONDS]",
    type=Finite(min=0.1),
    help="Refresh every so many seconds, until q or an interrupt; in a pipe it is shown once.",
)
@format_option
def command(results: Path, watch: float | None, output_format: str) -> None:
    """Show who is at work in RESULTS, how its runs stand and why, and how to go on.

    RESULTS is a results folder or a packed set.

    A worker is silent if it has reported nothing for a minute. A run is running while a process holds its lock. If
    that process was stopped, the run is stopped, and the command that started it resumes it. A run is set aside if it
    killed its workers. The age of a run is the time since it began, and of one that is not done since it last wrote.
    """
    if output_format == "json":
        write_json(_look(results).to_json())
        return
    out = console()
    if watch is None or not out.is_terminal:
        out.print(_shown(_look(results), out.width))
        return
    from rich.live import Live

    with Live(console=out, screen=True, auto_refresh=False, vertical_overflow="crop") as live, _keys() as keys:
        while True:
            live.update(_shown(_look(results), out.width), refresh=True)
            if keys(watch) == "q":
                return


def _look(results: Path) -> _Found:
    from lopbench.runner.status import goes_on, status, untuned
    from lopbench.runner.workers import workers

    runs, at_work = status(results), workers(results)
    is_silent = any(each.is_silent for each in at_work)
    return _Found(results, at_work, runs, goes_on(results, runs, is_silent=is_silent), untuned(results))


def _shown(found: _Found, width: int) -> Group:
    """Return everything as it is printed."""
    from rich.console import Group
    from rich.text import Text

    counts = ", ".join(f"{count:,} {state}" for state, count in found.counts.items())
    parts: list[Any] = []
    if found.workers:
        parts.append(_of_workers(found.workers[:_MOST_TOLD], width).rows())
        untold = len(found.workers) - _MOST_TOLD
        parts += [Text(f"{untold:,} more"), Text()] if untold > 0 else [Text()]
    parts.append(Text(counts or "no runs"))
    told = {state: [each for each in found.runs if each.state == state] for state in _TOLD}
    if any(told.values()):
        table = _of_runs([each for runs in told.values() for each in runs[:_MOST_TOLD]], found.results, width)
        parts += [Text(), table.rows()]
        more = [f"{len(runs) - _MOST_TOLD:,} more {state}" for state, runs in told.items() if len(runs) > _MOST_TOLD]
        if more:
            parts.append(Text(f"and {', '.join(more)}", style="dim"))
        if table.gone:
            parts.append(Text(f"No room for {', '.join(table.gone)}: --format json has it.", style="dim"))
    if found.untuned:
        what = counted(found.untuned, "entry is", "entries are")
        parts.append(Text(f"{what} still to be tuned; the runs of what that chooses come after these."))
    silent = sum(each.is_silent for each in found.workers)
    if silent:
        who = "1 worker is" if silent == 1 else f"{silent} workers are"
        parts.append(Text(f"{who} silent: other workers, or the command below, take over what is unfinished."))
    if found.command is not None:
        parts.append(Text(f"To go on: {found.command}"))
    return Group(*parts)


def _of_workers(told: list[WorkerStatus], width: int) -> Grid:
    reports = [each.report for each in told]
    columns = [
        Column("worker", [each.place for each in told], least=12),
        Column("at", [report.label or report.state for report in reports], least=18),
        Column("task", [f"task {r.task + 1}/{r.tasks}" if r.tasks else "" for r in reports]),
        Column("done", ["" if each.share is None else f"{each.share:.0%}" for each in told], right=True),
        Column("speed", [f"{r.speed:,.0f} steps/s" if r.speed else "" for r in reports], right=True),
        Column(
            "seen",
            [_seen(each) for each in told],
            least=10,
            styles=["bold yellow" if each.is_silent else "" for each in told],
        ),
    ]
    return Grid.or_whole_blocks(columns, width, leaving=_WORKERS_LEAVE, name="at")


def _seen(worker: WorkerStatus) -> str:
    age = roughly(worker.age_s, "")
    return f"silent for {age}" if worker.is_silent else f"{age} ago"


def _of_runs(runs: list[RunStatus], results: Path, width: int) -> Grid:
    columns = [
        Column("state", [each.state for each in runs], styles=[_STYLES[each.state] for each in runs]),
        Column("scenario", [each.scenario for each in runs], least=12),
        Column("profile", [each.profile for each in runs], least=8),
        Column("method", [each.method or each.run for each in runs], least=14),
        Column("optimizer", [each.optimizer for each in runs], least=12),
        Column("seed", ["" if each.seed is None else str(each.seed) for each in runs], right=True),
        Column("progress", [_progress(each) for each in runs], least=14),
        Column("age", ["" if each.age_s is None else roughly(each.age_s, "") for each in runs], right=True),
        Column("folder", [_folder(each, results) for each in runs], least=24),
    ]
    return Grid.or_whole_blocks(columns, width, leaving=_RUNS_LEAVE, name="method")


def _progress(run: RunStatus) -> str:
    """Return how far a run is, or why it did not get further."""
    if run.state in ("running", "stopped") and run.progress:
        return run.progress
    return f"{run.progress}; {run.reason}" if run.progress and run.reason else run.progress or run.reason


def _folder(run: RunStatus, results: Path) -> str:
    """Return where a run lies below the results folder; one to do lies nowhere yet."""
    path = Path(run.path)
    if run.state == "to do":
        return ""
    return str(path.relative_to(results)) if path.is_relative_to(results) else run.path


@contextmanager
def _keys() -> Iterator[Any]:
    """Yield a function that waits for a key, for so many seconds at most, and returns it; "" for none."""
    if not sys.stdin.isatty():

        def wait(seconds: float) -> str:
            time.sleep(seconds)
            return ""

        yield wait
        return
    import select
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)

    def key(seconds: float) -> str:
        ready, _, _ = select.select([sys.stdin], [], [], seconds)
        return sys.stdin.read(1) if ready else ""

    tty.setcbreak(sys.stdin)
    try:
        yield key
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
