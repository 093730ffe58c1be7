"""MLflow, for ``lopbench run --plugin lopbench_mlflow.py --sink mlflow``; its server is that of MLFLOW_TRACKING_URI."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import mlflow

from lopbench import Register, Sink, SinkRun, SinkWriter, hookimpl

lopbench_api = 2

#: What MLflow calls the ways in which a run ends.
STATUS = {"completed": "FINISHED", "diverged": "FAILED", "failed": "FAILED", "stopped": "KILLED"}


@dataclass(frozen=True, kw_only=True)
class MLflow(Sink):
    """Logs each run to a run of MLflow, with which it goes on when it was killed.

    Args:
        experiment: Name of the experiment.
    """

    name: ClassVar[str] = "mlflow"
    experiment: str = "lopbench"

    def open(self, run: SinkRun) -> SinkWriter:
        """Create the run, or find the one that was killed."""
        client, where = mlflow.MlflowClient(), mlflow.set_experiment(self.experiment).experiment_id
        found = client.search_runs([where], f"tags.lopbench_run = '{run.run_id}'") if run.step else []
        begun = found[0] if found else client.create_run(where, run_name=run.label, tags={"lopbench_run": run.run_id})
        client.update_run(begun.info.run_id, status="RUNNING")
        return Logged(client, begun.info.run_id)


class Logged(SinkWriter):
    """One run of MLflow."""

    def __init__(self, client: Any, run_id: str) -> None:
        self.client, self.run_id = client, run_id

    def write(self, step: int, task: int, values: Mapping[str, float]) -> None:
        """Log the numbers, under names that MLflow takes."""
        for name, value in values.items():
            self.client.log_metric(self.run_id, re.sub(r"[^\w./ -]", "_", name), value, step=step)

    def close(self, outcome: str) -> None:
        """End the run."""
        self.client.set_terminated(self.run_id, STATUS[outcome])


@hookimpl
def lopbench_sinks(register: Register) -> None:
    """Make the sink known."""
    register("mlflow", MLflow, "runs of MLflow")
