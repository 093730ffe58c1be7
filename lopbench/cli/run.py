"""``lopbench run``: measure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from lopbench.cli.output import console, duration
from lopbench.cli.plugins import plugin_option
from lopbench.core.seeds import MOST_SEED, MOST_SEEDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rich.console import Console

    from lopbench.core.interfaces import Scenario
    from lopbench.core.spec import RunSpec
    from lopbench.runner.forecast import Forecast
    from lopbench.runner.study import Study


def parse_seeds(ctx: click.Context, param: click.Parameter, text: str) -> tuple[int, ...]:
    """Return the seeds that ``3``, ``0,2,5``, ``0-4`` or a mixture names, each once, in the order given.

    Raises:
        BadParameter: If the text is none of these.
    """
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        # Not isdigit: it accepts superscripts, which int refuses.
        if not (first.isdecimal() and (last.isdecimal() if dash else True)):
            raise click.BadParameter(f"{text!r} are no seeds; write 3, or 0,2,5, or 0-4", ctx, param)
        digits = max(len(first), len(last))
        if digits > len(str(MOST_SEED)):  # Python itself takes no number of 5,000 digits
            raise click.BadParameter(f"seeds are at most {MOST_SEED:,}, got one of {digits} digits")
        start, stop = int(first), int(last if dash else first)
        if stop < start:
            raise click.BadParameter(f"{part.strip()!r} counts down; write {stop}-{start}", ctx, param)
        if stop - start >= MOST_SEEDS - len(seeds):
            raise click.BadParameter(f"{text[:40]!r} are more than {MOST_SEEDS:,} seeds", ctx, param)
        seeds.extend(range(start, stop + 1))
    return tuple(dict.fromkeys(seeds))


def split_metrics(text: str) -> tuple[str, ...]:
    """Split ``a,b:x=1,y=2`` into components: a part that is ``field=value`` belongs to the one before it."""
    found: list[str] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        if found and ":" in found[-1] and "=" in part and ":" not in part:
            found[-1] += f",{part}"
        else:
            found.append(part)
    return tuple(found)


@click.command("run")
@click.option("--scenario", default="tinyimagenet40", show_default=True, help="Scenario: NAME or NAME:FIELD=VALUE,...")
@click.option(
    "--method",
    "methods",
    multiple=True,
    default=("none",),
    show_default=True,
    help="Method: NAME:FIELD=VALUE,...; methods compose with '+'. Repeat it for more rows.",
)
@click.option("--architecture", help="Architecture; the scenario's own by default.")
@click.option("--cloner", help="What clones the learner, where the scenario does so; the scenario's own by default.")
@click.option("--seeds", callback=parse_seeds, default="0", show_default=True, help="Seeds: 3, or 0,2,5, or 0-4.")
@click.option(
    "--optimizer",
    "optimizers",
    multiple=True,
    help="Optimizer, as in adam:lr=1e-3; the protocol's own by default. Repeat it for a sweep.",
)
@click.option(
    "--sweep",
    "sweeps",
    multiple=True,
    metavar="NAME=VALUE,VALUE",
    help="Values of a number to run: lr=0.01,0.001, or METHOD.FIELD=..., as in cbp.replacement_rate=1e-5,1e-4. "
    "Repeat it to cross several. Where they can, the values train side by side in one program.",
)
@click.option(
    "--from",
    "start",
    type=float,
    metavar="FRACTION",
    default=0.0,
    show_default=True,
    help="Fraction of the stream after which the methods turn on; before, the learner is plain.",
)
@click.option("--profile", help="The scenario's profile, a protocol of its own: lite, full, text, smoke.")
@click.option(
    "--data",
    default="auto",
    show_default=True,
    help="The scenario's data set by its name, or procedural; auto is the real one where it is found.",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Folder with the data, looked in before $LOPBENCH_DATA and the cache.",
)
@click.option("--device", default="auto", show_default=True, help="Where to train: cpu, cuda, cuda:1, mps.")
@click.option(
    "--results", type=click.Path(path_type=Path, file_okay=False), default="results", show_default=True, help="Folder."
)
@click.option("--metrics", help="Diagnostics to measure, separated by commas; a cheap set by default.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads of torch.")
@plugin_option
@click.option("--dry-run", is_flag=True, help="Show what would be done, and stop.")
def command(
    scenario: str,
    methods: tuple[str, ...],
    architecture: str | None,
    cloner: str | None,
    seeds: tuple[int, ...],
    optimizers: tuple[str, ...],
    sweeps: tuple[str, ...],
    start: float,
    profile: str | None,
    data: str,
    data_dir: Path | None,
    device: str,
    results: Path,
    metrics: str | None,
    threads: int | None,
    dry_run: bool,
) -> None:
    """Measure plasticity retention: train task after task, compare with fresh networks, print the table.

    Runs that are finished are not done again; one that was interrupted resumes.
    """
    from lopbench.cli.progress import Work, study_reporter

    err = console(stderr=True)
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    from lopbench.runner.study import execute, plan

    with Work(err) as work:
        study = plan(
            scenario=scenario,
            methods=methods,
            architecture=architecture,
            cloner=cloner,
            seeds=seeds,
            optimizers=optimizers or (None,),
            sweeps=sweeps,
            start=start,
            profile=profile,
            data=data,
            data_dir=data_dir,
            device=device,
            results=results,
            metrics=None if metrics is None else split_metrics(metrics),
            progress=work,
        )
    summarise(study, err)
    if dry_run:
        return
    refused: list[tuple[RunSpec, str]] = []
    if study.pending:
        score = study.scenario.score
        with study_reporter(err, runs=len(study.pending), steps=sum(study.steps), score=score) as reporter:
            refused = execute(study, reporter)
    _conclude(study, refused, err)


def summarise(study: Study, err: Console) -> None:
    """Print what a study will do; where its images are not real, so that nobody can miss it."""
    import torch
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    from lopbench.results.leaderboard import seed_ranges
    from lopbench.runner.forecast import forecast
    from lopbench.runner.study import can_widen

    scenario, first = study.scenario, study.specs[0]
    late = len(scenario.late_tasks)
    scored, all_steps = _span(scenario.scored, scenario), _span(scenario.steps, scenario)
    online = "" if scored == all_steps else f", online in their first {scored} steps"
    protocols = _each(spec.protocol_id for spec in study.specs)
    runs = f"{len(study.pending)} to do, {sum(study.steps):,} steps, fresh references included"
    if study.finished:
        runs += f"; {study.finished} finished already and skipped"
    if not study.pending:
        runs = f"nothing to do, all {study.finished} are finished"
    count = torch.get_num_threads()
    threads = f", {count} thread{'s' if count > 1 else ''}" if study.device == "cpu" else ""
    rows = {
        "Scenario": f"{first.scenario.name}, profile {first.profile}",
        "Protocol": ", ".join(protocols),
        "Tasks": f"{scenario.tasks} of {all_steps} steps, the last {late} are scored{online}",
        "Methods": ", ".join(_each(spec.method_label for spec in study.specs)),
        "Architecture": first.architecture_label,
        "Optimizer": f"{', '.join(_each(spec.optimizer_label for spec in study.specs))}; "
        f"fresh references {first.reference_optimizer.label()}",
        "Seeds": seed_ranges(spec.seed for spec in study.specs),
        "Data": "made by the scenario" if study.images is None else study.images.notice,
        "Device": f"{study.device}{threads}",
        "Results": str(study.results.resolve()),
        "Runs": runs,
    }
    growth = scenario.growth
    if first.cloner is not None and growth is not None:
        rows["Cloning"] = f"{first.cloner.label()}, by {growth.factor}, before task {growth.task}"
        if not can_widen(first, growth.factor):
            rows["Cloning"] += (
                f"; no fresh network as wide stands beside the clones, since {first.architecture.name} does not say "
                "how its wider networks start"
            )
    if study.pending:
        rows["Time"] = _time(forecast(study))
    table = Table.grid(padding=(0, 2))
    for key, value in rows.items():
        table.add_row(Text(key, style="bold"), Text(value))
    err.print(Panel(table, title="lopbench run", title_align="left"))
    if study.images is not None and not study.images.real:
        err.print(Panel(Text(study.images.notice), title="NOT REAL DATA", style="bold yellow"))


def _span(count: Callable[[int], int], scenario: Scenario) -> str:
    """Return how many steps the tasks have, or are scored of them, as ``count`` says."""
    lengths = {count(task) for task in range(scenario.tasks)}
    return " to ".join(f"{each:,}" for each in sorted({min(lengths), max(lengths)}))


def _time(found: Forecast | None) -> str:
    if found is None:
        return "unknown"
    return f"{'at most' if found.most else 'about'} {duration(found.seconds)}"


def _each(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))


def _conclude(study: Study, refused: list[tuple[RunSpec, str]], err: Console) -> None:
    """Print the table and where the records are; raise if runs are missing from it."""
    from rich.text import Text

    from lopbench.api import study_leaderboard
    from lopbench.core.errors import LopbenchError
    from lopbench.results.leaderboard import render
    from lopbench.results.record import is_recorded, read_record, record_path
    from lopbench.runner.report import label

    paths = [record_path(study.results, spec) for spec in study.specs if is_recorded(study.results, spec)]
    if paths:
        render(study_leaderboard(study), console())
        err.print(Text(f"Records: {study.results.resolve() / 'runs'}"), soft_wrap=True)
    if refused:
        spec, reason = refused[0]
        raise LopbenchError(f"{len(refused)} of {len(study.pending)} runs could not be done: {label(spec)}: {reason}")
    failed = [path for path in paths if read_record(path).outcome == "failed"]
    if failed:
        raise LopbenchError(
            f"{len(failed)} of {len(study.specs)} runs failed, and count at the floor; why is in "
            f"{failed[0] / 'log.txt'}"
        )
