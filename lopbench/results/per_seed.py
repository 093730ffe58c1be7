"""Numbers of an entry, one for each seed: what claims are tested on, and figures draw.

They are those whose means a leaderboard shows, and diagnostics over a part of the stream.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from lopbench.core.windows import late_window
from lopbench.results.group import Group
from lopbench.results.record import Record
from lopbench.results.seed_scores import AXES, Axis, SeedScores
from lopbench.results.statistics import interval, t_interval
from lopbench.results.tasks import late_count, task_count, task_means
from lopbench.results.trend import WARM_UP

#: Over which part of the stream a metric is taken: its mean over the late tasks, over as many first ones, the one minus
#: the other, the slope per tenth of the stream after the first fifth, its mean over the last 2%, as the bars of Joudaki
#: et al. 2025 have it (100,000 of 5,000,000 samples), or over all tasks.
Part = Literal["late", "early", "change", "trend", "end", "mean"]

#: Share of the stream that "end" is the mean of, at least one task.
END = 0.02


def _on(axis: Axis) -> Callable[[SeedScores, Axis], float]:
    return lambda scores, _: scores.retentions[axis]


#: The columns of a leaderboard that are means of a number for each seed, with that number of a run on the headline's
#: axis.
COLUMNS: Mapping[str, Callable[[SeedScores, Axis], float]] = {
    "retention": lambda scores, headline: scores.retentions[headline],
    **{axis: _on(axis) for axis in AXES},
    "trend": lambda scores, _: scores.trend,
    "retention_before": lambda scores, _: scores.retention_before,
    "fresh_retention": lambda scores, _: scores.fresh,
    "self_retention": lambda scores, _: scores.self_retention,
    "wide_retention": lambda scores, _: scores.wide,
    "error_above_fresh": lambda scores, _: scores.error_above_fresh,
    "forgetting": lambda scores, _: scores.forgetting,
    "lifetime_online": lambda scores, _: scores.lifetime_online,
    "late_early": lambda scores, _: scores.late_early,
}

#: Those that are retentions, where a seed below 0.2 has collapsed.
RETENTIONS = frozenset(name for name in COLUMNS if name in AXES or "retention" in name)


@dataclass(frozen=True)
class Quantity:
    """A number of an entry for each seed.

    Args:
        name: A column of the leaderboard, or the label of a metric.
        of: Over which part of the stream a metric is taken; None of a column.
        layer: Which of the layers in the order of the network a metric is of, counted from 1; their mean if None.
    """

    name: str
    of: Part | None = None
    layer: int | None = None

    def __str__(self) -> str:
        words = {"change": "change, late minus early, of", "trend": "slope per tenth of the stream of"}
        where = "" if self.layer is None else f" in layer {self.layer}"
        return self.name if self.of is None else f"{words.get(self.of, self.of)} {self.name}{where}"

    @property
    def is_slope(self) -> bool:
        """Whether it is a slope, whose interval is Student's, as that of the column ``trend``."""
        return "trend" in (self.of, self.name)

    @property
    def is_retention(self) -> bool:
        """Whether its seeds can collapse."""
        return self.of is None and self.name in RETENTIONS

    def values(self, group: Group) -> dict[int, float]:
        """Return the number of each seed of a row that has one; runs that stopped early have none of a metric.

        Raises:
            ResultsError: If a metric has no such layer.
        """
        if self.of is None:
            column = COLUMNS[self.name]
            found = {
                record.seed: column(scores, group.headline)
                for record, scores in zip(group.runs, group.scores, strict=True)
            }
        else:
            found = {record.seed: of_metric(record, self.name, self.of, self.layer) for record in group.runs}
        return {seed: value for seed, value in found.items() if math.isfinite(value)}

    def interval(self, values: list[float]) -> tuple[float, float]:
        """Return the 95% interval of the mean over seeds, as tables show it of this number."""
        return t_interval(values) if self.is_slope else interval(values)


def of_metric(record: Record, metric: str, part: Part, layer: int | None = None) -> float:
    """Return a metric over a part of the stream, at the ends of its tasks, of a layer or as the mean over layers.

    Returns:
        The number; NaN if the run stopped early, since what is left would flatter it, or nothing was measured there.

    Raises:
        ResultsError: If the metric has no such layer.
    """
    if record.outcome != "completed":
        return math.nan
    return over(task_means(record, metric, layer), task_count(record), part, late_count(record))


def over(known: Mapping[int, float], tasks: int, part: Part, scored: int = 0) -> float:
    """Return what the values of some tasks come to over a part of a stream of ``tasks``; NaN where there are none.

    Args:
        known: The value of each task that has one.
        tasks: Number of tasks of the stream.
        part: The part.
        scored: Number of late tasks, where the protocol says it.
    """
    assert part in get_args(Part)
    if part == "trend":
        return _slope(known, tasks)
    late = late_window(tasks, scored)
    if part == "change":
        return over(known, tasks, "late", scored) - over(known, tasks, "early", scored)
    last = range(tasks - max(1, round(END * tasks)), tasks)
    chosen = {"late": late, "early": range(len(late)), "end": last, "mean": range(tasks)}[part]
    values = [known[task] for task in chosen if task in known]
    return math.fsum(values) / len(values) if values else math.nan


def _slope(known: Mapping[int, float], tasks: int) -> float:
    """Return the slope by least squares per tenth of the stream, the first fifth left out; NaN of fewer than three."""
    places = {(task + 0.5) / tasks: value for task, value in known.items() if (task + 0.5) / tasks >= WARM_UP}
    if len(places) < 3:
        return math.nan
    x, y = np.array(list(places)), np.array(list(places.values()))
    x = x - x.mean()
    return float(x @ y / (x @ x)) / 10
