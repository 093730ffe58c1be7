"""MyThing: say here whose protocol it is, and what you do otherwise."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from lopbench import Batches, Recipe, Register, Scenario, Stream, Task, hookimpl, rng, whole

lopbench_api = 2  # the plugin API that this is written for


@dataclass(frozen=True, kw_only=True)
class MyThing(Scenario):
    """Classification of random points by a random linear teacher, another one in each task.

    Args:
        tasks: Number of tasks.
        steps_per_task: Steps of each task.
        inputs: Dimension of a point, at least 1.
        classes: Number of classes, at least 2; chance is one over it.
        batch_size: Samples of a step, at least 1.
        optimizer_policy: Whether the optimizer's state is carried over or cleared at a boundary.
        head_policy: Whether the head is set to zero at the start of every task.
        probe_every: Steps between diagnostics inside a task; 0 for its start and end only.
        profile: Name of the profile the fields were taken from.
    """

    # Raise `version` whenever the same fields give another stream. Every field is part of the protocol.
    name: ClassVar[str] = "my-thing"
    version: ClassVar[int] = 1
    default_architecture: ClassVar[str] = "mlp"
    default_profile: ClassVar[str] = "full"
    unranked: ClassVar[frozenset[str]] = frozenset({"smoke"})
    profiles: ClassVar[Mapping[str, Mapping[str, object]]] = {"full": {}, "smoke": {"tasks": 5, "steps_per_task": 20}}

    profile: str = "full"
    tasks: int = 50
    steps_per_task: int = 500
    inputs: int = whole(20, least=1)
    classes: int = whole(5, least=2)
    batch_size: int = whole(16, least=1)

    @property
    def data(self) -> None:
        """None: samples are drawn."""
        return

    def recipe(self, architecture: str) -> Recipe:
        """Return the optimizers of the learner and of its fresh reference."""
        return Recipe(optimizer="adam:lr=1e-3", reference="adam:lr=1e-3")

    def stream(self, seed: int, *, data: object, device: torch.device) -> "Teachers":
        """Return the stream of ``seed``."""
        return Teachers(self, seed, device)


class Teachers(Stream):
    """The tasks of one seed."""

    def __init__(self, scenario: MyThing, seed: int, device: torch.device) -> None:
        self.scenario, self.seed, self.device = scenario, seed, device
        self.input_shape = (scenario.inputs,)
        self.outputs = scenario.classes

    def task(self, index: int) -> "Teacher":
        """Return task ``index``."""
        return Teacher(self, index)


class Teacher(Task):
    """One teacher."""

    def __init__(self, stream: Teachers, index: int) -> None:
        self.stream, self.index = stream, index
        shape = (stream.scenario.inputs, stream.scenario.classes)
        self._teacher = torch.randn(shape, generator=self.generator("teacher"))

    @property
    def chance(self) -> float:
        """One over the number of classes."""
        return 1 / self.stream.scenario.classes

    def generator(self, *names: str | int) -> torch.Generator:
        """Return a fresh generator of the task's, for one purpose: it depends on seed and names alone."""
        return rng.derive(self.stream.seed, "data", self.stream.scenario.name, self.index, *names)

    def samples(self, count: int, *names: str | int) -> tuple[Tensor, Tensor]:
        """Return points ``(N, inputs)`` and labels ``(N,)``."""
        points = torch.randn(count, self.stream.scenario.inputs, generator=self.generator(*names))
        labels = (points @ self._teacher).argmax(dim=1)
        return points.to(self.stream.device), labels.to(self.stream.device)

    def batches(self) -> "Points":
        """Return the training stream from its start."""
        return Points(self)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy."""
        return functional.cross_entropy(outputs, targets)

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return whether each sample is right, ``(N,)``."""
        return outputs.argmax(dim=1) == targets

    def held_out(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield held-out batches."""
        yield self.samples(512, "held_out")

    def probe(self) -> tuple[Tensor, Tensor]:
        """Return the fixed probe batch."""
        return self.samples(256, "probe")


class Points(Batches):
    """Fresh points at every step; its state is the number of batches taken."""

    def __init__(self, task: Teacher) -> None:
        self._task = task
        self._step = 0

    def __next__(self) -> tuple[Tensor, Tensor]:
        """Return the next batch."""
        self._step += 1
        return self._task.samples(self._task.stream.scenario.batch_size, "train", self._step)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the number of batches taken."""
        return {"step": torch.tensor(self._step)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue from ``state``."""
        self._step = int(state["step"])


@hookimpl
def lopbench_scenarios(register: Register) -> None:
    """Make the scenario known."""
    register("my-thing", MyThing, "random teachers, one after another")
