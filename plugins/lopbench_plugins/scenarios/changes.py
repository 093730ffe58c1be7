"""How a stream of labelled images changes: at once or by and by, for good or for a while, as a whole or in part.

Published streams change at once, into what never was before, and as a whole. Each of these is a field here, at whose
default a stream is the published one to the bit, so that retention can be told as a function of it. That loss of
plasticity shrinks where changes are smoothed is reported in arXiv:2602.09234, whose streams mix inputs; here a step
mixes images of two tasks, none of which is changed itself.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lopbench import InvalidInputError, later, number, whole
from lopbench_plugins.scenarios.labelled_images import LabelledImages, LabelledScenario, LabelledTask
from lopbench_plugins.scenarios.row_batches import RowBatches


@dataclass(frozen=True, kw_only=True)
class ChangingScenario(LabelledScenario):
    """A scenario of labelled images in which each task permutes something.

    Args:
        abruptness: Steps at the start of each task but the first in which images of the task before are mixed in: the
            share of the new task rises from step to step by the same amount. 0 changes at once.
        recurrence: Number of different tasks, which come again in turn, with other images; 0 for no task that comes
            again, 1 for a problem that never changes.
        fraction: Share, in [0, 1], of the pixels or labels that a task permutes. Below 1 exactly as many are moved,
            drawn anew by each task, and all that are drawn are moved.
    """

    abruptness: int = later(whole(0, least=0))
    recurrence: int = later(whole(0, least=0))
    fraction: float = later(number(1.0, least=0, most=1))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.abruptness > self.steps_per_task:
            raise InvalidInputError(
                f"{self.name}: abruptness is a number of steps of a task and at most steps_per_task="
                f"{self.steps_per_task}, got {self.abruptness}"
            )


class ChangingImages(LabelledImages):
    """The images of one seed under permutations that are drawn by task."""

    scenario: ChangingScenario

    def permutation(self, index: int, purpose: str, count: int) -> Tensor:
        """Return how task ``index`` permutes ``count`` things, ``(count,)`` on the device.

        Args:
            index: Place of the task in the stream.
            purpose: Name of the random stream that it is drawn from.
            count: Number of things.

        Raises:
            InvalidInputError: If the share that is to be permuted is one thing alone.
        """
        recurrence, fraction = self.scenario.recurrence, self.scenario.fraction
        drawn = torch.randperm(count, generator=self.generator(purpose, index % recurrence if recurrence else index))
        if fraction < 1:
            moved = round(fraction * count)
            if moved == 1:
                raise InvalidInputError(
                    f"{self.scenario.name}: fraction={fraction:g} of {count} is one, which cannot be permuted; give 0, "
                    f"or at least {2 / count:g}"
                )
            places = drawn[:moved]
            drawn = torch.arange(count)
            drawn[places] = places.roll(1)  # a cycle, which leaves none in its place
        return drawn.to(self.device)


class ChangingTask(LabelledTask):
    """A task that may come by and by."""

    stream: ChangingImages

    def batches(self) -> RowBatches:
        """Return the training stream of the task from its start."""
        steps = self.stream.scenario.abruptness
        if not steps or not self.index:
            return super().batches()
        return MixedBatches(self, type(self)(self.stream, self.index - 1), self.stream.batch_size, steps)


class MixedBatches(RowBatches):
    """The images of a task, some of which are at first presented as the task before does.

    Args:
        task: The task.
        before: The task before.
        size: Images of a batch.
        steps: Steps in which they are mixed: of those in step s, from 0, a share of (s + 1) / (steps + 1) is new.
    """

    def __init__(self, task: ChangingTask, before: ChangingTask, size: int, steps: int) -> None:
        super().__init__(task, size)
        self._before = before
        generator = task.stream.generator("mixing", task.index)
        shares = torch.arange(1, steps + 1).repeat_interleave(size) / (steps + 1)
        #: Whether each of the first images is presented as the new task does, ``(steps * size,)``.
        self._new = torch.rand(steps * size, generator=generator) < shares

    def made(self, rows: Tensor, first: int) -> tuple[Tensor, Tensor]:
        """Return the images at places ``rows``, of which the first is image number ``first`` of the task."""
        inputs, labels = super().made(rows, first)
        new = self._new[first : first + len(rows)]
        old = (~new).nonzero().flatten()
        if len(old):
            places = old.to(inputs.device)
            inputs[places], labels[places] = self._before.of_rows(rows[old])
        return inputs, labels
