"""``lopbench status``: how the runs of a folder stand."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from lopbench.cli.output import console, format_option, write_json

#: Most runs of one state that are told one by one; all are counted, and in JSON.
_MOST_TOLD = 50


@click.command("status")
@click.argument("results", default="results", type=click.Path(path_type=Path))
@format_option
def command(results: Path, output_format: str) -> None:
    """Show which runs of RESULTS are done, running, stale, diverged, failed or damaged, and why.

    RESULTS is a results folder or a packed set.

    A run is running while a process holds its lock; a stale one was stopped, and the command that started it goes on
    with it.
    """
    from rich.table import Table
    from rich.text import Text

    from lopbench.runner.status import STATES, status

    found = status(results)
    if output_format == "json":
        write_json([each.to_json() for each in found])
        return
    by_state = {state: [each for each in found if each.state == state] for state in STATES}
    counts = [f"{len(runs)} {state}" for state, runs in by_state.items() if runs]
    out = console()
    out.print(Text(", ".join(counts) or "no runs"))
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    styles = {"running": "green", "stale": "yellow", "diverged": "yellow", "failed": "red", "damaged": "red"}
    for state, runs in by_state.items():
        if state == "completed":
            continue
        for each in runs[:_MOST_TOLD]:
            table.add_row(Text(state, style=styles[state]), Text(each.run), Text(each.reason))
        if len(runs) > _MOST_TOLD:
            table.add_row(Text(state, style=styles[state]), Text(f"{len(runs) - _MOST_TOLD} more"), Text(""))
    if table.row_count:
        out.print(table)
