"""Bars of several things that go on, for any width: no label is cut, and the time left stays in its line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lopbench.cli.output import roughly
from lopbench.core.text import plain

#: Least and most characters of a bar, and the blanks between what stands in a line.
_SHORTEST, _LONGEST, _GAP = 4, 24, 2


@dataclass(frozen=True)
class Row:
    """What is shown of one thing.

    Args:
        label: What it is called.
        done: How much of it is done.
        total: How much there is.
        at: Where it is, such as "task 3/40".
        score: How well it goes; the first to go where there is no room.
        speed: Steps a second, if that is known.
        left_s: Seconds that it will take, if that is known.
    """

    label: str
    done: float = 0
    total: float = 1
    at: str = ""
    score: str = ""
    speed: float | None = None
    left_s: float | None = None

    def tail(self, width: int) -> str:
        """Return what stands behind the bar: what matters least goes until it fits into ``width``."""
        share = f"{min(self.done / max(self.total, 1), 1):.0%}"
        speed = f"{self.speed:,.0f} steps/s" if self.speed else ""
        left = "" if self.left_s is None else f"{roughly(self.left_s, '')} left"
        text = ""
        most = (share, self.at, self.score, speed, left)
        for parts in (most, (share, self.at, speed, left), (share, speed, left), (speed, left), (left,)):
            text = (" " * _GAP).join(filter(None, parts))
            if len(text) <= width:
                return text
        return text


class Rows:
    """What rich draws: a bar for each row, behind its label, or below it where a line has no room for both."""

    def __init__(self) -> None:
        self.rows: Sequence[Row] = ()  #: Replaced as a whole: another thread may be drawing.

    def lines(self, width: int) -> int:
        """Return the lines that a row takes, if its label is not folded."""
        return 1 if self._label_width(self.rows, width) else 2

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the lines."""
        rows, width = self.rows, options.max_width
        label_width = self._label_width(rows, width)
        for row in rows:
            label = Text(plain(row.label), overflow="fold")
            tail = Text(row.tail(width - _SHORTEST - _GAP), no_wrap=True, overflow="crop")
            line = Table.grid(padding=(0, _GAP, 0, 0), pad_edge=False)
            room = min(_LONGEST, width - len(tail) - _GAP)
            bar = ProgressBar(total=max(row.total, 1), completed=row.done, width=max(room, _SHORTEST))
            if label_width:
                line.add_column(width=label_width)
                line.add_row(label, bar, tail)
            else:
                yield label
                line.add_row(bar, tail)
            yield line

    @staticmethod
    def _label_width(rows: Sequence[Row], width: int) -> int:
        """Return the width of the labels if everything fits into one line, else 0."""
        label = max((len(row.label) for row in rows), default=0)
        tail = max((len(row.tail(10**6)) for row in rows), default=0)
        return label if label + tail + _LONGEST + 2 * _GAP <= width else 0
