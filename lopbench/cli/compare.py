"""``lopbench compare``: whether methods differ, or why they do not compare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from lopbench.cli.output import choice_option, console, echo, format_option, reading, write_json

if TYPE_CHECKING:
    from lopbench.results.sources import Score

#: Exit code where ``--fail-on`` found what it looks for; errors have 1, usage errors 2.
FOUND = 3


@click.command("compare")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE[:METHOD]...")
@choice_option(
    "--score",
    choices=["retention", "trainability", "generalisation", "lifetime_online"],
    text="Column of the leaderboard to compare by, where retention is the one that the scenario goes by",
    default="retention",
)
@click.option(
    "--fail-on",
    type=click.Choice(["worse"]),
    help=f"Exit with {FOUND} if a row is worse, and with 1 if one could not be tested or records were left out.",
)
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Also write all columns to a CSV file.")
@format_option
@click.pass_context
def command(
    ctx: click.Context,
    sources: tuple[str, ...],
    score: Score,
    fail_on: str | None,
    output: Path | None,
    output_format: str,
) -> None:
    """Compare methods: which is better, which is worse, and where the runs cannot tell.

    A SOURCE is a results folder, a packed set, a run directory or a leaderboard's CSV; SOURCE:METHOD is one method of
    it. The first is the baseline.

    \b
      lopbench compare results                    all methods against none
      lopbench compare results:cbp                all methods against cbp
      lopbench compare results:none results:cbp   cbp against none
      lopbench compare theirs.csv mine.csv        each method with its like
      lopbench compare theirs:none mine           all of mine against none

    Only rows of the same protocol compare; for others, the fields that differ are named. With results folders on
    both sides the runs are paired by seed and task, which tells most; a CSV has means and intervals only.
    """  # noqa: D301  (click reads the backspace)
    from lopbench.core.errors import ResultsError
    from lopbench.results.compare import compare, render, to_csv

    with reading():
        found = compare(*sources, score=score)
    if output_format == "json":
        write_json(found.to_json())
    else:
        render(found, console())
    if output is not None:
        to_csv(found.rows, output)
        echo(f"Written to {output}.", err=True)
    if fail_on is None:
        return
    if (found.rows["verdict"] == fail_on).any():
        echo(f"There are rows that are {fail_on}.", err=True)
        ctx.exit(FOUND)
    refused = [each.row for each in found.left_out if each.refused]
    untested = [*refused, *found.rows.loc[found.rows["p_value"].isna(), "method"]]
    if untested:
        raise ResultsError(f"Whether {untested[0]} is {fail_on} could not be tested; what is printed says why.")
    if found.problems:
        raise ResultsError(f"Records were left out, and may have been {fail_on}: {found.problems[0]}")
