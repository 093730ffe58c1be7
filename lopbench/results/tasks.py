"""The per-task scores of a record, with what a diverged or failed run did not finish at the floor."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lopbench.core.errors import ResultsError
from lopbench.core.spec import canonical_json
from lopbench.results.record import Record
from lopbench.results.score import at_floor


class Chances:
    """The chance score of each task, from all runs of a world (scenario, data): a killed run does not know them all."""

    def __init__(self, records: Iterable[Record]) -> None:
        self._known: dict[str, dict[tuple[int, int], float]] = defaultdict(dict)
        for record in records:
            known = self._known[_world(record)]
            known |= {(record.spec.seed, task): chance for task, chance in record.per_task("chance").items()}

    def of(self, record: Record, tasks: Iterable[int]) -> dict[int, float]:
        """Return the chance of each task; the mean of what is known where no run of the seed came so far."""
        known = self._known[_world(record)]
        usual = math.fsum(known.values()) / len(known) if known else math.nan
        return {task: known.get((record.spec.seed, task), usual) for task in tasks}


def task_count(record: Record) -> int:
    """Return the number of tasks of the run's scenario.

    Raises:
        ResultsError: If its spec does not say.
    """
    tasks = record.spec.scenario.fields.get("tasks")
    if not isinstance(tasks, int) or tasks < 1:
        raise ResultsError(f"The run record {record.path} cannot be scored: its scenario has tasks={tasks!r}.")
    return tasks


def task_scores(record: Record, metric: str, tasks: Sequence[int], chance: Mapping[int, float]) -> NDArray[np.float64]:
    """Return the per-task scores ``(T,)`` of ``tasks``, at chance where a diverged or failed run has none.

    Raises:
        ResultsError: If a completed run has no score for one of the tasks.
    """
    found = record.per_task(metric)
    missing = [task for task in tasks if task not in found]
    if missing and record.outcome == "completed":
        raise ResultsError(
            f"The run record {record.path} is incomplete: it says completed but has no {metric} for task {missing[0]}. "
            "Remove that directory and run its spec again."
        )
    return at_floor(found, chance, tasks)


def _world(record: Record) -> str:
    """Return what fixes the tasks of a seed."""
    return canonical_json([record.spec_json["scenario"], record.spec_json["data"]])
