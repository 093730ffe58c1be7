"""A scenario, an architecture and an optimizer of the tests' own: what moves with them alone is the core."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from lopbench import Architecture, Batches, Optimizer, Recipe, Scenario, Stream, Task, per_replica, rng

CLASSES, INPUTS, BATCH = 3, 4, 5


@dataclass(frozen=True, kw_only=True)
class Blobs(Scenario):
    """Noisy points around centres that are others in each task."""

    name: ClassVar[str] = "blobs"
    profiles: ClassVar[Mapping[str, Mapping[str, object]]] = {"full": {"tasks": 3, "steps_per_task": 6}}
    default_architecture: ClassVar[str] = "pair"

    @property
    def data(self) -> None:
        return

    def stream(self, seed: int, *, data: object, device: torch.device) -> Stream:
        return Places(seed)

    def recipe(self, architecture: str) -> Recipe:
        return Recipe(optimizer="plain:lr=0.1", reference="plain:lr=0.1")


class Places(Stream):
    input_shape = (INPUTS,)
    outputs = CLASSES

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def task(self, index: int) -> Task:
        return Place(self.seed, index)


class Place(Task):
    chance = 1 / CLASSES

    def __init__(self, seed: int, index: int) -> None:
        self.seed, self.index = seed, index

    def draw(self, *names: str | int) -> tuple[Tensor, Tensor]:
        """Return points and classes of a batch."""
        generator = rng.derive(self.seed, "blobs", self.index, *names)
        labels = torch.randint(CLASSES, (BATCH,), generator=generator)
        noise = torch.rand(BATCH, INPUTS, generator=generator, dtype=torch.float64)
        centres = torch.rand(CLASSES, INPUTS, generator=rng.derive(self.seed, self.index), dtype=torch.float64)
        return centres[labels] + noise, labels

    def batches(self) -> Batches:
        return Points(self)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, targets)

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the probability of what is right: unlike an accuracy it moves with every parameter."""
        return outputs.softmax(dim=1).gather(1, targets.unsqueeze(1)).squeeze(1)

    def held_out(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield self.draw("held-out")

    def probe(self) -> tuple[Tensor, Tensor]:
        return self.draw("probe")


class Points(Batches):
    def __init__(self, place: Place) -> None:
        self.place, self.step = place, 0

    def __next__(self) -> tuple[Tensor, Tensor]:
        self.step += 1
        return self.place.draw("batch", self.step)

    def state_dict(self) -> dict[str, Tensor]:
        return {"step": torch.tensor(self.step)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.step = int(state["step"])


@dataclass(frozen=True, kw_only=True)
class Pair(Architecture):
    """Two layers, initialised by torch."""

    name: ClassVar[str] = "pair"

    def build(self, input_shape: Sequence[int], outputs: int, *, generator: Generator) -> nn.Module:
        with rng.isolated(generator):
            return nn.Sequential(nn.Linear(*input_shape, 6), nn.Tanh(), nn.Linear(6, outputs))


@dataclass(frozen=True, kw_only=True)
class Plain(Optimizer):
    """Gradient descent."""

    name: ClassVar[str] = "plain"

    def update(self, gradient: Tensor, entries: dict[str, Tensor], parameter: Tensor, lr: float | Tensor) -> Tensor:
        return gradient * per_replica(-lr, gradient)
