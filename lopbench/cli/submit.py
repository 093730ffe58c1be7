"""``lopbench submit``: runs as an entry for a repository of results."""

from pathlib import Path

import rich_click as click

from lopbench.cli.output import console, echo
from lopbench.core.text import counted


@click.command("submit")
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--output",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the entry, which must not exist; its name becomes that of the entry.",
)
@click.option("--code", required=True, help="Where the code of the methods is: an https URL.")
@click.option("--contact", required=True, help="Who answers questions, and where: a name with an address.")
@click.option("--paper", help="Where the methods are described: an https URL.")
@click.option(
    "--tuning", type=click.Path(path_type=Path), help="JSON file with the logs of tuning that was done without --tune."
)
def command(
    results: tuple[Path, ...], output: Path, code: str, contact: str, paper: str | None, tuning: Path | None
) -> None:
    """Pack all runs of the folders or packed sets RESULTS as an entry, which you send as a pull request.

    The entry is a folder with the packed runs, their table, whose they are, and the logs of tuning if there are any.
    Each row needs at least seeds 0 to 4, and each run needs its fresh reference. Unranked profiles and procedural data
    are refused.

    \b
      lopbench submit results --output entries/my-method \\
        --code https://example.org/my-method --contact 'A. Author, a@example.org'
      lopbench verify-entry entries/my-method

    Runs of 'run --tune' have the log in their records. For other tuning, --tuning names a JSON file with a list of
    objects. Each has the protocol_id and entry_id of a row of the table, and its log: k, budget, seeds, score, steps,
    chosen, and configurations with their values and scores. The best configuration of a log must be what was run.
    """  # noqa: D301  (click reads the backspace)
    from lopbench.cli.progress import Work
    from lopbench.cli.shell import here, quoted
    from lopbench.results.submission import Metadata, submit

    metadata = Metadata(code=code, contact=contact, paper=paper)
    with Work(console(stderr=True)) as work:
        made = submit(*results, output=output, metadata=metadata, tuning=tuning, progress=work)
    size = sum(path.stat().st_size for path in made.iterdir())
    echo(f"Written to {made}: {counted(len(list(made.iterdir())), 'file')}, {size / 1e6:.2f} MB.", err=True)
    echo(f"Check it as the repository will:\n  {here()} verify-entry {quoted(made)}", err=True)
