"""How the score of a tuned entry depends on each of its hyperparameters, from the log of its tuning."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lopbench.core.spec import format_value
from lopbench.core.tuning import TuningLog
from lopbench.results.layout import Table
from lopbench.results.overall import Entry

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("scenario", "profile", "architecture", "tuning", "method", "field", "value", "score", "chosen", "entry_id")

#: What marks the tuned point.
_MARK = "*"


@dataclass(frozen=True)
class Line:
    """The scores of an entry over one of its fields, with the others at their chosen values.

    Args:
        entry: The entry.
        field: The field, as "optimizer.lr" or "l2.strength".
        points: Values in order, each with the mean score of its development runs; NaN if one did not complete.
        chosen: The value that was chosen.
    """

    entry: Entry
    field: str
    points: tuple[tuple[Any, float], ...]
    chosen: Any


def lines(entries: Iterable[Entry]) -> Iterator[Line]:
    """Yield the lines of tuned entries; untuned ones have none."""
    for entry in entries:
        log = entry.spec.tuning
        if log is not None:
            for field in log.names:
                yield _line(entry, log, field)


def _line(entry: Entry, log: TuningLog, field: str) -> Line:
    chosen = log.configurations[log.chosen].values
    others = {name: value for name, value in chosen.items() if name != field}
    points = []
    for tried in log.configurations:
        if all(tried.values[name] == value for name, value in others.items()):
            mean = tried.mean
            points.append((tried.values[field], math.nan if mean is None else mean))
    return Line(entry, field, tuple(sorted(points, key=lambda point: _size(point[0]))), chosen[field])


def frame(found: Iterable[Line]) -> "pd.DataFrame":
    """Return lines as a frame, a row for each point."""
    import pandas as pd

    rows = [
        {
            **{name: line.entry.row[name] for name in ("scenario", "profile", "architecture", "tuning", "entry_id")},
            "method": line.entry.spec.family.method_label,
            "field": line.field,
            "value": _shown(value),
            "score": score,
            "chosen": value == line.chosen,
        }
        for line in found
        for value, score in line.points
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def sensitivity_tables(found: Iterable[Line]) -> Iterator[Table]:
    """Yield a table for each protocol, with a row for each field of each method: the scores over its values."""
    by_protocol: dict[str, list[Line]] = {}
    for line in found:
        by_protocol.setdefault(line.entry.row["protocol_id"], []).append(line)
    for group in by_protocol.values():
        row = group[0].entry.row
        most = max(len(line.points) for line in group)
        log = group[0].entry.spec.tuning
        assert log is not None  # of tuned entries alone
        less = ", less is better" if log.score == "error" else ""
        yield Table(
            title=f"{row['scenario']} {row['profile']}, {row['architecture']}: sensitivity to hyperparameters",
            headings=("method", "field", *("" for _ in range(most))),
            rows=[
                (
                    line.entry.spec.family.method_label,
                    line.field,
                    *(_point(line, value, score) for value, score in line.points),
                    *("" for _ in range(most - len(line.points))),
                )
                for line in group
            ],
            notes=[
                f"VALUE: SCORE, from low to high values. The score is the mean online {log.score} of the development "
                f"runs{less}. The other fields are at their chosen values. {_MARK}: chosen. -: a run did not complete.",
                f"Tuned by {row['tuning']}.",
            ],
        )


def _point(line: Line, value: Any, score: float) -> str:
    mark = _MARK if value == line.chosen else ""
    return f"{_shown(value)}{mark}: {'-' if math.isnan(score) else f'{score:.3g}'}"


def _shown(value: Any) -> str:
    return "/".join(map(str, value)) if isinstance(value, list) else format_value(value)


def _size(value: Any) -> tuple[int, float]:
    if isinstance(value, int | float):
        return 0, float(value)
    return (0, float(value[0])) if isinstance(value, list) and value and isinstance(value[0], int | float) else (1, 0.0)
