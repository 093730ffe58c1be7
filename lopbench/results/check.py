"""Whether a leaderboard's CSV is what the run records give."""

import csv
import io
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from lopbench.results.cells import csv_lines, csv_text, original
from lopbench.results.leaderboard import COLUMNS, Board

#: Numbers this close, relatively, are the same: the bootstrap's draws may change with its library.
TOLERANCE = 1e-6

#: What says which row a line is.
_IDENTITY = ("protocol_id", "method", "entry_id")

_Lines = dict[tuple[str, ...], Mapping[str, str]]


def check(path: str | os.PathLike[str], board: Board) -> list[str]:
    """Return the differences between a leaderboard's CSV and the rows that records give, a sentence each.

    Rows are compared whatever their order, and numbers up to a relative 1e-6. Files that were joined with their headers
    are read as one.

    Raises:
        ResultsError: If the file cannot be read or is no leaderboard.
    """
    path = Path(path)
    header, lines = csv_lines(path, _IDENTITY)
    found = [f"{column}: the file has no such column" for column in COLUMNS if column not in header]
    found += [f"{column}: no column of a leaderboard" for column in header if column not in COLUMNS]
    in_file = _lines((cells for _, cells in lines), header, str(path), found)
    records = csv.DictReader(io.StringIO(csv_text(board.rows), newline=""))
    derived = _lines(records, COLUMNS, "the records", found)
    for key, row in derived.items():
        if key not in in_file:
            found.append(f"{_name(row)}: the file has no such row")
            continue
        for column in (column for column in COLUMNS if column in header):
            ours, theirs = row[column], in_file[key][column]
            if not _same(ours, theirs):
                found.append(
                    f"{_name(row)}: {column} is {theirs or 'empty'} in the file, {ours or 'empty'} by the records"
                )
    found += [f"{_name(row)}: the records give no such row" for key, row in in_file.items() if key not in derived]
    return found


def _lines(cells_of: Iterable[Mapping[str, str | None]], header: Sequence[str], where: str, found: list[str]) -> _Lines:
    """Return the lines of a CSV by the columns that identify them; a line that stands there twice goes to ``found``."""
    lines: _Lines = {}
    for cells in cells_of:
        row = {column: original(cells[column] or "") for column in header}
        key = tuple(row[column] for column in _IDENTITY)
        if key in lines and lines[key] != row:
            found.append(f"{_name(row)}: stands twice in {where}, with different numbers")
        lines.setdefault(key, row)
    return lines


def _name(row: Mapping[str, str]) -> str:
    return f"{row['method']}, {row.get('optimizer', '?')} under {row['protocol_id']}"


def _same(a: str, b: str) -> bool:
    if a == b:
        return True
    try:
        return math.isclose(float(a), float(b), rel_tol=TOLERANCE)
    except ValueError:
        return False
