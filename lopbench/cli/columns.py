"""Tables for any width: the columns that matter least go first, and what is in the others is folded, never cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

#: Blanks between two columns.
_GAP = 2


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Args:
        heading: Its heading.
        cells: What stands in it.
        least: Width below which it is left out; that of its longest cell if None, which is never folded then.
        right: Whether it is flush right.
        styles: A style for each cell.
    """

    heading: str
    cells: Sequence[str]
    least: int | None = None
    right: bool = False
    styles: Sequence[str] | None = None

    @property
    def width(self) -> int:
        """The least width that it may have."""
        longest = max(map(len, self.cells), default=0)
        return max(len(self.heading), longest if self.least is None else min(longest, self.least))

    @property
    def is_empty(self) -> bool:
        """Whether nothing stands in it."""
        return not any(self.cells)


def fitting(columns: Sequence[Column], leaving: Sequence[str], width: int) -> tuple[Table, list[str]]:
    """Return a table of the columns that fit into ``width``, and the headings of those that do not.

    Args:
        columns: The columns, from left to right; empty ones are left out anyway.
        leaving: Headings in the order in which columns go where there is no room; one that is not named stays.
        width: The room.
    """
    from rich.table import Table

    from lopbench.results.layout import Name

    kept, gone = [each for each in columns if not each.is_empty], []
    for heading in leaving:
        if sum(each.width + _GAP for each in kept) - _GAP <= width:
            break
        if any(each.heading == heading for each in kept):
            kept = [each for each in kept if each.heading != heading]
            gone.append(heading)
    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False)
    for each in kept:
        least = min(each.width, width)
        table.add_column(each.heading, min_width=least, overflow="fold", justify="right" if each.right else "left")
    styles = [each.styles or [""] * len(each.cells) for each in kept]
    for row, style in zip(zip(*(each.cells for each in kept), strict=True), zip(*styles, strict=True), strict=True):
        table.add_row(*(Name(cell, style=given) for cell, given in zip(row, style, strict=True)))
    return table, gone
