"""``lopbench leaderboard``: from run records to a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from lopbench.cli.output import check_all_used, console, echo, format_choice, reading, tell_left_out, write_json
from lopbench.core.errors import UsageError
from lopbench.core.text import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from pandas import DataFrame

    from lopbench.results.layout import Table
    from lopbench.results.leaderboard import Board
    from lopbench.results.suite import Suite

#: Exit code where ``--check`` finds a difference; errors have 1, usage errors 2.
FOUND = 3


@click.command("leaderboard")
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Also write all columns to a CSV file.")
@click.option(
    "--check",
    "checked",
    metavar="FILE.csv",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help=f"Compare this CSV with the records: print each difference, and exit with {FOUND} if there is one.",
)
@format_choice("table", "csv", "markdown", "latex", "html", "json")
@click.option(
    "--rows",
    metavar="FACTOR",
    help="Print a table of retentions by two factors. This one is in the rows: method, or any that --columns takes.",
)
@click.option(
    "--columns",
    metavar="FACTOR",
    help="Print a table of retentions by two factors. This one is in the columns: optimizer, architecture, activation, "
    "scenario, profile, or a field, as optimizer.lr, architecture.width, scenario.tasks or cbp.replacement_rate.",
)
@click.option(
    "--sensitivity",
    is_flag=True,
    help="Print the score of each tuned method over the values of each of its hyperparameters, from its tuning log.",
)
@click.option(
    "--suite",
    metavar="NAME",
    help="Print a table of methods over the scenarios of a suite: mean, worst, ranks, performance profile. NAME is a "
    "suite's, as cpu, or a study file whose [[runs]] each have a scenario and a profile.",
)
@click.pass_context
def command(
    ctx: click.Context,
    results: tuple[Path, ...],
    output: Path | None,
    checked: Path | None,
    output_format: str,
    rows: str | None,
    columns: str | None,
    sensitivity: bool,
    suite: str | None,
) -> None:
    """Print the leaderboard of all runs in the folders or packed sets RESULTS: one table for each protocol.

    Runs of different protocols or of different data never share a table. If there are several scenarios, a table of
    methods over all of them comes last. Records that cannot be used are left out and named, and the exit code is then
    1.
    """
    from lopbench.results.cells import csv_text
    from lopbench.results.leaderboard import board, latex, markdown, render, to_csv
    from lopbench.results.tables import html

    is_crossed = rows is not None or columns is not None
    is_file = checked is not None or output is not None
    if is_crossed + sensitivity + (suite is not None) + is_file > 1:
        raise UsageError(
            "--rows and --columns, --sensitivity and --suite each print a table of their own, and --output and --check "
            "are for the usual one; ask for one of these. --format csv has all columns of any"
        )
    asked = None if suite is None else _suite(suite)
    with reading():
        made = board(*results)
    tell_left_out(made.problems)
    if is_crossed:
        _print_crossed(
            made, "method" if rows is None else rows, "method" if columns is None else columns, output_format
        )
    elif asked is not None:
        _print_suite(made, asked, output_format)
    elif sensitivity:
        _print_sensitivity(made, output_format)
    elif checked is not None:
        _check(ctx, made, checked)
    elif output_format == "json":
        write_json(_as_json(made))
    elif output_format == "csv":
        click.echo(csv_text(made.rows), nl=False)
    elif output_format == "markdown":
        click.echo(markdown(made.rows, made.overall), nl=False)
    elif output_format == "latex":
        click.echo(latex(made.rows, made.overall), nl=False)
    elif output_format == "html":
        click.echo(html(made.rows, made.overall), nl=False)
    else:
        render(made.rows, console(), made.overall)
    if output is not None:
        to_csv(made.rows, output)
        echo(f"Written to {output}.", err=True)
    check_all_used(made.problems, "the table shows the others")


def _suite(name: str) -> Suite:
    from lopbench.runner.suites import suite_of  # reads study files, which other tables need not

    return suite_of(name)


def _print_crossed(made: Board, rows: str, columns: str, output_format: str) -> None:
    from lopbench.results.factors import cross, crossing_tables, frame

    tables = cross(made.entries, rows, columns)
    _print_tables(list(crossing_tables(tables, wide=output_format != "table")), lambda: frame(tables), output_format)


def _print_sensitivity(made: Board, output_format: str) -> None:
    from lopbench.core.errors import ResultsError
    from lopbench.results.sensitivity import frame, lines, sensitivity_tables

    found = list(lines(made.entries))
    if not found:
        raise ResultsError("No entry here was tuned, so there is no tuning log; 'lopbench run --tune' makes some.")
    _print_tables(list(sensitivity_tables(found)), lambda: frame(found), output_format)


def _print_suite(made: Board, asked: Suite, output_format: str) -> None:
    from lopbench.results.suite import members, profile_lines, suite_frame, suite_table

    found = members(asked, made.entries)
    frame = suite_frame(asked, found)
    if output_format == "json":
        rows = json.loads(frame.to_json(orient="records", double_precision=15))
        write_json({"rows": rows, "profiles": profile_lines(found)})
    else:
        _print_tables([suite_table(asked, frame, wide=output_format != "table")], lambda: frame, output_format)


def _print_tables(tables: list[Table], frame: Callable[[], DataFrame], output_format: str) -> None:
    """Print tables in a format. Formats for programs print ``frame`` instead, which has all digits."""
    from lopbench.results.cells import csv_text
    from lopbench.results.layout import in_html, in_latex, in_markdown, printed

    if output_format == "json":
        write_json({"rows": json.loads(frame().to_json(orient="records", double_precision=15))})
    elif output_format == "csv":
        click.echo(csv_text(frame()), nl=False)
    elif output_format == "markdown":
        click.echo(in_markdown(tables), nl=False)
    elif output_format == "latex":
        click.echo(in_latex(tables), nl=False)
    elif output_format == "html":
        click.echo(in_html(tables), nl=False)
    else:
        printed(tables, console())


def _check(ctx: click.Context, made: Board, path: Path) -> None:
    from lopbench.results.check import check

    found = check(path, made)
    for difference in found:
        echo(difference)
    if found:
        echo(f"{path} differs from the records: {counted(len(found), 'difference')}.", err=True)
        ctx.exit(FOUND)
    echo(f"{path} agrees with the records: {counted(len(made.rows), 'row')}.")


def _as_json(made: Board) -> dict[str, object]:
    """Return everything as JSON values; NaN and infinity are null."""
    rows, overall = (
        json.loads(frame.to_json(orient="records", double_precision=15)) for frame in (made.rows, made.overall)
    )
    return {"rows": rows, "overall": overall, "left_out": [str(problem) for problem in made.problems]}
