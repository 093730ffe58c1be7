"""Methods over all scenarios: the mean of their retentions, and the worst of them."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lopbench.core.spec import RunSpec
from lopbench.results.columns import COLUMNS as TABLE
from lopbench.results.group import Group
from lopbench.results.pairs import Entrant
from lopbench.results.record import Record
from lopbench.results.standings import UNPLACED, Standing, place

if TYPE_CHECKING:
    import pandas as pd

#: Retentions are clipped to this before they are averaged: no scenario can make up for the loss in another.
CLIP = (0.0, 1.2)

COLUMNS = (
    "profile",
    "method",
    "method_id",
    "track",
    "rank_low",
    "rank_high",
    "verdict",
    "mean",
    "worst",
    "worst_scenario",
    "scenarios",
    "missing",
    "rank_note",
    "protocols",
)


@dataclass(frozen=True, eq=False)
class Entry:
    """A row of a leaderboard in the making.

    Args:
        row: Its columns; those that only the whole table tells are filled in later.
        group: What it is made of.
    """

    row: dict[str, Any]
    group: Group

    @classmethod
    def of(cls, group: Group) -> "Entry":
        """Return the row of some runs, not placed yet."""
        return cls({column.name: column.value(group) for column in TABLE}, group)

    @property
    def retentions(self) -> Mapping[int, float]:
        """The headline's retention of each seed that has one."""
        return self.group.retentions

    @property
    def spec(self) -> RunSpec:
        """The spec of one of its runs."""
        return self.group.spec

    @property
    def is_control(self) -> bool:
        """Whether it is the control that scores 1 by construction."""
        return self.group.spec.is_control

    @property
    def is_baseline(self) -> bool:
        """Whether it is ``none``."""
        return not self.group.spec.methods

    @property
    def competes(self) -> bool:
        """Whether it is compared with others: its profile is ranked, and the log of its tuning, if any, is checked."""
        return bool(self.row["ranked"]) and self.group.is_checked

    @property
    def code(self) -> str:
        """Versions and origins of its methods."""
        return self.group.code

    @cached_property
    def runs(self) -> tuple[Record, ...]:
        """Its runs, by seed."""
        return tuple(sorted(self.group.runs, key=lambda record: record.seed))


def overall(entries: Iterable[Entry]) -> "pd.DataFrame":
    """Return one row for each profile and method, over the scenarios of that profile, if they are two or more.

    A profile of which fewer than two methods besides ``reset`` have a retention in each scenario compares nothing, and
    is left out.

    Where a scenario stands there under several protocols or optimizers, the rows of the protocol and optimizer with
    most methods speak for it, then those with most runs; the column ``protocols`` says which. Entries that were tuned
    in another way are of another profile, which says how. Unranked profiles are left out, and so are
    entries whose tuning is not checked.

    Columns besides the names:
        mean: Unweighted mean over the scenarios of the row's retention, clipped to [0, 1.2]; NaN if one is missing.
        worst, worst_scenario: The smallest of them, and where that is; of an incomplete method of those it has.
        rank_low, rank_high, verdict, rank_note: As in the table of a protocol (`place`), each seed's score being its
            mean over the scenarios of its clipped retentions; missing for ``reset`` and for a method without a
            retention in each scenario.
        scenarios: Number of scenarios in which the method has a retention.
        missing: Names of the others.
        protocols: Ids of the protocols behind the row, each with its optimizer, in the order of the scenarios' names.

    Args:
        entries: Rows of a leaderboard.

    Returns:
        The rows, profile by profile: complete ones by falling mean, then the others, and last ``reset``.
    """
    import pandas as pd

    profiles: dict[str, dict[str, dict[str, list[Entry]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for entry in entries:
        if entry.competes:
            row = entry.row
            profile = f"{row['profile']}, tuned by {row['tuning']}" if row["tuning"] else row["profile"]
            profiles[profile][row["scenario"]][table_of(entry)].append(entry)
    rows: list[dict[str, Any]] = []
    for profile, scenarios in sorted(profiles.items()):
        if len(scenarios) > 1:
            chosen = {name: _speaker(tables.values()) for name, tables in sorted(scenarios.items())}
            rows += _rows(profile, chosen)
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    return frame.astype({"rank_low": "Int64", "rank_high": "Int64"})


def table_of(entry: Entry) -> str:
    """Return what the rows of one table share: tuned entries each have the optimizer that their tuning chose."""
    chosen = entry.spec.tuning is not None
    return f"{entry.row['protocol_id']} with {'tuned optimizers' if chosen else entry.row['optimizer']}"


def apart(one: Entry, other: Entry, columns: Iterable[str]) -> str:
    """Return in which of some columns two rows differ, with the values: "data (mnist and cifar10)"; empty for none."""
    different = [name for name in columns if one.row[name] != other.row[name]]
    return ", ".join(f"{name} ({one.row[name]} and {other.row[name]})" for name in different)


def _speaker(tables: Iterable[list[Entry]]) -> list[Entry]:
    def weight(entries: list[Entry]) -> tuple[int, int, str]:
        return len(entries), sum(entry.row["seeds"] for entry in entries), table_of(entries[0])

    return max(tables, key=weight)


def _rows(profile: str, scenarios: Mapping[str, Sequence[Entry]]) -> list[dict[str, Any]]:
    by_method: dict[str, dict[str, Entry]] = defaultdict(dict)
    for name, entries in scenarios.items():
        for entry in entries:
            by_method[entry.row["method_id"]][name] = entry
    made: list[tuple[dict[str, Any], bool]] = []
    table: list[Standing] = []
    for found in by_method.values():
        first = next(iter(found.values()))
        clipped = {
            name: _clip(entry.row["retention"])
            for name, entry in found.items()
            if not math.isnan(entry.row["retention"])
        }
        missing = [name for name in scenarios if name not in clipped]
        worst = min(clipped, key=lambda name: clipped[name], default=None)
        row = {
            "profile": profile,
            "method": first.row["method"] if first.spec.tuning is None else first.spec.family.method_label,
            "method_id": first.row["method_id"],
            "track": first.row["track"],
            **UNPLACED,
            "mean": math.nan if missing else math.fsum(clipped.values()) / len(clipped),
            "worst": math.nan if worst is None else clipped[worst],
            "worst_scenario": worst or "",
            "scenarios": len(clipped),
            "missing": ", ".join(missing),
            "protocols": ", ".join(table_of(entries[0]) for entries in scenarios.values()),
        }
        made.append((row, first.is_control))
        if not first.is_control and not missing:
            table.append(Standing(row, _entrant(list(found.values())), first.is_baseline))
    if len(table) < 2:
        return []
    place(table)
    made.sort(key=lambda each: (each[1], bool(each[0]["missing"]), -_known(each[0]["mean"]), each[0]["method"]))
    return [row for row, _ in made]


def _entrant(entries: Sequence[Entry]) -> Entrant:
    """Return a method over all scenarios: the mean of the clipped retentions of each seed that has one in all."""
    seeds = set.intersection(*(set(entry.retentions) for entry in entries))
    scores = {
        seed: math.fsum(_clip(entry.retentions[seed]) for entry in entries) / len(entries) for seed in sorted(seeds)
    }
    return Entrant(scores, hidden_collapse=any(entry.row["collapsed"] for entry in entries))


def _clip(value: float) -> float:
    return min(max(value, CLIP[0]), CLIP[1])


def _known(value: float) -> float:
    return 0.0 if math.isnan(value) else value
