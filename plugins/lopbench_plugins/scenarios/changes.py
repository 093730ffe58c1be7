"""How a stream of labelled images changes: at once or by and by, for good or for a while, as a whole or in part.

Published streams change at once, into what never was before, and as a whole. Each of these is a field here, at whose
default a stream is the published one to the bit, so that retention can be told as a function of it. That loss of
plasticity shrinks where changes are smoothed is reported in arXiv:2602.09234, whose streams mix inputs; here a step
mixes images of two tasks, none of which is changed itself.

What is mixed in is trained on and scored like the rest. A learner was trained on the task that it is from, and a fresh
network was not, which is a part of what retention gains by it.

Where a task permutes something it can do so in part, and has all three fields (`PermutingScenario`). Where a task has
classes of its own nothing is permuted of which there could be a part, and `fraction` is no field.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from lopbench import InvalidInputError, Scenario, later, number, whole
from lopbench_plugins.scenarios.labelled_images import LabelledImages, LabelledScenario, LabelledTask
from lopbench_plugins.scenarios.row_batches import RowBatches


@dataclass(frozen=True, kw_only=True)
class RecurringScenario(Scenario):
    """A scenario whose tasks can come again.

    Args:
        recurrence: Number of different tasks, which come again in turn, in another order of their images, and with
            other images where tasks draw these from a common set; 0 for no task that comes again, 1 for a problem that
            never changes.
    """

    recurrence: int = later(whole(0, least=0))

    @property
    def different(self) -> int:
        """Number of different tasks, at least 1."""
        return min(self.recurrence, self.tasks) or self.tasks

    def original(self, index: int) -> int:
        """Return which of the different tasks comes at place ``index`` of the stream, from 0."""
        return index % self.recurrence if self.recurrence else index


@dataclass(frozen=True, kw_only=True)
class ChangingScenario(RecurringScenario, LabelledScenario):
    """A scenario of labelled images whose tasks can also come by and by.

    Args:
        abruptness: Steps at the start of each task but the first in which images of the task before are mixed in: the
            share of the new task rises from step to step by the same amount. At most the steps of a task; 0 changes at
            once.
    """

    abruptness: int = later(whole(0, least=0))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.abruptness > self.longest_change:
            raise InvalidInputError(
                f"{self.name}: abruptness={self.abruptness:,} is more than the {self.longest_change:,} steps from one "
                f"change to the next; give at most {self.longest_change:,}"
            )

    @property
    def longest_change(self) -> int:
        """Steps over which a change can last at most, those from one to the next: those of a task."""
        return self.steps_per_task


@dataclass(frozen=True, kw_only=True)
class PermutingScenario(ChangingScenario):
    """A scenario of labelled images in which each task permutes something.

    Args:
        fraction: Share, in [0, 1], of the pixels or classes that a task permutes. Below 1 each task draws as many anew
            as the share comes to, rounded to a whole number; each of these takes the place of another one of them, and
            all others stay.
    """

    fraction: float = later(number(1.0, least=0, most=1))


class PermutingImages(LabelledImages):
    """The images of one seed under permutations that are drawn by task."""

    scenario: PermutingScenario

    def permutation(self, index: int, purpose: str, count: int) -> Tensor:
        """Return how task ``index`` permutes ``count`` things, ``(count,)`` on the device.

        Args:
            index: Place of the task in the stream.
            purpose: Name of the random stream that it is drawn from.
            count: Number of things.

        Raises:
            InvalidInputError: If the share that is to be permuted is one thing alone.
        """
        fraction = self.scenario.fraction
        drawn = torch.randperm(count, generator=self.generator(purpose, self.scenario.original(index)))
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
    """A task of a `ChangingScenario`, which may come by and by."""

    @property
    def last(self) -> range | None:
        """Places of the images that are mixed into the next task, drawn at random; None for the next task's own."""
        return None

    def batches(self) -> RowBatches:
        """Return the training stream of the task from its start."""
        steps, former = cast(ChangingScenario, self.stream.scenario).abruptness, self.former()
        if not steps or former is None:
            return super().batches()
        return MixedBatches(self, former, steps)

    def former(self) -> "ChangingTask | None":
        """Return the task before, None of the first."""
        return cast(ChangingTask, self.stream.task(self.index - 1)) if self.index else None


class MixedBatches(RowBatches):
    """The images of a task, in whose place there are at first images of the task before, under its labels.

    Args:
        task: The task.
        before: The task before, which may have another number of images. Those that it has in common with the task
            are presented as it does; else images of its `ChangingTask.last` are drawn.
        steps: Steps in which they are mixed.
    """

    def __init__(self, task: ChangingTask, before: ChangingTask, steps: int) -> None:
        size = task.stream.batch_size
        super().__init__(task, size)
        self._before = before
        #: Whether each of the first images is the new task's, ``(steps * size,)``.
        self._new = risen(steps, size, task.stream.generator("mixing", task.index))
        #: The images of the task before that may stand there, likewise; None for those of the new task.
        self._places: Tensor | None = None
        if before.last is not None:
            self._places = drawn(before.last, steps * size, task.stream.generator("mixing", task.index, "images"))

    def made(self, rows: Tensor, first: int) -> tuple[Tensor, Tensor]:
        """Return the images at places ``rows``, 8 bits, of which the first is image number ``first`` of the task."""
        inputs, labels = super().made(rows, first)
        new = self._new[first : first + len(rows)]
        old = (~new).nonzero().flatten()
        if len(old):
            places = old.to(inputs.device)
            given = rows[old] if self._places is None else self._places[first + old]
            inputs[places], labels[places] = self._before.stored(given)
        return inputs, labels


def risen(steps: int, size: int, generator: torch.Generator) -> Tensor:
    """Return which of the first images after a change are new, boolean ``(steps * size,)``.

    Args:
        steps: Steps over which the change lasts: of the images of step s, from 0, a share of (s + 1) / (steps + 1) is
            new.
        size: Images of a step.
        generator: Draws which.
    """
    shares = torch.arange(1, steps + 1).repeat_interleave(size) / (steps + 1)
    return torch.rand(steps * size, generator=generator) < shares


def drawn(places: range, count: int, generator: torch.Generator) -> Tensor:
    """Return ``count`` of these places, ``(count,)``, each of which may come more than once."""
    return torch.randint(places.start, places.stop, (count,), generator=generator)
