"""What a page shows of a set of runs: tables as the leaderboard makes them, means over seeds, failures, commands."""

import math
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lopbench.core.errors import ResultsError
from lopbench.core.spec import RunSpec
from lopbench.results.leaderboard import board
from lopbench.results.overall import Entry
from lopbench.results.record import Record
from lopbench.results.score import Score
from lopbench.results.seed_scores import References, retentions_over
from lopbench.results.statistics import RESAMPLES
from lopbench.results.tasks import Floors, task_count

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]

#: Most numbers that the curves and maps of a page may hold, at 5.3 bytes each; what else 10,000 runs have is 6 MB.
BUDGET = 700_000

#: How many points a curve may have: the first that keeps to the budget, or else the last, and then no layers are shown.
POINTS = (160, 80, 40, 20, 10, 5)

#: The label of what is not measured but follows from the runs and their references.
RETENTION = "retention"

#: What is recorded in every run, and is neither a score nor a diagnostic.
_CONSTANTS = ("chance",)

#: What a run that stopped goes on with at chance; everything else ends where it stopped.
_AT_CHANCE = ("online_accuracy", "heldout_accuracy")

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
        entry: Its row of the leaderboard, with its runs.
        curves: By metric, the mean over seeds and the ends of its 95% interval, ``(3, B)``; with one seed ``(1, B)``.
        layers: By metric and layer, the mean over seeds, ``(B,)``.
        lines: The online score of each seed, ``(S, B)``, in the order of the runs; None where it was not measured.
    """

    entry: Entry
    curves: Mapping[str, Array]
    layers: Mapping[str, Mapping[str, Array]]
    lines: Array | None = None

    @property
    def line(self) -> Mapping[str, Any]:
        """The columns of its row."""
        return self.entry.row

    @property
    def runs(self) -> tuple[Record, ...]:
        """Its runs, by seed."""
        return self.entry.runs

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
        layers: By metric, the names of the layers where it was measured, in the order of the network.
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
        reason: The error, or what diverged.
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
        overall: Methods over all scenarios; without rows where there is one scenario only.
        tables: One for each protocol.
        failures: All runs that did not complete, references included.
        problems: Why records were left out.
        runs: Number of runs of learners.
        references: Number of runs of fresh networks.
        layered: Whether there are numbers of layers, of which many runs have too many for one page.
    """

    frame: "pd.DataFrame"
    overall: "pd.DataFrame"
    tables: tuple[Table, ...]
    failures: tuple[Failure, ...]
    problems: tuple[ResultsError, ...]
    runs: int
    references: int
    layered: bool = True


def summarise(*paths: str | os.PathLike[str]) -> Summary:
    """Return what a page shows of all runs under ``paths``.

    Args:
        paths: Results folders, folders of run directories, or single run directories.

    Raises:
        ResultsError: If there are no runs that can be used.
    """
    made = board(*paths)
    floors = Floors(made.records)
    references = References(made.records)
    points, layered = _thinning(made.entries)
    protocols: dict[str, list[Entry]] = defaultdict(list)
    for entry in made.entries:
        protocols[entry.row["protocol_id"]].append(entry)
    runs = sum(len(entry.runs) for entry in made.entries)
    return Summary(
        frame=made.rows,
        overall=made.overall,
        tables=tuple(_table(entries, references, floors, points, layered=layered) for entries in protocols.values()),
        failures=tuple(_failures(made.records)),
        problems=made.problems,
        runs=runs,
        references=len(made.records) - runs,
        layered=layered,
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
    low, high = np.quantile(values.T @ weights.T, [tail, 1 - tail], axis=1)  # of (B, RESAMPLES)
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


class _Means:
    """The measurements of some runs of one protocol, as means over probes in each task.

    Args:
        runs: The runs; those of one seed complement each other.
        bins: The points of the protocol's curves.
    """

    def __init__(self, runs: Sequence[Record], bins: Bins) -> None:
        import pyarrow as pa

        self._bins = bins
        self.seeds = sorted({record.spec.seed for record in runs})
        # Of copies, which are forgotten with the rows they read: those of a thousand runs are a lot.
        tables = [replace(record).table for record in runs]
        table = pa.concat_tables(tables)
        self._metric, self._metrics = _codes(table["metric"])
        self._layer, self._layers = _codes(table["layer"])
        self._task = table["task"].to_numpy()
        self._value = table["value"].to_numpy()  # null is NaN
        self._seed = np.repeat([self.seeds.index(record.spec.seed) for record in runs], [len(each) for each in tables])
        self._known = np.isfinite(self._value) & (self._task >= 0) & (self._task < bins.tasks)

    def of_network(self) -> Iterator[tuple[str, Array]]:
        """Yield each metric with its means over all layers, ``(S, T)``, NaN where there is none."""
        means = self._means(self._metric, len(self._metrics), self._known)
        yield from ((name, each) for name, each in zip(self._metrics, means, strict=True) if name not in _CONSTANTS)

    def of_layers(self) -> dict[str, dict[str, Array]]:
        """Return the means over seeds, ``(B,)``, by metric and layer."""
        inner = self._known & (self._layer != (self._layers.index("") if "" in self._layers else -1))
        pairs = self._metric * len(self._layers) + self._layer
        # In the order in which they were measured, which is that of the network.
        present, first, pair = np.unique(pairs[inner], return_index=True, return_inverse=True)
        numbered = np.zeros(len(pairs), dtype=np.int64)
        numbered[inner] = pair
        means = self._means(numbered, len(present), inner)
        found: dict[str, dict[str, Array]] = defaultdict(dict)
        for index in np.argsort(first).tolist():
            metric, layer = divmod(int(present[index]), len(self._layers))
            found[self._metrics[metric]][self._layers[layer]] = self._bins.means(means[index]).mean(axis=0)
        return found

    def _means(self, group: NDArray[np.int64], groups: int, used: NDArray[np.bool_]) -> Array:
        """Return the means ``(groups, S, T)`` over the rows ``used``."""
        shape = (groups, len(self.seeds), self._bins.tasks)
        place = ((group * shape[1] + self._seed) * shape[2] + self._task)[used]
        count = np.bincount(place, minlength=math.prod(shape))
        total = np.bincount(place, weights=self._value[used], minlength=math.prod(shape))
        return np.where(count > 0, total / np.maximum(count, 1), np.nan).reshape(shape)


def _codes(column: Any) -> tuple[NDArray[np.int64], list[str]]:
    """Return the texts of a column as indices into the list of those that there are."""
    encoded = column.combine_chunks().dictionary_encode()
    return encoded.indices.to_numpy().astype(np.int64), encoded.dictionary.to_pylist()


def _thinning(entries: Iterable[Entry]) -> tuple[int, bool]:
    """Return how many points the curves may have, and whether there is room for layers."""
    sizes = []  # of each row the number of tasks, and of lines of curves, and of layers
    for entry in entries:
        run = replace(entry.runs[0])
        measured = run.table.group_by(["metric", "layer"]).aggregate([])
        curves = len(measured["metric"].unique()) * (3 if len(entry.runs) > 1 else 1) + len(entry.runs)
        sizes.append((task_count(run), curves, sum(layer != "" for layer in measured["layer"].to_pylist())))
    for layered in (True, False):
        for points in POINTS:
            if sum(min(tasks, points) * (curves + layered * layers) for tasks, curves, layers in sizes) <= BUDGET:
                return points, layered
    return POINTS[-1], False


def _table(entries: Sequence[Entry], known: References, floors: Floors, points: int, *, layered: bool) -> Table:
    first = entries[0].runs[0]
    bins, score = Bins(task_count(first), points), floors.score(first)
    rows = tuple(_row(entry, known, floors, bins, score, layered=layered) for entry in entries)
    layers: dict[str, dict[str, None]] = defaultdict(dict)
    for row in rows:
        for metric, names in row.layers.items():
            layers[metric] |= dict.fromkeys(names)
    wanted = {record.spec.reference().run_id for entry in entries for record in entry.runs}
    references = [found.record for found in map(known.fresh, sorted(wanted)) if found is not None]
    fresh: dict[str, Array] = {}
    if references:
        means = _Means(references, bins)
        fresh = _bands((metric, bins.means(values)) for metric, values in means.of_network())
    metrics = {metric for row in rows for metric in row.curves}
    return Table(
        rows=rows,
        bins=bins,
        score=score,
        metrics=tuple(sorted(metrics, key=lambda metric: _rank(metric, score))),
        layers={metric: tuple(names) for metric, names in sorted(layers.items())},
        fresh=fresh,
        references=len({record.spec.seed for record in references}),
    )


def _rank(metric: str, score: Score) -> tuple[int, str]:
    first = (RETENTION, f"online_{score}", f"heldout_{score}")
    return (first.index(metric) if metric in first else len(first), metric)


def _row(entry: Entry, known: References, floors: Floors, bins: Bins, score: Score, *, layered: bool) -> Row:
    means = _Means(entry.runs, bins)
    binned: dict[str, Array] = {}
    for metric, values in means.of_network():
        if metric in _AT_CHANCE:
            for line, record in zip(values, entry.runs, strict=True):
                if record.outcome != "completed":
                    floor = floors.of(record, range(bins.tasks))
                    line[:] = [floor[task] if math.isnan(value) else value for task, value in enumerate(line)]
        binned[metric] = bins.means(values)
    references = [(record, known.of(record, score)) for record in entry.runs]
    lines = [retentions_over(bins.parts, record, each, floors) for record, each in references if each is not None]
    if lines:
        binned[RETENTION] = np.array(lines)
    return Row(entry, _bands(binned.items()), means.of_layers() if layered else {}, binned.get(f"online_{score}"))


def _bands(values: Iterable[tuple[str, Array]]) -> dict[str, Array]:
    """Return the bands of those metrics of which something is known."""
    return {metric: band(each) for metric, each in values if np.isfinite(each).all(axis=0).any()}


def _failures(records: Iterable[Record]) -> Iterator[Failure]:
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
        found[setting, what, record.outcome, reason(record)].append((spec.seed, record.path.name))
    for (setting, what, outcome, why), runs in sorted(found.items()):
        yield Failure(what, setting, outcome, why, tuple(sorted(runs)))


def reason(record: Record) -> str:
    """Return why a run stopped, as far as its record says."""
    if record.status["error"] is not None:
        return str(record.status["error"])
    return "no longer finite" if record.outcome == "diverged" else "no reason recorded"
