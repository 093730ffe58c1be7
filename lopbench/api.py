"""What the command line does, for Python: run a study and read a leaderboard."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lopbench.core.errors import UsageError
from lopbench.core.given import GivenMethod
from lopbench.core.manager import try_file
from lopbench.core.spec import ComponentSpec
from lopbench.results.compare import compare
from lopbench.results.frames import measurements
from lopbench.results.leaderboard import leaderboard
from lopbench.results.record import find_records
from lopbench.runner.aside import check_complete
from lopbench.runner.pool import Staff, executor_of
from lopbench.runner.report import Quiet
from lopbench.runner.reproduce import reproduce
from lopbench.runner.request import Request
from lopbench.runner.sinks import usable
from lopbench.runner.status import RunStatus
from lopbench.runner.status import status as run_statuses
from lopbench.runner.study import Study, plan
from lopbench.runner.worklist import work_here

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from lopbench.cli.plot import Kind
    from lopbench.core.interfaces import Architecture, Cloner, Executor, Metric, Optimizer, Scenario, Sink

__all__ = [
    "compare",
    "find_records",
    "leaderboard",
    "measurements",
    "plot",
    "reproduce",
    "run",
    "status",
    "study_leaderboard",
]


def run(
    *,
    scenario: "str | Scenario" = "tinyimagenet40",
    methods: Iterable[GivenMethod] = ("none",),
    architecture: "str | Architecture | None" = None,
    cloner: "str | Cloner | None" = None,
    seeds: Iterable[int] = (0,),
    optimizers: "Iterable[str | Optimizer | None]" = (None,),
    sweeps: Iterable[str] = (),
    start: float = 0.0,
    profile: str | None = None,
    metrics: "Iterable[str | Metric] | None" = None,
    tune: "str | Mapping[str, float] | None" = None,
    plugins: Iterable[str | os.PathLike[str]] = (),
    data: str = "auto",
    data_dir: str | os.PathLike[str] | None = None,
    device: str = "auto",
    results: str | os.PathLike[str] = "results",
    sinks: "Iterable[str | Sink]" = (),
    jobs: int | None = None,
    executor: "str | Executor" = "local",
    quiet: bool = True,
) -> "pd.DataFrame":
    """Do the runs that have no record yet, and return their leaderboard; components are texts or objects.

    Args:
        scenario: Scenario, as in ``"tinyimagenet40:tasks=20"``.
        methods: Methods, as in ``"layernorm+l2"`` or ``("layernorm", MyMethod(strength=0.1))``; "none" is no method.
        architecture: Architecture, as in ``"mlp:width=256"``; the scenario's default if None.
        cloner: Cloner, where the scenario clones the learner; the scenario's default if None.
        seeds: Seeds, each a run of its own for each method and optimizer.
        optimizers: Optimizers, as in ``"adam:lr=1e-3"``; None is the protocol's.
        sweeps: Numbers with the values to run, as in ``"lr=0.01,0.001"`` or ``"cbp.replacement_rate=1e-5,1e-4"``.
        start: Fraction of the stream after which the methods turn on.
        profile: The scenario's profile; its default if None.
        metrics: Metrics to measure; the default ones if None.
        tune: How each method is tuned first, as in ``"k=0.1,budget=16,seeds=3"`` or a table of these; None: not at all.
        plugins: Files with plugins to load.
        data: "auto", the name of the scenario's data set, or "procedural".
        data_dir: Folder that holds the data, looked in first.
        device: "auto", "cpu", "cuda" and the like, or several with commas between.
        results: Results folder.
        sinks: Where measurements are sent as they come, as in ``"tensorboard"``; those of recorded runs are not sent.
        jobs: Number of workers, one for each device if None; they know only what is installed or in ``plugins``.
        executor: What starts workers, as in ``"slurm:partition=gpu"``.
        quiet: False shows progress on stderr.

    Returns:
        The rows of `leaderboard` for these entries, and for ``none`` where it is known with the same optimizers.

    Raises:
        LopbenchError: If a name, field or value is wrong, data or results folder cannot be used, or runs are refused.
    """
    _check_lists(methods=methods, optimizers=optimizers, sweeps=sweeps, plugins=plugins, sinks=sinks, seeds=seeds)
    asked = {name: value for name, value in locals().items() if name in Request.__dataclass_fields__}
    broken = [(each.plugin, each.reason) for each in map(try_file, map(Path, plugins)) if each is not None]
    told, where, staff = usable(sinks), None if data_dir is None else Path(data_dir), _staff(executor, jobs, device)
    study = plan(**asked, data=data, data_dir=where, device=staff.device, results=Path(results))
    check_complete(_do(study, staff, where, told, quiet=quiet), study.runs, (*broken, *study.aside))
    return study_leaderboard(study.settled())


def _check_lists(**given: object) -> None:
    """Raise if a text stands in the place of a list, of which each letter would be taken for a name.

    Raises:
        UsageError: If one does.
    """
    for name, value in given.items():
        if isinstance(value, str):
            like = "range(5)" if name == "seeds" else f"[{value!r}]"
            raise UsageError(f"{name}={value!r} is a text, not a list; write {name}={like}")


def _staff(executor: "str | Executor", jobs: int | None, device: str) -> Staff:
    starter = executor_of(executor) if isinstance(executor, str) else executor
    if not starter.starts:
        raise UsageError(f"executor={starter.name!r} starts no workers, so there is nothing to wait for")
    return Staff.of(starter, jobs=jobs, device=device)


def _do(
    study: Study, staff: Staff, data_dir: Path | None, sinks: "Sequence[Sink]", *, quiet: bool
) -> list[tuple[str, str]]:
    """Do what is pending; returns what could not be run, each with the reason."""
    if not staff.is_one_process and study.pending:
        from lopbench.cli.output import console
        from lopbench.cli.workers import follow

        shown = console(stderr=True)
        shown.quiet = quiet
        pool = staff.pool([study], data_dir=data_dir, sinks=[ComponentSpec.of("sinks", each).label() for each in sinks])
        return follow(pool, shown, runs=study.runs, steps=study.all_steps)
    if quiet:
        return work_here([study], Quiet(), data_dir=data_dir, sinks=sinks)
    from lopbench.cli.output import console
    from lopbench.cli.progress import study_reporter

    with study_reporter(console(stderr=True), runs=study.runs, steps=study.all_steps) as reporter:
        return work_here([study], reporter, data_dir=data_dir, sinks=sinks)


def study_leaderboard(*studies: Study) -> "pd.DataFrame":
    """Return the rows of studies in one folder: their entries, and ``none`` where it is known with the same optimizers.

    Raises:
        ResultsError: As `leaderboard`.
    """
    frame = leaderboard(studies[0].results)
    specs = [spec for study in studies for spec in study.specs]
    protocols = {spec.protocol_id for spec in specs}
    entries = {each.entry_id for spec in specs for each in (spec, replace(spec, methods=(), start=0.0))}
    plain = (frame["method"] == "none") & (frame["tuning"] != "")  # tuned as they are, whatever its optimizer is
    asked = frame["protocol_id"].isin(protocols) & (frame["entry_id"].isin(entries) | plain)
    return frame[asked].reset_index(drop=True)


def status(results: str | os.PathLike[str] = "results") -> "pd.DataFrame":
    """Return how the runs of a results folder stand, a run a row; nothing is changed, and no run is disturbed.

    The columns are those of `lopbench.runner.status.RunStatus`: state ("completed", "running", "to do", "failed" and
    the like), what people call the run, why it did not complete or how far it is, and what it is of.

    Args:
        results: The results folder.

    Raises:
        ResultsError: If there is no such folder.
    """
    import pandas as pd

    rows = [each.to_json() for each in run_statuses(results)]
    return pd.DataFrame(rows, columns=list(RunStatus.__dataclass_fields__))


def plot(
    kind: "Kind",
    *results: str | os.PathLike[str],
    metrics: Sequence[str] = (),
    methods: Sequence[str] = (),
    optimizers: Sequence[str] = (),
    protocols: Sequence[str] = (),
    width: float | None = None,
    output: str | os.PathLike[str] | None = None,
) -> "Figure":
    """Return a figure as ``lopbench plot`` draws it.

    Args:
        kind: "curves", "learning-rate", "error-curves", "recovery", "recovery-bars" or "cloning".
        results: Results folders or packed sets.
        metrics: Metrics to draw, such as "retention" or "effective_rank"; what the kind usually draws if empty.
        methods: Only these methods, as tables name them.
        optimizers: Only these optimizers.
        protocols: Only these protocols, or ids that begin so.
        width: Width in inches, 6.8 unless told; text has 8 points whatever it is.
        output: Where to save it too, as .svg, .pdf or .png.

    Raises:
        UsageError: If something was asked for that there is not.
        ResultsError: If the runs do not belong in one figure, or it cannot be written.
    """
    from lopbench.cli.plot import figure
    from lopbench.results.plots import check_target, save
    from lopbench.results.sheet import fit

    if output is not None:
        check_target(output, width)
    made = figure(kind, [Path(each) for each in results], metrics=metrics, wanted=(protocols, methods, (), optimizers))
    fit(made, width=width)
    if output is not None:
        save(made, output)
    return made
