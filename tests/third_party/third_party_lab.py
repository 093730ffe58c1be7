"""Trains what third parties write: a small problem of a few tasks, learners of any number of replicas, and programs."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lopbench import Batches, ChunkedBatches, Optimizer, Perturbation, Task, rng
from lopbench.core.interfaces import Component
from lopbench.core.manager import Plugins, build_manager
from lopbench.learner import evaluation
from lopbench.learner.learner import StackLearner
from lopbench.learner.program import Program, why_not
from lopbench_plugins.optimizers.sgd import SGD

PLUGINS = Path(__file__).parent / "plugins"
INPUTS, CLASSES, BATCH = 6, 3, 5
MOMENTUM = SGD(lr=0.1, momentum=0.9)
#: Steps of a task in these tests.
TASK_STEPS = 10


@lru_cache(maxsize=1)
def loaded() -> Plugins:
    """Return all plugin files of this folder, loaded as ``--plugin FILE`` loads them."""
    plugins = build_manager(load_entry_points=False)
    for path in sorted(PLUGINS.glob("*.py")):
        plugins.load_file(path)
    return plugins


def component(kind: str, name: str, **fields: Any) -> Any:
    """Return a component of a plugin file."""
    cls: type[Component] = loaded().registry.get(kind, name).load()
    return cls(**fields)


def method(name: str, **fields: Any) -> Any:
    """Return a method of a plugin file, in its first example where no fields are given."""
    cls = loaded().registry.get("methods", name).load()
    return cls(**(fields or cls.examples[0]))


class Blobs(Task):
    """Samples around three centres, whose labels are others in each task."""

    chance = 1 / CLASSES
    epoch = 4

    def __init__(self, seed: int, index: int, dtype: torch.dtype = torch.float64) -> None:
        self.seed, self.index, self.dtype = seed, index, dtype

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return the batch of a step."""
        generator = rng.derive(self.seed, "blobs", self.index, step)
        labels = torch.randint(CLASSES, (BATCH,), generator=generator)
        centres = 2 * torch.eye(CLASSES, INPUTS, dtype=torch.float64)[(labels + self.index) % CLASSES]
        noise = torch.randn(BATCH, INPUTS, generator=generator, dtype=torch.float64)
        return (centres + 0.5 * noise).to(self.dtype), labels

    def batches(self) -> Batches:
        """Return the training stream."""
        return BlobBatches(self)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy."""
        return nn.functional.cross_entropy(outputs, targets)

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return whether each sample is right, ``(N,)``."""
        return (outputs.argmax(dim=1) == targets).double()

    def held_out(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield one batch."""
        yield self.batch(1000)

    def probe(self) -> tuple[Tensor, Tensor]:
        """Return one batch."""
        return self.batch(1001)


class BlobBatches(ChunkedBatches):
    """The batches of a task."""

    def __init__(self, task: Blobs) -> None:
        self.task, self.step = task, 0

    def __next__(self) -> tuple[Tensor, Tensor]:
        """Return the next batch."""
        self.step += 1
        return self.task.batch(self.step - 1)

    def take(self, periods: int) -> Sequence[tuple[Tensor, Tensor]]:
        """Return the next batches."""
        inputs, targets = zip(*(next(self) for _ in range(periods)), strict=True)
        return [(torch.stack(inputs), torch.stack(targets))]

    def state_dict(self) -> dict[str, Tensor]:
        """Return how many batches were taken."""
        return {"step": torch.tensor(self.step)}

    def load_state_dict(self, state: Any) -> None:
        """Continue after as many."""
        self.step = int(state["step"])


def perceptron() -> nn.Module:
    """Return two hidden layers of ReLU."""
    return nn.Sequential(nn.Linear(INPUTS, 8), nn.ReLU(), nn.Linear(8, 7), nn.ReLU(), nn.Linear(7, CLASSES))


def normalised() -> nn.Module:
    """Return a network with running statistics."""
    return nn.Sequential(nn.Linear(INPUTS, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, CLASSES))


class Lab:
    """A learner on its tasks.

    Args:
        methods: The methods.
        seeds: Seed of each replica.
        network: Makes the network from torch's global generator.
        optimizer: The optimizer.
        dtype: Type of parameters and samples.
        by_program: Whether a program takes the steps.
    """

    def __init__(
        self,
        *methods: Perturbation,
        seeds: Sequence[int] = (0,),
        network: Any = perceptron,
        optimizer: Optimizer = MOMENTUM,
        dtype: torch.dtype = torch.float64,
        by_program: bool = False,
    ) -> None:
        def build(generator: torch.Generator) -> nn.Module:
            with rng.isolated(generator):
                module: nn.Module = network()
                return module

        self.seeds, self.dtype = tuple(seeds), dtype
        inputs, targets = self.task(0, self.seeds[0]).batch(0)
        self.learner = StackLearner(
            build=build,
            seeds=seeds,
            methods=methods,
            optimizer=optimizer,
            example=inputs,
            targets=targets,
            outputs=CLASSES,
            dtype=dtype,
        )
        self.step, self.by_program = 0, by_program
        self.program: Program | None = None
        self.begin(0)

    def task(self, index: int, seed: int) -> Blobs:
        """Return a task of a seed."""
        return Blobs(seed, index, self.dtype)

    @property
    def tasks(self) -> list[Blobs]:
        """The task of each replica now."""
        return [self.task(self.step // TASK_STEPS, seed) for seed in self.seeds]

    def begin(self, index: int) -> None:
        """Cross the boundary to a task."""
        tasks = [self.task(index, seed) for seed in self.seeds]
        self.learner.begin_task(index, tasks, first=index == 0, reset_optimizer=False, zero_head=False)

    def batch(self) -> tuple[Tensor, Tensor]:
        """Return the next batch ``(R, N, ...)``, which stays the next one."""
        inputs, targets = zip(*(task.batch(self.step % TASK_STEPS) for task in self.tasks), strict=True)
        return torch.stack(inputs), torch.stack(targets)

    def run(self, steps: int) -> "Lab":
        """Train for as many steps; a task begins after every ten."""
        for _ in range(steps):
            if self.step and self.step % TASK_STEPS == 0:
                self.begin(self.step // TASK_STEPS)
            inputs, targets = self.batch()
            if self.by_program:
                if self.program is None:
                    batches = [(inputs, targets)]
                    self.program = Program(self.learner, self.tasks[0], batches, unroll=1, compiled=False)
                taken = self.program.advance(self.learner, [(inputs.unsqueeze(1), targets.unsqueeze(1))])
            else:
                taken = self.learner.step(list(zip(inputs, targets, strict=True)))
            assert taken.losses.isfinite().all()
            self.step += 1
        return self

    def why_no_program(self) -> str | None:
        """Return why the next steps cannot be a program."""
        return why_not(self.learner, self.tasks[0], [self.batch()])

    def resumed(self, other: "Lab") -> "Lab":
        """Go on where ``other`` is."""
        tensors = {name: value.clone() for name, value in other.learner.state_dict().items()}
        self.learner.turn_to(other.step // TASK_STEPS, other.tasks)
        self.learner.load_state_dict(tensors)
        self.step = other.step
        return self

    def evaluated(self, replica: int = 0) -> dict[str, Tensor]:
        """Return copies of what is evaluated of a replica: parameters and buffers."""
        parameters, buffers = evaluation.replica(self.learner, replica)
        return {name: value.detach().clone() for name, value in {**parameters, **buffers}.items()}

    def parameters(self) -> dict[str, Tensor]:
        """Return copies of the parameters ``(R, ...)``."""
        return {name: value.clone() for name, value in self.learner.view.parameters.items()}


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    """Return whether tensors are the same to the bit."""
    return ours.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in ours.items())
