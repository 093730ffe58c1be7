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
from lopbench.core.executor import MOST_THREADS
from lopbench.core.seeds import parse_seeds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from lopbench.core.interfaces import Executor
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

#: Headings of the help, and the options under each.
_HELP = {
    "What to run": [
        *("--scenario", "--profile", "--method", "--seeds", "--architecture", "--cloner", "--optimizer", "--sweep"),
        *("--tune", "--from", "--data", "--metrics", "--plugin"),
    ],
    "Where and how": [
        *("--results", "--data-dir", "--device", "--threads", "--jobs", "--executor", "--detach", "--sink", "--yes"),
        "--dry-run",
    ],
}
_SETTINGS = {
    "rich_help_config": {
        "option_groups": {"lopbench run": [{"name": name, "options": options} for name, options in _HELP.items()]}
    }
}

#: Paragraphs, since the help joins the lines of one.
_EXAMPLES = """\
Examples:

lopbench run --profile smoke                     see that it works

lopbench run --method none --method cbp          beside plain learning

lopbench run --method cbp --seeds 0-4            five seeds can give a verdict

lopbench run --method cbp --sweep lr=1e-3,3e-3   two learning rates"""

#: Options that hold for the whole study.
_OPTIONS = ("results", "device", "data_dir")


@click.command("run", context_settings=_SETTINGS, epilog=_EXAMPLES)
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
@click.option("--cloner", help="How the learner is cloned, if the scenario clones it; the scenario's own by default.")
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
    help="Tune each method first: BUDGET configurations of its own grid and of learning rates, each trained on the "
    "first fraction K of the stream with SEEDS development seeds. The one with the best mean online score then runs on "
    "--seeds. The log is kept with the runs, and a table holds one kind of tuning.",
)
@click.option(
    "--from",
    "start",
    type=float,
    metavar="FRACTION",
    default=0.0,
    show_default=True,
    help="Fraction of the stream after which the methods turn on; until then the learner is plain.",
)
@click.option("--profile", help="The scenario's profile, a protocol of its own: lite, full, text, smoke.")
@click.option(
    "--data",
    default="auto",
    show_default=True,
    help="Name of the scenario's data set, or procedural; auto takes the real one if it is found.",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Folder with the data, looked in before $LOPBENCH_DATA and the cache.",
)
@click.option("--device", default="auto", show_default=True, help="Where to train: cpu, cuda, cuda:0,cuda:1, mps.")
@click.option(
    "--results",
    type=click.Path(path_type=Path, file_okay=False),
    default="results",
    show_default=True,
    help="Folder of the records.",
)
@click.option("--metrics", help="Diagnostics to measure, separated by commas; a cheap set by default.")
@click.option("--threads", type=click.IntRange(1, MOST_THREADS), help="CPU threads of torch.")
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
@click.option("--detach", is_flag=True, help="Submit the workers and return; the same command shows them again.")
@click.option(
    "--sink",
    "sinks",
    multiple=True,
    help="Also send what is measured to a sink, as it comes: NAME or NAME:FIELD=VALUE,... Repeat it for more.",
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

    STUDY is a TOML file that says what to run, in the words of these options. With a file, only these options may be
    given besides, and they win over the file: --results, --device, --data-dir, --threads, --jobs, --executor, --sink.

    STUDY may also be the name of a suite, cpu or gpu: an installed study of all methods on the suite's scenarios, or
    of each --method. 'lopbench leaderboard --suite' prints its table.

    Finished runs are not done again, and an interrupted one resumes.
    """
    err = _ready()
    from lopbench.cli.ending import check_complete, conclude
    from lopbench.cli.heading import summarise
    from lopbench.runner.pool import Staff
    from lopbench.runner.sinks import usable

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
    studies, aside = _planned(requests, err, **options, device=staff.device)
    staff, forecasts = foretold(staff, studies, err, chooses=jobs is None)
    found = summarise(studies, forecasts, staff, err)
    more: dict[str, Any] = {"data_dir": options["data_dir"], "sinks": sinks}
    if dry_run:
        if any(each.pending for each in studies):
            echo(staff.script(studies, **more), nl=False)
        check_complete(studies, [], aside)
        return
    if not yes and err.is_terminal and sys.stdin.isatty():
        _check_size(found)
    refused = do(studies, staff, err, detach=detach, **more)
    conclude([each.settled() for each in studies], refused, aside, err)


def _ready() -> Console:
    """Return the console for all but the table, once what takes seconds is imported; it says so meanwhile."""
    err = console(stderr=True)
    with err.status("getting ready"):
        import lopbench.runner.pool  # noqa: F401
    return err


def _use_threads(count: int | None) -> None:
    if count is not None:
        import torch

        torch.set_num_threads(count)


def _planned(
    requests: Sequence[Mapping[str, Any]], err: Console, **options: Any
) -> tuple[Sequence[Study], list[tuple[str, str]]]:
    """Return the studies, and what plugins spoiled before anything is trained, which is told."""
    from lopbench.cli.progress import Work
    from lopbench.runner.study import plan_all

    with Work(err) as work:
        studies = plan_all(requests, **options, progress=work)
    aside = [*dict.fromkeys([*broken_files(), *(each for study in studies for each in study.aside)])]
    for what, reason in aside:
        echo(f"{what} is left out: {reason}", err=True)
    return studies, aside


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
    from lopbench.runner.sinks import sinks_of
    from lopbench.runner.study import clear
    from lopbench.runner.worklist import work_here

    if not any(study.pending for study in studies):
        clear(studies[0].results)
        return []
    if staff.is_one_process:
        runs, steps = sum(study.runs for study in studies), sum(study.all_steps for study in studies)
        with study_reporter(err, runs=runs, steps=steps) as reporter:
            return work_here(studies, reporter, data_dir=data_dir, sinks=sinks_of(sinks))
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

    from lopbench.core.shipped import study_path
    from lopbench.runner.study_file import read_study

    path = study_path(study, "suites")
    if path != study and "methods" in named:
        suite = _read(study, named - {"methods"}, methods)
        return replace(suite, requests=tuple({**each, "methods": methods} for each in suite.requests))
    if named:
        raise UsageError(
            f"{study} says what to run: write {', '.join(sorted(named))} in that file, and leave it out here"
        )
    file = read_study(path)
    try_files(file.plugins)
    return file


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
