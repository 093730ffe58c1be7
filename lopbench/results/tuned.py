"""Tuned entries: whether their logs agree with the development runs, and what tuning on a part of the stream cost."""

import math
from collections.abc import Callable, Hashable, Iterable, MutableMapping, Sequence
from typing import Any, Protocol

from lopbench.core.errors import ResultsError
from lopbench.core.spec import RunSpec, digest
from lopbench.core.tuning import OPTIMIZER, TuningLog
from lopbench.results.record import Record

#: Note of a tuned row that has no rank, since not all of its development runs are among the records.
UNCHECKED = "its tuning log is not checked, since not all of its development runs are here"


def development_score(record: Record, score: str) -> float | None:
    """Return the mean online score of a development run over its tasks, to six digits; None if it did not complete.

    Machines mostly agree to six digits, and the log, which holds these scores, is a part of the entry.

    Args:
        record: The run.
        score: What its scenario scores, such as "accuracy".

    Raises:
        ResultsError: If a completed run has no online score.
    """
    if record.outcome != "completed":
        return None
    series = record.series(f"online_{score}")
    if series is None:
        raise ResultsError(f"{record.path} has no online {score}. Remove that directory and run its spec again.")
    return float(f"{float(series.values.mean()):.6g}")


class Logs:
    """The development runs among some records, which logs of tuning are checked by.

    Args:
        records: The records.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        self._by_id = {record.run_id: record for record in records if record.spec.kind == "development"}
        self._found: dict[str, tuple[str | None, bool]] = {}

    def check(self, record: Record) -> None:
        """Refuse a run whose log disagrees with the development runs that are here, in a score or in its cost.

        Raises:
            ResultsError: If it does.
        """
        wrong, _ = self._look(record)
        if wrong is not None:
            raise ResultsError(f"{record.path} is left out: {wrong}.")

    def is_whole(self, record: Record) -> bool:
        """Return whether all development runs of a run are here; True if it was not tuned."""
        return self._look(record)[1]

    def _look(self, record: Record) -> tuple[str | None, bool]:
        spec = record.spec
        if spec.tuning is None:
            return None, True
        entry = f"{record.protocol_id} {record.recipe.entry_id}"
        if entry not in self._found:
            self._found[entry] = self._compared(spec, spec.tuning)
        return self._found[entry]

    def _compared(self, spec: RunSpec, log: TuningLog) -> tuple[str | None, bool]:
        """Return what is wrong with a log, None if nothing is, and whether all of its runs are here."""
        runs: list[Record | None] = []
        for tried in log.configurations:
            for seed, noted in zip(log.tuning.development_seeds, tried.scores, strict=True):
                found = self._by_id.get(spec.development(log.tuning.k, tried.values, seed).run_id)
                runs.append(found)
                if found is None:
                    continue
                measured = development_score(found, log.score)
                if not _same(measured, noted):
                    return (
                        f"the log of its tuning has the score {noted} for {tried.label} on seed {seed}, and the "
                        f"development run {found.path.name} has {measured}"
                    ), False
        here = [found for found in runs if found is not None]
        if len(here) < len(runs):
            return None, False
        # A run that diverged stopped early; those that were completed all have the steps that each was to take.
        steps = len(runs) * max(found.status["steps"] for found in here)
        if log.steps != steps:
            return f"the log of its tuning has a cost of {log.steps:,} steps, and its development runs {steps:,}", False
        return None, True


def tuned_again(records: Iterable[Record]) -> list[list[Record]]:
    """Return a run for each log, of entries that have several: they were tuned in the same way more than once.

    A table has one row of an entry, and which log would speak for it cannot be told.

    Args:
        records: The records. Those of runs that were not tuned have no part in it.
    """
    logs = _entries(records, lambda record: (record.protocol_id, record.recipe.family_id))
    return [found for found in logs if len(found) > 1]


def other_rates(records: Iterable[Record]) -> list[tuple[Record, Record]]:
    """Return tuned runs of a table whose learning rates are none of its grid, each with a run of that grid.

    Entries of one optimizer try learning rates around one of them, some more and some fewer: of two entries, one has
    all the rates of the other. The grid of a table is that of plain learning, or else that of the first entry.

    Args:
        records: The records. Those of runs that were not tuned have no part in it.
    """
    found = []
    for entries in _entries(records, lambda record: (record.protocol_id, record.spec.optimizer.name)):
        base = min(entries, key=lambda record: bool(record.spec.methods))
        found += [(each, base) for each in entries if not _nested(_rates(each), _rates(base))]
    return found


def _entries(records: Iterable[Record], key: Callable[[Record], Hashable]) -> list[list[Record]]:
    """Return a run of each tuned entry, those of one key together, in the order of the records."""
    found: dict[Hashable, dict[str, Record]] = {}
    for record in records:
        if record.spec.kind == "continual" and record.spec.tuning is not None:
            found.setdefault(key(record), {}).setdefault(record.recipe.entry_id, record)
    return [list(entries.values()) for entries in found.values()]


def _rates(record: Record) -> set[Any]:
    """Return the learning rates that the log of a tuned run has."""
    log = record.spec.tuning
    assert log is not None
    return {each.values.get(f"{OPTIMIZER}.lr") for each in log.configurations}


def _nested(a: set[Any], b: set[Any]) -> bool:
    return a <= b or b <= a


def _same(a: float | None, b: float | None) -> bool:
    return a == b if a is None or b is None else math.isclose(a, b, rel_tol=1e-5)


class Tuned(Protocol):
    """A row of a leaderboard in the making."""

    @property
    def row(self) -> MutableMapping[str, Any]:
        """Its columns."""

    @property
    def spec(self) -> RunSpec:
        """The spec of one of its runs."""


def fill_fragility(entries: Sequence[Tuned]) -> None:
    """Fill in the fragility of entries: the retention of their oracle minus their own.

    The oracle is the same entry, tuned in the same way but on the whole stream, with the same seeds.
    """
    logs = [(entry, entry.spec.tuning) for entry in entries]
    tuned = [(entry, log.tuning.k, _family(entry.spec)) for entry, log in logs if log is not None]
    oracles = {family: entry.row for entry, k, family in tuned if k == 1}
    for entry, k, family in tuned:
        oracle = oracles.get(family)
        if k < 1 and oracle is not None and oracle["coverage"] == entry.row["coverage"]:
            entry.row["fragility"] = oracle["retention"] - entry.row["retention"]


def _family(spec: RunSpec) -> str:
    """Return a hash of what an entry and its oracle share: all but the part of the stream they were tuned on."""
    asked = spec.protocol()
    return digest([{**asked, "tuning": {**asked["tuning"], "k": 1.0}}, spec.family.entry()], 16)
