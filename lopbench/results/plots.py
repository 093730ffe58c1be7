"""Figures of results, ready for print: colour-blind safe, vector fonts, the same bytes for the same data.

They are made without pyplot's state and without a display; seaborn and matplotlib are imported when one is drawn. Here
are those of scores over learning rates and tasks; `lopbench.results.stream_plots` has those of long streams.
"""

import io
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lopbench.core.errors import ResultsError, UsageError
from lopbench.core.windows import late_window
from lopbench.results.drawing import (
    CHANCE_STYLE,
    REFERENCE_STYLE,
    axes_grid,
    curve,
    draw_curve,
    draw_lines,
    draw_scored,
    errors_in_log,
    key,
    named,
)
from lopbench.results.files import write_whole
from lopbench.results.looks import fields_of, looks
from lopbench.results.plotted import REFERENCE, constant, grouped, heading, line_of, references_of, spread
from lopbench.results.record import Record, one_of_each
from lopbench.results.seed_scores import Reference, References, headline_metric, reference_name, retentions_over
from lopbench.results.sheet import check_width, dress
from lopbench.results.tasks import Floors, late_count, task_count, task_means, task_scores

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Scores, which a diverged or failed run continues at chance; other metrics just end.
_SCORES = ("online_accuracy", "heldout_accuracy")

#: What learners are scored by: of these the scored tasks are shown, and chance.
_SCORED = (*_SCORES, "online_error", "heldout_error")

#: What `curves` draws under this name is no metric: the learner over the fresh network, of clones over the base.
RETENTION = "retention"

#: The metadata that each format we save would stamp with the time.
_DATE: Mapping[str, dict[str, Any]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}

#: Dots an inch of a PNG, and from how many on, in all, matplotlib makes none.
_DOTS, _MOST_DOTS = 300, 2**16

#: What chance is called; of errors it is a learner that always says the same.
CHANCE, CONSTANT = "chance", "best constant"


def retention_vs_learning_rate(frame: "pd.DataFrame") -> "Figure":
    """Return the retention of each method over the learning rate, with its 95% interval and the fresh network's line.

    Args:
        frame: Rows of `leaderboard` (or of its CSV) that differ in method and learning rate only.

    Raises:
        ResultsError: If the rows differ in anything else, or none has a retention.
    """
    if frame["protocol_id"].nunique() > 1:
        columns = ("scenario", "profile", "architecture", "data", "tuning")
        differing = [c for c in columns if frame[c].nunique(dropna=False) > 1] or ["reference, numerics or versions"]
        raise ResultsError(
            f"One figure cannot hold these rows: they differ in {', '.join(differing)}. Select rows of one protocol: "
            f"{', '.join(sorted(frame['protocol_id'].unique()))}."
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
    drawn = looks(rows["method"].unique())
    keys = [named(rows.iloc[0]["reference"], REFERENCE_STYLE), named(CHANCE, CHANCE_STYLE)]
    with axes_grid() as (figure, (axes,)):
        axes.axhline(1.0, **REFERENCE_STYLE)
        axes.axhline(0.0, **CHANCE_STYLE)
        for index, (method, look) in enumerate(drawn.items()):
            line = rows[rows["method"] == method]
            value = line["retention"].to_numpy()
            # A single seed has no interval and gets no bar.
            low, high = (line[f"retention_{end}"].fillna(line["retention"]).to_numpy() for end in ("low", "high"))
            # Side by side: bars at the same learning rate would hide each other.
            beside = line["lr"].to_numpy() * 1.015 ** (index - (len(drawn) - 1) / 2)
            bars = [value - low, high - value]
            axes.errorbar(
                beside, value, yerr=bars, label=method, color=look.colour, marker=look.marker, markersize=4, capsize=2
            )
        axes.set(xscale="log", xlabel="learning rate", ylabel="plasticity retention")
        rates = sorted(rows["lr"].unique())
        axes.set_xticks(rates, labels=[f"{rate:g}" for rate in rates])
        axes.set_xticks([], minor=True)
        if len(rates) == 1:  # else what is put side by side would look like other rates
            axes.set_xlim(rates[0] / 3, rates[0] * 3)
        first = rows.iloc[0]
        optimizer = str(first["optimizer"]).partition(":")[0]
        setting = f"{first['scenario']} {first['profile']}, {first['architecture']}, {optimizer}"
        title = f"{setting}\n{spread(rows['seeds'].min(), rows['seeds'].max())}"
        dress(figure, title, [*(key(name, look) for name, look in drawn.items()), *keys])
    return figure


def curves(records: Sequence[Record], metric: str = "online_accuracy") -> "Figure":
    """Return a metric over the tasks: each method's mean over seeds with its 95% interval, and the fresh reference's.

    If a metric was measured more than once in a task, its value at the end of the task is drawn, as the mean over
    layers. Diverged and failed runs go on at chance in online and held-out accuracy; in other metrics a line ends where
    the first of its runs stopped. The part before methods turned on is drawn once. Figures of scores also show chance
    and the scored tasks.

    Args:
        records: Runs of one protocol, and their fresh references if those should be drawn.
        metric: Label of the metric, or `RETENTION`: the learner above chance over the fresh network, task by task, by
            the score of the scenario's headline, on the tasks that the reference covers.

    Raises:
        ResultsError: If the runs are of several protocols, or no run measured the metric.
    """
    from matplotlib.ticker import MaxNLocator

    records = one_of_each(records)
    runs = [record for record in records if record.spec.kind == "continual"]
    protocols = sorted({record.spec.protocol_id for record in runs})
    if len(protocols) > 1:
        raise ResultsError(f"One figure cannot hold several protocols, got {', '.join(protocols)}; select one.")
    floors, known = Floors(records), References(records)
    several = len({record.spec.optimizer_label for record in runs}) > 1
    groups = grouped(runs, optimizer=several)

    def points(record: Record) -> dict[float, float]:
        found = _ratios(record, known, floors) if metric == RETENTION else _by_task(record, metric, floors)
        return {float(task): value for task, value in found}

    of_seeds = {name: _known(group, points, ends=metric != RETENTION) for name, group in groups.items()}
    if not any(map(any, of_seeds.values())):
        if metric == RETENTION:
            raise ResultsError("These runs have no fresh networks beside them, over which retention is drawn.")
        raise ResultsError(f"No run measured {metric!r}; 'lopbench list metrics' shows what can be measured.")
    drawn = looks(groups, {name: fields_of(group[0].spec, optimizer=several) for name, group in groups.items()})
    with axes_grid() as (figure, (axes,)):
        keys = draw_lines(axes, [line_of(name, groups[name], found, -0.5) for name, found in of_seeds.items()], drawn)
        name = _reference_name(runs, metric)
        references = [points(record) for record in references_of(records, runs)]
        if any(references):
            draw_curve(axes, curve(references), REFERENCE_STYLE["color"], linestyle=REFERENCE_STYLE["linestyle"])
            keys.append(named(name, REFERENCE_STYLE))
        keys += _against(axes, runs, metric, floors)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="task", ylabel=f"learner over {name}, S/F" if metric == RETENTION else heading(metric))
        spec = runs[0].spec
        setting = f"{spec.scenario.name} {spec.profile}, {spec.architecture_label}"
        setting += "" if several else f", {spec.optimizer_label}"
        setting += "" if spec.tuning is None else f", tuned by {spec.tuning.tuning.label}"
        seeds = [len(found) for found in of_seeds.values() if found]
        dress(figure, f"{setting}\n{spread(min(seeds), max(seeds))}", keys)
    return figure


def check_target(path: str | os.PathLike[str], width: float | None = None) -> None:
    """Refuse a file or a width that no figure can have, before the runs of the figure are read or done.

    Args:
        path: Where the figure will be saved.
        width: Its width in inches; None where nobody asked for one.

    Raises:
        UsageError: If the suffix is not one of a figure, the folder does not exist, or the width is none.
    """
    path = Path(path)
    _format(path)
    if not path.parent.is_dir():
        raise UsageError(f"The folder {path.parent} of the figure does not exist; make it first.")
    check_width(width)


def save(figure: "Figure", path: str | os.PathLike[str]) -> str:
    """Write a figure as SVG, PDF or PNG (300 dots an inch), by the suffix of ``path``.

    Returns:
        The characters that the font does not have and that are drawn as boxes; mostly none.

    Raises:
        UsageError: If the suffix is another one.
        ResultsError: If the figure has no room for what it shows, or the file cannot be written.
    """
    import matplotlib as mpl

    path = Path(path)
    suffix = _format(path)
    made = io.BytesIO()
    # No date and a fixed salt for ids: the same data gives the same file. Type 42: text stays text in a PDF.
    with (
        mpl.rc_context({"svg.hashsalt": "lopbench", "svg.fonttype": "none", "pdf.fonttype": 42}),
        warnings.catch_warnings(record=True) as told,
    ):
        warnings.simplefilter("always")
        if suffix == "png" and max(figure.get_size_inches()) * _DOTS >= _MOST_DOTS:
            raise ResultsError(f"{path} would be too high for a PNG; save it as .svg or .pdf, or shorten its labels.")
        figure.savefig(made, format=suffix, dpi=_DOTS, metadata=_DATE[suffix])
    texts = [str(each.message) for each in told]
    if any("layout not applied" in text for text in texts):
        raise ResultsError(f"{path} has no room for its panels; give it a larger --width, or shorten its labels.")
    write_whole(path, made.getvalue(), "The figure")
    missing = (re.match(r"Glyph (\d+) ", text) for text in texts)
    return "".join(dict.fromkeys(chr(int(found[1])) for found in missing if found))


def _format(path: Path) -> str:
    """Return the format that a figure's suffix stands for; refuse others."""
    suffix = path.suffix.lower().removeprefix(".")
    if suffix not in _DATE:
        raise UsageError(f"A figure is saved as .svg, .pdf or .png, not as {path.name!r}.")
    return suffix


def _known(
    group: Sequence[Record], points: Callable[[Record], dict[float, float]], *, ends: bool
) -> list[dict[float, float]]:
    """Return what is drawn of runs that differ in seed, those that did not measure it left out.

    Args:
        group: The runs.
        points: Gives the value of a run by place.
        ends: Whether a line ends with a run that stopped, be it before the first value.
    """
    found = [(points(record), record.outcome != "completed" and ends) for record in group]
    return [each for each, stopped in found if each or stopped]


def _against(axes: "Axes", runs: Sequence[Record], metric: str, floors: Floors) -> "list[Artist]":
    """Draw what a score is to be seen against over the tasks, the scored ones and chance; return the keys."""
    if metric != RETENTION and metric not in _SCORED:
        return []
    count = task_count(runs[0])
    window = late_window(count, late_count(runs[0]))
    keys = [draw_scored(axes, window.start - 0.5, window.stop - 0.5)]
    if metric == RETENTION:
        axes.axhline(0.0, **CHANCE_STYLE)
    elif metric in _SCORES:
        chances = np.mean([list(floors.of(record, range(count)).values()) for record in runs], axis=0)
        axes.plot(range(count), chances, **CHANCE_STYLE)
    else:
        axes.plot(*constant(runs, by_step=False), **CHANCE_STYLE)
        errors_in_log(axes)
        return [named(CONSTANT, CHANCE_STYLE), *keys]
    return [named(CHANCE, CHANCE_STYLE), *keys]


def _reference_name(runs: Sequence[Record], metric: str) -> str:
    """Return what the references of runs are, as a figure of ``metric`` shows them."""
    name = reference_name(runs[0])
    # Clones have references besides the bases that they are measured against: networks as wide, born at the start.
    return name if metric == RETENTION or name == REFERENCE else f"{REFERENCE} as wide"


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
        tasks = reference.tasks(headline_metric(record, score))
        yield from zip(tasks, retentions_over([[task] for task in tasks], record, reference, floors), strict=True)
