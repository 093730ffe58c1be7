"""What the command line does, for Python: run a study and read a leaderboard."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from lopbench.results.compare import compare
from lopbench.results.leaderboard import leaderboard
from lopbench.results.record import find_records
from lopbench.runner.report import Quiet
from lopbench.runner.reproduce import reproduce
from lopbench.runner.status import status
from lopbench.runner.study import Study, execute, plan

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["compare", "find_records", "leaderboard", "reproduce", "run", "status", "study_leaderboard"]


def run(
    *,
    scenario: str = "tinyimagenet40",
    methods: Iterable[str] = ("none",),
    architecture: str | None = None,
    cloner: str | None = None,
    seeds: Iterable[int] = (0,),
    optimizers: Iterable[str | None] = (None,),
    sweeps: Iterable[str] = (),
    start: float = 0.0,
    profile: str | None = None,
    data: str = "auto",
    data_dir: str | os.PathLike[str] | None = None,
    device: str = "auto",
    results: str | os.PathLike[str] = "results",
    metrics: Iterable[str] | None = None,
    quiet: bool = True,
) -> "pd.DataFrame":
    """Do the runs that have no record yet, and return their leaderboard.

    Args:
        scenario: Scenario, as in ``"tinyimagenet40"`` or ``"tinyimagenet40:tasks=20"``.
        methods: Methods, as in ``"cbp:replacement_rate=1e-4"`` or ``"layernorm+l2"``; "none" is no method.
        architecture: Architecture, as in ``"mlp:width=256"``; the scenario's default if None.
        cloner: Cloner, as in ``"interleave"``, where the scenario clones the learner; the scenario's default if None.
        seeds: Seeds, each a run of its own for each method and optimizer.
        optimizers: Optimizers, as in ``"adam:lr=1e-3"``; None is the protocol's.
        sweeps: Numbers with the values to run, as in ``"lr=0.01,0.001"`` or ``"cbp.replacement_rate=1e-5,1e-4"``.
        start: Fraction of the stream after which the methods turn on.
        profile: The scenario's profile; its default if None.
        data: The scenario's data set by its name, "procedural" for its stand-in, or "auto", the first that there is.
        data_dir: Folder that holds the data, looked in first.
        device: "auto", "cpu", "cuda" and the like.
        results: Results folder.
        metrics: Metrics to measure; the default ones if None.
        quiet: False shows progress on stderr.

    Returns:
        The rows of `leaderboard` for these methods and for ``none`` where it is known, under the same protocols.

    Raises:
        UsageError: If a name, a field or a value's form is wrong.
        LopbenchError: If the data or the results folder cannot be used, or a component refuses its values.
    """
    study = plan(
        scenario=scenario,
        methods=methods,
        architecture=architecture,
        cloner=cloner,
        seeds=seeds,
        optimizers=optimizers,
        sweeps=sweeps,
        start=start,
        profile=profile,
        data=data,
        data_dir=None if data_dir is None else Path(data_dir),
        device=device,
        results=Path(results),
        metrics=metrics,
    )
    if quiet:
        execute(study, Quiet())
    else:
        from lopbench.cli.output import console
        from lopbench.cli.progress import study_reporter

        err, score = console(stderr=True), study.scenario.score
        with study_reporter(err, runs=len(study.pending), steps=sum(study.steps), score=score) as reporter:
            execute(study, reporter)
    return study_leaderboard(study)


def study_leaderboard(study: Study) -> "pd.DataFrame":
    """Return the rows of a study: its methods, and ``none`` where it is known under the same protocols.

    Raises:
        ResultsError: As `leaderboard`.
    """
    frame = leaderboard(study.results)
    protocols = {spec.protocol_id for spec in study.specs}
    methods = {spec.method_label for spec in study.specs} | {"none"}
    return frame[frame["protocol_id"].isin(protocols) & frame["method"].isin(methods)].reset_index(drop=True)
