"""Snapshots of a repository of results: the tables of its entries on a day, with a manifest of their files."""

import json
import os
import tempfile
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path

from lopbench.core.errors import ResultsError
from lopbench.results.files import write_whole
from lopbench.results.stored import reason
from lopbench.results.submission import TABLE, file_digests, verify_entry
from lopbench.results.tables import to_csv

MANIFEST = "manifest.json"


def snapshot(
    entries: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    day: date,
    told: Callable[[str], None] = lambda name: None,
) -> Path:
    """Write the tables of all entries as one table, with a manifest, into a folder of that day; return the folder.

    Rows of different entries stay apart: they were made on different machines.

    Args:
        entries: Folder of the entries, each a folder that `verify_entry` takes.
        output: Folder of the snapshots.
        day: The day.
        told: Is told of each entry before it is checked.

    Raises:
        ResultsError: If an entry cannot be accepted, there is none, or the snapshot exists or cannot be written.
    """
    import pandas as pd

    folder = Path(output) / day.isoformat()
    if folder.exists():
        raise ResultsError(f"{folder} exists, and a snapshot is never changed; choose another day or another --output.")
    names = sorted(path for path in Path(entries).glob("*") if path.is_dir())
    if not names:
        raise ResultsError(f"There are no entries in {entries}; each is a folder that 'lopbench submit' wrote.")
    tables, listed = [], {}
    for path in names:
        told(path.name)
        found = verify_entry(path)
        tables.append(found.rows.assign(entry=found.name))
        listed[found.name] = {"rows": len(found.rows), "sha256": file_digests(path)}
    value = {"snapshot_version": 1, "day": day.isoformat(), "lopbench": version("lopbench"), "entries": listed}
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", suffix=".partial", dir=folder.parent) as partial:
            made = Path(partial) / "snapshot"
            made.mkdir()
            to_csv(pd.concat(tables, ignore_index=True), made / TABLE)
            write_whole(made / MANIFEST, json.dumps(value, indent=2, sort_keys=True) + "\n", "The manifest")
            made.rename(folder)  # whole, or not at all: it can never be completed later
    except OSError as error:
        raise ResultsError(f"The snapshot cannot be written to {folder}: {reason(error)}.") from error
    return folder
