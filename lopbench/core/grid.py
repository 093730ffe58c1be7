"""Tables on terminals of any width, laid out here and nowhere else.

Where columns have no room, those that matter least go. Where the others have none either, or a narrow column would fold
a name many times, each row becomes a block: a line with its name, and below it lines of ``heading: value``. What is too
long for its place is folded, never cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, zip_longest
from typing import TYPE_CHECKING, Any

from lopbench.core.text import plain, whole_lines

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.text import Text

#: Least width, in characters, of a column of names that can be long, in which one still sees what they are.
LEAST_NAME = 14

#: Width below which a column is narrow, and about how many lines a name may take in one.
_NARROW, _MOST_LINES = 24, 4

#: Blanks between two columns, and between two values in a line of a block.
_GAP = 2

#: Blanks in front of what stands below the name of a block.
_INDENT = "  "


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Args:
        heading: Its heading; empty if what stands in it speaks for itself.
        cells: What stands in it.
        least: Width below which it is not folded, in characters; None if it is never folded.
        is_prose: Whether it is folded between words alone.
        right: Whether it is flush right.
        style: How all of it is shown.
        styles: How each cell is shown, empty for all alike.
        broken: The heading on several lines, where it stands over narrow cells.
    """

    heading: str
    cells: Sequence[str]
    least: int | None = None
    is_prose: bool = False
    right: bool = False
    style: str = ""
    styles: Sequence[str] = ()
    broken: str = ""

    @property
    def above(self) -> str:
        """What stands above it in a table."""
        return self.broken or self.heading

    @property
    def width(self) -> int:
        """The width that it takes where there is room."""
        return max(map(_width, (self.above, *self.cells)))

    @property
    def least_width(self) -> int:
        """The least width that it may have."""
        if self.least is None:
            return self.width
        words = (word for cell in self.cells for word in cell.split()) if self.is_prose else ()
        return min(self.width, max(self.least, _width(self.above), *map(_width, words)))

    @property
    def is_empty(self) -> bool:
        """Whether nothing stands in it."""
        return not any(self.cells)

    def text(self, place: int) -> Text:
        """Return the cell of a row as it is shown."""
        from rich.text import Text

        return Text(self.cells[place], style=self.styles[place] if self.styles else self.style)


class Grid:
    """A table, laid out for a width.

    Args:
        columns: The columns, from left to right; empty ones are left out.
        width: The room, in characters.
        leaving: Headings in the order in which columns go where there is no room; one that is not named stays.
        name: Heading of the column that names a row; the first one if empty.
        gap: Blanks between two columns.
        indent: Blanks in front of all of it.
        styles: How rows are shown, by place.
    """

    def __init__(
        self,
        columns: Sequence[Column],
        width: int,
        *,
        leaving: Sequence[str] = (),
        name: str = "",
        gap: int = _GAP,
        indent: int = 0,
        styles: Mapping[int, str] | None = None,
    ) -> None:
        whole = [each for each in columns if not each.is_empty]
        self._columns = [replace(each, cells=[plain(cell.expandtabs()) for cell in each.cells]) for each in whole]
        self._room, self._gap, self._indent = width - indent, gap, " " * indent
        self._styles = styles or {}
        self.gone: list[str] = []  #: Headings of columns for which there is no room.
        for heading in leaving:
            if self._fits():
                break
            left = [each for each in self._columns if each.heading != heading]
            if len(left) < len(self._columns):
                self._columns = left
                self.gone.append(heading)
        widths = self._shared() if self._fits() else None
        self._widths = None if widths and self._is_ladder(widths) else widths  #: Of the columns; None for blocks.
        headings = [each.heading for each in self._columns]
        self._name = headings.index(name) if name in headings else 0

    @classmethod
    def or_whole_blocks(cls, columns: Sequence[Column], width: int, *, leaving: Sequence[str], **more: Any) -> Grid:
        """Return a table without columns for which there is no room, or else one in blocks, which have all columns."""
        made = cls(columns, width, leaving=leaving, **more)
        return cls(columns, width, **more) if made.has_blocks else made

    @property
    def has_blocks(self) -> bool:
        """Whether its rows are blocks."""
        return self._widths is None

    def rows(self, start: int = 0, stop: int | None = None, *, headed: bool = True) -> Rows:
        """Return what rich prints: the rows from ``start`` up to ``stop``, all of them if those are left out.

        Args:
            start: The first row.
            stop: The row behind the last one; None for the end.
            headed: Whether headings stand above them, or before what stands in blocks.
        """
        last = max((len(each.cells) for each in self._columns), default=0) if stop is None else stop
        return Rows(self, range(start, last), headed=headed)

    def show(self, console: Console) -> None:
        """Print all rows, and below them for which columns there is no room."""
        from rich.text import Text

        console.print(self.rows())
        if self.gone:
            console.print(Text(f"No room for {', '.join(self.gone)}: a wider terminal shows more."), style="dim")

    def lines(self, console: Console, places: Iterable[int], *, headed: bool) -> Iterator[Text]:
        """Yield the lines of some rows.

        Args:
            console: What folds texts.
            places: The rows.
            headed: Whether headings stand above them, or before what stands in blocks.
        """
        from rich.text import Text

        if self._widths is not None and headed and any(each.heading for each in self._columns):
            for line in self._beside(console, [Text(each.above, style="bold") for each in self._columns]):
                yield Text(self._indent).append_text(line)
        for place in places:
            if self._widths is None:
                lines = self._block(console, place, headed=headed)
            else:
                lines = self._beside(console, [each.text(place) for each in self._columns])
            for line in lines:
                yield Text(self._indent if line else "", style=self._styles.get(place, "")).append_text(line)

    def _fits(self) -> bool:
        if len(self._columns) < 2:
            return True
        return sum(each.least_width for each in self._columns) + self._gap * (len(self._columns) - 1) <= self._room

    def _is_ladder(self, widths: Sequence[int]) -> bool:
        """Return whether a narrow column would fold a name so often that nobody can read it."""
        columns = zip(self._columns, widths, strict=True)
        return any(width < _NARROW and each.width > _MOST_LINES * width for each, width in columns if not each.is_prose)

    def _shared(self) -> list[int]:
        """Return the widths of columns that fit: the widest of those that can be folded give way."""
        widths = [each.width for each in self._columns]
        room = self._room - self._gap * (len(widths) - 1)
        least = [min(each.least_width, room) for each in self._columns]
        while sum(widths) > room:
            give = [place for place, width in enumerate(widths) if width > least[place]]
            widths[max(give, key=widths.__getitem__)] -= 1
        return widths

    def _beside(self, console: Console, cells: Sequence[Text]) -> Iterator[Text]:
        """Yield the lines of cells that stand beside each other."""
        from rich.text import Text

        folded = [_folded(console, cell, width) for cell, width in zip(cells, self._widths or (), strict=True)]
        for parts in zip_longest(*folded):
            line = Text()
            for column, part, width in zip(self._columns, parts, self._widths or (), strict=True):
                blanks = " " * (width - (part.cell_len if part else 0))
                line.append(" " * self._gap if column is not self._columns[0] else "")
                line.append(blanks if column.right else "").append_text(part or Text())
                line.append("" if column.right else blanks)
            line.rstrip()
            yield line

    def _block(self, console: Console, place: int, *, headed: bool) -> Iterator[Text]:
        """Yield the lines of a row that is a block."""
        from rich.text import Text

        yield from _folded(console, self._columns[self._name].text(place), self._room)
        room = self._room - len(_INDENT)
        filled = Text()  # the line that has room for more
        for number, column in enumerate(self._columns):
            if number == self._name or not column.cells[place]:
                continue
            value = Text(f"{column.heading}: " if headed and column.heading else "").append_text(column.text(place))
            if filled and filled.cell_len + _GAP + value.cell_len > room:
                yield Text(_INDENT).append_text(filled)
                filled = Text()
            if filled:
                filled.append(" " * _GAP).append_text(value)
                continue
            *whole, filled = _folded(console, value, room)
            yield from (Text(_INDENT).append_text(line) for line in whole)
        if filled:
            yield Text(_INDENT).append_text(filled)


def indented(texts: Sequence[str], width: int) -> Rows:
    """Return what rich prints: texts below each other, with blanks in front of their lines."""
    return Grid([Column("", texts)], width, indent=len(_INDENT)).rows()


@dataclass(frozen=True)
class Rows:
    """Rows of a table as rich prints them.

    Args:
        grid: The table.
        places: The rows.
        headed: Whether headings stand above them, or before what stands in blocks.
    """

    grid: Grid
    places: Sequence[int]
    headed: bool

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """Yield the lines."""
        yield from self.grid.lines(console, self.places, headed=self.headed)


def _width(text: str) -> int:
    """Return how wide a text is, that of its widest line."""
    from rich.cells import cell_len

    return max(map(cell_len, text.split("\n")))


def _folded(console: Console, text: Text, width: int) -> list[Text]:
    """Return the lines of a text that is no wider than ``width``; what has no place to break it is folded."""
    from rich.cells import cell_len

    found: list[Text] = []
    for line in text.split("\n", allow_blank=True):
        parts = whole_lines(line.plain, lambda part: cell_len(part) <= width)
        for part in line.divide([*accumulate(map(len, parts))][:-1]):
            part.rstrip()
            found += part.wrap(console, width, overflow="fold") or [part]
    for part in found:
        part.rstrip()
    return found
