"""Figures of results, ready for print: colour-blind safe, vector fonts, the same bytes for the same data.

They are made without pyplot's state and without a display; seaborn and matplotlib are imported when one is drawn.
"""

import json
import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from lopbench.core.errors import ResultsError
from lopbench.core.spec import canonical_json, format_value
from lopbench.core.text import counted
from lopbench.core.windows import before_window
from lopbench.results.looks import looks
from lopbench.results.record import Record, one_of_each
from lopbench.results.seed_scores import BASE, Reference, References, reference_name, retentions_over
from lopbench.results.statistics import INTERVAL_METHOD, interval
from lopbench.results.tasks import Floors, task_count, task_edges, task_means, task_scores

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Scores, which a diverged or failed run continues at chance; other metrics just end.
_SCORES = ("online_accuracy", "heldout_accuracy")

#: What `curves` draws under this name is no metric: the learner over the fresh network, of clones over the base.
RETENTION = "retention"

#: The metadata that each format we save would stamp with the time.
_DATE: Mapping[str, dict[str, Any]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}

_REFERENCE = "fresh network"
#: Share of the stream whose mean stands for the end of a phase: the last 100,000 of 5,000,000 samples of the paper.
_PHASE_END = 0.02

_REFERENCE_STYLE: Mapping[str, Any] = {"color": "0.35", "linestyle": "--", "linewidth": 1.2}
_SWITCH_STYLE: Mapping[str, Any] = {"color": "0.35", "linestyle": ":", "linewidth": 1.2}


def retention_vs_learning_rate(frame: "pd.DataFrame") -> "Figure":
    """Return the retention of each method over the learning rate, with its 95% interval and the fresh network's line.

    Args:
        frame: Rows of `leaderboard` (or of its CSV) that differ in method and learning rate only.

    Raises:
        ResultsError: If the rows differ in anything else, or none has a retention.
    """
    if frame["protocol_id"].nunique() > 1:
        columns = ("scenario", "profile", "architecture", "data")
        differing = [c for c in columns if frame[c].nunique(dropna=False) > 1] or ["reference, numerics or versions"]
        raise ResultsError(
            f"One figure cannot hold these rows: they differ in {', '.join(differing)}. Select rows of one protocol."
        )
    rows = frame[frame["retention"].notna()].sort_values("lr")
    if rows.empty:
        raise ResultsError("No row has a retention to draw; the runs have no completed fresh references.")
    twice = rows[rows.duplicated(["method", "lr"])]
    if not twice.empty:
        raise ResultsError(
            f"{twice.iloc[0]['method']} stands more than once at learning rate {twice.iloc[0]['lr']:g}, with other "
            "optimizer settings or code; select one of these rows."
        )
    methods = sorted(rows["method"].unique(), key=_none_first)
    drawn = looks(methods)
    with _axes() as (figure, axes):
        axes.axhline(1.0, label=rows.iloc[0]["reference"], **_REFERENCE_STYLE)
        for index, method in enumerate(methods):
            colour, marker = drawn[method]
            line = rows[rows["method"] == method]
            value = line["retention"].to_numpy()
            # A single seed has no interval and gets no bar.
            low, high = (line[f"retention_{end}"].fillna(line["retention"]).to_numpy() for end in ("low", "high"))
            # Side by side: bars at the same learning rate would hide each other.
            beside = line["lr"].to_numpy() * 1.015 ** (index - (len(methods) - 1) / 2)
            bars = [value - low, high - value]
            axes.errorbar(beside, value, yerr=bars, label=method, color=colour, marker=marker, capsize=2)
        axes.set(xscale="log", xlabel="learning rate", ylabel="plasticity retention")
        rates = sorted(rows["lr"].unique())
        axes.set_xticks(rates, labels=[f"{rate:g}" for rate in rates])
        axes.set_xticks([], minor=True)
        first = rows.iloc[0]
        optimizer = str(first["optimizer"]).partition(":")[0]
        setting = f"{first['scenario']} {first['profile']}, {first['architecture']}, {optimizer}"
        _finish(figure, axes, setting, rows["seeds"].min(), rows["seeds"].max())
    return figure


def curves(records: Sequence[Record], metric: str = "online_accuracy") -> "Figure":
    """Return a metric over the tasks: each method's mean over seeds with its 95% interval, and the fresh reference's.

    Of what was measured more than once in a task, the end of the task is drawn; of layers, their mean. Diverged and
    failed runs go on at chance in online and held-out accuracy; other metrics end with the run.

    Args:
        records: Runs of one protocol, and their fresh references if those should be drawn.
        metric: Label of the metric, or `RETENTION`: the learner above chance over the fresh network, task by task, on
            the tasks that the reference covers.

    Raises:
        ResultsError: If the runs are of several protocols, or no run measured the metric.
    """
    import seaborn as sns
    from matplotlib.ticker import MaxNLocator

    records = one_of_each(records)
    runs = [record for record in records if record.spec.kind == "continual"]
    protocols = sorted({record.spec.protocol_id for record in runs})
    if len(protocols) > 1:
        raise ResultsError(f"One figure cannot hold several protocols, got {', '.join(protocols)}; select one.")
    data = _points(records, runs, metric)
    methods = sorted(set(data["method"]) - {_REFERENCE}, key=_none_first)
    if not methods:
        raise ResultsError(f"No run measured {metric!r}; 'lopbench list metrics' shows what can be measured.")
    drawn = looks(methods)
    with _axes() as (figure, axes):
        sns.lineplot(
            data[data["method"] != _REFERENCE],
            x="task",
            y="value",
            hue="method",
            hue_order=methods,
            style="method",
            style_order=methods,
            palette=[drawn[method].colour for method in methods],
            markers=[drawn[method].marker for method in methods],
            markersize=4,
            dashes=False,
            errorbar=interval,
            ax=axes,
        )
        reference, name = data[data["method"] == _REFERENCE], _reference_name(runs, metric)
        if not reference.empty:
            sns.lineplot(reference, x="task", y="value", errorbar=interval, label=name, ax=axes, **_REFERENCE_STYLE)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="task", ylabel=f"learner over {name}, S/F" if metric == RETENTION else _heading(metric))
        spec = runs[0].spec
        optimizers = {record.spec.optimizer_label for record in runs}
        setting = f"{spec.scenario.name} {spec.profile}, {spec.architecture_label}"
        setting += f", {spec.optimizer_label}" if len(optimizers) == 1 else ""
        seeds = data[data["method"] != _REFERENCE].groupby("method")["seed"].nunique()
        _finish(figure, axes, setting, seeds.min(), seeds.max())
    return figure


def _points(records: Sequence[Record], runs: Sequence[Record], metric: str) -> "pd.DataFrame":
    """Return method, seed, task and value of the runs, and of those among the records that are their references."""
    import pandas as pd

    references = {record.spec.reference().run_id for record in runs}
    floors, known = Floors(records), References(records)
    labels = _labels(runs)
    several = len({record.spec.optimizer_label for record in runs}) > 1
    rows: list[tuple[str, int, int, float]] = []
    for record in records:
        if record.spec.kind == "continual":
            label = labels[record.spec.method_id] + (f", {record.spec.optimizer_label}" if several else "")
        elif record.run_id in references and record.outcome == "completed":
            label = _REFERENCE
        else:
            continue
        found = _ratios(record, known, floors) if metric == RETENTION else _by_task(record, metric, floors)
        rows += [(label, record.seed, task, value) for task, value in found]
    return pd.DataFrame(rows, columns=["method", "seed", "task", "value"])


def error_curves(records: Sequence[Record], panels: Literal["step size", "width"] = "step size") -> "Figure":
    """Return the online error over the stream, averaged over each task: a panel for each step size or width.

    In the style in which Dohare et al. (2023, arXiv:2306.13812) show the slowly-changing regression: a colour for each
    method, its mean over seeds as a line, here with the 95% interval as a band. A line ends where the first of its runs
    stopped, since a mean of those that are left would flatter it.

    Args:
        records: Runs of one scenario, references left out. Over step sizes several architectures may stand together,
            and are then named in the legend.
        panels: What tells the panels apart: the learning rate, or the field ``width`` of the architecture.

    Raises:
        ResultsError: If the runs differ in anything else but method and seed, or none measured an error.
    """
    runs = _learners(records)
    by_rate = panels == "step size"
    _check_alike(runs, but="lr and architecture" if by_rate else "width")
    _check_measured(runs, "online_error")
    labels = _labels(runs)
    several = by_rate and len({record.spec.architecture_label for record in runs}) > 1
    lines: dict[float, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in runs:
        name = labels[record.spec.method_id] + (f", {record.spec.architecture_label}" if several else "")
        lines[record.spec.optimizer.fields["lr"] if by_rate else _width(record)][name].append(record)
    names = sorted({name for panel in lines.values() for name in panel}, key=_none_first)
    with _panels(names, columns=len(lines)) as (figure, grid, colours):
        for axes, value in zip(grid, sorted(lines), strict=True):
            for name, line in lines[value].items():
                _draw_line(axes, line, "online_error", colours[name])
            axes.set(title=f"{panels} {value:g}", xlabel="step")
        grid[0].set_ylabel("online error")
        _describe(figure, runs, colours)
    return figure


def recovery_curves(records: Sequence[Record], metric: str = "effective_rank") -> "Figure":
    """Return the online error over the stream, a metric under it, and a vertical line where methods turn on.

    In the style of Fig. B.1 of Joudaki et al. 2025, "Barriers for Learning in an Evolving World": the mean over seeds,
    here with the 95% interval as a band where they show the standard deviation. Both are averaged over each task, the
    metric over its layers too. A line ends where the first of its runs stopped.

    Args:
        records: Runs of one protocol, references left out.
        metric: Label of the metric.

    Raises:
        ResultsError: If the runs are of several protocols, or none measured the error or the metric.
    """
    runs = _learners(records)
    _check_alike(runs)
    labels = _labels(runs)
    lines: dict[str, list[Record]] = defaultdict(list)
    for record in runs:
        lines[labels[record.spec.method_id]].append(record)
    with _panels(sorted(lines, key=_none_first), rows=2) as (figure, grid, colours):
        for axes, shown in zip(grid, ("online_error", metric), strict=True):
            _check_measured(runs, shown)
            for name, line in lines.items():
                _draw_line(axes, line, shown, colours[name])
            for start in sorted({record.spec.start for record in runs} - {0.0}):
                edges = task_edges(runs[0])
                place = np.interp(start * (len(edges) - 1), range(len(edges)), edges)
                axes.axvline(float(place), label="method on", **_SWITCH_STYLE)
            axes.set_ylabel(_heading(shown))
        grid[-1].set_xlabel("step")
        _describe(figure, runs, colours)
    return figure


def recovery_bars(
    records: Sequence[Record], metrics: Sequence[str] = ("duplicate_fraction", "effective_rank", "online_error")
) -> "Figure":
    """Return metrics by width, a panel for each, before the methods turned on and at the end of the stream.

    In the style of Fig. B.2 of Joudaki et al. 2025, "Barriers for Learning in an Evolving World". A bar is the mean
    over seeds, with its 95% interval, of the last 2% of the stream (their 100,000 of 5,000,000 samples), at least one
    task, before that moment. Runs that turn on different methods at one moment share the bar before it. There is no bar
    where a run had stopped, since a mean of those that are left would flatter it.

    Args:
        records: Runs that differ in width, method and seed only, references left out.
        metrics: Labels of the metrics, at least one.

    Raises:
        ResultsError: If the runs differ in anything else, an architecture has no width, or no run measured a metric.
    """
    runs = _learners(records)
    _check_alike(runs, but="width")
    labels = _labels(runs)
    phases = [
        (name, _width(record), record, tasks)
        for record in runs
        for name, tasks in _phases(record, labels[record.spec.method_id])
    ]
    widths = sorted({width for _, width, _, _ in phases})
    names = sorted({name for name, _, _, _ in phases}, key=_none_first)
    size = 0.8 / len(names)
    with _panels(names, columns=len(metrics), shared=False) as (figure, grid, colours):
        for axes, metric in zip(grid, metrics, strict=True):
            _check_measured(runs, metric)
            # Of each bar the values by seed, several where runs share a phase, NaN where one had stopped.
            values: dict[tuple[str, int], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
            for name, width, record, tasks in phases:
                known = task_means(record, metric)
                values[name, width][record.seed].append(_mean([known.get(task, math.nan) for task in tasks]))
            for (name, width), by_seed in values.items():
                mean, low, high = _summary([_mean(found) for found in by_seed.values()])
                at = widths.index(width) + (names.index(name) - (len(names) - 1) / 2) * size
                bars = [[max(mean - low, 0.0)], [max(high - mean, 0.0)]]
                axes.bar(at, mean, size, yerr=bars, color=colours[name], capsize=2, error_kw={"elinewidth": 0.8})
            axes.set(title=_heading(metric), xlabel="width")
            axes.set_xticks(range(len(widths)), labels=[str(width) for width in widths])
            axes.grid(visible=False, axis="x")
        _describe(figure, runs, colours)
    return figure


def cloning_curves(
    records: Sequence[Record],
    colours: Literal["method", "optimizer"] = "method",
    r2: Sequence[str] = ("cloning_r2_forward", "cloning_r2_backward"),
) -> "Figure":
    """Return cloning R2, online loss and effective rank over the epochs, of clones and of the bases beside them.

    In the style of Fig. 2.1 and B.7 to B.14 of Joudaki et al. 2025, "Barriers for Learning in an Evolving World": the
    mean over seeds, here with the 95% interval as a band where they show the standard deviation; R2 and rank are means
    over the layers. Clones are solid and bases dashed. A base that is the same beside several clones, as it is where
    methods build nothing into it, is grey. A line ends where the first of its runs stopped.

    Args:
        records: Runs of one protocol of a scenario that clones, references left out.
        colours: What tells the lines apart; over optimizers, protocols may differ in these, and the runs have one
            method.
        r2: Labels of the metrics whose mean is the R2; ``("cloning_r2_authors",)`` for the authors' logging.

    Raises:
        ResultsError: If the runs differ in anything else, or none measured what a panel shows.
    """
    runs = _learners(records)
    by_method = colours == "method"
    _check_alike(runs, but="" if by_method else "optimizer")
    labels = _labels(runs)
    if not by_method and len(labels) > 1:
        raise ResultsError(
            f"One figure of several optimizers holds one method, got {', '.join(sorted(labels.values()))}; select one."
        )
    lines: dict[str, list[Record]] = defaultdict(list)
    for record in runs:
        lines[labels[record.spec.method_id] if by_method else record.spec.optimizer_label].append(record)
    start = _cloned_at(runs)
    panels = {"cloning R2": r2, "online loss": ("online_loss",), "effective rank": ("effective_rank",)}
    with _panels(sorted(lines, key=_none_first), columns=len(panels), shared=False) as (figure, grid, palette):
        for axes, (title, metrics) in zip(grid, panels.items(), strict=True):
            for metric in metrics:
                _check_measured(runs, metric)
            bases: dict[bytes, tuple[NDArray[np.float64], list[object]]] = {}  # by what they look like
            for name, line in lines.items():
                _draw_curve(axes, _curve([_by_epoch(r, metrics, since=start) for r in line]), palette[name], "-")
                base = _curve([_base_by_epoch(record, metrics, start) for record in line])
                bases.setdefault(base.tobytes(), (base, []))[1].append(palette[name])
            axes.axvline(start, label="cloning", **_SWITCH_STYLE)
            for base, of in bases.values():
                _draw_curve(axes, base, of[0] if len(of) == 1 else _REFERENCE_STYLE["color"], "--")
            axes.set(title=title, xlabel="epoch")
            for label, style in (("clone", "-"), ("base", "--")):
                axes.plot([], [], color=_REFERENCE_STYLE["color"], linestyle=style, linewidth=1.2, label=label)
        _describe(figure, runs, palette)
    return figure


def save(figure: "Figure", path: str | os.PathLike[str]) -> None:
    """Write a figure as SVG, PDF or PNG (300 dots an inch), by the suffix of ``path``.

    Raises:
        ResultsError: If the suffix is another one or the file cannot be written.
    """
    import matplotlib as mpl

    path = Path(path)
    suffix = path.suffix.lower().removeprefix(".")
    if suffix not in _DATE:
        raise ResultsError(f"A figure is saved as .svg, .pdf or .png, not as {path.name!r}.")
    # No date and a fixed salt for ids: the same data gives the same file. Type 42: text stays text in a PDF.
    with mpl.rc_context({"svg.hashsalt": "lopbench", "svg.fonttype": "none", "pdf.fonttype": 42}):
        try:
            figure.savefig(path, dpi=300, metadata=_DATE[suffix])
        except OSError as error:
            raise ResultsError(f"The figure cannot be written to {path}: {error.strerror or error}.") from error


def _reference_name(runs: Sequence[Record], metric: str) -> str:
    """Return what the references of runs are, as a figure of ``metric`` shows them."""
    name = reference_name(runs[0])
    # Clones have references besides the bases that they are measured against: networks as wide, born at the start.
    return name if metric == RETENTION or name == _REFERENCE else f"{_REFERENCE} as wide"


def _by_task(record: Record, metric: str, floors: Floors) -> Iterator[tuple[int, float]]:
    if metric in _SCORES and record.spec.kind == "continual":
        other = metric.replace("accuracy", "error")
        if floors.score(record) == "error":
            raise ResultsError(f"These runs score errors, and have no {metric}; draw {other} with --metric {other}.")
        tasks = range(task_count(record))
        values = task_scores(record, metric, tasks, floors.of(record, tasks))
        yield from zip(tasks, values.tolist(), strict=True)
        return
    yield from task_means(record, metric).items()


def _ratios(record: Record, known: References, floors: Floors) -> Iterator[tuple[int, float]]:
    """Yield the retention of each task that the reference of a run covers; of a reference it is 1."""
    score = floors.score(record)
    reference = Reference(record) if record.spec.kind == "fresh" else known.of(record, score)
    if reference is not None:
        tasks = reference.tasks(f"online_{score}")
        yield from zip(tasks, retentions_over([[task] for task in tasks], record, reference, floors), strict=True)


def _learners(records: Iterable[Record]) -> list[Record]:
    """Return the runs of learners, each once.

    Raises:
        ResultsError: If there are none.
    """
    runs = one_of_each(record for record in records if record.spec.kind == "continual")
    if not runs:
        raise ResultsError("There is no run of a learner to draw.")
    return runs


def _check_alike(runs: Iterable[Record], but: Literal["", "width", "lr and architecture", "optimizer"] = "") -> None:
    """Refuse runs whose protocols differ in anything ``but`` what is named.

    Raises:
        ResultsError: If they do, naming the parts that differ.
    """
    found: dict[str, set[str]] = defaultdict(set)
    for record in runs:
        asked = {**record.spec.protocol(), "optimizer": record.spec.entry()["optimizer"]}
        protocol = json.loads(canonical_json(asked))  # a copy, to cut up
        if but == "width":
            protocol["architecture"]["fields"].pop("width", None)
        elif but == "optimizer":
            del protocol["optimizer"]
        elif but == "lr and architecture":
            del protocol["optimizer"]["fields"]["lr"]
            del protocol["reference_optimizer"]  # depends on the architecture, and no reference is drawn
            found[f"the code of {record.spec.architecture_label}"].add(canonical_json(protocol.pop("architecture")))
        for part, value in protocol.items():
            found[part].add(canonical_json(value))
    differing = [part for part, values in found.items() if len(values) > 1]
    if differing:
        raise ResultsError(f"One figure cannot hold these runs: they differ in {', '.join(differing)}. Select fewer.")


def _check_measured(runs: Iterable[Record], metric: str) -> None:
    if not any(task_means(record, metric) for record in runs):
        raise ResultsError(f"No run measured {metric!r}; 'lopbench list metrics' shows what can be measured.")


def _width(record: Record) -> int:
    width = record.spec.architecture.fields.get("width")
    if not isinstance(width, int):
        raise ResultsError(
            f"{record.spec.architecture_label} has no width; select runs of an architecture that has one."
        )
    return width


def _phases(record: Record, label: str) -> Iterator[tuple[str, range]]:
    """Yield the last tasks before the methods of a run turned on and those at its end, each with their name."""
    count = task_count(record)
    length = max(1, round(_PHASE_END * count))
    before = before_window(count, record.spec.start)
    if before:
        yield f"none until {format_value(record.spec.start)}", before[-length:]
    yield label, range(count)[-length:]


def _cloned_at(runs: Iterable[Record]) -> int:
    """Return the task before which the learners were cloned: from it on, bases are measured too.

    Raises:
        ResultsError: If no run came so far.
    """
    tasks = [frame.loc[frame["metric"].str.startswith(BASE), "task"].min() for frame in (r.measurements for r in runs)]
    found = [int(task) for task in tasks if not math.isnan(task)]
    if not found:
        raise ResultsError("No run has measured a base beside its clone; select runs of a scenario that clones.")
    return min(found)


def _by_epoch(record: Record, metrics: Sequence[str], *, since: int = 0, until: float = math.inf) -> dict[float, float]:
    """Return the mean of metrics, and over layers, by the tasks done when they were measured.

    Args:
        record: The run.
        metrics: Labels of the metrics.
        since: First task of which measurements count; that before its first step is one of them.
        until: First task of which they do not.
    """
    frame = record.measurements
    rows = frame[frame["metric"].isin(metrics) & (frame["task"] >= since) & (frame["task"] < until)]
    mean = rows.groupby("step")["value"].mean().dropna()
    edges = task_edges(record)
    places = np.interp(mean.index.to_numpy(), edges, np.arange(len(edges)))
    return dict(zip(places.tolist(), mean.tolist(), strict=True))


def _base_by_epoch(record: Record, metrics: Sequence[str], start: int) -> dict[float, float]:
    """Return `_by_epoch` of the base: of the learner before task ``start``, and of what went on beside its clone."""
    beside = _by_epoch(record, [BASE + metric for metric in metrics])
    return {**beside, **_by_epoch(record, metrics, until=start)}


def _curve(known: Sequence[Mapping[float, float]]) -> NDArray[np.float64]:
    """Return place, mean and interval, ``(n, 4)``, where all of some runs, which differ in seed, know a value."""
    places = sorted(set[float].intersection(*map(set, known)))
    return np.array([(place, *_summary([values[place] for values in known])) for place in places]).reshape(-1, 4)


def _draw_curve(axes: "Axes", curve: NDArray[np.float64], colour: object, linestyle: str) -> None:
    """Draw what `_curve` returned."""
    place, mean, low, high = curve.T
    axes.plot(place, mean, color=colour, linestyle=linestyle, linewidth=1.2)
    axes.fill_between(place, low, high, color=colour, alpha=0.25, linewidth=0)


def _draw_line(axes: "Axes", runs: Sequence[Record], metric: str, colour: object) -> None:
    """Draw the mean and interval over ``runs``, which differ in seed, on the tasks that all of them have measured."""
    known = [
        {float(edges[task + 1]): value for task, value in task_means(record, metric).items()}
        for record, edges in zip(runs, map(task_edges, runs), strict=True)
    ]
    _draw_curve(axes, _curve(known), colour, "-")


def _summary(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean over seeds and its interval, which is empty for one seed; NaN if one is."""
    mean = _mean(values)
    low, high = interval(values) if len(values) > 1 and not math.isnan(mean) else (mean, mean)
    return mean, low, high


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _labels(runs: Sequence[Record]) -> dict[str, str]:
    """Return the legend of each set of methods; what only the code tells apart carries its origin."""
    labels = {record.spec.method_id: record.spec.method_label for record in runs}
    origins = {
        record.spec.method_id: ", ".join(f"{m.origin} v{m.version}" for m in record.spec.methods) for record in runs
    }
    count = Counter(labels.values())
    return {key: label if count[label] == 1 else f"{label} ({origins[key]})" for key, label in labels.items()}


def _heading(metric: str) -> str:
    """Return a metric in words, its fields on a line of their own."""
    name, _, fields = metric.partition(":")
    return name.replace("_", " ") + (f"\n{fields.replace(',', ', ')}" if fields else "")


def _none_first(label: str) -> tuple[bool, str]:
    return label.partition(" ")[0].rstrip(",") != "none", label


def _finish(figure: "Figure", axes: "Axes", setting: str, fewest: int, most: int) -> None:
    """Add the title, which states seeds and interval, and the legend, beside the axes where it covers nothing."""
    axes.set_title(f"{setting}\n{_spread(fewest, most)}", fontsize="small")
    legend = axes.get_legend()  # seaborn's own
    if legend is not None:
        legend.remove()
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", frameon=False)


def _spread(fewest: int, most: int) -> str:
    seeds = counted(most, "seed") if fewest == most else f"{fewest} to {most} seeds"
    return f"mean of {seeds}" if most == 1 else f"mean of {seeds}, {INTERVAL_METHOD}"


def _describe(figure: "Figure", runs: Sequence[Record], colours: Mapping[str, Any]) -> None:
    """Add the title, with seeds, interval and runs that stopped, and the legend to a figure of several panels."""
    from matplotlib.patches import Patch

    spec = runs[0].spec
    setting = [f"{spec.scenario.name} {spec.profile}", spec.architecture_label, spec.optimizer_label]
    for index, labels in (
        (1, {record.spec.architecture_label for record in runs}),
        (2, {record.spec.optimizer_label for record in runs}),
    ):
        if len(labels) > 1:  # the panels or the legend tell them apart
            setting[index] = " and ".join(sorted({label.partition(":")[0] for label in labels}))
    lines: dict[tuple[str, str], set[int]] = defaultdict(set)
    for record in runs:
        lines[record.spec.protocol_id, record.spec.entry_id].add(record.seed)
    counts = [len(seeds) for seeds in lines.values()]
    stopped = sum(record.outcome != "completed" for record in runs)
    notes = [_spread(min(counts), max(counts))]
    if stopped:
        notes.append(f"{stopped} of {counted(len(runs), 'run')} stopped early")
    figure.suptitle(f"{', '.join(setting)}\n{'; '.join(notes)}", fontsize="small")
    handles = {name: Patch(color=colour) for name, colour in colours.items()}
    others = {
        label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    names = [*handles, *others]
    # Under the panels, where long names squeeze none of them.
    panels = figure.axes[0].get_gridspec()
    assert panels is not None  # the axes are subplots
    (width, height), longest = figure.get_size_inches(), max(map(len, names))
    fit = max(1, int(width // (0.08 * longest + 0.7))) if longest > 30 else 2 * panels.ncols
    columns = min(len(names), fit)
    figure.set_size_inches(width, height + 0.18 * -(-len(names) // columns))
    figure.legend(
        [*handles.values(), *others.values()], names, loc="outside lower center", ncols=columns, frameon=False
    )


@contextmanager
def _panels(
    names: Sequence[str], *, rows: int = 1, columns: int = 1, shared: bool = True
) -> "Iterator[tuple[Figure, list[Axes], dict[str, Any]]]":
    """Yield a figure of panels, in reading order, and a colour for each name, in the house style.

    Args:
        names: What the colours stand for.
        rows: Number of rows, which share their horizontal axis.
        columns: Number of columns.
        shared: Whether the horizontal axes count steps and the panels of a row share their vertical axis.
    """
    import seaborn as sns
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    with house_style():
        figure = Figure(figsize=(0.6 + 2.6 * columns if columns > 1 else 6.2, 0.8 + 2.0 * rows), layout="constrained")
        grid = list(figure.subplots(rows, columns, sharex="col", sharey="row" if shared else False, squeeze=False).flat)
        for axes in grid:
            sns.despine(ax=axes)
            if shared:
                axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        drawn = looks(names)
        yield figure, grid, {name: drawn[name].colour for name in names}


@contextmanager
def _axes() -> "Iterator[tuple[Figure, Axes]]":
    """Yield a figure with one pair of axes, in the house style, which holds inside the block."""
    import seaborn as sns
    from matplotlib.figure import Figure

    with house_style():
        figure = Figure(figsize=(7.2, 3.8), layout="constrained")
        axes = figure.subplots()
        sns.despine(ax=axes)
        yield figure, axes


@contextmanager
def house_style() -> Iterator[None]:
    """Hold the house style inside the block."""
    import matplotlib as mpl
    import seaborn as sns

    with mpl.rc_context(
        {**sns.axes_style("ticks"), **sns.plotting_context("paper"), "axes.grid": True, "grid.alpha": 0.3}
    ):
        yield
