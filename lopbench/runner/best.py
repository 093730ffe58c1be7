"""Early stopping: the weights of each replica that were best on validation samples so far in the task."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from lopbench.core.interfaces import Task
from lopbench.learner.learner import StackLearner
from lopbench.runner.checkpoint import part


class Best:
    """The parameters and buffers with which each replica has scored best in its validations of the current task.

    Args:
        learner: The learner.
        falling: Whether lower scores are better.
    """

    def __init__(self, learner: StackLearner, *, falling: bool) -> None:
        self._learner = learner
        self._sign = -1 if falling else 1
        self.forget()

    def forget(self) -> None:
        """Drop what is known: a task begins, or this one is not validated."""
        replicas = self._learner.replicas
        #: Best score of each replica, ``(R,)`` of float64, and the steps of the task after which it had it; NaN where
        #: it was not validated, or has no number for a score.
        self.scores = torch.full((replicas,), torch.nan, dtype=torch.float64)
        self.steps = torch.zeros(replicas, dtype=torch.int64)
        self._tensors: dict[str, Tensor] = {}

    def validate(self, replica: int, task: Task, step: int) -> None:
        """Validate a replica after ``step`` steps of its task, and copy its weights if they are better than before."""
        score, best = self._learner.validate(replica, task), float(self.scores[replica])
        if not (self._sign * (score - best) > 0 or math.isnan(best)):
            return
        current = self._current()
        if not self._tensors:
            self._tensors = {name: value.clone() for name, value in current.items()}
        for name, value in current.items():
            self._tensors[name][replica].copy_(value[replica])
        self.scores[replica], self.steps[replica] = score, step

    @torch.no_grad()
    def restore(self) -> None:
        """Give each replica that was validated the weights with which it was best."""
        current = self._current()
        for replica in (~self.scores.isnan()).nonzero().flatten().tolist():
            for name, value in self._tensors.items():
                current[name][replica].copy_(value[replica])

    def _current(self) -> dict[str, Tensor]:
        view = self._learner.view
        parameters = {f"parameter/{name}": value for name, value in view.parameters.items()}
        return {**parameters, **{f"buffer/{name}": value for name, value in view.buffers.items()}}

    # -- checkpoints

    def state_dict(self) -> dict[str, Tensor]:
        """Return what is known, as named tensors; none before the first validation of a task."""
        if not self._tensors:
            return {}
        return {"scores": self.scores, "steps": self.steps, **{f"at/{n}": value for n, value in self._tensors.items()}}

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore a copy of what `state_dict` returned."""
        self.forget()
        if tensors:
            self.scores, self.steps = tensors["scores"].cpu().clone(), tensors["steps"].cpu().clone()
            saved, current = part(tensors, "at"), self._current()
            self._tensors = {name: saved[name].to(value.device).clone() for name, value in current.items()}
