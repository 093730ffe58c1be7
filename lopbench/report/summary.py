"""What a page shows of a set of runs: tables as the leaderboard makes them, means over seeds, failures, commands."""

import math
import os
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lopbench.core.errors import ResultsError
from lopbench.core.spec import RunSpec, canonical_json
from lopbench.report.command import beyond, command
from lopbench.results.leaderboard import leaderboard
from lopbench.results.record import Record, find_records
from lopbench.results.score import error_retention, retention
from lopbench.results.statistics import RESAMPLES
from lopbench.results.tasks import Floors, Score, task_count

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]

#: Most numbers that the curves and maps of a page may hold, at 5.3 bytes each; the rest of a page is about as large.
BUDGET = 1_000_000

#: How many points a curve may have: the first that keeps to the budget, or else the last.
POINTS = (160, 80, 40, 20, 10)

#: The label of what is not measured but follows from the runs and their references.
RETENTION = "retention"

#: What is recorded in every run, and is neither a score nor a diagnostic.
_CONSTANTS = ("chance",)

_SEED = 20_260_101  # the same page for the same runs


@dataclass(frozen=True, eq=False)
class Bins:
    """The points of a protocol's curves: each is a task, or several in a row where there are too many.

    Args:
        tasks: Number of tasks, at least 1.
        points: Most points, at least 1.
    """

    tasks: int
    points: int

    @property
    def span(self) -> int:
        """Number of tasks that a point stands for; fewer in the last one where they do not divide."""
        return math.ceil(self.tasks / self.points)

    @cached_property
    def parts(self) -> tuple[range, ...]:
        """The tasks of each point."""
        every = range(self.tasks)
        return tuple(every[start : start + self.span] for start in every[:: self.span])

    def means(self, values: Array) -> Array:
        """Return the means over each point's tasks, ``(S, B)``, of one value for each seed and task, ``(S, T)``.

        A task that is not known of every seed is left out, NaN where that leaves none: a mean of the runs that went on
        would flatter a method.
        """
        known: NDArray[np.bool_] = np.asarray(np.isfinite(values).all(axis=0))
        if self.span == 1:
            return np.where(known, values, np.nan)
        columns = [values[:, part.start : part.stop][:, known[part.start : part.stop]] for part in self.parts]
        return np.stack([c.mean(axis=1) if c.size else np.full(len(values), np.nan) for c in columns], axis=1)


@dataclass(frozen=True, eq=False)
class Row:
    """One method under one protocol.

    Args:
        line: Its line of the leaderboard.
        runs: Its runs, by seed.
        command: What makes them.
        beyond: What the command cannot say, in words.
        curves: By metric, the mean over seeds and the ends of its 95% interval, ``(3, B)``; with one seed ``(1, B)``.
        layers: By metric, the mean over seeds in each layer, ``(L, B)``.
    """

    line: Mapping[Hashable, Any]
    runs: tuple[Record, ...]
    command: str
    beyond: tuple[str, ...]
    curves: Mapping[str, Array]
    layers: Mapping[str, Array]

    @property
    def spec(self) -> RunSpec:
        """The spec of one of the runs."""
        return self.runs[0].spec


@dataclass(frozen=True, eq=False)
class Table:
    """All rows of one protocol, and the fresh networks they are measured against.

    Args:
        rows: In the order of the leaderboard, at least one.
        bins: The points of all curves.
        score: What the scenario measures a learner by.
        metrics: Labels of all metrics that have curves: scores first.
        layers: By metric, the names of the layers of its maps.
        fresh: The curves of the fresh reference, as those of a row.
        references: Number of seeds behind `fresh`.
    """

    rows: tuple[Row, ...]
    bins: Bins
    score: Score
    metrics: tuple[str, ...]
    layers: Mapping[str, tuple[str, ...]]
    fresh: Mapping[str, Array]
    references: int


@dataclass(frozen=True)
class Failure:
    """Runs of one recipe that did not complete, for one reason.

    Args:
        what: The method, or which fresh network.
        setting: Scenario, architecture and optimizer.
        outcome: "diverged" or "failed".
        reason: The error, or where it diverged.
        runs: Seed and run directory of each, by seed.
    """

    what: str
    setting: str
    outcome: str
    reason: str
    runs: tuple[tuple[int, str], ...]


@dataclass(frozen=True, eq=False)
class Summary:
    """All that a page shows.

    Args:
        frame: The leaderboard.
        tables: One for each protocol.
        failures: All runs that did not complete, references included.
        runs: Number of runs of learners.
        references: Number of runs of fresh networks.
    """

    frame: "pd.DataFrame"
    tables: tuple[Table, ...]
    failures: tuple[Failure, ...]
    runs: int
    references: int


def summarise(*paths: str | os.PathLike[str]) -> Summary:
    """Return what a page shows of all runs under ``paths``.

    Args:
        paths: Results folders, folders of run directories, or single run directories.

    Raises:
        ResultsError: If there are no runs, or they cannot stand in one leaderboard.
    """
    frame = leaderboard(*paths)
    by_id = {record.run_id: record for record in find_records(*paths)}
    learners = [record for record in by_id.values() if record.spec.kind == "continual"]
    groups = _groups(frame, learners, by_id)
    points = _points(groups)
    floors = Floors(by_id.values())
    numbered: dict[str, list[int]] = defaultdict(list)
    for index, protocol_id in enumerate(frame["protocol_id"]):
        numbered[protocol_id].append(index)
    lines: list[dict[Hashable, Any]] = frame.to_dict("records")
    return Summary(
        frame=frame,
        tables=tuple(
            _table([(lines[i], groups[i]) for i in indices], by_id, floors, points) for indices in numbered.values()
        ),
        failures=tuple(_failures(by_id.values())),
        runs=len(learners),
        references=len(by_id) - len(learners),
    )


def band(values: Array) -> Array:
    """Return the mean over seeds and the ends of its 95% interval, ``(3, B)``, of ``values``, ``(S, B)``.

    The interval is that of `lopbench.results.statistics.interval`, whose docstring says how it comes about, for many
    values at once and with other draws. NaN where one of the seeds is; only the mean, ``(1, B)``, of one seed.
    """
    count = len(values)
    if count == 1:
        return values
    tail, weights = _resampling(count)
    means = values.T @ weights.T  # (B, RESAMPLES)
    low, high = np.quantile(means, [tail, 1 - tail], axis=1)
    return np.stack([values.mean(axis=0), low, high])


@cache
def _resampling(count: int) -> tuple[float, Array]:
    """Return the tail probability of the interval over ``count`` seeds, and the weight of each seed in each resample.

    The weights have the shape ``(RESAMPLES, S)``.
    """
    from scipy import special

    tail = special.ndtr(-math.sqrt(count / (count - 1)) * special.stdtrit(count - 1, 0.975))
    draws = np.random.default_rng(_SEED).multinomial(count, [1 / count] * count, size=RESAMPLES)
    return float(tail), draws / count


def _groups(frame: "pd.DataFrame", learners: Iterable[Record], by_id: Mapping[str, Record]) -> list[tuple[Record, ...]]:
    """Return the runs behind each line of a leaderboard, by seed."""
    found: dict[tuple[str, str], dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in learners:
        spec = record.spec
        code = canonical_json([record.spec_json["methods"], spec.start])
        found[spec.protocol_id, spec.method_label][code].append(record)
    behind: dict[str, list[Record]] = {}
    for same in found.values():
        if len(same) > 1:  # only the code of the methods tells them apart, and their inputs tell which line is whose
            behind |= {_inputs_digest(runs, by_id): runs for runs in same.values()}
    groups = []
    for line in frame.to_dict("records"):
        same = found[line["protocol_id"], line["method"]]
        runs = next(iter(same.values())) if len(same) == 1 else behind[line["inputs_digest"]]
        groups.append(tuple(sorted(runs, key=lambda record: record.spec.seed)))
    return groups


def _inputs_digest(runs: Iterable[Record], by_id: Mapping[str, Record]) -> str:
    specs = [spec for record in runs for spec in (record.spec, record.spec.reference(), record.spec.own_reference())]
    paths = {spec.run_id: by_id[spec.run_id].path for spec in specs if spec.run_id in by_id}
    return str(leaderboard(*paths.values()).iloc[0]["inputs_digest"])


def _points(groups: Iterable[Sequence[Record]]) -> int:
    """Return how many points the curves may have."""
    sizes = []  # of each row the number of tasks, and of curves and lines of maps
    for runs in groups:
        measured = runs[0].measurements[["metric", "layer"]].drop_duplicates()
        curves = measured["metric"].nunique() * (3 if len(runs) > 1 else 1)
        sizes.append((task_count(runs[0]), curves + int((measured["layer"] != "").sum())))
    for points in POINTS:
        if sum(min(tasks, points) * series for tasks, series in sizes) <= BUDGET:
            return points
    return POINTS[-1]


def _table(
    members: Sequence[tuple[Mapping[Hashable, Any], tuple[Record, ...]]],
    by_id: Mapping[str, Record],
    floors: Floors,
    points: int,
) -> Table:
    first = members[0][1][0]
    bins = Bins(task_count(first), points)
    score = floors.score(first)
    layers: dict[str, dict[str, None]] = defaultdict(dict)  # layers in the order of the network, each once
    for _, runs in members:
        for record in runs:
            pairs = record.measurements[["metric", "layer"]].drop_duplicates()
            for metric, layer in pairs.itertuples(index=False):
                if layer:
                    layers[metric][layer] = None
    named = {metric: tuple(names) for metric, names in sorted(layers.items())}
    rows = tuple(_row(line, runs, by_id, floors, bins, named) for line, runs in members)
    references = {record.spec.reference().run_id for _, runs in members for record in runs}
    fresh = [by_id[run_id] for run_id in sorted(references) if run_id in by_id]
    fresh = [record for record in fresh if record.outcome == "completed"]
    metrics = {metric for row in rows for metric in row.curves}
    return Table(
        rows=rows,
        bins=bins,
        score=score,
        metrics=tuple(sorted(metrics, key=lambda metric: _rank(metric, score))),
        layers=named,
        fresh={metric: band(means) for metric, means in _means(fresh, bins).items() if metric in metrics},
        references=len(_seeds(fresh)),
    )


def _rank(metric: str, score: Score) -> tuple[int, str]:
    first = (f"online_{score}", RETENTION, f"heldout_{score}")
    return (first.index(metric) if metric in first else len(first), metric)


def _row(
    line: Mapping[Hashable, Any],
    runs: tuple[Record, ...],
    by_id: Mapping[str, Record],
    floors: Floors,
    bins: Bins,
    layers: Mapping[str, Sequence[str]],
) -> Row:
    score = floors.score(runs[0])
    curves = {metric: band(means) for metric, means in _means(runs, bins, floors).items()}
    retained = _retentions(runs, by_id, score, bins)
    if retained is not None:
        curves[RETENTION] = band(retained)
    frame = _together(runs)
    by_layer = frame[frame["layer"] != ""].groupby(["metric", "layer", "seed", "task"], sort=False)["value"].mean()
    maps = {}
    if len(by_layer):
        for metric, part in by_layer.groupby(level="metric", sort=False):
            each = [
                bins.means(_matrix(part.droplevel("metric").xs(layer, level="layer"), len(runs), bins.tasks))
                if layer in part.index.get_level_values("layer")
                else np.full((1, len(bins.parts)), np.nan)
                for layer in layers[str(metric)]
            ]
            maps[str(metric)] = np.stack([means.mean(axis=0) for means in each])
    spec = runs[0].spec
    return Row(line, runs, command(spec, [r.spec.seed for r in runs]), tuple(beyond(spec)), curves, maps)


def _together(runs: Sequence[Record]) -> "pd.DataFrame":
    """Return the measurements of several runs, with the number of its seed, from 0, in a column "seed"."""
    import pandas as pd

    seeds = _seeds(runs)
    return pd.concat([record.measurements.assign(seed=seeds.index(record.spec.seed)) for record in runs])


def _seeds(runs: Iterable[Record]) -> list[int]:
    return sorted({record.spec.seed for record in runs})


def _means(runs: Sequence[Record], bins: Bins, floors: Floors | None = None) -> dict[str, Array]:
    """Return by metric the means over layers, probes and the tasks of each point, ``(S, B)``.

    With ``floors``, accuracies of runs that stopped go on at chance; everything else ends there.
    """
    if not runs:
        return {}
    frame, seeds = _together(runs), len(_seeds(runs))
    by_task = frame[~frame["metric"].isin(_CONSTANTS)].groupby(["metric", "seed", "task"])["value"].mean()
    found = {}
    for metric, part in by_task.groupby(level="metric"):
        values = _matrix(part.droplevel("metric"), seeds, bins.tasks)
        if floors is not None and metric in ("online_accuracy", "heldout_accuracy"):
            for line, record in zip(values, runs, strict=True):
                if record.outcome != "completed":
                    floor = floors.of(record, range(bins.tasks))
                    line[:] = [floor[task] if math.isnan(value) else value for task, value in enumerate(line)]
        means = bins.means(values)
        if np.isfinite(means).any():
            found[str(metric)] = means
    return found


def _matrix(values: "pd.Series[float]", seeds: int, tasks: int) -> Array:
    """Return values that are indexed by seed and task as an array ``(S, T)``, NaN where there is none."""
    made = np.full((seeds, tasks), np.nan)
    made[values.index.get_level_values("seed"), values.index.get_level_values("task")] = values.to_numpy()
    return made


def _retentions(runs: Sequence[Record], by_id: Mapping[str, Record], score: Score, bins: Bins) -> Array | None:
    """Return the retention on the tasks of each point, ``(S, B)``, of the seeds that have a reference; None if none."""
    metric = f"online_{score}"
    found = []
    for record in runs:
        reference = by_id.get(record.spec.reference().run_id)
        if reference is None or reference.outcome != "completed":
            continue
        fresh, chance, learner = reference.per_task(metric), reference.per_task("chance"), record.per_task(metric)
        line = []
        for part in bins.parts:
            tasks = [task for task in part if task in fresh]
            if not tasks:
                line.append(math.nan)
            elif score == "error":
                line.append(error_retention([learner.get(t, math.inf) for t in tasks], [fresh[t] for t in tasks]))
            else:
                scores = [learner.get(t, chance[t]) for t in tasks]
                line.append(retention(scores, [fresh[t] for t in tasks], [chance[t] for t in tasks]))
        found.append(line)
    return np.array(found) if found else None


def _failures(records: Iterable[Record]) -> Iterable[Failure]:
    """Yield the runs that did not complete, those alike together."""
    found: dict[tuple[str, str, str, str], list[tuple[int, str]]] = defaultdict(list)
    for record in records:
        if record.outcome == "completed":
            continue
        spec = record.spec
        what = spec.method_label
        if spec.kind == "fresh":
            what = f"fresh networks with {what}" if spec.methods else "fresh networks, the reference"
        setting = f"{spec.scenario.name} {spec.profile}, {spec.architecture_label}, {spec.optimizer_label}"
        error = record.status["error"]
        if error is None:
            step = record.status["diverged_at"]
            error = "no reason recorded" if step is None else "not finite any more"
        found[setting, what, record.outcome, error].append((spec.seed, record.path.name))
    for (setting, what, outcome, reason), runs in sorted(found.items()):
        yield Failure(what, setting, outcome, reason, tuple(sorted(runs)))
