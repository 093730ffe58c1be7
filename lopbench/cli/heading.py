"""What ``lopbench run`` says before it begins: what is done, by whom, and in what time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from lopbench.cli.output import roughly, tell
from lopbench.core.grid import Column, Grid
from lopbench.core.reading import real_path
from lopbench.core.text import counted
from lopbench.core.windows import first_tasks

if TYPE_CHECKING:
    from rich.console import Console

    from lopbench.core.interfaces import Scenario
    from lopbench.runner.forecast import Forecast
    from lopbench.runner.pool import Staff
    from lopbench.runner.study import Study


def summarise(
    studies: Sequence[Study], forecasts: Sequence[Forecast | None], staff: Staff, err: Console
) -> Forecast | None:
    """Print what studies will do, and who does it. Data that are not real are shown so that nobody misses it.

    A study has a dozen lines on a terminal of 80 columns.

    Returns:
        The forecast of all studies together; None if it is unknown.
    """
    from rich.text import Text

    from lopbench.runner.forecast import Forecast

    several = len(studies) > 1
    for number, (study, found) in enumerate(zip(studies, forecasts, strict=True), start=1):
        if several:
            err.print(Text(f"runs {number} of {len(studies)}", style="bold underline"))
        rows = _rows(study, _time(found, None if several else staff), staff)
        is_unreal = study.images is not None and not study.images.real
        styles = ["bold yellow" if key == "Data" and is_unreal else "" for key in rows]
        columns = [Column("", list(rows), style="bold"), Column("", list(rows.values()), least=20, styles=styles)]
        err.print(Grid(columns, err.width).rows())
    whole = Forecast.of_all(forecasts)
    if several:
        runs, steps = sum(study.runs for study in studies), sum(study.all_steps for study in studies)
        tell(err, f"In all {counted(runs, 'run')} to do, {steps:,} steps, {_time(whole, staff)}.")
    return whole


def _rows(study: Study, time: str, staff: Staff) -> dict[str, str]:
    """Return what a study will do, who does it and in what time, by heading."""
    from lopbench.results.group import seed_ranges, seeds_in_words
    from lopbench.runner.references import has_reference

    scenario, first = study.scenario, study.specs[0]
    late = len(scenario.late_tasks)
    scored, all_steps = _span(scenario.scored, scenario), _span(scenario.steps, scenario)
    online = "" if scored == all_steps else f", online in their first {scored} steps"
    optimizers = ", ".join(_each(spec.optimizer_label for spec in study.specs))
    seeds = seeds_in_words(seed_ranges(spec.seed for spec in study.specs))
    runs = f"{study.runs} to do, {seeds}, {study.all_steps:,} steps, fresh references included"
    if study.finished:
        runs += f"; {study.finished} finished already and skipped"
    if not study.pending:
        runs = f"nothing to do, {'it is' if study.finished == 1 else f'all {study.finished} are'} finished"
    rows = {
        "Scenario": f"{first.scenario.name}, profile {first.profile}",
        "Protocol": ", ".join(_each(spec.protocol_id for spec in study.specs)),
        "Tasks": f"{scenario.tasks} of {all_steps} steps, the last {late} are scored{online}",
        "Methods": ", ".join(_each(spec.method_label for spec in study.specs)),
        "Network": f"{first.architecture_label}, {optimizers}; references {first.reference_optimizer.label()}",
        "Data": _data(study),
        "Runs": runs,
        "Device": _device(study, staff),
        "Results": str(real_path(study.results)),
    }
    if study.later:
        tuning = study.later[0].tuning
        count = sum(spec.kind == "development" for spec in study.pending)
        used = first_tasks(scenario.tasks, tuning.k)
        rows["Tuning"] = (
            f"{counted(len(study.later), 'entry', 'entries')} with {tuning.budget} configurations each, on the first "
            f"{used} of {scenario.tasks} tasks, {seeds_in_words(seed_ranges(tuning.development_seeds))}: "
            f"{counted(count, 'run')}; "
            f"then {counted(len(study.following), 'run')} of the chosen configurations"
        )
    growth = scenario.growth
    if first.cloner is not None and growth is not None:
        rows["Cloning"] = f"{first.cloner.label()}, by {growth.factor}, before task {growth.task}"
        if not has_reference(first):
            rows["Cloning"] += (
                f"; there is no fresh network as wide to compare with, since {first.architecture.name} does not say "
                "how its wider networks start"
            )
    if study.pending:
        rows["Time"] = time
    return rows


def _data(study: Study) -> str:
    """Return what is streamed; if the data are not real, with how to get the real ones."""
    if study.images is None:
        return "made by the scenario"
    if study.images.real:
        return study.images.notice
    wanted = study.scenario.data
    return f"NOT REAL DATA: procedural ones stand in for {wanted}; 'lopbench data get {wanted}' gets the real ones"


def _device(study: Study, staff: Staff) -> str:
    """Return on which device a study is done, and by how many workers or threads."""
    if not staff.is_one_process and study.pending:
        return f"{', '.join(staff.devices)}; {counted(staff.jobs, 'worker')}, started by {staff.executor.name}"
    import torch

    return f"{study.device}, {counted(torch.get_num_threads(), 'thread')}" if study.device == "cpu" else study.device


def _span(count: Callable[[int], int], scenario: Scenario) -> str:
    """Return the range of a number of steps over the tasks; ``count`` gives it for a task."""
    lengths = {count(task) for task in range(scenario.tasks)}
    return " to ".join(f"{each:,}" for each in sorted({min(lengths), max(lengths)}))


def _time(found: Forecast | None, staff: Staff | None) -> str:
    """Return a forecast in words: "about 38 h of work, 1 h 15 min on 32 workers"; without workers of the work."""
    if found is None:
        return "unknown"
    text = roughly(found.seconds, "at most" if found.most else "about")
    if staff is None or staff.is_one_process:
        return text
    workers = min(staff.jobs, found.groups)
    return f"{text} of work, {roughly(found.on(workers, staff.crowding), '')} on {counted(workers, 'worker')}"


def _each(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))
