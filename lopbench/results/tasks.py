"""The per-task scores of a record, with what a diverged or failed run did not finish at the floor."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lopbench.core.errors import ResultsError
from lopbench.core.windows import MOST_TASKS
from lopbench.results.record import Record
from lopbench.results.score import Score, at_floor


class Floors:
    """The kind of score of some runs, and the score of a task that a run did not finish.

    Accuracies are then at the chance of the task, errors infinite. Both are known from all runs of a world (scenario,
    data), since a run that was killed does not know them.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        self._chances: dict[str, dict[tuple[int, int], float]] = defaultdict(dict)
        self._errors: set[str] = set()
        for record in records:
            world = record.world
            known = record.per_task("chance")
            self._chances[world] |= {(record.seed, task): chance for task, chance in known.items()}
            if world not in self._errors and record.series("online_error") is not None:
                self._errors.add(world)

    def score(self, record: Record) -> Score:
        """Return what the scenario of the run scores: "error" if a run of it measured one, else "accuracy"."""
        return "error" if record.world in self._errors else "accuracy"

    def of(self, record: Record, tasks: Iterable[int]) -> dict[int, float]:
        """Return the floor of each task; the mean of all known chances where no run of the seed reached the task."""
        world = record.world
        if world in self._errors:
            return dict.fromkeys(tasks, math.inf)
        known, seed = self._chances[world], record.seed
        found = {task: known[seed, task] for task in tasks if (seed, task) in known}
        missing = [task for task in tasks if task not in found]
        if missing:
            found |= dict.fromkeys(missing, math.fsum(known.values()) / len(known) if known else math.nan)
        return found


def task_count(record: Record) -> int:
    """Return the number of tasks of the run's scenario.

    Raises:
        ResultsError: If its spec does not say, or says that they are more than any stream has.
    """
    return _whole(record, "tasks", most=MOST_TASKS)


def late_count(record: Record) -> int:
    """Return how many of the last tasks the run's scenario scores; 0 for the usual ones, where it says nothing."""
    found = record.spec.scenario.fields.get("late")
    return found if isinstance(found, int) and found > 0 else 0


def task_edges(record: Record) -> list[int]:
    """Return the steps at which the tasks of a continual run begin, and the end of its stream, ``(T + 1,)``.

    Tasks that the run did not finish are taken for as long as the spec says that tasks are.

    Raises:
        ResultsError: If its spec does not say how many tasks there are, and how long they are.
    """
    frame, usual = record.measurements, _whole(record, "steps_per_task")
    rows = frame[frame["metric"] == "chance"]  # measured at the end of each task
    ends = dict(zip(rows["task"].tolist(), rows["step"].tolist(), strict=True))
    edges = [0]
    for task in range(task_count(record)):
        edges.append(ends.get(task, edges[-1] + usual))
    return edges


def task_scores(record: Record, metric: str, tasks: Sequence[int], floor: Mapping[int, float]) -> NDArray[np.float64]:
    """Return the per-task scores ``(T,)`` of ``tasks``, at ``floor`` where a diverged or failed run has none.

    Raises:
        ResultsError: If a completed run has no score for one of the tasks, or an error is negative.
    """
    scores = _task_scores(record, metric, tasks, floor)
    if metric.endswith("_error") and (scores < 0).any():
        raise record.stored.damaged(f"{metric} of a task is {scores.min():g}, and an error is at least 0")
    return scores


def _task_scores(record: Record, metric: str, tasks: Sequence[int], floor: Mapping[int, float]) -> NDArray[np.float64]:
    series = record.series(metric)
    if series is not None and series.dense and isinstance(tasks, range) and tasks.step == 1 and len(tasks):
        first = int(series.tasks[0])
        if first <= tasks.start and tasks.stop <= first + len(series.tasks):  # all are there: no need to look at each
            return series.values[tasks.start - first : tasks.stop - first]
    found = record.per_task(metric)
    missing = [task for task in tasks if task not in found]
    if missing and record.outcome == "completed":
        raise ResultsError(
            f"The run record {record.path} is incomplete: it says completed but has no {metric} for task {missing[0]}. "
            "Remove that directory and run its spec again."
        )
    return at_floor(found, floor, tasks)


def task_means(record: Record, metric: str, layer: int | None = None) -> dict[int, float]:
    """Return a metric at the end of each task, where it is known; the mean over layers, if there are any.

    Args:
        record: The run.
        metric: Label of the metric.
        layer: One of the layers instead, in the order in which they are measured, counted from 1.

    Raises:
        ResultsError: If the metric has no such layer.
    """
    frame = record.measurements
    rows = frame[frame["metric"] == metric]
    if layer is not None:
        layers = [each for each in rows["layer"].unique().tolist() if each]
        if layer > len(layers):
            known = f"its layers, counted from 1, are {', '.join(layers)}" if layers else "it has no layers"
            raise ResultsError(f"{metric} has no layer {layer} in {record.path}; {known}.")
        rows = rows[rows["layer"] == layers[layer - 1]]
    last = rows["step"] == rows.groupby("task")["step"].transform("max")
    mean = rows[last].groupby("task")["value"].mean().dropna()
    return dict(zip(mean.index.tolist(), mean.tolist(), strict=True))


def _whole(record: Record, field: str, *, most: int | None = None) -> int:
    value = record.spec.scenario.fields.get(field)
    if not isinstance(value, int) or value < 1 or (most is not None and value > most):
        raise ResultsError(f"The run record {record.path} cannot be scored: its scenario has {field}={value!r}.")
    return value
