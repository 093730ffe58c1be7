"""Cells of tables: numbers in two digits, and CSV, which a spreadsheet opens that takes some texts for formulas."""

import csv
import io
import math
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lopbench.core.errors import ResultsError
from lopbench.core.reading import MOST_CSV_BYTES, read_regular
from lopbench.results.stored import reason

if TYPE_CHECKING:
    import pandas as pd

#: What a spreadsheet takes for a formula when a cell begins with it.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def two_digits(value: float) -> str:
    """Return a number with two digits behind the point; one that rounds to zero has no sign."""
    return f"{round(value, 2) + 0.0:.2f}"


def of_any_size(value: float) -> str:
    """Return an error, a number of any size, with three digits behind the point, or with a power of ten."""
    return f"{value + 0.0:.3f}" if value == 0 or 0.01 <= abs(value) < 1000 else f"{value:.1e}"


def with_interval(value: float, low: float, high: float, shown: Callable[[float], str] = two_digits) -> str:
    """Return a number as ``shown`` has it, and behind it the interval if its ends are not NaN."""
    return shown(value) + ("" if math.isnan(low) else f" [{shown(low)}, {shown(high)}]")


def csv_text(frame: "pd.DataFrame") -> str:
    """Return a frame as CSV; floats keep all their digits, NaN is empty, no text can become a formula."""
    text: str = frame.map(harmless).to_csv(index=False, lineterminator="\n")
    return text


def csv_lines(path: Path, needed: Iterable[str]) -> tuple[list[str], Iterator[tuple[int, dict[str, str | None]]]]:
    """Return the header of a leaderboard's CSV, and its lines by column, each behind its number.

    If a line ends early, its last cells are None. Files that were joined with their headers are read as one.

    Raises:
        ResultsError: If the file cannot be read, or has not the columns that are needed; while lines are read as well.
    """
    with _reading(path):
        text = read_regular(path, most=MOST_CSV_BYTES).decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""))
        header = list(reader.fieldnames or ())
    check_header(path, header, needed)
    return header, _lines(path, reader, header)


def _lines(path: Path, reader: "csv.DictReader[str]", header: list[str]) -> Iterator[tuple[int, dict[str, str | None]]]:
    while True:
        with _reading(path):
            cells: dict[str, str | None] | None = next(reader, None)
        if cells is None:
            return
        if [cells[column] for column in header] != header:
            yield reader.line_num, cells


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Say in a sentence that a file cannot be read."""
    try:
        yield
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ResultsError(f"{path} cannot be read as a CSV file: {reason(error)}.") from error


def harmless(value: Any) -> Any:
    """Return a value, with an apostrophe in front where it is a text that a spreadsheet would run as a formula."""
    return f"'{value}" if isinstance(value, str) and value.lstrip("'").startswith(FORMULA) else value


def original(cell: str) -> str:
    """Return the text that `harmless` was given."""
    return cell[1:] if cell.startswith("'") and cell.lstrip("'").startswith(FORMULA) else cell


def check_header(path: Path, header: Container[str], needed: Iterable[str]) -> None:
    """Raise `ResultsError` if a CSV file with these columns is no leaderboard, or one of an earlier edition."""
    missing = next((column for column in needed if column not in header), None)
    if missing is None:
        return
    if "protocol_id" in header and "family" in header:
        raise ResultsError(
            f"{path} is a leaderboard of an earlier edition, with other columns; 'lopbench leaderboard RUNS --output "
            "FILE.csv' makes it anew."
        )
    raise ResultsError(
        f"{path} is no leaderboard: it has no column {missing!r}; 'lopbench leaderboard RESULTS --output FILE.csv' "
        "writes one."
    )
