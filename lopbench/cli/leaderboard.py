"""``lopbench leaderboard``: from run records to a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from lopbench.cli.output import console, echo, reading, write_json
from lopbench.core.text import counted

if TYPE_CHECKING:
    from lopbench.results.leaderboard import Board

#: Exit code where ``--check`` finds a difference; errors have 1, usage errors 2.
FOUND = 3

#: Most problems of a folder that are told one by one.
_MOST_TOLD = 20


@click.command("leaderboard")
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Also write all columns to a CSV file.")
@click.option(
    "--check",
    "checked",
    metavar="FILE.csv",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help=f"Print in what this CSV differs from what the records give, and exit with {FOUND} if in anything.",
)
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["table", "csv", "markdown", "latex", "json"]),
    default="table",
    show_default=True,
    help="How to print it.",
)
@click.pass_context
def command(
    ctx: click.Context, results: tuple[Path, ...], output: Path | None, checked: Path | None, output_format: str
) -> None:
    """Print the leaderboard of all runs in the folders or packed sets RESULTS: one table for each protocol.

    Runs of different protocols or of different data never share a table. Where there are several scenarios, methods
    over all of them come last. Records that cannot be used are left out and named, and the exit code is then 1.
    """
    from lopbench.core.errors import ResultsError
    from lopbench.results.cells import csv_text
    from lopbench.results.leaderboard import board, latex, markdown, render, to_csv

    with reading():
        made = board(*results)
    for problem in made.problems[:_MOST_TOLD]:
        echo(f"Left out: {problem}", err=True)
    if len(made.problems) > _MOST_TOLD:
        echo(f"Left out: {len(made.problems) - _MOST_TOLD} more.", err=True)
    if checked is not None:
        _check(ctx, made, checked)
    elif output_format == "json":
        write_json(_as_json(made))
    elif output_format == "csv":
        click.echo(csv_text(made.rows), nl=False)
    elif output_format == "markdown":
        click.echo(markdown(made.rows, made.overall), nl=False)
    elif output_format == "latex":
        click.echo(latex(made.rows, made.overall), nl=False)
    else:
        render(made.rows, console(), made.overall)
    if output is not None:
        to_csv(made.rows, output)
        echo(f"Written to {output}.", err=True)
    if made.problems:
        raise ResultsError(f"{counted(len(made.problems), 'record')} could not be used; the table is of the others.")


def _check(ctx: click.Context, made: Board, path: Path) -> None:
    from lopbench.results.check import check

    found = check(path, made)
    for difference in found:
        echo(difference)
    if found:
        echo(f"{path} is not what the records give: {counted(len(found), 'difference')}.", err=True)
        ctx.exit(FOUND)
    echo(f"{path} is what the records give: {counted(len(made.rows), 'row')}.")


def _as_json(made: Board) -> dict[str, object]:
    """Return everything as JSON values; NaN and infinity are null."""
    rows, overall = (
        json.loads(frame.to_json(orient="records", double_precision=15)) for frame in (made.rows, made.overall)
    )
    return {"rows": rows, "overall": overall, "left_out": [str(problem) for problem in made.problems]}
