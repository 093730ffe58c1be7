"""The base network of a clone, which goes on training beside it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from lopbench.core.interfaces import Metric, Task
from lopbench.learner.learner import StackLearner
from lopbench.runner.checkpoint import part
from lopbench.runner.measure import diagnostics, task_scores

#: What the names of its measurements begin with.
PREFIX = "base_"


class Base:
    """The network that was cloned, with its optimizer's state; it takes the steps of its clone on the same batches.

    Its methods wait for ever: of these, it has only what they built into the network. If it diverges it is measured no
    more, and its clone goes on.

    Args:
        learner: The network in training, one replica.
    """

    def __init__(self, learner: StackLearner) -> None:
        self.learner = learner
        self.start_counting(0)

    def start_counting(self, steps: int) -> None:
        """Make room for the losses and scores of the steps of a task."""
        #: Loss and mean score of each step of the task, ``(steps, 1)``.
        self.losses = torch.zeros(steps, 1, dtype=torch.float64, device=self.learner.device)
        self.scores = torch.zeros_like(self.losses)

    def step(self, step: int, batch: tuple[Tensor, Tensor], task: Task) -> None:
        """Take step number ``step`` of the task."""
        taken = self.learner.step([batch])
        self.losses[step], self.scores[step] = taken.losses, taken.scores

    def task_scores(self, task: Task, kind: Literal["accuracy", "error"]) -> Iterator[tuple[str, float]]:
        """Yield names and values of its mean scores on the task that is over."""
        if self._sound(len(self.losses)):
            losses, scores = self.losses.mean(dim=0), self.scores.mean(dim=0)
            found = task_scores(self.learner, 0, task, losses=losses, scores=scores, kind=kind)
            yield from ((PREFIX + name, value) for name, value in found)

    def diagnostics(
        self, step: int, task: Task, metrics: Sequence[tuple[str, Metric]]
    ) -> Iterator[tuple[str, str, float]]:
        """Yield label, layer and value of each metric that needs no clones, after ``step`` steps of the task."""
        if self._sound(step):
            found = diagnostics(self.learner, 0, task, metrics)
            yield from ((PREFIX + name, layer, value) for name, layer, value in found)

    def _sound(self, steps: int) -> bool:
        """Whether the losses of the first ``steps`` steps of the task are finite."""
        return bool(self.losses[:steps].isfinite().all())

    def state_dict(self) -> dict[str, Tensor]:
        """Return everything that changes in training, as named tensors."""
        learner = {f"learner/{name}": value for name, value in self.learner.state_dict().items()}
        return {**learner, "losses": self.losses, "scores": self.scores}

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore a copy of what `state_dict` returned."""
        self.learner.load_state_dict(part(tensors, "learner"))
        self.losses.copy_(tensors["losses"])
        self.scores.copy_(tensors["scores"])
