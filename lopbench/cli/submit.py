"""``lopbench submit``: one's own runs as an entry for a repository of results."""

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
@click.option("--tuning", type=click.Path(path_type=Path), help="Logs of tuning done without --tune, a JSON file.")
def command(
    results: tuple[Path, ...], output: Path, code: str, contact: str, paper: str | None, tuning: Path | None
) -> None:
    """Pack all runs of the folders or packed sets RESULTS as an entry, to be sent as a pull request.

    \b
      lopbench submit results --output entries/my-method --code https://example.org/my-method --contact 'A. Author'
      lopbench verify-entry entries/my-method

    The entry is a folder: the packed runs, the table that they give, whose they are, and the logs of the tuning where
    there are any. Each row needs seeds 0 to 4 at least, and each run its fresh reference. Unranked profiles and
    procedural data are refused.

    What 'run --tune' chose has its log in its records. A file for --tuning is a list of objects, each with the
    protocol_id and entry_id of a row, as in the table, and its log: k, budget, seeds, score, steps, chosen, and
    configurations with their values and scores. Of each log the best configuration must be what was run.
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
