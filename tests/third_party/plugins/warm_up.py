"""Warm-up of the learning rate at each task, as Lee et al. 2024, arXiv:2406.02596, train (over 10% of a task)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from lopbench import Learner, Perturbation, Register, State, hookimpl, whole

lopbench_api = 2


@dataclass(frozen=True, kw_only=True)
class WarmUp(Perturbation):
    """Lets the learning rate rise linearly over the first steps of every task, the first included.

    Args:
        steps: Steps until the learning rate is that of the run, at least 0.
    """

    name: ClassVar[str] = "warm_up"
    equation: ClassVar[str] = "lr(step t of a task) = lr * min(1, (t + 1) / steps)"
    examples: ClassVar[tuple[Mapping[str, object], ...]] = ({"steps": 8},)
    steps: int = whole(100, least=0, zero=0)

    def begin(self, learner: Learner, state: State) -> None:
        """Begin as at a task."""
        state["done"] = torch.zeros(learner.replicas, dtype=torch.float64, device=learner.device)
        self._scale(learner, state)

    def on_task_start(self, learner: Learner, state: State) -> None:
        """Begin anew."""
        state["done"].zero_()
        self._scale(learner, state)

    def after_step(self, learner: Learner, state: State) -> None:
        """Scale the learning rate of the next step."""
        state["done"] += 1
        self._scale(learner, state)

    def _scale(self, learner: Learner, state: State) -> None:
        learner.optimizer.scale(((state["done"] + 1) / self.steps).clamp(max=1))


@hookimpl
def lopbench_methods(register: Register) -> None:
    """Make the method known."""
    register("warm_up", WarmUp, "a learning rate that rises at the start of each task")
