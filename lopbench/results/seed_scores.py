"""What one run comes to: its retention on both axes, and what the retention is made of."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lopbench.core.windows import before_window, late_window
from lopbench.results.record import Record
from lopbench.results.score import (
    NO_RETENTION,
    Score,
    at_ceiling,
    ceiling,
    error_above,
    error_late_early,
    late_early,
    lifetime,
    retention,
    share,
    total_above_chance,
)
from lopbench.results.tasks import Floors, late_count, task_count, task_means, task_scores
from lopbench.results.trend import trend

#: What a retention is of, and what the metrics that it is made of begin with.
Axis = Literal["trainability", "generalisation"]
AXES: Mapping[Axis, str] = {"trainability": "online", "generalisation": "heldout"}

#: What the names of a base's measurements begin with, which is trained beside its clone.
BASE = "base_"

#: Label of the metric that tells how well the task before is still done.
FORMER = "former_score"

#: Why a run has no retention.
NO_REFERENCE = "no completed fresh reference"


@dataclass(frozen=True)
class SeedScores:
    """What one run comes to; NaN where something was not measured.

    Args:
        retentions: The retention on the late tasks, on each axis.
        ceilings: The largest retention possible, on each axis.
        retention_before: The headline's retention on the last tasks before the method turned on.
        trend: Change of the headline's S/F per tenth of the stream.
        fresh: Retention of a fresh network of its own recipe, on the headline's axis.
        self_retention: The headline's retention against that network.
        wide: The headline's retention against a fresh network as wide as a clone.
        error_above_fresh: The headline's error on the late tasks minus that of fresh networks; NaN of accuracies.
        forgetting: How much worse the task before is done at the end of a late task than at its own end.
        lifetime_online: Mean over all tasks of the online score.
        late_early: Late tasks over as many first ones, or the other way round of errors.
        note: What is missing for the headline's retention, None for nothing.
        used: The records that this is made of.
    """

    retentions: Mapping[Axis, float]
    ceilings: Mapping[Axis, float]
    retention_before: float
    trend: float
    fresh: float
    self_retention: float
    wide: float
    error_above_fresh: float
    forgetting: float
    lifetime_online: float
    late_early: float
    note: str | None
    used: tuple[Record, ...]


def near_ceiling(scores: Iterable[SeedScores], axis: Axis) -> bool:
    """Return whether a row of these scores is too near the ceiling of an axis to be told apart from others that are."""
    known = [s for s in scores if not math.isnan(s.retentions[axis])]
    return at_ceiling([s.retentions[axis] for s in known], [s.ceilings[axis] for s in known])


@dataclass(frozen=True)
class _Against:
    """Scores of what a learner is measured against on some tasks, and scores at chance, ``(T,)`` each."""

    scores: NDArray[np.float64]
    chance: NDArray[np.float64]
    score: Score

    @cached_property
    def total(self) -> float:
        """The sum above chance."""
        return total_above_chance(self.scores, self.chance, self.score)

    @cached_property
    def ceiling(self) -> float:
        """The largest retention against it."""
        return ceiling(self.scores, self.chance, self.score)


class Reference:
    """What a learner is measured against: fresh networks in a run of their own, or the base in the learner's own run.

    Args:
        record: The run.
        prefix: What the names of its measurements begin with.
    """

    def __init__(self, record: Record, prefix: str = "") -> None:
        self.record = record
        self.prefix = prefix
        self._tasks: dict[str, list[int]] = {}
        self._scores: dict[tuple[str, Sequence[int]], _Against | None] = {}

    def tasks(self, metric: str) -> list[int]:
        """Return the tasks on which a metric was measured, in order; none if it was not."""
        if metric not in self._tasks:
            series = self.record.series(self.prefix + metric)
            self._tasks[metric] = [] if series is None else sorted(series.tasks.tolist())
        return self._tasks[metric]

    def scores(self, metric: str, tasks: Sequence[int], score: Score) -> _Against | None:
        """Return a metric, which is such a score, on ``tasks``; None if one of them was not measured.

        All learners of a seed are measured against the same, so it is worked out once.
        """
        key = metric, tasks if isinstance(tasks, range) else tuple(tasks)
        if key not in self._scores:
            found = None
            if set(tasks) <= set(self.tasks(metric)):
                scores = task_scores(self.record, self.prefix + metric, tasks, {})
                found = _Against(scores, task_scores(self.record, "chance", tasks, {}), score)
            self._scores[key] = found
        return self._scores[key]


class References:
    """What the learners among some records are measured against.

    Args:
        records: The records, references among them.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        #: The records by run id.
        self.by_id = {record.run_id: record for record in records}
        self._known: dict[str, Reference | None] = {}

    def of(self, record: Record, score: Score) -> Reference | None:
        """Return what a run is measured against; None if that is missing.

        A clone is measured against the base that its run trained beside it, on the same batches.
        """
        if record.series(f"{BASE}online_{score}") is not None:
            return Reference(record, BASE)
        return self.fresh(record.recipe.reference.run_id(record.seed))

    def fresh(self, run_id: str) -> Reference | None:
        """Return the run of fresh networks, if it completed: one that did not would flatter the learner."""
        if run_id not in self._known:
            record = self.by_id.get(run_id)
            is_whole = record is not None and record.outcome == "completed"
            self._known[run_id] = Reference(record) if record is not None and is_whole else None
        return self._known[run_id]


def reference_name(record: Record) -> str:
    """Return what a retention of 1 of a run stands for: "fresh network", or "base" of a clone."""
    has_base = any(record.series(f"{BASE}online_{score}") is not None for score in get_args(Score))
    return "base" if has_base else "fresh network"


def seed_scores(record: Record, references: References, floors: Floors) -> SeedScores:
    """Return what a run comes to.

    Args:
        record: The run of a learner.
        references: What it is measured against.
        floors: What a task counts that it did not finish.

    Raises:
        ResultsError: If a completed record lacks a score.
    """
    score, tasks = floors.score(record), range(task_count(record))
    late, before = late_window(len(tasks), late_count(record)), before_window(len(tasks), record.spec.start)
    floor = {} if record.outcome == "completed" else floors.of(record, tasks)
    sides = {axis: _Side(record, f"{where}_{score}", score, floor) for axis, where in AXES.items()}
    main = sides[record.recipe.headline]
    reference = references.of(record, score)
    own = wide = None
    if reference is None or reference.prefix != BASE:
        own = references.fresh(record.recipe.own_reference.run_id(record.seed))
    else:
        wide = references.fresh(record.recipe.reference.run_id(record.seed))
    retentions = {axis: side.against(reference, late) for axis, side in sides.items()}
    note = None
    if math.isnan(retentions[record.recipe.headline]):
        note = NO_REFERENCE if main.facing(reference, late) is None else NO_RETENTION
    online = sides["trainability"].scores(tasks)
    return SeedScores(
        retentions=retentions,
        ceilings={axis: side.ceiling(reference, late) for axis, side in sides.items()},
        retention_before=main.against(reference, before),
        trend=main.trend(reference, tasks),
        fresh=_Side(own.record, main.metric, score, {}).against(reference, late) if own else math.nan,
        self_retention=main.against(own, late),
        wide=main.against(wide, late),
        error_above_fresh=main.above(reference, late),
        forgetting=forgetting(record, late, score),
        lifetime_online=lifetime(online),
        late_early=(error_late_early if score == "error" else late_early)(online, len(late)),
        note=note,
        used=tuple(dict.fromkeys([record, *(side.record for side in (reference, own, wide) if side is not None)])),
    )


def forgetting(record: Record, tasks: Iterable[int], score: Score) -> float:
    """Return the mean forgetting of the task before, over ``tasks``: the one-step measure of arXiv:1801.10112.

    That is the held-out score of a task at its own end minus that at the end of the next, or of errors the other way
    round, so that above 0 something is forgotten.

    Returns:
        The mean over the tasks that have both; NaN where none has, and of a run that stopped, since what is left would
        flatter it.
    """
    if record.outcome != "completed" or all(metric.name != FORMER for metric in record.spec.metrics):
        return math.nan
    now, at_end = task_means(record, FORMER), record.per_task(f"heldout_{score}")
    sign = -1 if score == "error" else 1
    found = [sign * (at_end[task - 1] - now[task]) for task in tasks if task in now and task - 1 in at_end]
    return math.fsum(found) / len(found) if found else math.nan


def headline_metric(record: Record, score: Score) -> str:
    """Return the label of the score that a run's headline goes by: "online_accuracy", or "heldout_error"."""
    return f"{AXES[record.recipe.headline]}_{score}"


def retentions_over(
    parts: Iterable[Sequence[int]], record: Record, reference: Reference, floors: Floors
) -> list[float]:
    """Return the headline's retention on each part of a stream, over those of its tasks that the reference covers.

    Args:
        parts: Their tasks.
        record: The run of a learner, or of fresh networks.
        reference: What it is measured against.
        floors: What a task counts that the run did not finish.

    Returns:
        A number for each part; NaN where the reference covers none of its tasks.
    """
    score = floors.score(record)
    metric = headline_metric(record, score)
    tasks = reference.tasks(metric)
    learner = task_scores(record, metric, tasks, floors.of(record, tasks))
    against = reference.scores(metric, tasks, score)
    assert against is not None  # they are its own
    fresh, chance = against.scores, against.chance
    place = {task: index for index, task in enumerate(tasks)}
    chosen = ([place[task] for task in part if task in place] for part in parts)
    return [retention(learner[at], fresh[at], chance[at], score) if at else math.nan for at in chosen]


@dataclass(frozen=True)
class _Side:
    """One score of a learner by task, to be held against a reference."""

    record: Record
    metric: str
    score: Score
    floor: Mapping[int, float]

    def scores(self, tasks: Sequence[int]) -> NDArray[np.float64]:
        return task_scores(self.record, self.metric, tasks, self.floor)

    def against(self, reference: Reference | None, tasks: Sequence[int]) -> float:
        """Return the retention on ``tasks``, NaN if there are none or the reference did not measure the score there."""
        if reference is not None and reference.record is self.record and self.record.outcome != "completed":
            return 0.0  # its base stopped with it: it counts at chance, whatever the base would have come to
        against = self.facing(reference, tasks)
        if against is None:
            return math.nan
        return share(total_above_chance(self.scores(tasks), against.chance, self.score), against.total)

    def above(self, reference: Reference | None, tasks: Sequence[int]) -> float:
        """Return how far the error is above that of fresh networks; NaN of accuracies, and of clones beside a base."""
        against = None if reference is None or reference.prefix == BASE else self.facing(reference, tasks)
        if against is None or self.score == "accuracy":
            return math.nan
        return error_above(self.scores(tasks), against.scores)

    def ceiling(self, reference: Reference | None, tasks: Sequence[int]) -> float:
        against = self.facing(reference, tasks)
        return math.nan if against is None else against.ceiling

    def trend(self, reference: Reference | None, stream: Sequence[int]) -> float:
        """Return the trend over all tasks of the stream that the reference measured; tasks count as equally long."""
        tasks = [] if reference is None else reference.tasks(self.metric)
        against = self.facing(reference, tasks)
        if against is None:
            return math.nan
        position = (np.array(tasks) + 0.5) / len(stream)
        return trend(self.scores(tasks), against.scores, against.chance, position, self.score)

    def facing(self, reference: Reference | None, tasks: Sequence[int]) -> _Against | None:
        """Return what the scores of ``tasks`` are held against; None without tasks, or where one side has no score."""
        if reference is None or not len(tasks):
            return None
        if self.record.outcome == "completed" and self.record.series(self.metric) is None:
            return None
        return reference.scores(self.metric, tasks, self.score)
