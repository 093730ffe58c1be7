"""``lopbench unpack``: the records of a packed set as run directories."""

from pathlib import Path

import rich_click as click

from lopbench.cli.output import console, echo
from lopbench.core.text import counted


@click.command("unpack")
@click.argument("packed", metavar="FILE", type=click.Path(path_type=Path))
@click.option(
    "--output",
    default="results",
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Results folder; the run directories are written into its folder runs.",
)
def command(packed: Path, output: Path) -> None:
    """Unpack the packed set FILE into run directories, byte for byte as they were packed.

    Nothing is overwritten. A run that is already there is left alone if its results are the same, and refused if they
    are not. There is no need to unpack a set to look at it: all commands read FILE as it is.
    """
    from lopbench.cli.progress import Work
    from lopbench.results.pack import unpack

    with Work(console(stderr=True)) as work:
        made = unpack(packed, output, progress=work)
    echo(f"{counted(made.records, 'run')}, {counted(made.rows, 'row')}, {made.loose_bytes / 1e6:.2f} MB.", err=True)
    if made.rewritten:
        echo(
            f"This version of pyarrow writes {made.rewritten} measurements.parquet in other bytes than their runs did. "
            "Rows, ids and scores are the same; the inputs_digest of a leaderboard is another.",
            err=True,
        )
    echo(f"Written to {made.path}.", err=True)
