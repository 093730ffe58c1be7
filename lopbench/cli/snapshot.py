"""``lopbench snapshot``: the tables of all entries of a repository of results, as they are today."""

from datetime import UTC, datetime
from pathlib import Path

import rich_click as click

from lopbench.cli.output import echo


@click.command("snapshot")
@click.argument("entries", type=click.Path(path_type=Path))
@click.option(
    "--output",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of all snapshots. This one becomes a folder in it, named by its day.",
)
@click.option("--day", type=click.DateTime(["%Y-%m-%d"]), help="The day, as 2026-01-31; today by default.")
def command(entries: Path, output: Path, day: datetime | None) -> None:
    """Check all entries in the folder ENTRIES, and write their tables as one table, with a manifest of their files.

    A snapshot is never changed, so that a table can be cited by its day.
    """
    from lopbench.results.snapshot import snapshot

    when = (day or datetime.now(UTC)).date()
    folder = snapshot(entries, output, day=when, told=lambda name: echo(f"checking {name}", err=True))
    echo(f"Written to {folder}.", err=True)
