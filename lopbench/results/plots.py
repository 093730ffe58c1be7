"""Figures of results, ready for print: colour-blind safe, vector fonts, the same bytes for the same data.

They are made without pyplot's state and without a display; seaborn and matplotlib are imported when one is drawn.
"""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lopbench.core.errors import ResultsError
from lopbench.core.spec import canonical_json
from lopbench.results.record import Record
from lopbench.results.statistics import INTERVAL_METHOD, interval
from lopbench.results.tasks import Floors, task_count, task_scores

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Scores, which a diverged or failed run continues at chance; other metrics just end.
_SCORES = ("online_accuracy", "heldout_accuracy")

#: The metadata that each format we save would stamp with the time.
_DATE: Mapping[str, dict[str, Any]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}

_REFERENCE = "fresh network"
_BEFORE = "before the method"

#: Share of the stream whose mean stands for the end of a phase: the last 100,000 of 5,000,000 samples of the paper.
_PHASE_END = 0.02

_MARKERS = "osD^vP*X<>"
_REFERENCE_STYLE: Mapping[str, Any] = {"color": "0.35", "linestyle": "--", "linewidth": 1.2}


def retention_vs_learning_rate(frame: "pd.DataFrame") -> "Figure":
    """Return the retention of each method over the learning rate, with its 95% interval and the fresh network's line.

    Args:
        frame: Rows of `leaderboard` (or of its CSV) that differ in method and learning rate only.

    Raises:
        ResultsError: If the rows differ in anything else, or none has a retention.
    """
    if frame["family"].nunique() > 1:
        columns = ("scenario", "profile", "architecture", "data")
        differing = [c for c in columns if frame[c].nunique(dropna=False) > 1] or ["metrics, numerics or versions"]
        raise ResultsError(
            f"One figure cannot hold these rows: they differ in {', '.join(differing)}. Select rows of one 'family'."
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
    with _axes(len(methods)) as (figure, axes, palette):
        axes.axhline(1.0, label=_REFERENCE, **_REFERENCE_STYLE)
        for index, (method, colour, marker) in enumerate(zip(methods, palette, cycle(_MARKERS), strict=False)):
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

    Where a metric has several rows in a task (layers, probes during training), their mean is drawn. Diverged and failed
    runs go on at chance in online and held-out accuracy; other metrics end with the run.

    Args:
        records: Runs of one protocol, and their fresh references if those should be drawn.
        metric: Label of the metric.

    Raises:
        ResultsError: If the runs are of several protocols, or no run measured the metric.
    """
    import pandas as pd
    import seaborn as sns
    from matplotlib.ticker import MaxNLocator

    runs = [record for record in records if record.spec.kind == "continual"]
    protocols = sorted({record.spec.protocol_id for record in runs})
    if len(protocols) > 1:
        raise ResultsError(f"One figure cannot hold several protocols, got {', '.join(protocols)}; select one.")
    references = {record.spec.reference().run_id for record in runs}
    floors = Floors(records)
    labels = _labels(runs)
    rows: list[tuple[str, int, int, float]] = []
    for record in records:
        if record.spec.kind == "continual":
            label = labels[_recipe(record)]
        elif record.run_id in references and record.outcome == "completed":
            label = _REFERENCE
        else:
            continue
        rows += [(label, record.spec.seed, task, value) for task, value in _by_task(record, metric, floors)]
    data = pd.DataFrame(rows, columns=["method", "seed", "task", "value"])
    methods = sorted(set(data["method"]) - {_REFERENCE}, key=_none_first)
    if not methods:
        raise ResultsError(f"No run measured {metric!r}; 'lopbench list metrics' shows what can be measured.")
    with _axes(len(methods)) as (figure, axes, palette):
        sns.lineplot(
            data[data["method"] != _REFERENCE],
            x="task",
            y="value",
            hue="method",
            hue_order=methods,
            style="method",
            style_order=methods,
            palette=palette,
            markers=[marker for marker, _ in zip(cycle(_MARKERS), methods, strict=False)],
            markersize=4,
            dashes=False,
            errorbar=interval,
            ax=axes,
        )
        reference = data[data["method"] == _REFERENCE]
        if not reference.empty:
            sns.lineplot(
                reference, x="task", y="value", errorbar=interval, label=_REFERENCE, ax=axes, **_REFERENCE_STYLE
            )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="task", ylabel=metric.replace("_", " "))
        spec = runs[0].spec
        setting = f"{spec.scenario.name} {spec.profile}, {spec.architecture_label}, {spec.optimizer_label}"
        seeds = data[data["method"] != _REFERENCE].groupby("method")["seed"].nunique()
        _finish(figure, axes, setting, seeds.min(), seeds.max())
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


def _by_task(record: Record, metric: str, floors: Floors) -> Iterator[tuple[int, float]]:
    if metric in _SCORES and record.spec.kind == "continual":
        tasks = range(task_count(record))
        values = task_scores(record, metric, tasks, floors.of(record, tasks))
        yield from zip(tasks, values.tolist(), strict=True)
        return
    yield from _task_means(record, metric).items()


def _task_means(record: Record, metric: str) -> dict[int, float]:
    """Return the mean of a metric over its rows in each task (layers, probes during training), where it is known."""
    frame = record.measurements
    mean = frame[frame["metric"] == metric].groupby("task")["value"].mean().dropna()
    return dict(zip(mean.index.tolist(), mean.tolist(), strict=True))


def _recipe(record: Record) -> str:
    """Return what one line of a figure is of: the methods and when they turn on."""
    return canonical_json([record.spec_json["methods"], record.spec.start])


def _labels(runs: Sequence[Record]) -> dict[str, str]:
    """Return the legend of each set of methods; what only the code tells apart carries its origin."""
    labels = {_recipe(record): record.spec.method_label for record in runs}
    origins = {_recipe(record): ", ".join(f"{m.origin} v{m.version}" for m in record.spec.methods) for record in runs}
    count = Counter(labels.values())
    return {key: label if count[label] == 1 else f"{label} ({origins[key]})" for key, label in labels.items()}


def _none_first(label: str) -> tuple[bool, str]:
    return label != "none", label


def _finish(figure: "Figure", axes: "Axes", setting: str, fewest: int, most: int) -> None:
    """Add the title, which states seeds and interval, and the legend, beside the axes where it covers nothing."""
    seeds = f"{most} seed{'s' if most > 1 else ''}" if fewest == most else f"{fewest} to {most} seeds"
    spread = f"mean of {seeds}" if most == 1 else f"mean of {seeds}, {INTERVAL_METHOD}"
    axes.set_title(f"{setting}\n{spread}", fontsize="small")
    legend = axes.get_legend()  # seaborn's own
    if legend is not None:
        legend.remove()
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", frameon=False)


@contextmanager
def _axes(colours: int) -> "Iterator[tuple[Figure, Axes, list[Any]]]":
    """Yield a figure with one pair of axes and a palette, in the house style, which holds inside the block."""
    import matplotlib as mpl
    import seaborn as sns
    from matplotlib.figure import Figure

    style = {**sns.axes_style("ticks"), **sns.plotting_context("paper"), "axes.grid": True, "grid.alpha": 0.3}
    with mpl.rc_context(style):
        figure = Figure(figsize=(7.2, 3.8), layout="constrained")
        axes = figure.subplots()
        sns.despine(ax=axes)
        yield figure, axes, list(sns.color_palette("colorblind", colours))
