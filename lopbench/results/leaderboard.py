"""Leaderboards: from run records to one row for each protocol and entry.

Rows are derived, never stored beside the runs; `inputs_digest` says which runs a row came from.
"""

import gc
import math
import os
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lopbench.core.errors import ResultsError
from lopbench.core.windows import scored_tasks
from lopbench.results.columns import BY_NAME
from lopbench.results.group import Group, seed_ranges
from lopbench.results.overall import Entry, overall
from lopbench.results.record import Record, folders_with_runs, one_of_each, scan_records
from lopbench.results.seed_scores import AXES, Axis, References, seed_scores
from lopbench.results.standings import UNPLACED, Standing, place
from lopbench.results.tables import latex, markdown, render, to_csv
from lopbench.results.tasks import Floors, late_count, task_count, task_scores
from lopbench.results.tuned import UNCHECKED, Logs, fill_fragility, other_rates, tuned_again

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "COLUMNS",
    "Board",
    "ResultsWarning",
    "board",
    "board_of",
    "latex",
    "leaderboard",
    "markdown",
    "render",
    "seed_ranges",
    "to_csv",
]

#: What a frame begins with.
_FIRST = ("method", "optimizer", "retention", "retention_low", "retention_high", "verdict", "seeds")

#: The columns, of which each is explained by `lopbench.results.columns`.
COLUMNS = (*_FIRST, *(name for name in BY_NAME if name not in _FIRST))

#: What makes a row: protocol and entry.
_Key = tuple[str, str]


class ResultsWarning(UserWarning):
    """Something in a results folder was left out."""


@dataclass(frozen=True, eq=False)
class Board:
    """What the records of some folders come to.

    Args:
        rows: The leaderboard, as `leaderboard` explains.
        overall: Each method over all scenarios, as `overall` explains; without rows where there is one scenario only.
        problems: Why records were left out.
        entries: What the rows are made of, in their order.
        records: All records that were used, references included.
    """

    rows: "pd.DataFrame"
    overall: "pd.DataFrame"
    problems: tuple[ResultsError, ...]
    entries: tuple[Entry, ...]
    records: tuple[Record, ...]

    @property
    def groups(self) -> dict[tuple[str, str], Group]:
        """What the rows are made of, by protocol and entry."""
        return {_key(entry.group.runs[0]): entry.group for entry in self.entries}


def leaderboard(*paths: str | os.PathLike[str]) -> "pd.DataFrame":
    """Return the leaderboard of all runs under ``paths``: one row for each protocol and entry.

    What `RunSpec.protocol` and `RunSpec.entry` hold is never pooled with other. A row's numbers are means over seeds. A
    diverged or failed run counts, at chance or with an infinite error from where it stopped. A seed whose fresh
    reference has no completed run counts in no retention and is reported in ``unpaired``.

    A record that is damaged, incomplete, or stands there twice with different measurements is left out with a
    `ResultsWarning`, and its row says so; `board` returns what is wrong instead.

    `lopbench.results.columns` tells what each column is.

    Args:
        paths: Results folders, folders of run directories, single run directories, or packed sets.

    Returns:
        The rows, protocol by protocol, in the order of their scenarios: by falling retention, and last ``reset``, the
        control that scores 1 by construction.

    Raises:
        ResultsError: If there are no runs that can be used.
    """
    made = board(*paths)
    for each in made.problems:
        warnings.warn(str(each), ResultsWarning, stacklevel=2)
    return made.rows


def board(*paths: str | os.PathLike[str]) -> Board:
    """Return the leaderboard of all runs under ``paths``, methods over all scenarios, and what was left out.

    Args:
        paths: As in `leaderboard`.

    Raises:
        ResultsError: If there are no runs that can be used.
    """
    with _nothing_collected():
        records, problems = scan_records(*paths)
        if problems or any(record.spec.kind == "continual" for record in records):
            return board_of(records, problems)
    below = [str(folder) for path in paths for folder in folders_with_runs(path)]
    advice = f"name {' or '.join(below[:5])}" if below else "'lopbench run --results DIR' makes some"
    raise ResultsError(f"There are no runs in {', '.join(map(str, paths))}; {advice}.")


def board_of(records: Sequence[Record], problems: Iterable[ResultsError] = ()) -> Board:
    """Return the leaderboard of some records, as `board` does.

    Args:
        records: What `scan_records` found.
        problems: Why others could not be read.

    Raises:
        ResultsError: If there are no runs that can be used.
    """
    with _nothing_collected():
        return _board(_Usable(records, problems))


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """Switch garbage collection off: what is read all stays, and looking for garbage takes a seventh of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            if not gc.get_freeze_count():  # somebody else's frozen objects stay so
                gc.freeze()
                gc.unfreeze()  # all that was read counts as old now: the next collection would go through it otherwise
            gc.enable()


def _board(usable: "_Usable") -> Board:
    import pandas as pd

    rows: dict[_Key, list[Record]] = defaultdict(list)
    baselines: dict[_Key, list[Record]] = defaultdict(list)
    for record in usable.records:
        if record.spec.kind == "continual":
            key = _key(record)
            rows[key].append(record)
            if not record.spec.methods:
                baselines[_plain(record)].append(record)
    if not rows:
        if usable.problems:
            raise usable.problems[0]
        raise ResultsError("There are no runs among the records, only references.")
    entries = [Entry.of(group) for group in (usable.group(runs, baselines[_plain(runs[0])]) for runs in rows.values())]
    _tell_code_apart(entries)
    fill_fragility(entries)
    _place(entries)
    entries.sort(key=_order)
    frame = pd.DataFrame([entry.row for entry in entries], columns=list(COLUMNS))
    whole = [name for name in frame.columns if name.endswith(("rank_low", "rank_high", "tuning_steps"))]
    frame = frame.astype(dict.fromkeys(whole, "Int64"))
    return Board(frame, overall(entries), tuple(usable.problems), tuple(entries), tuple(usable.records))


class _Usable:
    """The records that rows can be made of.

    Args:
        found: All records that could be read.
        problems: Why others could not.
    """

    def __init__(self, found: Iterable[Record], problems: Iterable[ResultsError]) -> None:
        self.problems = list(problems)
        #: Seeds of records that name their row but cannot be used for it.
        self.left_out: dict[_Key, set[int]] = defaultdict(set)
        once = self._unique(found)
        self.logs = Logs(once)
        rows = self._tuned_once(
            [record for record in once if record.spec.kind != "development" and self._usable(record, self.logs.check)]
        )
        readable = [record for record in rows if self._usable(record, _look)]
        self.floors = Floors(readable)
        whole = [record for record in readable if self._usable(record, lambda record: _look_whole(record, self.floors))]
        self.records = one_of_each(whole)
        #: Seeds of runs that another stands for, which measured other metrics.
        self.doubled: dict[_Key, set[int]] = defaultdict(set)
        for record in set(whole).difference(self.records):
            self.doubled[_key(record)].add(record.seed)
        self.references = References(self.records)

    def group(self, runs: Sequence[Record], baseline: Sequence[Record]) -> Group:
        """Return the runs of one row with what they come to."""
        key = _key(runs[0])
        left_out = {
            "damaged, left out": self.left_out[key],
            "measured again with other metrics, counted once": self.doubled[key],
            UNCHECKED: [] if self.logs.is_whole(runs[0]) else [record.seed for record in runs],
        }
        scores = [seed_scores(record, self.references, self.floors) for record in runs]
        return Group(runs, scores, self.floors.score(runs[0]), baseline, left_out)

    def _usable(self, record: Record, look: Callable[[Record], None]) -> bool:
        try:
            look(record)
        except ResultsError as error:
            self._leave_out(record, error)
            return False
        return True

    def _leave_out(self, record: Record, error: ResultsError) -> None:
        self.problems.append(error)
        if record.spec.kind == "continual":
            self.left_out[_key(record)].add(record.seed)

    def _unique(self, records: Iterable[Record]) -> list[Record]:
        """Drop copies of a run; leave out both of two runs of one spec that came out differently."""
        found: dict[str, Record] = {}
        torn: set[str] = set()
        for record in records:
            other = found.setdefault(record.run_id, record)
            if other is not record and _outcome(other) != _outcome(record):
                torn.add(record.run_id)
                self._leave_out(
                    record,
                    ResultsError(
                        f"{other.path} and {record.path} are the same run with different results; leave one of them "
                        "out."
                    ),
                )
        return [record for run_id, record in found.items() if run_id not in torn]

    def _tuned_once(self, records: list[Record]) -> list[Record]:
        """Leave out entries that were tuned twice in the same way, or over other learning rates than their table."""
        torn: set[_Key] = set()
        for found in tuned_again(records):
            torn.update(map(_key, found))
            spec, log = found[0].spec.family, found[0].spec.tuning
            assert log is not None  # it was tuned
            self.problems.append(
                ResultsError(
                    f"{spec.method_label} with {spec.optimizer_label} was tuned by {log.tuning.label} more than once, "
                    f"with logs that differ, as in {found[0].path} and {found[1].path}. Leave the runs of one out."
                )
            )
        for record, base in other_rates(record for record in records if _key(record) not in torn):
            torn.add(_key(record))
            names = [f"{each.spec.family.method_label} in {each.path}" for each in (record, base)]
            self.problems.append(
                ResultsError(
                    f"{names[0]} was tuned over other learning rates than {names[1]}, and a table has one grid of "
                    "them. Leave the runs of one out."
                )
            )
        return [record for record in records if _key(record) not in torn]


def _key(record: Record) -> _Key:
    return record.protocol_id, record.recipe.entry_id


def _plain(record: Record) -> _Key:
    """Return the row of plain learning with the same optimizer, or, if tuned, with the one that its tuning chose."""
    return record.protocol_id, record.recipe.plain_entry_id if record.spec.tuning is None else "tuned"


def _outcome(record: Record) -> tuple[str, str | None]:
    """Return what two copies of a run have in common."""
    try:
        return record.outcome, record.content_digest
    except ResultsError:  # the table will say what is wrong with it
        return record.outcome, None


def _look(record: Record) -> None:
    """Raise if a record has no measurements that can be read, or does not say how many tasks there are."""
    record.series("chance")
    task_count(record)


def _look_whole(record: Record, floors: Floors) -> None:
    """Raise if a completed run lacks a score that a row is made of."""
    if record.outcome != "completed":
        return
    score, count = floors.score(record), task_count(record)
    scored = scored_tasks(count, record.spec.start, late_count(record))
    task_scores(record, f"online_{score}", range(count) if record.spec.kind == "continual" else scored, {})
    if record.series(f"heldout_{score}") is not None:
        task_scores(record, f"heldout_{score}", scored, {})
    if score == "accuracy":
        task_scores(record, "chance", scored, {})


def _tell_code_apart(entries: Iterable[Entry]) -> None:
    """Note versions and origins in rows that only the code of their methods tells apart."""
    same: dict[tuple[str, ...], list[Entry]] = defaultdict(list)
    for entry in entries:
        same[tuple(entry.row[key] for key in ("protocol_id", "method", "optimizer"))].append(entry)
    for group in same.values():
        if len(group) > 1:
            for entry in group:
                entry.row["notes"] = "; ".join(filter(None, (entry.row["notes"], f"code: {entry.code}")))


def _place(entries: Iterable[Entry]) -> None:
    """Fill in where the rows of each protocol stand, on each axis, and by the headline."""
    protocols: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.competes and not entry.is_control:
            protocols[entry.row["protocol_id"]].append(entry)
        elif not entry.group.is_checked:
            entry.row["rank_note"] = "unranked: its tuning log is not checked"
    for table in protocols.values():
        for axis in AXES:
            _place_on(table, axis)


def _place_on(table: Sequence[Entry], axis: Axis) -> None:
    """Fill in where the rows of a table stand on an axis; if it is the headline, verdicts and notes as well."""
    standings = [Standing({"track": e.row["track"]}, e.group.entrant(axis), e.is_baseline) for e in table]
    place(standings)
    for entry, standing in zip(table, standings, strict=True):
        found = {key: standing.row[key] for key in UNPLACED}
        ranks = {key: found[key] for key in ("rank_low", "rank_high")}
        entry.row.update({f"{axis}_{key}": value for key, value in ranks.items()})
        if axis == entry.group.headline:
            entry.row.update(found)


def _order(entry: Entry) -> tuple[object, ...]:
    row, value = entry.row, entry.row["retention"]
    rank = (1, 0.0) if math.isnan(value) else (0, -value)
    table = tuple(row[key] for key in ("scenario", "profile", "architecture", "data", "protocol_id"))
    return (*table, entry.is_control, rank, row["method"], row["optimizer"], row["inputs_digest"])
