"""A learner with what it scores on the task in hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from lopbench.core.interfaces import Metric, Task
from lopbench.learner.acting import Actor
from lopbench.learner.learner import StackLearner
from lopbench.learner.probing import Seen
from lopbench.learner.program import Periods, Program
from lopbench.learner.step import Taken
from lopbench.runner.best import Best
from lopbench.runner.checkpoint import part
from lopbench.runner.measure import diagnostics, of_networks, task_scores, training_means, training_metrics


class ScoredLearner:
    """A learner with the losses and scores of its steps on the current task.

    The learner that is scored is one, and the base that is trained beside its clone another. A replica whose losses
    are not finite is measured no more.

    Args:
        learner: The learner.
        metrics: The diagnostics, by label.
        score: What the scenario scores.
        prefix: What the names of its measurements begin with.
    """

    def __init__(
        self,
        learner: StackLearner,
        *,
        metrics: Sequence[tuple[str, Metric]],
        score: Literal["accuracy", "error"],
        prefix: str = "",
    ) -> None:
        self.learner = learner
        self.actor = Actor(learner)
        self._metrics = metrics
        self._training = training_metrics(metrics)
        #: What is measured of each step.
        self.training = tuple(self._training.values())
        self._score = score
        self._prefix = prefix
        self.best = Best(learner, falling=score == "error")
        self.start_counting(0)

    def start_counting(self, steps: int, *, scored: int | None = None) -> None:
        """Make room for the losses and scores of the ``steps`` steps of a task, of which the first ``scored`` count."""
        self.done = 0  #: Steps taken of the task.
        self._scored = steps if scored is None else scored
        shape, device = (steps, self.learner.replicas), self.learner.device
        self._losses = torch.zeros(shape, dtype=torch.float64, device=device)
        self._scores = torch.zeros_like(self._losses)
        self._measured = {label: torch.zeros_like(self._losses) for label in self._training}
        self._total, self._summed = self._scores.sum(dim=0), 0
        self._means_of = 0
        self._means = self._losses[:0].sum(dim=0), self._scores[:0].sum(dim=0)
        self._sound_of, self._sound = 0, [True] * self.learner.replicas
        self.best.forget()

    @property
    def losses(self) -> Tensor:
        """Loss of each step taken of the task, ``(done, R)``, scored or not."""
        return self._losses[: self.done]

    @property
    def scores(self) -> Tensor:
        """Mean score of the batch of each of these steps before its update, ``(done, R)``."""
        return self._scores[: self.done]

    @property
    def means(self) -> tuple[Tensor, Tensor]:
        """Mean loss and mean score of the steps taken of the task that are scored, ``(R,)`` each."""
        if self._means_of != self.done:  # of hundreds of replicas each asks for them
            losses, scores = self.losses[: self._scored], self.scores[: self._scored]
            self._means, self._means_of = (losses.mean(dim=0), scores.mean(dim=0)), self.done
        return self._means

    def score_so_far(self) -> Tensor:
        """Return the mean score of the steps taken so far that are scored, ``(R,)``, summed up from call to call."""
        taken = min(self.done, self._scored)
        self._total += self._scores[self._summed : taken].sum(dim=0)
        self._summed = taken
        return self._total / taken

    # -- training

    def step(
        self,
        batches: Sequence[tuple[Tensor, Tensor]],
        *,
        observe: Callable[[Tensor], Tensor | None] | None = None,
    ) -> None:
        """Take a step: for each replica a batch ``(N, ...)`` and its targets; ``observe`` is told the outputs."""
        taken = self.learner.step(batches, metrics=self.training, observe=observe)
        self._note(taken, 1)

    def advance(self, program: Program, periods: Periods) -> None:
        """Let ``program`` take the steps of some periods, whole calls."""
        taken = program.advance(self.learner, periods)
        self._note(taken, len(taken.losses))

    def _note(self, taken: Taken, steps: int) -> None:
        """Write down what is known of ``steps`` steps; of one step, each ``(R,)``."""
        stop = self.done + steps
        self._losses[self.done : stop] = taken.losses
        self._scores[self.done : stop] = taken.scores
        for values, each in zip(self._measured.values(), taken.measured, strict=True):
            values[self.done : stop] = each
        self.done = stop

    # -- early stopping

    def validate(self, replica: int, task: Task) -> None:
        """Validate a replica as it is now, and remember its weights if they are the best of the task so far."""
        if self._is_sound(replica):
            self.best.validate(replica, task, self.done)

    # -- measuring

    def task_scores(self, replica: int, task: Task) -> Iterator[tuple[str, float]]:
        """Yield names and values of a replica's mean scores on the task that is over."""
        if self._is_sound(replica):
            losses, scores = self.means
            found = task_scores(self.learner, replica, task, losses=losses, scores=scores, kind=self._score)
            yield from ((self._prefix + name, value) for name, value in found)
            yield from ((self._prefix + name, value) for name, value in training_means(self._measured, replica))
            yield from ((self._prefix + name, value) for name, value in self._kept(replica))

    def see_together(self, tasks: Sequence[Task]) -> list[Seen] | None:
        """Return what one pass shows of all replicas, if there can be one and a metric asks for it."""
        return self.learner.see_together(tasks) if of_networks(self.learner, self._metrics) else None

    def diagnostics(self, replica: int, task: Task, seen: Seen | None = None) -> Iterator[tuple[str, str, float]]:
        """Yield label, layer and value of each metric of a replica as it is now.

        Args:
            replica: Index of the replica.
            task: Its task.
            seen: What `see_together` returned of it, if it did.
        """
        if self._is_sound(replica):
            found = diagnostics(self.learner, replica, task, self._metrics, seen)
            yield from ((self._prefix + name, layer, value) for name, layer, value in found)

    def reports(self) -> dict[str, list[float]]:
        """Return what the methods tell of themselves, by name a number for each replica."""
        return {self._prefix + name: values.tolist() for name, values in self.learner.reports().items()}

    def finite(self) -> Tensor:
        """Return whether all parameters of each replica are finite, ``(R,)``."""
        found = [value.isfinite().flatten(1).all(dim=1) for value in self.learner.view.parameters.values()]
        return torch.stack(found).all(dim=0)

    def _kept(self, replica: int) -> Iterator[tuple[str, float]]:
        """Yield what is known of the weights that a replica goes on with, where it was validated."""
        if not self.best.scores[replica].isnan():
            yield f"validation_{self._score}", float(self.best.scores[replica])
            yield "kept_step", float(self.best.steps[replica])

    def _is_sound(self, replica: int) -> bool:
        if self._sound_of != self.done:  # of many replicas each asks for it, and a column is slow to read
            self._sound, self._sound_of = self.losses.isfinite().all(dim=0).tolist(), self.done
        return self._sound[replica]

    # -- checkpoints

    def state_dict(self) -> dict[str, Tensor]:
        """Return everything that changes in training, as named tensors."""
        learner = {f"learner/{name}": value for name, value in self.learner.state_dict().items()}
        measured = {f"measured/{label}": values[: self.done] for label, values in self._measured.items()}
        best = {f"best/{name}": value for name, value in self.best.state_dict().items()}
        return {**learner, **measured, **best, "losses": self.losses, "scores": self.scores}

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore a copy of what `state_dict` returned, on the same task."""
        self.learner.load_state_dict(part(tensors, "learner"))
        self.done = len(tensors["losses"])
        self._losses[: self.done] = tensors["losses"].to(self._losses)
        self._scores[: self.done] = tensors["scores"].to(self._scores)
        for label, values in self._measured.items():
            values[: self.done] = tensors[f"measured/{label}"].to(values)
        self.best.load_state_dict(part(tensors, "best"))
