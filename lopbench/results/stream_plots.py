"""Figures of long streams: errors, what turning a method on does, and clones beside their bases."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from lopbench.core.errors import ResultsError
from lopbench.core.spec import format_value
from lopbench.core.windows import before_window, late_window
from lopbench.results.drawing import (
    CHANCE_STYLE,
    REFERENCE_STYLE,
    SWITCH_STYLE,
    Curve,
    axes_grid,
    curve,
    draw_curve,
    draw_lines,
    draw_scored,
    errors_in_log,
    key,
    named,
    summary,
)
from lopbench.results.looks import Look, fields_of, looks
from lopbench.results.plots import CONSTANT
from lopbench.results.plotted import (
    REFERENCE,
    check_alike,
    check_errors,
    check_measured,
    constant,
    grouped,
    heading,
    labels_of,
    learners,
    line_of,
    placed,
    references_of,
    title,
    width_of,
)
from lopbench.results.record import Record
from lopbench.results.seed_scores import BASE
from lopbench.results.sheet import dress
from lopbench.results.tasks import late_count, task_count, task_edges, task_means

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Share of the stream whose mean stands for the end of a phase: the last 100,000 of 5,000,000 samples of the paper.
_PHASE_END = 0.02

#: Of fresh networks, where there are several architectures.
_GREYS = (REFERENCE_STYLE["color"], "0.55")


def error_curves(records: Sequence[Record], panels: Literal["step size", "width"] = "step size") -> "Figure":
    """Return the online error over the stream, averaged over each task: a panel for each step size or width.

    In the style in which Dohare et al. (2023, arXiv:2306.13812) show the slowly-changing regression: a colour for each
    method, its mean over seeds as a line, here with the 95% interval as a band. A line ends where the first of its runs
    stopped, since a mean of those that are left would flatter it. What was before a method turned on is drawn once.
    Beside them stand the best constant, the tasks that are scored and the fresh networks; the axis is logarithmic.

    Args:
        records: Runs of one scenario, and their fresh references if those should be drawn. Over step sizes several
            architectures may stand together, and are then named in the legend.
        panels: What tells the panels apart: the learning rate, or the field ``width`` of the architecture.

    Raises:
        ResultsError: If the runs differ in anything else but method and seed, or none measured an error.
    """
    runs = learners(records)
    by_rate = panels == "step size"
    check_alike(runs, but="lr and architecture" if by_rate else "width")
    check_errors(runs)
    several = by_rate and len({record.spec.architecture_label for record in runs}) > 1
    groups = grouped(runs, architecture=several)
    drawn = looks(groups, {name: fields_of(group[0].spec, architecture=several) for name, group in groups.items()})
    lines: dict[float, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for name, group in groups.items():
        for record in group:
            lines[record.spec.optimizer.fields["lr"] if by_rate else width_of(record)][name].append(record)
    with axes_grid(columns=len(lines), steps=True) as (figure, grid):
        keys: dict[object, Artist] = {}
        for axes, value in zip(grid, sorted(lines), strict=True):
            shown = [record for group in lines[value].values() for record in group]
            found = _draw_stream(axes, lines[value], "online_error", drawn)
            found += _draw_against(axes, shown, references_of(records, shown), several=several)
            keys |= {each.get_label(): each for each in found}
            axes.set(title=f"{panels} {value:g}", xlabel="step")
        for axes in grid:
            errors_in_log(axes)
        grid[0].set_ylabel("online error")
        dress(figure, title(runs), list(keys.values()))
    return figure


def recovery_curves(records: Sequence[Record], metric: str = "effective_rank") -> "Figure":
    """Return the online error over the stream, a metric under it, and a vertical line where methods turn on.

    In the style of Fig. B.1 of Joudaki et al. 2025, "Barriers for Learning in an Evolving World": the mean over seeds,
    here with the 95% interval as a band where they show the standard deviation. Both are averaged over each task, the
    metric over its layers too. A line ends where the first of its runs stopped. What was before is the same for all
    methods, and drawn once; beside the error stand those of `error_curves`.

    Args:
        records: Runs of one protocol, and their fresh references if those should be drawn.
        metric: Label of the metric.

    Raises:
        ResultsError: If the runs are of several protocols, or none measured the error or the metric.
    """
    runs = learners(records)
    check_alike(runs)
    check_errors(runs)
    check_measured(runs, metric)
    groups = grouped(runs)
    drawn = looks(groups, {name: fields_of(group[0].spec) for name, group in groups.items()})
    with axes_grid(rows=2, steps=True) as (figure, grid):
        keys: dict[object, Artist] = {}
        for axes, shown in zip(grid, ("online_error", metric), strict=True):
            found = _draw_stream(axes, groups, shown, drawn)
            for start in sorted({record.spec.start for record in runs} - {0.0}):
                edges = task_edges(runs[0])
                place = np.interp(start * (len(edges) - 1), range(len(edges)), edges)
                axes.axvline(float(place), **SWITCH_STYLE)
                found.append(named("method on", SWITCH_STYLE))
            if shown == "online_error":
                found += _draw_against(axes, runs, references_of(records, runs), several=False)
                errors_in_log(axes)
            keys |= {each.get_label(): each for each in found}
            axes.set_ylabel(heading(shown))
        grid[-1].set_xlabel("step")
        dress(figure, title(runs), list(keys.values()))
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
    from matplotlib.patches import Patch

    runs = learners(records)
    check_alike(runs, but="width")
    labels = labels_of(runs)
    phases = [
        (name, width_of(record), record, tasks)
        for record in runs
        for name, tasks in _phases(record, labels[record.spec.method_id])
    ]
    widths = sorted({width for _, width, _, _ in phases})
    drawn = looks({name: None for name, _, _, _ in phases})
    names = list(drawn)
    size = 0.8 / len(names)
    with axes_grid(columns=len(metrics)) as (figure, grid):
        for axes, metric in zip(grid, metrics, strict=True):
            check_measured(runs, metric)
            # Of each bar the values by seed, several where runs share a phase, NaN where one had stopped.
            values: dict[tuple[str, int], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
            for name, width, record, tasks in phases:
                known = task_means(record, metric)
                values[name, width][record.seed].append(_mean([known.get(task, math.nan) for task in tasks]))
            for (name, width), by_seed in values.items():
                mean, low, high = summary([_mean(found) for found in by_seed.values()])
                at = widths.index(width) + (names.index(name) - (len(names) - 1) / 2) * size
                bars = [[max(mean - low, 0.0)], [max(high - mean, 0.0)]]
                axes.bar(at, mean, size, yerr=bars, color=drawn[name].colour, capsize=2, error_kw={"elinewidth": 0.8})
            axes.set(title=heading(metric), xlabel="width")
            axes.set_xticks(range(len(widths)), labels=[str(width) for width in widths])
            axes.grid(visible=False, axis="x")
        dress(figure, title(runs), [Patch(color=look.colour, label=name) for name, look in drawn.items()])
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
    runs = learners(records)
    by_method = colours == "method"
    check_alike(runs, but="" if by_method else "optimizer")
    labels = labels_of(runs)
    if not by_method and len(labels) > 1:
        raise ResultsError(
            f"One figure of several optimizers holds one method, got {', '.join(sorted(labels.values()))}; select one."
        )
    lines: dict[str, list[Record]] = defaultdict(list)
    for record in runs:
        lines[labels[record.spec.method_id] if by_method else record.spec.optimizer_label].append(record)
    drawn = looks(lines, {name: fields_of(each[0].spec, optimizer=not by_method) for name, each in lines.items()})
    start, grey = _cloned_at(runs), REFERENCE_STYLE["color"]
    shown = {"cloning R2": r2, "online loss": ("online_loss",), "effective rank": ("effective_rank",)}
    with axes_grid(columns=len(shown)) as (figure, grid):
        for axes, (heading_, metrics) in zip(grid, shown.items(), strict=True):
            for metric in metrics:
                check_measured(runs, metric)
            bases: dict[bytes, tuple[Curve, list[str]]] = {}  # by what they look like
            for name, look in drawn.items():
                points = curve([_by_epoch(record, metrics, since=start) for record in lines[name]])
                draw_curve(axes, points, look.colour, marker=look.marker)
                base = curve([_base_by_epoch(record, metrics, start) for record in lines[name]])
                bases.setdefault(base.tobytes(), (base, []))[1].append(look.colour)
            axes.axvline(start, **SWITCH_STYLE)
            for base, of in bases.values():
                draw_curve(axes, base, of[0] if len(of) == 1 else grey, linestyle="--")
            axes.set(title=heading_, xlabel="epoch")
            axes.set_xlim(left=0)
        keys = [key(name, look) for name, look in drawn.items()]
        kinds = [key("clone", Look(grey, "")), key("base", Look(grey, ""), "--"), named("cloning", SWITCH_STYLE)]
        dress(figure, title(runs), [*keys, *kinds])
    return figure


def _draw_stream(
    axes: "Axes", lines: Mapping[str, Sequence[Record]], metric: str, drawn: Mapping[str, Look]
) -> "list[Artist]":
    """Draw a metric over the steps, on the tasks that all runs of a line have measured; return the keys."""
    found = [
        line_of(name, group, [placed(record, task_means(record, metric)) for record in group], None)
        for name, group in lines.items()
    ]
    return draw_lines(axes, found, drawn)


def _draw_against(
    axes: "Axes", runs: Sequence[Record], references: Sequence[Record], *, several: bool
) -> "list[Artist]":
    """Draw what an error is to be seen against: fresh networks, the best constant, the scored tasks; return the keys.

    Args:
        axes: Where.
        runs: The runs that are drawn.
        references: Their fresh networks.
        several: Whether the legend tells architectures apart.
    """
    keys = []
    by_network: dict[str, list[Record]] = defaultdict(list)
    for record in references:
        by_network[record.spec.architecture_label].append(record)
    edges = task_edges(runs[0])
    for index, (network, group) in enumerate(sorted(by_network.items())):
        means = [task_means(record, "online_error") for record in group]
        points = curve([{float(edges[task + 1]): value for task, value in each.items()} for each in means])
        style = {**REFERENCE_STYLE, "color": _GREYS[index % len(_GREYS)]}
        draw_curve(axes, points, style["color"], linestyle=style["linestyle"])
        keys.append(named(f"{REFERENCE}, {network}" if several else REFERENCE, style))
    axes.plot(*constant(runs, by_step=True), **CHANCE_STYLE)
    window = late_window(task_count(runs[0]), late_count(runs[0]))
    return [*keys, named(CONSTANT, CHANCE_STYLE), draw_scored(axes, edges[window.start], edges[window.stop])]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


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
