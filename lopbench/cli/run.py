"""``lopbench run``: measure."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click
from click.core import ParameterSource

from lopbench.cli.output import console, echo, roughly
from lopbench.cli.plugins import broken_files, tried_plugin_option, try_files
from lopbench.core.errors import UsageError
from lopbench.core.seeds import parse_seeds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from rich.console import Console

    from lopbench.core.interfaces import Executor, Scenario
    from lopbench.runner.forecast import Forecast
    from lopbench.runner.pool import Staff
    from lopbench.runner.study import Study
    from lopbench.runner.study_file import StudyFile


def split_metrics(text: str) -> tuple[str, ...]:
    """Split ``a,b:x=1,y=2`` into components: a part that is ``field=value`` belongs to the one before it."""
    found: list[str] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        if found and ":" in found[-1] and "=" in part and ":" not in part:
            found[-1] += f",{part}"
        else:
            found.append(part)
    return tuple(found)


#: Seconds of work, and bytes of records, above which a study on a terminal needs ``--yes``.
_MOST_S, _MOST_BYTES = 24 * 3600, 10e9

#: Options that hold for the whole study.
_OPTIONS = ("results", "device", "data_dir")


@click.command("run")
@click.argument("study", required=False, type=click.Path(path_type=Path))
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
@click.option(
    "--seeds",
    callback=lambda context, parameter, text: parse_seeds(text),
    default="0",
    show_default=True,
    help="Seeds: 3, or 0,2,5, or 0-4.",
)
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
    "--tune",
    metavar="k=0.1,budget=16,seeds=3",
    help="Tune each method first: so many configurations of its own grid and of learning rates, each on the first K of "
    "the stream of so many development seeds; the best mean online score is then run on --seeds. The log is kept with "
    "the runs, and tables are of one kind of tuning.",
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
@click.option("--device", default="auto", show_default=True, help="Where to train: cpu, cuda, cuda:0,cuda:1, mps.")
@click.option(
    "--results", type=click.Path(path_type=Path, file_okay=False), default="results", show_default=True, help="Folder."
)
@click.option("--metrics", help="Diagnostics to measure, separated by commas; a cheap set by default.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads of torch.")
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    help="Workers that share the runs; by default what is fastest here, or one for each device named.",
)
@click.option(
    "--executor",
    help="What starts the workers: local, slurm:partition=gpu,time=4h, dask:ADDRESS, script, or a plugin's.  "
    "[default: local]",
)
@click.option("--detach", is_flag=True, help="Leave when the workers are submitted; the same command shows them again.")
@click.option(
    "--sink",
    "sinks",
    multiple=True,
    help="Tell what is measured, as it comes, to a sink: NAME or NAME:FIELD=VALUE,... Repeat it for more.",
)
@tried_plugin_option
@click.option("--yes", is_flag=True, help="Begin even if it takes more than a day, or fills more than 10 GB.")
@click.option("--dry-run", is_flag=True, help="Show what would be done, and stop.")
@click.pass_context
def command(
    context: click.RichContext,
    /,
    study: Path | None,
    threads: int | None,
    jobs: int | None,
    executor: str | None,
    detach: bool,
    sinks: tuple[str, ...],
    yes: bool,
    dry_run: bool,
    **given: Any,
) -> None:
    """Measure plasticity retention: train task after task, compare with fresh networks, print the table.

    STUDY is a TOML file with what is to be run, in the words of these options, for more than fits into one command:
    what it holds is written there alone, but for where and how it is done, --results, --device, --data-dir, --threads,
    --jobs, --executor and --sink, which go before it. Or it is the name of a suite, cpu or gpu: a study that is
    installed, of all methods on its scenarios, or of each --method; 'lopbench leaderboard --suite' is its table.

    Runs that are finished are not done again; one that was interrupted resumes.
    """
    from lopbench.cli.progress import Work
    from lopbench.runner.pool import Staff
    from lopbench.runner.sinks import usable
    from lopbench.runner.study import plan_all

    err = console(stderr=True)
    named = {name for name in given if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    options: dict[str, Any] = {name: given.pop(name) for name in _OPTIONS}
    file = None
    if study is None:
        requests: Sequence[Mapping[str, Any]] = [_request(given)]
    else:
        file = _read(study, named - set(_OPTIONS), given["methods"])
        requests = file.requests
        threads, jobs = threads or file.options.get("threads"), jobs or file.options.get("jobs")
        sinks = sinks or file.options.get("sinks", ())
        options |= {name: value for name, value in file.options.items() if name in _OPTIONS and name not in named}
    _use_threads(threads)
    staff = Staff.of(_executor(executor, file), jobs=jobs, device=options.pop("device"), threads=threads)
    if detach and not staff.executor.lasts:
        raise UsageError(f"--detach: workers of {staff.executor.name} end with this command; leave it out")
    usable(sinks)
    with Work(err) as work:
        studies = plan_all(requests, **options, device=staff.device, progress=work)
    aside = _tell_of_aside(studies)
    staff, forecasts = foretold(staff, studies, err, chooses=jobs is None)
    found = summarise(studies, forecasts, staff, err)
    more: dict[str, Any] = {"data_dir": options["data_dir"], "sinks": sinks}
    if dry_run:
        if any(each.pending for each in studies):
            echo(staff.script(studies, **more), nl=False)
        _check_complete(studies, [], aside)
        return
    if not yes and err.is_terminal and sys.stdin.isatty():
        _check_size(found)
    refused = do(studies, staff, err, detach=detach, **more)
    _conclude([each.settled() for each in studies], refused, aside, err)


def _use_threads(count: int | None) -> None:
    if count is not None:
        import torch

        torch.set_num_threads(count)


def _tell_of_aside(studies: Sequence[Study]) -> list[tuple[str, str]]:
    """Tell of what plugins spoiled before anything is trained, and return it."""
    aside = [*dict.fromkeys([*broken_files(), *(each for study in studies for each in study.aside)])]
    for what, reason in aside:
        echo(f"{what} is left out: {reason}", err=True)
    return aside


def _executor(text: str | None, file: StudyFile | None) -> Executor:
    """Return what starts workers: what the command line says goes before what stands in a study file.

    Raises:
        LopbenchError: If there is none of this name, or with such fields.
    """
    from lopbench.runner.pool import executor_of

    if file is None or file.executor is None:
        return executor_of(text or "local")
    if text is None or text.partition(":")[0].strip() == file.executor:
        return executor_of(text or file.executor, file.fields)
    return executor_of(text)


def foretold(
    staff: Staff, studies: Sequence[Study], err: Console, *, chooses: bool
) -> tuple[Staff, list[Forecast | None]]:
    """Return how the studies are worked at, and the forecast of each.

    Where the number of workers was not given, it may be chosen here, and is told then.
    """
    from lopbench.runner.choice import choose, crowded
    from lopbench.runner.forecast import Forecast, forecast

    def foretell(threads: int | None) -> list[Forecast | None]:
        return [forecast(study, threads=threads) if study.pending else None for study in studies]

    forecasts = foretell(staff.share)
    if not any(study.pending for study in studies):
        return staff, forecasts
    whole = Forecast.of_all(forecasts)
    seconds = None if whole is None else whole.seconds
    if not (chooses and staff.is_one_process):
        return crowded(staff, studies, seconds), forecasts
    chosen, why = choose(staff, studies, seconds)
    if why:
        echo(why, err=True)
    return chosen, forecasts if chosen.share == staff.share else foretell(chosen.share)


def do(
    studies: Sequence[Study],
    staff: Staff,
    err: Console,
    *,
    data_dir: Path | None,
    sinks: Sequence[str],
    detach: bool,
) -> list[tuple[str, str]] | None:
    """Do what is pending, in this process or by workers.

    Returns:
        What could not be run, each with the reason; None if that is not known, as workers go on by themselves.
    """
    from lopbench.cli.progress import study_reporter
    from lopbench.cli.workers import follow
    from lopbench.runner.report import label
    from lopbench.runner.sinks import sinks_of
    from lopbench.runner.study import clear, execute_all
    from lopbench.runner.worklist import listed

    if not any(study.pending for study in studies):
        clear(studies[0].results)
        return []
    if staff.is_one_process:
        runs, steps = sum(study.runs for study in studies), sum(study.all_steps for study in studies)
        with listed(studies, data_dir=data_dir, sinks=sinks), study_reporter(err, runs=runs, steps=steps) as reporter:
            refused = execute_all(studies, reporter, sinks=sinks_of(sinks))
        return [(label(spec), reason) for spec, reason in refused]
    pool = staff.pool(studies, data_dir=data_dir, sinks=sinks)
    if staff.executor.starts and not detach:
        later = sum(len(study.following) for study in studies)
        steps = sum(study.all_steps - sum(study.steps) for study in studies)
        return follow(pool, err, runs=len(pool.specs) + later, steps=pool.steps + steps)
    pool.start()
    if pool.is_joined:
        echo(f"{pool.called} are at these runs already.", err=True)
    if staff.executor.starts:
        echo(f"{pool.called} do the runs; the same command shows them, and the table in the end.", err=True)
    else:
        echo("When these workers have done the runs, the same command prints the table.", err=True)
    return None


def _request(given: dict[str, Any]) -> dict[str, Any]:
    """Return what the options of the command line ask for, as `plan` takes it."""
    metrics, optimizers = given.pop("metrics"), given.pop("optimizers")
    return {
        **given,
        "optimizers": optimizers or (None,),
        "metrics": None if metrics is None else split_metrics(metrics),
    }


def _read(study: Path, named: set[str], methods: tuple[str, ...]) -> StudyFile:
    """Return what a study file or a suite asks for, its plugins loaded; ``named`` are options that it does not go with.

    Of a suite ``methods`` take the place, if they are named.

    Raises:
        UsageError: If there is one that it does not go with.
    """
    from dataclasses import replace

    from lopbench.runner.study_file import read_study
    from lopbench.runner.suites import study_path

    path = study_path(study)
    if path != study and "methods" in named:
        suite = _read(study, named - {"methods"}, methods)
        return replace(suite, requests=tuple({**each, "methods": methods} for each in suite.requests))
    if named:
        raise UsageError(
            f"what to run stands in {study}: write {', '.join(sorted(named))} there, and leave it out here"
        )
    file = read_study(path)
    try_files(file.plugins)
    return file


def summarise(
    studies: Sequence[Study], forecasts: Sequence[Forecast | None], staff: Staff, err: Console
) -> Forecast | None:
    """Print what studies will do, and by whom; where their images are not real, so that nobody can miss it.

    Returns:
        The forecast of them all.
    """
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    from lopbench.runner.forecast import Forecast

    several = len(studies) > 1
    for number, (study, found) in enumerate(zip(studies, forecasts, strict=True), start=1):
        table = Table.grid(padding=(0, 2))
        rows = _rows(study, _time(found, None if several else staff))
        for key, value in {**rows, **_workers(staff, study)}.items():
            table.add_row(Text(key, style="bold"), Text(value))
        title = "lopbench run" if not several else f"runs {number} of {len(studies)}"
        err.print(Panel(table, title=title, title_align="left"))
        if study.images is not None and not study.images.real:
            err.print(Panel(Text(study.images.notice), title="NOT REAL DATA", style="bold yellow"))
    whole = Forecast.of_all(forecasts)
    if several:
        runs, steps = sum(study.runs for study in studies), sum(study.all_steps for study in studies)
        err.print(Text(f"In all {runs} runs to do, {steps:,} steps, {_time(whole, staff)}."), soft_wrap=True)
    return whole


def _workers(staff: Staff, study: Study) -> dict[str, str]:
    """Return who does a study, and where, if it is not this process."""
    if staff.is_one_process or not study.pending:
        return {}
    return {
        "Device": ", ".join(staff.devices),
        "Workers": f"{staff.jobs}, started by {staff.executor.name}",
    }


def _rows(study: Study, time: str) -> dict[str, str]:
    """Return what a study will do, and in what time, under headings."""
    import torch

    from lopbench.results.leaderboard import seed_ranges
    from lopbench.runner.study import can_widen

    scenario, first = study.scenario, study.specs[0]
    late = len(scenario.late_tasks)
    scored, all_steps = _span(scenario.scored, scenario), _span(scenario.steps, scenario)
    online = "" if scored == all_steps else f", online in their first {scored} steps"
    protocols = _each(spec.protocol_id for spec in study.specs)
    runs = f"{study.runs} to do, {study.all_steps:,} steps, fresh references included"
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
    if study.later:
        tuning = study.later[0].tuning
        count = sum(spec.kind == "development" for spec in study.pending)
        rows["Tuning"] = (
            f"{len(study.later)} entries, of each {tuning.budget} configurations on the first {tuning.k:.0%} of the "
            f"stream, seeds {seed_ranges(tuning.development_seeds)}: {count} runs; then {len(study.following)}, of "
            "what they choose"
        )
    growth = scenario.growth
    if first.cloner is not None and growth is not None:
        rows["Cloning"] = f"{first.cloner.label()}, by {growth.factor}, before task {growth.task}"
        if not can_widen(first, growth.factor):
            rows["Cloning"] += (
                f"; no fresh network as wide stands beside the clones, since {first.architecture.name} does not say "
                "how its wider networks start"
            )
    if study.pending:
        rows["Time"] = time
    return rows


def _span(count: Callable[[int], int], scenario: Scenario) -> str:
    """Return how many steps the tasks have, or are scored of them, as ``count`` says."""
    lengths = {count(task) for task in range(scenario.tasks)}
    return " to ".join(f"{each:,}" for each in sorted({min(lengths), max(lengths)}))


def _time(found: Forecast | None, staff: Staff | None) -> str:
    """Return a forecast in words: "about 38 h of work, 1 h 15 min on 32 workers"; without workers of the work alone."""
    if found is None:
        return "unknown"
    text = roughly(found.seconds, "at most" if found.most else "about")
    if staff is None or staff.is_one_process:
        return text
    workers = min(staff.jobs, found.groups)
    on = "1 worker" if workers == 1 else f"{workers} workers"
    return f"{text} of work, {roughly(found.on(workers, staff.crowding), '')} on {on}"


def _check_size(found: Forecast | None) -> None:
    """Refuse what takes long or fills much.

    Raises:
        UsageError: If it is so.
    """
    if found is None:
        return
    if found.seconds > _MOST_S:
        raise UsageError(f"this is {roughly(found.seconds)} of work; add --yes to begin, and what is done is kept")
    if found.record_bytes > _MOST_BYTES:
        raise UsageError(f"the records will fill about {found.record_bytes / 1e9:.0f} GB; add --yes to begin")


def _each(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))


def _conclude(
    studies: Sequence[Study],
    refused: Sequence[tuple[str, str]] | None,
    aside: Sequence[tuple[str, str]],
    err: Console,
) -> None:
    """Print the table and where the records are, if the runs have ended; raise if some are missing from it."""
    from rich.text import Text

    from lopbench.api import study_leaderboard
    from lopbench.results.leaderboard import render

    paths = [] if refused is None else _recorded(studies)
    if paths:
        render(study_leaderboard(*studies), console())
        err.print(Text(f"Records: {studies[0].results.resolve() / 'runs'}"), soft_wrap=True)
    _check_complete(studies, refused or [], aside)
    _check_outcomes(paths, sum(len(study.specs) for study in studies))


def _check_complete(
    studies: Sequence[Study], refused: Sequence[tuple[str, str]], aside: Sequence[tuple[str, str]]
) -> None:
    """Raise with the first of what is missing; a line before has told of each."""
    from lopbench.runner.aside import check_complete

    check_complete(refused, sum(len(study.pending) for study in studies), aside, most=1)


def _check_outcomes(paths: Sequence[Path], count: int) -> None:
    """Raise if some of ``count`` runs failed, whose records are ``paths``."""
    from lopbench.core.errors import LopbenchError
    from lopbench.results.record import read_record

    failed = [path for path in paths if read_record(path).outcome == "failed"]
    if failed:
        raise LopbenchError(
            f"{len(failed)} of {count} runs failed, and count at the floor; why is in {failed[0] / 'log.txt'}"
        )


def _recorded(studies: Sequence[Study]) -> list[Path]:
    """Return the records of what was asked for."""
    from lopbench.results.record import is_recorded, record_path

    results = studies[0].results
    return [record_path(results, spec) for study in studies for spec in study.specs if is_recorded(results, spec)]
