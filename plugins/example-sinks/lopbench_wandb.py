"""Weights & Biases, for ``lopbench run --plugin lopbench_wandb.py --sink wandb``; needs wandb 0.19.10 or newer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import wandb

from lopbench import Register, Sink, SinkRun, SinkWriter, hookimpl

lopbench_api = 2


@dataclass(frozen=True, kw_only=True)
class WandB(Sink):
    """Logs each run to a run of W&B, which goes on under its id when it was killed.

    Args:
        project: Name of the project.
    """

    name: ClassVar[str] = "wandb"
    project: str = "lopbench"

    def open(self, run: SinkRun) -> SinkWriter:
        """Begin the run, or go on with it; several are open at once."""
        names = {"project": self.project, "id": run.run_id, "name": run.label}
        begun = wandb.init(**names, config=dict(run.spec), resume="allow", reinit="create_new")
        begun.define_metric("*", step_metric="step")
        return Logged(begun)


class Logged(SinkWriter):
    """One run of W&B."""

    def __init__(self, run: Any) -> None:
        self.run = run

    def write(self, step: int, task: int, values: Mapping[str, float]) -> None:
        """Log one row."""
        self.run.log({"step": step, "task": task, **values})

    def close(self, outcome: str) -> None:
        """Finish the run."""
        self.run.finish(exit_code=int(outcome in ("diverged", "failed")))


@hookimpl
def lopbench_sinks(register: Register) -> None:
    """Make the sink known."""
    register("wandb", WandB, "runs of Weights & Biases")
