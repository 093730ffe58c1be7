"""What the tests of the methods share: a small task, small networks, and learners on them."""

import itertools
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from lopbench.core import rng
from lopbench.learner.learner import StackLearner
from lopbench_plugins.optimizers.adam import Adam

sys.path.insert(0, str(Path(__file__).parent))

SHAPE = (1, 4, 4)
CLASSES = 3
ADAM = Adam(lr=1e-2)


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Tensors here are tiny, and waking other threads for them takes longer than the work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Classification:
    """Random images with random labels, endlessly: ``Task`` as far as training needs it."""

    chance = 1 / CLASSES
    classes = None
    epoch = 3

    def __init__(self, seed, dtype=torch.float32):
        self.seed = seed
        self.dtype = dtype

    def batch(self, step):
        generator = rng.derive(self.seed, "batch", step)
        images = torch.randn(6, *SHAPE, generator=generator, dtype=torch.float64).to(self.dtype)
        return images, torch.randint(CLASSES, (6,), generator=generator)

    def batches(self):
        return (self.batch(step) for step in itertools.count())

    def loss(self, outputs, targets):
        return nn.functional.cross_entropy(outputs, targets)

    def score(self, outputs, targets):
        return (outputs.argmax(dim=1) == targets).double()


def mlp(generator):
    with rng.isolated(generator):
        return nn.Sequential(
            nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 7), nn.Tanh(), nn.Linear(7, CLASSES)
        )


class Runner:
    """A learner with its batches: ``run(20)`` trains for 20 steps."""

    def __init__(self, methods, seeds=(0,), build=mlp, optimizer=ADAM, dtype=torch.float32, **options):
        self.tasks = [Classification(seed, dtype) for seed in seeds]
        self.learner = StackLearner(
            build=build,
            seeds=seeds,
            methods=methods,
            optimizer=optimizer,
            example=torch.zeros(2, *SHAPE),
            outputs=CLASSES,
            dtype=dtype,
            **options,
        )
        self.step = 0
        self.learner.begin_task(0, self.tasks, first=True, reset_optimizer=False, zero_head=False)

    def run(self, steps, *, boundary_every=0):
        """Train for ``steps`` more; a task begins at each step that ``boundary_every`` divides, but the first."""
        for _ in range(steps):
            if boundary_every and self.step and self.step % boundary_every == 0:
                index = self.step // boundary_every
                self.learner.begin_task(index, self.tasks, first=False, reset_optimizer=False, zero_head=False)
            self.learner.step([task.batch(self.step) for task in self.tasks])
            self.step += 1
        return self

    def snapshot(self):
        """Return a copy of everything that a checkpoint holds."""
        return {name: tensor.clone() for name, tensor in self.learner.state_dict().items()}


@pytest.fixture(scope="session")
def runner():
    return Runner


@pytest.fixture(scope="session")
def adam():
    return ADAM
