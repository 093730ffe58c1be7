"""Scenarios: the stream of tasks that a learner meets, and the protocol around it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from lopbench.core.component import Component
from lopbench.core.fields import later, whole
from lopbench.core.windows import late_window

if TYPE_CHECKING:
    import torch
    from torch import Tensor

#: The online score, or the held-out one.
Headline = Literal["trainability", "generalisation"]


class Batches(ABC):
    """The training stream of one task: deterministic, and resumable in the middle."""

    @abstractmethod
    def __next__(self) -> tuple[Tensor, Tensor]:
        """Return the next batch ``(N, ...)`` and its targets ``(N, ...)``, on the learner's device.

        Targets are labels ``(N,)`` where the score is an accuracy, and values ``(N, K)`` where it is an error. Labels
        are places in `Task.classes` where there are some.
        """

    @abstractmethod
    def state_dict(self) -> dict[str, Tensor]:
        """Return what is needed to continue from here."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue from ``state``."""

    def observe(self, outputs: Tensor) -> Tensor | None:
        """Take note of what the network made of the last batch, for a stream that depends on the learner.

        Called after the forward pass of each step, before loss and score. An agent acts here.

        Args:
            outputs: Outputs ``(N, ...)``, detached.

        Returns:
            Targets of the shape and type of the batch's to use in their place, or None to keep them.
        """
        return None


class ChunkedBatches(Batches, ABC):
    """A training stream that can be asked for many batches at once, so that its steps can be a program.

    However the batches are asked for, one by one, in chunks of any size or both in turn, they are the same, bit for
    bit.
    """

    @property
    def sizes(self) -> Sequence[int]:
        """Sizes of the batches of one period, at least one: the stream repeats them for ever."""
        return (1,)

    @abstractmethod
    def take(self, periods: int) -> Sequence[tuple[Tensor, Tensor]]:
        """Return the batches of the next periods; only at the beginning of a period.

        Args:
            periods: Number of periods, at least 1.

        Returns:
            For each of `sizes`, N, the batches ``(periods, N, ...)`` and their targets ``(periods, N, ...)``.
        """

    def take_stored(self, periods: int) -> Sequence[tuple[Tensor, Tensor]]:
        """Return the batches that `take` would, with inputs as they are stored, of which `Task.presented` makes theirs.

        Where inputs are stored as 8-bit numbers, say, a quarter of the memory is written and read on the way into a
        program, which presents them in its steps.
        """
        return self.take(periods)


class ActingBatches(ChunkedBatches, ABC):
    """A training stream that the networks make themselves: they act, and are trained on what came of it for a while.

    Before the networks have acted, batches are blank: of the right shapes and types, and good for nothing else. Where
    they are taught what came of the last batch alone, `Batches.observe` suffices.
    """

    @property
    @abstractmethod
    def every(self) -> int:
        """Batches between two times that the networks act, whole periods."""

    @property
    @abstractmethod
    def left(self) -> int:
        """Batches that are left before the networks have to act; 0 at the start of a task."""

    @classmethod
    @abstractmethod
    def act(cls, streams: Sequence[Self], policy: Callable[[Tensor], Tensor]) -> None:
        """Let the networks act, and keep what the next `every` batches are made of.

        What becomes of a stream must not depend on which others are beside it.

        Args:
            streams: The streams of all replicas, all at one place; changed in place.
            policy: Returns what the networks as they are now make, in evaluation mode, of inputs ``(R, N, ...)``:
                outputs ``(R, N, ...)``, detached.
        """


class Task(ABC):
    """One stationary phase of a scenario, for one seed."""

    #: The outputs that count, ``(K,)`` of int64 on the learner's device, as many in every task; None if all do. Loss
    #: and score are given these outputs alone.
    classes: Tensor | None = None
    #: Steps of one pass over the task's data; None if its samples never repeat.
    epoch: int | None = None

    @property
    @abstractmethod
    def chance(self) -> float:
        """Score of guessing."""

    @abstractmethod
    def batches(self) -> Batches:
        """Return the training stream from its start, the same at every call."""

    def presented(self, inputs: Tensor) -> Tensor:
        """Return what the network is given of ``inputs`` ``(..., *shape)`` of `ChunkedBatches.take_stored`.

        Each sample is presented by itself. The function depends on its argument alone, and is the same in every task.
        Programs trace it: its constants are numbers, not tensors.
        """
        return inputs

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss, a scalar, of ``outputs`` of shape ``(N, K)`` (sequences: ``(N, T, K)``).

        It depends on its arguments alone, and is the same function in every task.
        """

    @abstractmethod
    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the score of each sample, ``(N,)``: 1 where it is right, 0 where it is wrong, say; likewise."""

    @abstractmethod
    def held_out(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield held-out batches, without augmentation; none where fresh networks cannot learn what could be held out.

        Their scores are held against `chance` as the online ones are.
        """

    @abstractmethod
    def probe(self) -> tuple[Tensor, Tensor]:
        """Return the fixed, class-balanced probe batch of the task."""

    def validation(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield validation batches, without augmentation, at least one where `Scenario.validate_every` is not 0.

        Their samples are neither trained on nor held out.
        """
        return iter(())

    def held_out_scores(self, outputs: Tensor, targets: Tensor) -> Mapping[str, Tensor]:
        """Return further named scores of held-out samples, each ``(N,)``; ``outputs`` are all of the network's."""
        return {}

    def former(self) -> Task | None:
        """Return the task before, for what is forgotten of it; None of the first, and where that is not measured."""
        return None


class Stream(ABC):
    """The tasks of one seed."""

    #: Shape of one sample.
    input_shape: Sequence[int]
    #: Number of outputs of the head; of a stream of tokens also the number of different tokens.
    outputs: int
    #: "tokens" are whole numbers below `outputs`, which are never cast; "numbers" take the type of the run.
    inputs: Literal["numbers", "tokens"] = "numbers"

    @abstractmethod
    def task(self, index: int) -> Task:
        """Return task ``index``, from 0."""


@dataclass(frozen=True, kw_only=True)
class Growth:
    """The replacement of the learner by a wider clone of itself.

    The clone is what is scored, against the base that goes on beside it on the same batches: 1 is a clone whose width
    is not used. Methods act on the clone alone. The fresh reference is one network as wide as the clone, trained on the
    whole stream: beside it, 1 is a clone that uses its width as if it had been born with it.

    Args:
        task: The task before which it happens, at least 1.
        factor: Clones of each unit, at least 1.
        cloner: The cloner where none is named.
    """

    task: int
    factor: int = 2
    cloner: str = "interleave"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a protocol trains one architecture.

    Args:
        optimizer: Optimizer of the learner where none is named, as in ``adam:lr=1e-3``.
        reference: Frozen optimizer of the fresh reference.
        transformers: The recipe where the network is a transformer (`Architecture.transformer`); None for this one.
    """

    optimizer: str
    reference: str
    transformers: Recipe | None = None


@dataclass(frozen=True, kw_only=True)
class Scenario(Component, ABC):
    """A non-stationary learning problem: an ordered stream of tasks with its score, chance level and budget.

    A scenario is a protocol: every field changes the protocol id. ``profiles`` names sets of fields that belong
    together; ``unranked`` names the profiles that never enter a ranking.

    Args:
        late: Number of tasks, the last ones, that the score is made of; 0 for 20% of them, at least 5. Another number
            is for streams of few tasks of which single ones tell little.
    """

    #: Sets of fields that belong together, by name: `{"lite": {"tasks": 40}}`. Each is a protocol of its own.
    profiles: ClassVar[Mapping[str, Mapping[str, object]]] = {}
    #: The profile that is meant where none is named.
    default_profile: ClassVar[str] = "full"
    #: The profiles that never enter a ranking, such as smoke.
    unranked: ClassVar[frozenset[str]] = frozenset()
    #: Which axis leads the table: "trainability" (the online score) or "generalisation" (the held-out one).
    headline: ClassVar[Headline] = "trainability"
    #: "accuracy", summed above chance, or "error", of which what is below that of chance is summed.
    score: ClassVar[Literal["accuracy", "error"]] = "accuracy"
    #: False where the problem changes without boundaries: its tasks are only the bins in which the score is averaged,
    #: and methods that use boundaries cannot run on it.
    boundaries: ClassVar[bool] = True

    #: The architecture where none is named.
    default_architecture: ClassVar[str]

    #: Name of the profile that the fields were taken from.
    profile: str
    #: Number of tasks.
    tasks: int = whole(least=1)
    #: Steps of each task, where `steps` says nothing else.
    steps_per_task: int = whole(least=1)
    #: Whether the optimizer's state is carried over a task boundary, for every method alike.
    optimizer_policy: Literal["carry", "reset"] = "carry"
    #: What becomes of weights and bias of the head at the start of every task, the first included.
    head_policy: Literal["zero", "keep"] = "zero"
    #: Steps between probes inside a task; 0 probes at its start and end only.
    probe_every: int = whole(0, least=0)
    late: int = later(whole(0, least=0))

    def steps(self, task: int) -> int:
        """Return the number of steps of a task, at least 1."""
        return self.steps_per_task

    def scored(self, task: int) -> int:
        """Return how many steps of a task are scored online, the first ones: from 1 to `steps`.

        All steps are trained on. The mean over the first ones tells how fast a task is learned, and leaves room above
        a fresh network where the mean over all does not, because most of them come after the task is learned.
        """
        return self.steps(task)

    def rate_factors(self, task: int) -> Sequence[tuple[int, float]]:
        """Return the schedule of the learning rate in a task: steps of it, in order, and a factor above 0 for each.

        From such a step on, counted from 0, the learning rate is that of the run times the factor, up to the next one.
        Before the first it is that of the run, in each task anew. Fresh references follow it as well. What a method
        scales the learning rate by is multiplied with it.
        """
        return ()

    def validate_every(self, task: int) -> int:
        """Return the steps of a task between two validations, of which the last is at its end; 0 for none.

        That is early stopping: at the end of the task each network goes on with the parameters and buffers with which
        the score of `Task.validation` was best, the first of equal ones, and is scored and diagnosed with them. Those
        that are trained are validated, also where a method has others evaluated. State of the optimizer and of methods
        stays as it is. Fresh references do the same.
        """
        return 0

    @property
    def late_tasks(self) -> range:
        """The tasks that the score is made of: the last `late` ones (all, if there are fewer)."""
        return late_window(self.tasks, self.late)

    def reference_lead(self, lr: float) -> int:
        """Return the tasks on which a fresh reference is trained before the one on which it is measured.

        Zero where a task is long enough for a fresh network to learn it. At most ``late_tasks.start``, so that the
        tasks before the first late one suffice; before an early task there may be fewer.

        Args:
            lr: Learning rate of the reference, above 0: the lower it is, the longer a network takes to learn.
        """
        return 0

    @property
    def extra_metrics(self) -> tuple[str, ...]:
        """Metrics that are measured beside the default ones when none is named."""
        return ()

    @property
    def growth(self) -> Growth | None:
        """When and how the learner is cloned; None where it is not."""
        return None

    @property
    @abstractmethod
    def data(self) -> str | None:
        """Name of the data set it streams, None if it generates its samples."""

    @abstractmethod
    def stream(self, seed: int, *, data: object, device: torch.device) -> Stream:
        """Return the stream of ``seed``; it depends on the scenario, the data and the seed alone.

        Args:
            seed: Seed of the run.
            data: The loaded data set that ``data`` names, or None.
            device: Where batches are made.
        """

    @abstractmethod
    def recipe(self, architecture: str) -> Recipe:
        """Return how the protocol trains the architecture of this name."""
