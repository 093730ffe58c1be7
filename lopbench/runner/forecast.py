"""How long a study will take."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from dataclasses import dataclass

from lopbench.core.errors import ResultsError
from lopbench.core.spec import RunSpec, canonical_json
from lopbench.runner.study import Study


@dataclass(frozen=True)
class Forecast:
    """How long a study will take.

    Args:
        seconds: Time of all pending runs.
        most: Whether it is an upper bound: the time was taken of steps that will be compiled, and so be faster.
    """

    seconds: float
    most: bool


def forecast(study: Study, *, limit_s: float = 1.5) -> Forecast | None:
    """Return how long the pending runs will take, None if none of them can even start; about ``limit_s`` seconds.

    A group of runs takes the time that its steps took in records of the same methods, protocol, hardware and number of
    replicas, or else take now. Once ``limit_s`` is over, groups are taken for as slow as the slowest of those timed.
    """
    import torch

    from lopbench.runner.groups import groups
    from lopbench.runner.timing import seconds_per_step

    device = torch.device(study.device)
    recorded = _recorded_seconds(study)
    steps_of = dict(zip((spec.run_id for spec in study.pending), study.steps, strict=True))
    together = groups(study.pending, data=study.images, device=device)
    began = time.perf_counter()
    known, slowest, most = [], 0.0, False
    for group in together:
        steps = steps_of[group[0].run_id]
        seconds = recorded.get(_workload(group[0], len(group)))
        if seconds is None and (slowest == 0 or time.perf_counter() - began < limit_s):
            try:
                seconds, compiled = seconds_per_step(group, data=study.images, device=device, limit_s=limit_s / 8)
            except KeyboardInterrupt:
                raise
            except BaseException:  # whatever a plugin raises is told when its turn comes; other runs may go well
                continue
            slowest, most = max(slowest, seconds), most or compiled
        known.append((steps, seconds))
    if not known:
        return None
    return Forecast(sum(steps * (slowest if seconds is None else seconds) for steps, seconds in known), most)


def _workload(spec: RunSpec, replicas: int) -> str:
    """Return what must agree for a step to take about as long; optimizers and metrics cost little."""
    return canonical_json([spec.protocol(), [method.name for method in spec.methods], replicas])


def _recorded_seconds(study: Study) -> dict[str, float]:
    """Return the seconds that a step of all replicas took on this hardware, by workload."""
    import torch

    from lopbench.results.record import find_records
    from lopbench.runner.environment import describe

    try:
        records = find_records(study.results) if study.results.is_dir() else []
    except ResultsError:  # a damaged record is the leaderboard's business
        records = []
    here = describe(torch.device(study.device))
    steps: Counter[str] = Counter()
    seconds: dict[str, float] = defaultdict(float)
    for record in records:
        if all(record.environment.get(key) == here[key] for key in ("device", "threads")):
            replicas = record.environment.get("replicas", 1)
            workload = _workload(record.spec, replicas)
            steps[workload] += record.status["steps"]
            seconds[workload] += record.status["wall_time_s"] * replicas
    return {workload: seconds[workload] / count for workload, count in steps.items() if count}
