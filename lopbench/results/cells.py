"""Cells of CSV files that people open in a spreadsheet, which takes some texts for formulas and runs them."""

from collections.abc import Container, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lopbench.core.errors import ResultsError
from lopbench.core.reading import MOST_CSV_BYTES, read_regular

if TYPE_CHECKING:
    import pandas as pd

#: What a spreadsheet takes for a formula when a cell begins with it.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_text(frame: "pd.DataFrame") -> str:
    """Return a frame as CSV; floats keep all their digits, NaN is empty, no text can become a formula."""
    text: str = frame.map(harmless).to_csv(index=False, lineterminator="\n")
    return text


def csv_file(path: Path) -> str:
    """Return the text of a CSV file.

    Raises:
        OSError, UnicodeDecodeError: If it cannot be read, is no file, far too large, or no text.
    """
    return read_regular(path, most=MOST_CSV_BYTES).decode("utf-8-sig")


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
