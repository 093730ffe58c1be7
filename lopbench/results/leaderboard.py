"""Leaderboards: from run records to one row for each protocol and entry.

Rows are derived, never stored beside the runs; `inputs_digest` says which runs a row came from.
"""

import gc
import hashlib
import math
import os
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lopbench.core.errors import ResultsError
from lopbench.core.faces import face
from lopbench.core.manager import UNPUBLISHED, plugins
from lopbench.core.spec import SCHEMA_VERSION, RunSpec, canonical_json, digest
from lopbench.core.windows import before_window, late_window, scored_tasks
from lopbench.results.idle import idle_notes
from lopbench.results.overall import Entry, overall
from lopbench.results.pairs import Entrant
from lopbench.results.record import Record, folders_with_runs, one_of_each, scan_records
from lopbench.results.score import (
    Score,
    at_ceiling,
    ceiling,
    error_late_early,
    error_retention,
    late_early,
    lifetime,
    retention,
)
from lopbench.results.standings import UNPLACED, Standing, place
from lopbench.results.statistics import interval
from lopbench.results.tables import latex, markdown, render, to_csv
from lopbench.results.tasks import Floors, task_count, task_scores

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

#: What must agree in the environment of two runs for their speed and memory to be compared, and what absence means.
HARDWARE: Mapping[str, object] = {"device": None, "threads": None, "replicas": 1}

COLUMNS = (
    "protocol_id",
    "entry_id",
    "scenario",
    "profile",
    "architecture",
    "optimizer",
    "lr",
    "method",
    "method_id",
    "track",
    "rank_low",
    "rank_high",
    "verdict",
    "seeds",
    "collapsed",
    "coverage",
    "score",
    "retention",
    "retention_low",
    "retention_high",
    "ceiling",
    "at_ceiling",
    "retention_before",
    "heldout_retention",
    "self_retention",
    "lifetime_online",
    "late_early",
    "speed",
    "memory",
    "diverged",
    "failed",
    "unpaired",
    "data",
    "ranked",
    "rank_note",
    "notes",
    "schema_version",
    "inputs_digest",
)

_TRACKS = ("boundary-free", "boundary-aware", "replay")  # a composition competes in the last track of its parts

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


@dataclass(frozen=True)
class _Scores:
    """What one seed comes to; NaN where something is missing, ``note`` saying what is missing for its retention."""

    retention: float
    ceiling: float
    retention_before: float
    heldout_retention: float
    self_retention: float
    lifetime_online: float
    late_early: float
    note: str | None
    used: tuple[Record, ...]


def leaderboard(*paths: str | os.PathLike[str]) -> "pd.DataFrame":
    """Return the leaderboard of all runs under ``paths``: one row for each protocol and entry.

    What `RunSpec.protocol` and `RunSpec.entry` hold is never pooled with other. A row's numbers are means over seeds. A
    diverged or failed run counts, at chance or with an infinite error from where it stopped. A seed whose fresh
    reference has no completed run counts in no retention and is reported in ``unpaired``.

    A record that is damaged, incomplete, or stands there twice with different measurements is left out with a
    `ResultsWarning`, and its row says so; `board` returns what is wrong instead.

    Columns besides the names:
        entry_id: Hash of the entry.
        lr: Learning rate.
        method_id: Hash of the methods with their versions, origins and start: what one label may stand for twice.
        track: "boundary-free", "boundary-aware" or "replay", as the method declared when it ran.
        rank_low, rank_high: The ranks that the row can have within the protocol and the track (`rank_ranges`), among
            rows that have all seeds of the table (`table_seeds`); missing for the others, for ``reset``, and in an
            unranked profile.
        verdict: Whether the row is shown to be "better" or "worse" than ``none`` in the same protocol, or "not shown"
            (`verdicts`); empty for rows without ranks, for ``none``, and without it.
        seeds: Number of runs.
        collapsed: Number of seeds whose retention is below `COLLAPSED`.
        coverage: Their seeds, those that diverged or failed included: "0-4,7".
        score: "accuracy" or "error": what the scenario measures a learner by.
        retention, retention_low, retention_high: Plasticity retention on the late tasks and its 95% interval
            (`interval`): of accuracies as `retention` says, of errors as `error_retention` does.
        ceiling: Mean over seeds of the largest retention possible (`ceiling`); NaN for errors.
        at_ceiling: Whether the row is too near it to be told apart from others that are (`at_ceiling`).
        retention_before: The same on the last tasks before the method turned on (`before_window`); NaN if it was on
            from the beginning.
        heldout_retention: The same of the held-out score at the end of each task; NaN if that was not measured.
        self_retention: Retention against this method and optimizer on fresh networks; NaN if no such runs are there.
        lifetime_online: Mean over all tasks of the online accuracy, in [0, 1], or of the online error, infinite if a
            run stopped.
        late_early: Online accuracy on the late tasks over that on as many first ones; the error on these first ones
            over that on the late ones. Below 1 the learner got worse.
        speed, memory: Training steps per second, and bytes of parameters, buffers, optimizer and method, as multiples
            of those of ``none`` with the same optimizer, device, threads and replicas; NaN without such runs.
        diverged, failed, unpaired: Numbers of runs.
        data: Name and start of the content hash of the data set.
        ranked: False for a profile that its scenario declares unranked, such as smoke.
        rank_note: Why the row has no rank, or what to know about its verdict.
        notes: What a reader should know before using the row.
        inputs_digest: SHA-256 over the ids of all runs behind the row, references included, and their measurements.

    Args:
        paths: Results folders, folders of run directories, single run directories, or packed sets.

    Returns:
        The rows, protocol by protocol: first ``reset``, the control that scores 1 by construction, then by falling
        retention.

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
    """Collect no garbage: all that is read stays, and looking through it over and over takes a seventh of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
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
                baselines[key].append(record)
    if not rows:
        if usable.problems:
            raise usable.problems[0]
        raise ResultsError("There are no runs among the records, only references.")
    entries = [_entry(runs, usable, baselines[_plain(runs[0])]) for runs in rows.values()]
    _tell_code_apart(entries)
    _place(entries)
    entries.sort(key=_order)
    frame = pd.DataFrame([entry.row for entry in entries], columns=list(COLUMNS))
    frame = frame.astype({"rank_low": "Int64", "rank_high": "Int64"})
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
        readable = [record for record in self._unique(found) if self._usable(record, _look)]
        self.floors = Floors(readable)
        whole = [record for record in readable if self._usable(record, lambda record: _look_whole(record, self.floors))]
        self.records = one_of_each(whole)
        #: Seeds of runs that another stands for, which measured other metrics.
        self.doubled: dict[_Key, set[int]] = defaultdict(set)
        for record in set(whole).difference(self.records):
            self.doubled[_key(record)].add(record.spec.seed)
        self.by_id = {record.run_id: record for record in self.records}

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
            self.left_out[_key(record)].add(record.spec.seed)

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


def seed_ranges(seeds: Iterable[int]) -> str:
    """Return seeds in short, as ``--seeds`` reads them: "0-4,7"."""
    found: list[list[int]] = []
    for seed in sorted(set(seeds)):
        if found and seed == found[-1][1] + 1:
            found[-1][1] = seed
        else:
            found.append([seed, seed])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in found)


def _key(record: Record) -> _Key:
    return record.protocol_id, record.recipe.entry_id


def _plain(record: Record) -> _Key:
    """Return the row of plain learning with the same optimizer."""
    return record.protocol_id, record.recipe.plain_entry_id


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
    scored = scored_tasks(count, record.spec.start)
    task_scores(record, f"online_{score}", range(count) if record.spec.kind == "continual" else scored, {})
    if record.series(f"heldout_{score}") is not None:
        task_scores(record, f"heldout_{score}", scored, {})
    if score == "accuracy":
        task_scores(record, "chance", scored, {})


def _scores(record: Record, usable: _Usable) -> _Scores:
    floors, by_id = usable.floors, usable.by_id
    score, tasks = floors.score(record), range(task_count(record))
    late, before = late_window(len(tasks)), before_window(len(tasks), record.spec.start)
    floor = {} if record.outcome == "completed" else floors.of(record, tasks)
    online = task_scores(record, f"online_{score}", tasks, floor)
    fresh, own = (
        _completed(recipe.run_id(record.seed), by_id)
        for recipe in (record.recipe.reference, record.recipe.own_reference)
    )
    value = _retention(record, fresh, "online", score, late)
    note = None
    if fresh is None:
        note = "no completed fresh reference"
    elif math.isnan(value):
        note = "fresh reference not above chance"
    return _Scores(
        retention=value,
        ceiling=_ceiling(fresh, score, late),
        retention_before=_retention(record, fresh, "online", score, before),
        heldout_retention=_retention(record, fresh, "heldout", score, late),
        self_retention=_retention(record, own, "online", score, late),
        lifetime_online=lifetime(online),
        late_early=error_late_early(online) if score == "error" else late_early(online),
        note=note,
        used=tuple(r for r in (record, fresh, own) if r is not None),
    )


def _retention(
    record: Record, reference: Record | None, where: Literal["online", "heldout"], score: Score, tasks: range
) -> float:
    """Return the retention of one run on ``tasks``, NaN if there are none or no reference that measured the score."""
    metric = f"{where}_{score}"
    if not tasks or reference is None or reference.series(metric) is None:
        return math.nan
    fresh = task_scores(reference, metric, tasks, {})
    if score == "error":
        return error_retention(task_scores(record, metric, tasks, dict.fromkeys(tasks, math.inf)), fresh)
    chance = task_scores(reference, "chance", tasks, {})
    floor = {} if record.outcome == "completed" else dict(zip(tasks, chance.tolist(), strict=True))
    learner = task_scores(record, metric, tasks, floor)
    return retention(learner, fresh, chance)


def _ceiling(reference: Record | None, score: Score, tasks: range) -> float:
    if reference is None or score == "error":
        return math.nan
    return ceiling(task_scores(reference, "online_accuracy", tasks, {}), task_scores(reference, "chance", tasks, {}))


def _completed(run_id: str, by_id: Mapping[str, Record]) -> Record | None:
    """Return the record of a reference; one that did not complete would flatter the learner and is none."""
    record = by_id.get(run_id)
    return record if record is not None and record.outcome == "completed" else None


def _entry(runs: Sequence[Record], usable: _Usable, baseline: Sequence[Record]) -> Entry:
    spec, key = runs[0].spec, _key(runs[0])
    left_out = {
        "damaged, left out": usable.left_out[key],
        "measured again with other metrics, counted once": usable.doubled[key],
    }
    scores = [_scores(record, usable) for record in runs]
    retentions = {record.spec.seed: s.retention for record, s in zip(runs, scores, strict=True) if s.note is None}
    paired = list(retentions.values())
    ceilings = [s.ceiling for s in scores if s.note is None]
    low, high = interval(paired) if paired else (math.nan, math.nan)
    used = {record.run_id: record for s in scores for record in s.used}
    inputs = "".join(f"{run_id} {used[run_id].measurements_digest}\n" for run_id in sorted(used))
    row = {
        "protocol_id": runs[0].protocol_id,
        "entry_id": spec.entry_id,
        "scenario": spec.scenario.name,
        "profile": spec.profile,
        "architecture": spec.architecture_label,
        "optimizer": spec.optimizer_label,
        "lr": spec.optimizer.fields["lr"],
        "method": spec.method_label,
        "method_id": digest({key: part for key, part in spec.entry().items() if key != "optimizer"}, 12),
        "track": _track(spec),
        **UNPLACED,
        "seeds": len(runs),
        "collapsed": Entrant(retentions).collapsed,
        "coverage": seed_ranges(record.spec.seed for record in runs),
        "score": usable.floors.score(runs[0]),
        "retention": _mean(paired),
        "retention_low": low,
        "retention_high": high,
        "ceiling": _mean(ceilings),
        "at_ceiling": at_ceiling(paired, ceilings),
        "retention_before": _mean(s.retention_before for s in scores),
        "heldout_retention": _mean(s.heldout_retention for s in scores),
        "self_retention": _mean(s.self_retention for s in scores),
        "lifetime_online": _mean(s.lifetime_online for s in scores),
        "late_early": _mean(s.late_early for s in scores),
        "speed": _relative(runs, baseline, _steps_per_s),
        "memory": _relative(runs, baseline, _state_bytes),
        "diverged": sum(record.outcome == "diverged" for record in runs),
        "failed": sum(record.outcome == "failed" for record in runs),
        "unpaired": len(runs) - len(paired),
        "data": _provenance(spec),
        "ranked": spec.is_ranked,
        "notes": "; ".join(_notes(runs, scores, left_out)),
        "schema_version": SCHEMA_VERSION,
        "inputs_digest": hashlib.sha256(inputs.encode()).hexdigest(),
    }
    return Entry(
        row,
        retentions,
        is_control=spec.is_control,
        is_baseline=not spec.methods,
        code=", ".join(f"{method.name} version {method.version} of {method.origin}" for method in spec.methods),
        runs=tuple(sorted(runs, key=lambda record: record.spec.seed)),
    )


def _notes(runs: Sequence[Record], scores: Sequence[_Scores], left_out: Mapping[str, Iterable[int]]) -> list[str]:
    """Return what a reader should know of the runs of a row before using it; ``left_out`` are seeds by reason."""
    spec = runs[0].spec
    seeds_by_note: dict[str, list[int]] = defaultdict(list)
    for record, s in zip(runs, scores, strict=True):
        for text in filter(None, (s.note, None if record.outcome == "completed" else record.outcome)):
            seeds_by_note[text].append(record.spec.seed)
    for reason, seeds in left_out.items():
        if seeds:
            seeds_by_note[reason] += seeds
    notes = [
        f"{text}: seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, sorted(seeds)))}"
        for text, seeds in sorted(seeds_by_note.items())
    ]
    count = task_count(runs[0])
    if spec.start * count > late_window(count).start:
        notes.append("on in a part of the late tasks only")
    origins = [part.origin for part in (*spec.methods, spec.optimizer)]
    unpublished = [origin.removeprefix(f"{UNPUBLISHED} ") for origin in origins if origin.startswith(UNPUBLISHED)]
    if unpublished:
        notes.append(f"{UNPUBLISHED}: {', '.join(unpublished)}")
    notes += idle_notes(runs)
    return notes


def _is_ranked(spec: RunSpec) -> bool:
    """Return whether the profile enters rankings, as its scenario says; where it is not installed all but smoke do."""
    try:
        unranked = face(plugins().registry.get("scenarios", spec.scenario.name)).unranked or ()
    except Exception:  # a record of a plugin that is not installed here is still readable
        unranked = ("smoke",)
    return spec.profile.partition("+")[0] not in unranked


def _track(spec: RunSpec) -> str:
    tracks = [method.track or "unknown" for method in spec.methods]
    unknown = [track for track in tracks if track not in _TRACKS]
    return "unknown" if unknown else max(tracks, key=_TRACKS.index, default=_TRACKS[0])


def _provenance(spec: RunSpec) -> str:
    if spec.data is None:
        return ""
    return f"{spec.data.get('name', '?')}@{str(spec.data.get('content_hash', '?'))[:12]}"


def _steps_per_s(record: Record) -> float:
    seconds = record.status["train_time_s"]
    return record.status["steps"] / seconds if seconds > 0 else math.nan


def _state_bytes(record: Record) -> float:
    return record.status["state_bytes"] or math.nan


def _relative(runs: Iterable[Record], baseline: Iterable[Record], quantity: Callable[[Record], float]) -> float:
    """Return the mean ratio of a quantity to its mean in the completed ``baseline`` runs on the same hardware."""
    known: dict[str, list[float]] = defaultdict(list)
    for record in baseline:
        if record.outcome == "completed":
            known[_hardware(record)].append(quantity(record))
    usual = {hardware: _mean(quantities) for hardware, quantities in known.items()}
    return _mean(
        quantity(record) / usual.get(_hardware(record), math.nan) for record in runs if record.outcome == "completed"
    )


def _hardware(record: Record) -> str:
    return canonical_json([record.environment.get(key, absent) for key, absent in HARDWARE.items()])


def _mean(values: Iterable[float]) -> float:
    """Return the mean of the values that are known, NaN if none is."""
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan


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
    """Fill in where the rows of each protocol stand."""
    protocols: dict[str, list[Standing]] = defaultdict(list)
    for entry in entries:
        if entry.row["ranked"] and not entry.is_control:
            entrant = Entrant(entry.retentions, entry.row["at_ceiling"])
            protocols[entry.row["protocol_id"]].append(Standing(entry.row, entrant, entry.is_baseline))
    for table in protocols.values():
        place(table)


def _order(entry: Entry) -> tuple[object, ...]:
    row, value = entry.row, entry.row["retention"]
    rank = (1, 0.0) if math.isnan(value) else (0, -value)
    return (row["protocol_id"], not entry.is_control, rank, row["method"], row["optimizer"], row["inputs_digest"])
