"""``lopbench verify-entry``: an entry, checked as a repository of results checks it."""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path

import rich_click as click

from lopbench.cli.output import console, echo, reading
from lopbench.cli.plugins import plugin_option
from lopbench.core.errors import LopbenchError, ResultsError, UsageError
from lopbench.core.text import counted

#: Most paths outside the entry that are named.
_MOST_TOLD = 5


@click.command("verify-entry")
@click.argument("entry", required=False, type=click.Path(path_type=Path))
@click.option(
    "--protocol",
    "protocols",
    multiple=True,
    help="Id of an accepted protocol; may be repeated. Without it all are accepted.",
)
@click.option(
    "--changed",
    type=click.Path(path_type=Path, allow_dash=True),
    help="File with the paths that a pull request changes, or '-' for stdin; all must lie in the entry.",
)
@click.option("--rerun", is_flag=True, help="Also run each method once, on a smoke profile. This executes its code.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Folder with the data, for --rerun.")
@click.option("--workflow", is_flag=True, help="Print the workflow of a results repository, and stop.")
@plugin_option
def command(
    entry: Path | None,
    protocols: tuple[str, ...],
    changed: Path | None,
    rerun: bool,
    data_dir: Path | None,
    workflow: bool,
) -> None:
    """Check the folder ENTRY that 'lopbench submit' wrote, as a repository of results does.

    It checks that the folder holds the files of an entry and no others, that ids follow from the specs, that each row
    has its seeds and references, and that the table agrees with the records. Nothing of the entry is executed without
    --rerun. All that is wrong is printed, step by step: what files there are comes first, what is in them later. The
    exit code is then 1.
    """
    if workflow:
        echo((files("lopbench.results") / "workflow" / "verify.yml").read_text(), nl=False)
        return
    if entry is None:
        raise UsageError("name the folder of an entry, or give --workflow")
    from lopbench.results.submission import outside, verify_entry

    if changed is not None:
        beside = outside(_paths(changed), entry)
        if beside:
            more = f" and {len(beside) - _MOST_TOLD} more" if len(beside) > _MOST_TOLD else ""
            raise ResultsError(
                f"The change touches {', '.join(beside[:_MOST_TOLD])}{more}, outside {entry}; send one entry alone."
            )
    with reading():
        found = verify_entry(entry, protocols=protocols)
    table = found.rows
    echo(f"{found.name}: {counted(len(table), 'row')} under {counted(table['protocol_id'].nunique(), 'protocol')}")
    for row in table.to_dict("records"):
        echo(f"  {row['method']}, {row['optimizer']}, {row['protocol_id']}, seeds {row['coverage']}")
    echo("Files, ids, seeds, references and scores are in order.")
    if rerun:
        from lopbench.cli.progress import study_reporter
        from lopbench.runner.smoke import smoke

        specs = [each.group.spec for each in found.board.entries if not each.is_baseline and not each.is_control]
        with study_reporter(console(stderr=True), runs=len(specs), steps=0) as reporter:
            for spec in specs:
                echo(smoke(spec, data_dir=data_dir, reporter=reporter))


def _paths(changed: Path) -> list[str]:
    """Return the lines of a file, or of stdin.

    Raises:
        LopbenchError: If it cannot be read.
    """
    from lopbench.results.stored import reason

    try:
        text = sys.stdin.read() if str(changed) == "-" else changed.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise LopbenchError(f"{changed} cannot be read: {reason(error)}") from error
    return text.splitlines()
