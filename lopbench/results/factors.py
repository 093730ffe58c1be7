"""Tables of two factors: retentions by any two things in which rows of a leaderboard differ."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lopbench.core.errors import ResultsError, UsageError
from lopbench.core.registry import suggest
from lopbench.core.spec import ComponentSpec, RunSpec, canonical_json, format_value
from lopbench.core.tuning import OPTIMIZER
from lopbench.results.cells import two_digits, with_interval
from lopbench.results.layout import Table
from lopbench.results.overall import Entry, apart
from lopbench.results.pairs import COLLAPSED
from lopbench.results.statistics import INTERVAL_METHOD
from lopbench.results.tuned import UNCHECKED

if TYPE_CHECKING:
    import pandas as pd

#: What an empty cell shows.
_NOTHING = "-"

#: Mark of a number of which seeds collapsed.
MARK = "c"

#: Parts of a run that are factors, and whose fields are: "optimizer", "optimizer.lr".
_PARTS = ("scenario", "architecture", OPTIMIZER)

#: Factors that are not fields, and what a run has of each.
_NAMED: Mapping[str, Callable[[RunSpec], Any]] = {
    "method": lambda spec: spec.family.method_label,
    "optimizer": lambda spec: spec.family.optimizer_label,
    "architecture": lambda spec: spec.architecture_label,
    "scenario": lambda spec: spec.scenario.name,
    "profile": lambda spec: spec.profile.partition("+")[0],
    "activation": lambda spec: spec.architecture.fields.get("activation"),
}

#: Parts of a protocol that change with a factor. Rows that differ in them share a table.
_FOLLOWS: Mapping[str, tuple[str, ...]] = {
    "scenario": ("scenario", "architecture", "cloner", "data", "reference_optimizer"),
    "architecture": ("architecture", "reference_optimizer"),
    "profile": ("scenario", "architecture", "reference_optimizer"),
}

#: Columns in which rows of one cell may differ, as the message names them.
_TOLD = ("method", "optimizer", "architecture", "scenario", "profile")


@dataclass(frozen=True)
class Factor:
    """Something in which rows of a leaderboard differ.

    Args:
        name: "method", "optimizer", "architecture", "scenario", "profile" or "activation"; a field of one of these, as
            "optimizer.lr"; or a field of a method, as "l2.strength".
    """

    name: str

    @property
    def part(self) -> tuple[str, str]:
        """The owner of the field, and the field; both empty if the factor is no field."""
        if self.name == "activation":
            return "architecture", "activation"
        owner, _, field = self.name.rpartition(".")
        return owner, field if owner else ""

    def of(self, spec: RunSpec) -> Any:
        """Return the value that a run has; None if it has none."""
        if self.name in _NAMED:
            return _NAMED[self.name](spec)
        owner, field = self.part
        return next((each.fields[field] for each in _owners(spec, owner) if field in each.fields), None)

    def without(self, spec: RunSpec) -> RunSpec:
        """Return a run without the field, so that runs which differ in it alone have one name."""
        owner, field = self.part
        if not owner:
            return spec

        def left(part: ComponentSpec) -> ComponentSpec:
            return replace(part, fields={name: value for name, value in part.fields.items() if name != field})

        if owner in _PARTS:
            parts: dict[str, Any] = {owner: left(getattr(spec, owner))}
            return replace(spec, **parts)
        return replace(spec, methods=tuple(left(part) if part.name == owner else part for part in spec.methods))

    def freed(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Return a protocol without the parts that may differ within one table of the factor."""
        found = {name: value for name, value in asked.items() if name not in _FOLLOWS.get(self.name, ())}
        owner, field = self.part
        if owner in found:
            part = found[owner]
            fields = {name: value for name, value in part["fields"].items() if name != field}
            if "profile" in fields:  # which says that a field was changed
                fields["profile"] = fields["profile"].partition("+")[0]
            found[owner] = {**part, "fields": fields}
        return found


def factor(name: str, entries: Iterable[Entry]) -> Factor:
    """Return the factor of a name.

    Raises:
        UsageError: If no run has such a thing.
    """
    made, known = Factor(name), list(_NAMED)
    for entry in entries:
        spec = entry.spec
        if made.of(spec) is not None:
            return made
        for owner in (*_PARTS, *(part.name for part in spec.methods)):
            known += [f"{owner}.{field}" for part in _owners(spec, owner) for field in part.fields]
    known = list(dict.fromkeys(known))
    meant = [each for each in known if each.endswith(f".{name}")]
    if meant:
        raise UsageError(f"No run has {name!r}; say of what it is: {', '.join(meant)}.")
    raise UsageError(f"No run has {name!r}.{suggest(name, known)} Factors here: {', '.join(known)}.")


@dataclass(frozen=True, eq=False)
class Crossing:
    """The rows of a leaderboard that differ in two factors and otherwise have one protocol.

    Args:
        rows, columns: The factors.
        cells: The rows of the leaderboard, by the values of both as they are shown.
    """

    rows: Factor
    columns: Factor
    cells: Mapping[tuple[str, str], Entry]

    @property
    def row_labels(self) -> list[str]:
        """Values of the first factor: numbers in order, texts as they came."""
        return _ordered(row for row, _ in self.cells)

    @property
    def column_labels(self) -> list[str]:
        """Values of the second factor."""
        return _ordered(column for _, column in self.cells)


def cross(entries: Sequence[Entry], rows: str, columns: str) -> list[Crossing]:
    """Return tables of two factors. Rows share a table if their protocols differ in nothing but the factors.

    A table of one column is left out if another has more.

    Args:
        entries: Rows of a leaderboard, in order.
        rows: The factor of rows.
        columns: The factor of columns.

    Raises:
        UsageError: If no run has a factor, or both are the same.
        ResultsError: If no row has both, or a cell would hold several rows, which differ in something else.
    """
    if rows == columns:
        raise UsageError(f"the rows and the columns are both by {rows}; name two factors, as --columns optimizer.lr")
    first, second = factor(rows, entries), factor(columns, entries)
    found: dict[str, dict[tuple[str, str], Entry]] = defaultdict(dict)
    for entry in entries:
        spec = entry.spec
        here = first.of(spec), second.of(spec)
        if None in here:
            continue
        called = first.of(second.without(spec.family)), second.of(first.without(spec.family))
        row, column = (_shown(value if name is None else name) for value, name in zip(here, called, strict=True))
        profile = None if "profile" in (rows, columns) else _NAMED["profile"](spec)
        key = canonical_json([second.freed(first.freed(spec.protocol())), profile])
        cell = row, column
        other = found[key].setdefault(cell, entry)
        if other is not entry:
            raise ResultsError(_twice(other, entry, first, second, cell))
    if not found:
        raise ResultsError(f"No row has both {rows} and {columns}; name factors that one row has.")
    tables = [Crossing(first, second, cells) for cells in found.values()]
    return [each for each in tables if len(each.column_labels) > 1] or tables


def frame(tables: Iterable[Crossing]) -> "pd.DataFrame":
    """Return tables of two factors as one, with a line for each cell."""
    import pandas as pd

    lines = [
        {
            each.rows.name: row,
            each.columns.name: column,
            **{name: entry.row[name] for name in ("retention", "retention_low", "retention_high", "seeds", "tuning")},
            **{name: entry.row[name] for name in ("method", "optimizer", "architecture", "scenario", "profile")},
            **{name: entry.row[name] for name in ("protocol_id", "entry_id")},
        }
        for each in tables
        for row in each.row_labels
        for column in each.column_labels
        for entry in (each.cells.get((row, column)),)
        if entry is not None
    ]
    return pd.DataFrame(lines)


def crossing_tables(tables: Iterable[Crossing], *, wide: bool) -> Iterator[Table]:
    """Yield tables of two factors, in texts.

    Args:
        tables: The tables.
        wide: Whether there is room for intervals.
    """
    for each in tables:
        columns = each.column_labels
        body = [
            (row, *(_cell(each.cells.get((row, column)), wide=wide) for column in columns)) for row in each.row_labels
        ]
        yield Table(
            title=f"{_title(each)}: retention by {each.rows.name} and {each.columns.name}",
            headings=(each.rows.name, *columns),
            rows=body,
            notes=list(_notes(each, wide=wide)),
        )


def _cell(entry: Entry | None, *, wide: bool) -> str:
    if entry is None or math.isnan(entry.row["retention"]):
        return _NOTHING
    row = entry.row
    value = row["retention"]
    text = with_interval(value, row["retention_low"], row["retention_high"]) if wide else two_digits(value)
    return f"{text} {MARK}" if row["collapsed"] else text


def _title(table: Crossing) -> str:
    """Return what all cells have in common."""
    specs = [entry.row for entry in table.cells.values()]
    shared = [_only(row[name] for row in specs) for name in ("scenario", "profile", "architecture", "optimizer")]
    tuned = _only(row["tuning"] for row in specs)
    return ", ".join(filter(None, [" ".join(filter(None, shared[:2])), *shared[2:], tuned and f"tuned by {tuned}"]))


def _only(values: Iterable[Any]) -> str:
    found = set(values)
    return str(found.pop()) if len(found) == 1 else ""


def _notes(table: Crossing, *, wide: bool) -> Iterator[str]:
    rows = [entry.row for entry in table.cells.values()]
    counts = sorted({int(row["seeds"]) for row in rows})
    seeds = f"{counts[0]} seeds" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds"
    axes: dict[str, dict[str, None]] = defaultdict(dict)
    for row in rows:
        axes[str(row["headline"])][str(row["scenario"])] = None
    told = [f"{axis} of {', '.join(of)}" if len(axes) > 1 else axis for axis, of in axes.items()]
    interval = f"; {INTERVAL_METHOD}" if wide else ""
    yield f"Mean retention over {seeds}, {' and '.join(told)}: 1 is a fresh network, 0 is chance{interval}."
    missing = len(table.row_labels) * len(table.column_labels) - len(rows)
    if missing:
        yield f"{missing} of {len(rows) + missing} cells have no runs."
    if any(row["collapsed"] for row in rows):
        yield f"{MARK}: seeds below {COLLAPSED:g}{', so that the interval does not hold' if wide else ''}."
    unchecked = sum(not entry.group.is_checked for entry in table.cells.values())
    if unchecked:
        yield f"Of {unchecked} of {len(rows)} cells: {UNCHECKED}."


def _twice(one: Entry, other: Entry, first: Factor, second: Factor, cell: tuple[str, str]) -> str:
    """Return the sentence that a cell would hold two rows, and in what they differ."""
    named = apart(one, other, (name for name in _TOLD if name not in (first.name, second.name)))
    return (
        f"Several rows have {first.name} {cell[0]} and {second.name} {cell[1]}, and a cell holds one. They differ in "
        f"{named or 'the code or the start of their methods'}. Name a folder with one of them, or make that a factor."
    )


def _owners(spec: RunSpec, owner: str) -> list[ComponentSpec]:
    if owner in _PARTS:
        return [getattr(spec, owner)]
    return [part for part in spec.methods if part.name == owner]


def _shown(value: Any) -> str:
    return "/".join(map(str, value)) if isinstance(value, list) else format_value(value)


def _ordered(labels: Iterable[str]) -> list[str]:
    """Return labels once each: numbers by size, then those that end in one, as "adam:lr=0.01", others as they came."""

    def size(label: str) -> tuple[int, str, float]:
        name, _, value = label.rpartition("=")
        try:
            return bool(name), name, float(value)
        except ValueError:
            return 2, "", 0.0

    return sorted(dict.fromkeys(labels), key=size)
