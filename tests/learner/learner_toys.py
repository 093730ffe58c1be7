"""What the tests of the learner share: a task, networks and methods to train, step by step and in a program."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from lopbench.core import rng
from lopbench.core.interfaces import Batches, Learner, Optimizer, Perturbation, State, Task
from lopbench.learner.learner import StackLearner
from lopbench.learner.program import Program
from lopbench.learner.step import Taken
from lopbench_plugins.architectures.mlp import MLP
from lopbench_plugins.optimizers import adam, sgd

SHAPE = (3, 4, 4)
CLASSES = 4
SGD = sgd.SGD(lr=0.05)
MOMENTUM = sgd.SGD(lr=0.05, momentum=0.9)
ADAM = adam.Adam(lr=0.01)
REFERENCE = adam.Adam(lr=0.002)
SMALL = MLP(width=8, depth=2)
BATCH_NORM = MLP(width=8, depth=2, normalization="batch")
LAYER_NORM = MLP(width=8, depth=2, normalization="layer")
DROPOUT = MLP(width=8, depth=2, dropout=0.3)
#: Steps one by one and in a program agree to this, in float64: sums are rounded in another order.
CLOSE: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-11}


@dataclass(frozen=True)
class ToyTask(Task):
    """Random images and labels, drawn from the seed of a replica."""

    seed: int
    index: int = 0
    chance: ClassVar[float] = 1 / CLASSES

    def batch(self, step: int, size: int = 12) -> tuple[Tensor, Tensor]:
        generator = rng.derive(self.seed, "toy", self.index, step)
        inputs = torch.randn(size, *SHAPE, generator=generator, dtype=torch.float64).float()
        return inputs, torch.randint(CLASSES, (size,), generator=generator)

    def batches(self) -> Batches:
        return ToyBatches(self)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets)

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.argmax(1) == targets

    def held_out(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield self.batch(-1, 10)
        yield self.batch(-2, 3)

    def probe(self) -> tuple[Tensor, Tensor]:
        return self.batch(-3, 9)

    def held_out_scores(self, outputs: Tensor, targets: Tensor) -> Mapping[str, Tensor]:
        return {"heldout_wrong": outputs.argmax(1) != targets}


class ToyBatches(Batches):
    """The batches of a task in their order."""

    def __init__(self, task: ToyTask) -> None:
        self.task, self.step = task, 0

    def __next__(self) -> tuple[Tensor, Tensor]:
        self.step += 1
        return self.task.batch(self.step - 1)

    def state_dict(self) -> dict[str, Tensor]:
        return {"step": torch.tensor(self.step)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.step = int(state["step"])


# --- methods ---------------------------------------------------------------------------------------------------------


def method(**hooks: Any) -> Perturbation:
    """Return a method of these hooks and class variables."""
    namespace = {"__doc__": "A method of one test.", "name": "method", **hooks}
    made = dataclass(frozen=True, kw_only=True)(type("Method", (Perturbation,), namespace))
    return made()


@dataclass(frozen=True, kw_only=True)
class Recycler(Perturbation):
    """Resets the least active unit of each group at every third step."""

    name: ClassVar[str] = "recycler"

    def after_step(self, learner: Learner, state: State) -> None:
        state.host["step"] = state.host.get("step", 0) + 1
        if state.host["step"] % 3:
            return
        for group in learner.units:
            activity = group.activation.abs().mean(1)  # (R, D)
            group.reset(activity == activity.amin(1, keepdim=True))


@dataclass(frozen=True, kw_only=True)
class Noise(Perturbation):
    """Adds a little noise of its own to the weights, after drawing something while the network is built."""

    name: ClassVar[str] = "noise"

    def configure(self, module: nn.Module, *, example: Tensor, generator: Generator) -> nn.Module:
        torch.randn(7, generator=generator)
        return module

    def after_step(self, learner: Learner, state: State) -> None:
        for parameter in learner.parameters.values():
            parameter.add_(state.normal(parameter), alpha=0.01)


@dataclass(frozen=True, kw_only=True)
class Restart(Perturbation):
    """Restarts at every boundary."""

    name: ClassVar[str] = "restart"

    def on_task_start(self, learner: Learner, state: State) -> None:
        learner.restart()


# --- learners --------------------------------------------------------------------------------------------------------


def make(
    architecture: Any = SMALL,
    seeds: Sequence[int] = (0,),
    methods: Sequence[Perturbation] = (),
    optimizer: Optimizer = ADAM,
    dtype: torch.dtype = torch.float32,
    **others: Any,
) -> StackLearner:
    """Return a learner that stands at the beginning of its first task."""
    learner = StackLearner(
        build=lambda generator: architecture.build(SHAPE, CLASSES, generator=generator),
        seeds=seeds,
        methods=methods,
        optimizer=optimizer,
        reference_optimizer=REFERENCE,
        example=torch.zeros(2, *SHAPE),
        outputs=CLASSES,
        layers=architecture.layers,
        dtype=dtype,
        **others,
    )
    learner.turn_to(0, tasks_of(learner))
    return learner


def network(build: Callable[[], nn.Module], outputs: int = CLASSES, **others: Any) -> StackLearner:
    """Return a learner of a network that ``build`` makes from torch's global generator."""

    def built(generator: Generator) -> nn.Module:
        with rng.isolated(generator):
            return build()

    options: dict[str, Any] = {"seeds": (0,), "optimizer": SGD, "example": torch.zeros(2, *SHAPE), **others}
    learner = StackLearner(build=built, outputs=outputs, **options)
    learner.turn_to(0, tasks_of(learner))
    return learner


def tasks_of(learner: StackLearner, index: int = 0) -> list[ToyTask]:
    return [ToyTask(seed, index) for seed in learner.seeds]


def cross(learner: StackLearner, index: int, **options: Any) -> None:
    """Begin task ``index``, keeping optimizer and head unless told otherwise."""
    options = {"first": False, "reset_optimizer": False, "zero_head": False, **options}
    learner.begin_task(index, tasks_of(learner, index), **options)


def batch(learner: StackLearner, step: int, index: int = 0) -> tuple[Tensor, Tensor]:
    """Return the batch of a step, ``(R, N, ...)``."""
    inputs, targets = zip(*(task.batch(step) for task in tasks_of(learner, index)), strict=True)
    return torch.stack(inputs), torch.stack(targets)


def train(learner: StackLearner, steps: range, index: int = 0) -> list[Taken]:
    """Take steps one by one."""
    tasks = tasks_of(learner, index)
    learner.turn_to(index, tasks)
    return [learner.step([task.batch(step) for task in tasks]) for step in steps]


def train_by_program(learner: StackLearner, steps: range, index: int = 0, unroll: int = 2) -> list[Taken]:
    """Take steps in a program that is not compiled."""
    learner.turn_to(index, tasks_of(learner, index))
    made = Program(learner, ToyTask(0, index), [batch(learner, 0, index)], unroll=unroll, compiled=False)
    inputs, targets = zip(*(batch(learner, step, index) for step in steps), strict=True)
    taken = made.advance(learner, [(torch.stack(inputs).unbind(1), torch.stack(targets).unbind(1))])
    return [Taken(losses, scores) for losses, scores in zip(taken.losses, taken.scores, strict=True)]


#: How steps are taken: of one replica, of three, and in a program.
ENGINES: dict[str, tuple[tuple[int, ...], Callable[..., Any]]] = {
    "one": ((3,), train),
    "three": ((3, 0, 8), train),
    "program": ((3, 0, 8), train_by_program),
}
every_engine = pytest.mark.parametrize("engine", ENGINES)


def snapshot(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def equal(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def assert_close(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], **tolerance: Any) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(
            value, theirs[name], msg=lambda text, name=name: f"{name}: {text}", **(tolerance or CLOSE)
        )
