"""``lopbench report``: all results as one page."""

from pathlib import Path

import rich_click as click

from lopbench.cli.output import echo, reading
from lopbench.core.text import counted


@click.command("report")
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default="report.html",
    show_default=True,
    help="The page; what is there is overwritten.",
)
def command(results: tuple[Path, ...], output: Path) -> None:
    """Write all results in the folders or packed sets RESULTS as one HTML page.

    The page opens from disk and needs no network. It has a leaderboard for each protocol, curves over the tasks with
    their intervals, maps and curves of the layers, the runs that stopped and why, and the command behind each row. Its
    figures can be saved as SVG, PDF and CSV. Records that lie below the folder of the page are linked.
    """
    from lopbench.report.page import write_report

    with reading():
        summary = write_report(output, *results)
    count = len(summary.tables)
    echo(f"{counted(summary.runs, 'run')} under {counted(count, 'protocol')}.", err=True)
    echo(f"Written to {output}.", err=True)
