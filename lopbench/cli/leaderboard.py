"""``lopbench leaderboard``: from run records to a table."""

from pathlib import Path

import rich_click as click

from lopbench.cli.output import console, write_frame


@click.command("leaderboard")
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Also write all columns to a CSV file.")
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["table", "json", "markdown"]),
    default="table",
    show_default=True,
    help="How to print it.",
)
def command(results: tuple[Path, ...], output: Path | None, output_format: str) -> None:
    """Print the leaderboard of all runs in the folders RESULTS: one table for each protocol.

    Runs of different protocols or of different data never share a table.
    """
    from lopbench.results.leaderboard import leaderboard, markdown, render, to_csv

    frame = leaderboard(*results)
    if output_format == "json":
        write_frame(frame)
    elif output_format == "markdown":
        click.echo(markdown(frame), nl=False)
    else:
        render(frame, console())
    if output is not None:
        to_csv(frame, output)
        click.echo(f"Written to {output}.", err=True)
