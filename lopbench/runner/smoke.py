"""Runs the methods of a recorded run in the smoke profile of their scenario: whether their code works here."""

from __future__ import annotations

import tempfile
from pathlib import Path

from lopbench.core.errors import ResultsError
from lopbench.core.interfaces import Scenario
from lopbench.core.manager import plugins
from lopbench.core.spec import RunSpec
from lopbench.results.record import read_record, record_path
from lopbench.runner.report import Quiet, Reporter
from lopbench.runner.study import execute, plan


def smoke(spec: RunSpec, *, data_dir: Path | None = None, reporter: Reporter | None = None) -> str:
    """Run one seed in an unranked profile, in a temporary folder, and return in words how that ended.

    Args:
        spec: What was recorded: its methods, their start, architecture and optimizer are run.
        data_dir: Folder with the data, looked in first; where the real ones are not found procedural ones serve.
        reporter: Is told how it goes.

    Raises:
        ResultsError: If there is no such profile, or the run does not complete.
        LopbenchError: If the methods are not installed here, or refuse.
    """
    scenario = plugins().registry.get("scenarios", spec.scenario.name).load()
    assert issubclass(scenario, Scenario)
    profile = next(iter(sorted(scenario.unranked & scenario.profiles.keys())), None)
    if profile is None:
        raise ResultsError(f"{spec.scenario.name} has no profile that is short enough to be run again")
    method = "+".join(each.label() for each in spec.methods) or "none"
    with tempfile.TemporaryDirectory(prefix="lopbench-smoke-") as folder:
        study = plan(
            scenario=spec.scenario.name,
            profile=profile,
            methods=[method],
            start=spec.start,
            architecture=spec.architecture.label(),
            optimizers=[spec.optimizer.label()],
            data_dir=data_dir,
            device="cpu",
            results=folder,
        )
        refused = execute(study, reporter or Quiet())
        for _, reason in refused:
            raise ResultsError(f"{method} does not run in {spec.scenario.name}, profile {profile}: {reason}")
        record = read_record(record_path(folder, study.specs[0]))
        steps, outcome = record.status["steps"], record.outcome
        if outcome != "completed":
            raise ResultsError(
                f"{method} {outcome} in {spec.scenario.name}, profile {profile}: {record.status['error']}"
            )
    return f"{method} completes {steps:,} steps of {spec.scenario.name}, profile {profile}."
