"""``lopbench plot``: one figure, ready for print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import rich_click as click

from lopbench.cli.output import tell_saved

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.figure import Figure

    from lopbench.results.record import Record

Kind = Literal["curves", "learning-rate", "error-curves", "recovery", "recovery-bars", "cloning", "suite"]

#: What each kind that draws metrics draws unless told.
_METRICS = {
    "curves": ("online_accuracy",),
    "recovery": ("effective_rank",),
    "recovery-bars": ("duplicate_fraction", "effective_rank", "online_error"),
    "cloning": ("cloning_r2_forward", "cloning_r2_backward"),
}

#: Those that draw more than one metric.
_SEVERAL = ("recovery-bars", "cloning")


@click.command("plot")
@click.argument("kind", metavar="KIND", type=click.Choice(get_args(Kind)))
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--output",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The figure: .svg, .pdf or .png. What is there is overwritten.",
)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    help="Metric that curves and recovery draw; recovery-bars, and cloning as its R2, take several: repeat it.",
)
@click.option(
    "--panels",
    type=click.Choice(["step size", "width"]),
    help="What the panels of error-curves differ in.  [step size]",
)
@click.option(
    "--colours",
    type=click.Choice(["method", "optimizer"]),
    help="What tells the lines of cloning apart.  [method]",
)
@click.option("--suite", metavar="NAME", help="Which suite the figure suite is of: its name, as cpu, or a study file.")
@click.option(
    "--width", type=float, help="Width in inches, as of a column (3.3) or a page, with text of 8 points.  [6.8]"
)
@click.option("--no-title", is_flag=True, help="Leave out the title, for a figure with a caption.")
@click.option(
    "--label", "labels", multiple=True, metavar="NAME=TEXT", help="What the legend calls NAME; may be repeated."
)
@click.option(
    "--protocol",
    "protocols",
    multiple=True,
    help="Only this protocol; the start of its id will do, and it may be repeated.",
)
@click.option("--method", "methods", multiple=True, help="Only this method, as tables name it; may be repeated.")
@click.option("--architecture", "architectures", multiple=True, help="Only this architecture; may be repeated.")
@click.option("--optimizer", "optimizers", multiple=True, help="Only this optimizer; may be repeated.")
def command(
    kind: Kind,
    results: tuple[Path, ...],
    output: Path,
    metrics: tuple[str, ...],
    panels: Literal["step size", "width"] | None,
    colours: Literal["method", "optimizer"] | None,
    suite: str | None,
    width: float | None,
    no_title: bool,
    labels: tuple[str, ...],
    protocols: tuple[str, ...],
    methods: tuple[str, ...],
    architectures: tuple[str, ...],
    optimizers: tuple[str, ...],
) -> None:
    """Draw one figure of the runs in the folders or packed sets RESULTS, colour-blind safe, with vector fonts.

    KIND is one of these:

    \b
    curves         a metric over the tasks, the online score by default;
                   --metric retention draws the learner over the fresh network
    learning-rate  retention over the learning rate
    error-curves   the online error over the stream, by step size or width
    recovery       the online error and a metric, before and after methods turn on
    recovery-bars  metrics by width, before methods turned on and at the end
    cloning        R2, loss and effective rank of clones and of their bases
    suite          retention of each method by scenario of a suite: --suite cpu

    Runs that do not belong in one figure are refused, and the message says what they differ in. The options select.
    """  # noqa: D301  (click reads the backspace)
    from lopbench.results.plots import check_target, save
    from lopbench.results.sheet import fit

    check_target(output, width)
    wanted = (protocols, methods, architectures, optimizers)
    called = _labels(labels)
    made = figure(kind, results, metrics=metrics, panels=panels, colours=colours, suite=suite, wanted=wanted)
    fit(made, width=width, title=not no_title, labels=called)
    tell_saved(output, save(made, output))


def figure(
    kind: Kind,
    results: Sequence[Path],
    *,
    metrics: Sequence[str] = (),
    panels: Literal["step size", "width"] | None = None,
    colours: Literal["method", "optimizer"] | None = None,
    suite: str | None = None,
    wanted: tuple[Sequence[str], Sequence[str], Sequence[str], Sequence[str]] = ((), (), (), ()),
) -> Figure:
    """Return a figure of the runs under ``results``.

    Args:
        kind: Which one.
        results: Results folders or packed sets.
        metrics: Metrics to draw; those that the kind usually draws if empty.
        panels: What the panels of error-curves differ in.
        colours: What tells the lines of cloning apart.
        suite: Name of the suite that a figure of a suite is of.
        wanted: Protocols, methods, architectures and optimizers to draw; all where a list is empty.

    Raises:
        UsageError: If an option is not of this kind, or something was asked for that there is not.
        ResultsError: If the runs do not belong in one figure, or a record is damaged.
    """
    from lopbench.core.errors import UsageError

    if kind not in get_args(Kind):
        raise UsageError(f"There is no figure {kind!r}; there are {', '.join(get_args(Kind))}.")
    chosen = metrics or _METRICS.get(kind, ())
    if metrics and kind not in _METRICS:
        raise UsageError(f"{kind} draws no other metric than its own; leave out --metric.")
    if len(chosen) > 1 and kind not in _SEVERAL:
        raise UsageError(f"{kind} draws one metric, got {', '.join(chosen)}; make a figure for each.")
    if panels is not None and kind != "error-curves":
        raise UsageError(f"--panels is for error-curves, not for {kind}.")
    if colours is not None and kind != "cloning":
        raise UsageError(f"--colours is for cloning, not for {kind}.")
    if suite is not None and kind != "suite":
        raise UsageError(f"--suite is for suite, not for {kind}.")
    if suite is None and kind == "suite":
        raise UsageError("Say which suite with --suite; 'lopbench list suites' shows them.")
    selected = select(results, *wanted)
    if kind == "curves" and not metrics and any(record.series("online_error") is not None for record in selected):
        chosen = ("online_error",)
    return _draw(kind, chosen, panels or "step size", colours or "method", suite or "")(selected)


def _labels(given: Sequence[str]) -> dict[str, str]:
    """Return the labels that ``NAME=TEXT`` give; a name may hold ``=`` itself, as in ``cbp:maturity=7=CBP``.

    Raises:
        UsageError: If one has no text, or a name has two.
    """
    from lopbench.core.errors import UsageError

    found: dict[str, str] = {}
    for each in given:
        name, separator, text = each.rpartition("=")
        if not (name and separator and text.strip()):
            raise UsageError(f"--label {each!r} is not NAME=TEXT; write the name as the legend has it")
        if name in found:
            raise UsageError(f"--label gives {name!r} two texts, {found[name]!r} and {text!r}; leave one of them out")
        found[name] = text
    return found


def select(
    results: Sequence[Path],
    protocols: Sequence[str],
    methods: Sequence[str],
    architectures: Sequence[str],
    optimizers: Sequence[str],
) -> list[Record]:
    """Return the runs under ``results`` that were asked for, and all references; an empty selection is everything.

    Raises:
        UsageError: If something was asked for that there is not.
        ResultsError: If a record is damaged.
    """
    from lopbench.core.errors import UsageError
    from lopbench.core.registry import suggest
    from lopbench.results.record import find_records

    records = find_records(*results)
    runs = [record for record in records if record.spec.kind == "continual"]

    def keep(option: str, wanted: Sequence[str], label: Callable[[Record], str], prefix: bool = False) -> None:
        nonlocal runs
        known = sorted({label(record) for record in runs})
        for asked in wanted:
            if not any(text.startswith(asked) if prefix else text == asked for text in known):
                hint = f"{suggest(asked, known)} There are: {', '.join(known)}."
                raise UsageError(f"There is no {option} {asked!r}.{hint}")
        if wanted and prefix:
            runs = [record for record in runs if label(record).startswith(tuple(wanted))]
        elif wanted:
            runs = [record for record in runs if label(record) in wanted]

    keep("protocol", protocols, lambda record: record.protocol_id, prefix=True)
    keep("method", methods, lambda record: record.spec.method_label)
    keep("architecture", architectures, lambda record: record.spec.architecture_label)
    keep("optimizer", optimizers, lambda record: record.spec.optimizer_label)
    return runs + [record for record in records if record.spec.kind == "fresh"]


def _draw(
    kind: Kind,
    metrics: Sequence[str],
    panels: Literal["step size", "width"],
    colours: Literal["method", "optimizer"],
    suite: str,
) -> Callable[[list[Record]], Figure]:
    from lopbench.results import plots, stream_plots, suite_plots
    from lopbench.results.leaderboard import board_of
    from lopbench.runner.suites import suite_of

    draw: dict[Kind, Callable[[list[Record]], Figure]] = {
        "curves": lambda records: plots.curves(records, metrics[0]),
        "learning-rate": lambda records: plots.retention_vs_learning_rate(board_of(records).rows),
        "error-curves": lambda records: stream_plots.error_curves(records, panels),
        "recovery": lambda records: stream_plots.recovery_curves(records, metrics[0]),
        "recovery-bars": lambda records: stream_plots.recovery_bars(records, metrics),
        "cloning": lambda records: stream_plots.cloning_curves(records, colours, metrics),
        "suite": lambda records: suite_plots.suite_scores(suite_of(suite), board_of(records).entries),
    }
    return draw[kind]
