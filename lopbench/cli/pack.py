"""``lopbench pack``: many records as one file."""

from pathlib import Path

import rich_click as click

from lopbench.cli.output import console, echo
from lopbench.core.text import counted


@click.command("pack")
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--output",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The packed set, NAME.lopbench; a file of that name is replaced once the new one is complete.",
)
def command(results: tuple[Path, ...], output: Path) -> None:
    """Pack all runs of the folders RESULTS into one file, to publish or to keep.

    Every command that reads a results folder also reads such a file, alone or in a folder beside loose runs:

    \b
      lopbench pack results --output mine.lopbench
      lopbench leaderboard mine.lopbench
      lopbench compare theirs.lopbench mine.lopbench
      lopbench unpack mine.lopbench --output results

    The file is an uncompressed zip of a manifest with hashes and of two Parquet files: one of all measurements, one of
    all specs, environments, outcomes and logs. The same runs give the same bytes. The folders stay as they are.
    Damaged records, two different results of one run, and directories that hold other files are refused.
    """  # noqa: D301  (click reads the backspace)
    from lopbench.cli.progress import Work
    from lopbench.results.pack import pack

    with Work(console(stderr=True)) as work:
        made = pack(*results, output=output, progress=work)
    sizes = f"{made.loose_bytes / 1e6:.2f} MB in files of their own, {made.packed_bytes / 1e6:.2f} MB packed"
    echo(f"{counted(made.records, 'run')}, {counted(made.rows, 'row')}: {sizes}.", err=True)
    echo(f"Written to {output}.", err=True)
