"""Claims: what somebody says of methods, as a test on the tables of a study.

A claim is a table of a study file. It names entries of the study and one number of each: a column of the leaderboard or
a diagnostic. It also says in which range this number lies if the claim holds. `lopbench.results.judging` tests that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, get_args

from lopbench.core.errors import UsageError
from lopbench.core.registry import suggest
from lopbench.results.per_seed import COLUMNS, Part, Quantity
from lopbench.results.toml_table import Table
from lopbench.results.trend import FLAT

#: Kinds of claims: a number lies in a range, the difference of two entries does, entries stand in an order, a number
#: changes over the stream, or two columns are correlated over entries.
Test = Literal["number", "difference", "order", "trend", "correlation"]

#: Ranges of a trend, per tenth of the stream.
TRENDS: Mapping[str, tuple[float, float]] = {
    "falling": (-math.inf, 0.0),
    "level": (-FLAT, FLAT),
    "rising": (0.0, math.inf),
}

_METRIC = ("metric", "of", "layer")

#: The keys of a claim, besides those that all have.
_KEYS: Mapping[Test, tuple[str, ...]] = {
    "number": ("entry", "entries", "column", *_METRIC, "number", "tolerance", "at_least", "at_most"),
    "difference": ("entry", "entries", "than", "column", *_METRIC, "at_least", "at_most"),
    "order": ("entries", "column", *_METRIC, "by"),
    "trend": ("entry", "entries", "metric", "layer", "is"),
    "correlation": ("entries", "columns", "at_least", "at_most"),
}
_NO_LAYERS = "'layer' is for a 'metric'; a column is of the whole network"
_COMMON = ("text", "source", "test", "deviation")
_ENTRY_KEYS = ("runs", "method", "optimizer", "called")


@dataclass(frozen=True)
class EntryName:
    """How a claim names an entry of its study. A part that is not given matches anything; just one entry has to match.

    Args:
        method: The methods, as on the command line.
        optimizer: The optimizer, likewise.
        runs: Number of its table of runs, counted from 1.
        called: What tables and figures call it; if None, the other parts.
    """

    method: str | None = None
    optimizer: str | None = None
    runs: int | None = None
    called: str | None = None

    @property
    def key(self) -> tuple[str | None, str | None, int | None]:
        """What it is found by, whatever it is called."""
        return self.method, self.optimizer, self.runs

    def __str__(self) -> str:
        if self.called is not None:
            return self.called
        named = " with ".join(filter(None, (self.method, self.optimizer)))
        runs = "" if self.runs is None else f"runs {self.runs}"
        return " of ".join(filter(None, (named, runs)))


#: Fewest entries of a rank correlation: of fewer, the few values that it can have are too often the same in all seeds.
FEWEST_CORRELATED = 5


@dataclass(frozen=True)
class Link:
    """One number that a claim is about: of an entry, of the difference of two, or over several entries.

    Args:
        quantities: What is measured of each entry; two quantities for a correlation.
        entries: The entry; for a difference the first one and the one that is subtracted; for a correlation all.
        low: The least value with which the claim holds; may be minus infinity.
        high: The largest value; may be infinite.
    """

    quantities: tuple[Quantity, ...]
    entries: tuple[EntryName, ...]
    low: float
    high: float

    @property
    def is_correlation(self) -> bool:
        """Whether it is the rank correlation of two quantities over the entries."""
        return len(self.quantities) == 2

    @property
    def what(self) -> str:
        """The number in words."""
        if self.is_correlation:
            return f"rank correlation of {self.quantities[0]} and {self.quantities[1]} over {len(self.entries)} entries"
        return f"{self.quantities[0]} of {' minus that of '.join(map(str, self.entries))}"

    @property
    def range(self) -> str:
        """The claimed range in words."""
        if math.isinf(self.low):
            return f"at most {self.high:g}"
        return f"at least {self.low:g}" if math.isinf(self.high) else f"{self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Claim:
    """What somebody says of methods.

    Args:
        text: What is claimed, a sentence.
        source: By whom, and where.
        test: The kind of claim.
        links: The numbers that it is about. It holds if all of them lie in their ranges.
        deviation: How its study differs from the source; empty if it does not.
        where: The file, and the number of the claim in it, for messages.
    """

    text: str
    source: str
    test: Test
    links: tuple[Link, ...]
    deviation: str = ""
    where: str = ""


def read_claims(value: Any, path: object) -> tuple[Claim, ...]:
    """Return the claims of a study file.

    Args:
        value: What stands under ``claim``.
        path: The file, for messages.

    Raises:
        UsageError: If it is no list of tables, a key is unknown or missing, or a value is of the wrong kind.
    """
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise UsageError(f"{path}: 'claim' must be one or more tables, each begun by a line [[claim]]")
    return tuple(_Reader(table, f"{path}, claim {number}").claim() for number, table in enumerate(value, start=1))


def entry_name(value: Any, where: str) -> EntryName:
    """Return the entry that a text, which is its method, or a table names.

    Raises:
        UsageError: If it is neither, or a key is unknown.
    """
    if isinstance(value, str):
        return EntryName(method=value)
    if not isinstance(value, dict) or not value:
        raise UsageError(
            f'{where}: an entry is a method, as in "cbp", or a table, as in {{method = "cbp", optimizer = "sgd:lr=0.1"'
            f"}}, got {str(value)[:60]!r}"
        )
    reader = _Reader(value, where)
    reader.refuse_others(_ENTRY_KEYS)
    return EntryName(reader.maybe("method"), reader.maybe("optimizer"), reader.whole("runs"), reader.maybe("called"))


def read_quantity(table: Mapping[str, Any], where: str, default: str | None = None) -> Quantity:
    """Return the column or metric that a table names.

    Raises:
        UsageError: If it names both or neither, or a column or part of the stream that is unknown.
    """
    return _Reader(table, where).quantity(default)


class _Reader(Table):
    """A table of a study file, on its way to a claim."""

    def claim(self) -> Claim:
        test = self.choice("test", get_args(Test))
        self.refuse_others((*_COMMON, *_KEYS[test]))
        read: Mapping[str, Callable[[], tuple[Link, ...]]] = {
            "number": self._numbers,
            "difference": self._differences,
            "order": self._order,
            "trend": self._trends,
            "correlation": self._correlation,
        }
        text, source, deviation = self.text("text"), self.text("source"), self.maybe("deviation")
        return Claim(text, source, test, read[test](), deviation or "", self.where)

    # -- the kinds of claims

    def _numbers(self) -> tuple[Link, ...]:
        quantity = self.quantity()
        if "number" in self.table:
            if {"at_least", "at_most"} & self.table.keys():
                raise self.wrong("give 'number' with its 'tolerance', or 'at_least' and 'at_most', not both")
            number, tolerance = self.number("number"), self.number("tolerance")
            if tolerance < 0:
                raise self.wrong(f"'tolerance' must be at least 0, got {tolerance:g}")
            low, high = number - tolerance, number + tolerance
        else:
            low, high = self._range()
        return tuple(Link((quantity,), (entry,), low, high) for entry in self._entries())

    def _differences(self) -> tuple[Link, ...]:
        quantity, (low, high) = self.quantity(), self._range()
        than, entries = entry_name(self.value("than"), self.where), self._entries()
        if than.key in {entry.key for entry in entries}:
            raise self.wrong(f"{than} would be compared with itself; name another entry in 'than'")
        return tuple(Link((quantity,), (entry, than), low, high) for entry in entries)

    def _order(self) -> tuple[Link, ...]:
        quantity, by = self.quantity(), self.number("by", 0.0)
        entries = self._entries(fewest=2)
        return tuple(Link((quantity,), pair, by, math.inf) for pair in pairwise(entries))

    def _trends(self) -> tuple[Link, ...]:
        low, high = TRENDS[self.choice("is", tuple(TRENDS))]
        metric = self.maybe("metric")
        if metric is None and "layer" in self.table:
            raise self.wrong(_NO_LAYERS)
        quantity = Quantity("trend") if metric is None else Quantity(metric, "trend", self.whole("layer"))
        return tuple(Link((quantity,), (entry,), low, high) for entry in self._entries())

    def _correlation(self) -> tuple[Link, ...]:
        columns = self.value("columns")
        if not isinstance(columns, list) or len(columns) != 2:
            raise self.wrong(f"'columns' must be two columns, got {str(columns)[:60]!r}")
        first, second = (self._column(each) for each in columns)
        if first == second:
            raise self.wrong(f"'columns' are both {first}, which correlates with itself; name two")
        low, high = self._range()
        return (Link((first, second), self._entries(fewest=FEWEST_CORRELATED), low, high),)

    # -- their parts

    def quantity(self, default: str | None = None) -> Quantity:
        """Return what is measured: a column of the leaderboard, or a metric over a part of the stream."""
        column, metric = self.maybe("column"), self.maybe("metric")
        if column is not None and metric is not None:
            raise self.wrong("give a 'column' of the leaderboard or a 'metric', not both")
        if metric is not None:
            return Quantity(metric, self.choice("of", get_args(Part), default="late"), self.whole("layer"))
        if "of" in self.table:
            raise self.wrong("'of' is for a 'metric'; a column is of a fixed part of the stream")
        if "layer" in self.table:
            raise self.wrong(_NO_LAYERS)
        if column is None and default is None:
            raise self.wrong("give the number that the claim is about: a 'column' of the leaderboard, or a 'metric'")
        return self._column(column or default)

    def _column(self, name: Any) -> Quantity:
        if not isinstance(name, str) or name not in COLUMNS:
            raise self.wrong(
                f"{name!r} is no column with a number for each seed.{suggest(str(name), [*COLUMNS])} "
                f"Columns: {', '.join(COLUMNS)}. A diagnostic is given as 'metric'"
            )
        return Quantity(name)

    def _entries(self, fewest: int = 1) -> tuple[EntryName, ...]:
        """Return the entries that the claim is about."""
        if "entry" in self.table and "entries" in self.table:
            raise self.wrong("give one 'entry' or several 'entries', not both")
        given = [self.table["entry"]] if "entry" in self.table else self.value("entries")
        if not isinstance(given, list) or len(given) < fewest:
            raise self.wrong(f"'entries' must be a list of at least {fewest}, got {str(given)[:60]!r}")
        found = tuple(entry_name(each, self.where) for each in given)
        if len({each.key for each in found}) < len(found):
            raise self.wrong("an entry stands in 'entries' twice")
        return found

    def _range(self) -> tuple[float, float]:
        if not {"at_least", "at_most"} & self.table.keys():
            raise self.wrong("give the range of the number: 'at_least', 'at_most' or both")
        low, high = self.number("at_least", -math.inf), self.number("at_most", math.inf)
        if low > high:
            raise self.wrong(f"'at_least' is {low:g}, which is above 'at_most', {high:g}; exchange them")
        return low, high
