"""What the tests of the methods share: a small task, small networks, learners on them, and one written in NumPy."""

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lopbench.core import rng
from lopbench.core.interfaces import Task
from lopbench.learner.fresh import FreshPool
from lopbench.learner.learner import StackLearner
from lopbench.learner.program import Program
from lopbench_plugins.optimizers.adam import Adam
from lopbench_plugins.optimizers.sgd import SGD

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
    presented = Task.presented
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


class Regression:
    """Squared error of two outputs, or no loss at all."""

    chance = 0.0
    classes = None
    presented = Task.presented

    def __init__(self, weight=1.0):
        self.weight = weight

    def loss(self, outputs, targets):
        return self.weight * nn.functional.mse_loss(outputs, targets)

    def score(self, outputs, targets):
        return -(outputs - targets).square().mean(dim=1)


class Hand:
    """One hidden layer of rectified units on four inputs, in NumPy: every derivative is written out.

    Args:
        parameters: ``w1`` ``(D, 4)``, ``b1`` ``(D,)``, ``w2`` ``(2, D)``, ``b2`` ``(2,)``; changed in place.
        lr: Learning rate of its gradient descent.
    """

    def __init__(self, parameters, lr):
        self.p = parameters
        self.lr = lr
        self.steps = 0
        self.memory = {}

    def look(self, x, y, loss=1.0):
        """Run on a batch: sets the activations ``h`` ``(N, D)`` and the gradients ``g``."""
        p = self.p
        z = x @ p["w1"].T + p["b1"]
        self.h = np.maximum(z, 0)
        out = self.h @ p["w2"].T + p["b2"]
        d_out = loss * 2 * (out - y) / out.size
        d_z = d_out @ p["w2"] * (z > 0)
        self.g = {"w1": d_z.T @ x, "b1": d_z.sum(axis=0), "w2": d_out.T @ self.h, "b2": d_out.sum(axis=0)}
        self.steps += 1

    def descend(self):
        for name, gradient in self.g.items():
            self.p[name] -= self.lr * gradient


NAMES = {"w1": "0.weight", "b1": "0.bias", "w2": "2.weight", "b2": "2.bias"}


def fresh_row(replica, place):
    """Return the incoming weights of the ``place``-th unit that is reset in a replica."""
    return np.sin(1.0 + replica + 10.0 * place + np.arange(4))


class Compared:
    """A learner with methods, and beside it one network in NumPy for each replica.

    Args:
        methods: The methods.
        program: Whether the learner takes its steps in a program.
        replicas: Their number.
        width: Hidden units.
        batch: Samples of a batch.
        lr: Learning rate.
        silent: Hidden units whose bias is so low that they never fire.
        loss: Factor of the loss; with 0 there is nothing to learn.
    """

    def __init__(self, *methods, program=False, replicas=3, width=6, batch=5, lr=0.05, silent=(), loss=1.0):
        def build(generator):
            with rng.isolated(generator):
                return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 2))

        self.batch, self.loss = batch, loss
        self.learner = StackLearner(
            build=build,
            seeds=range(replicas),
            methods=methods,
            optimizer=SGD(lr=lr),
            example=torch.zeros(batch, 4, dtype=torch.float64),
            outputs=2,
            dtype=torch.float64,
        )
        self.learner.turn_to(0, [Regression(loss)] * replicas)
        parameters = self.learner.view.parameters
        parameters["0.bias"][:, list(silent)] = -100.0
        self.hands = [Hand({s: parameters[n][r].numpy().copy() for s, n in NAMES.items()}, lr) for r in range(replicas)]
        self.step = 0
        self.program = None
        if program:
            self.program = Program(self.learner, Regression(loss), [self.draw(0)], unroll=1, compiled=False)

    def draw(self, step):
        """Return inputs and targets ``(R, N, ...)`` of a step."""
        generator = rng.derive(7, "compared", step)
        shape = (self.learner.replicas, self.batch)
        inputs = torch.randn(*shape, 4, generator=generator, dtype=torch.float64)
        return inputs, torch.randn(*shape, 2, generator=generator, dtype=torch.float64)

    def run(self, steps, rule):
        """Take steps; ``rule(hand, replica)`` takes each in NumPy, given activations and gradients."""
        for _ in range(steps):
            inputs, targets = self.draw(self.step)
            if self.program is None:
                self.learner.step(list(zip(inputs, targets, strict=True)))
            else:
                self.program.advance(self.learner, [(inputs.unsqueeze(1), targets.unsqueeze(1))])
            for replica, hand in enumerate(self.hands):
                hand.look(inputs[replica].numpy(), targets[replica].numpy(), self.loss)
                rule(hand, replica)
                for short, name in NAMES.items():
                    ours = self.learner.view.parameters[name][replica].numpy()
                    where = f"{name}, replica {replica}, step {hand.steps}"
                    np.testing.assert_allclose(ours, hand.p[short], rtol=1e-9, atol=1e-12, err_msg=where)
            self.step += 1
        return self


@pytest.fixture
def compared(monkeypatch):
    """Return `Compared`, whose units are reset to known rows, with a bias of 0.3 that is not to be used."""

    def look_ahead(pool, group, replica, skip, count):
        place = int(pool.state_dict()[group.name][replica]) + skip
        rows = np.stack([fresh_row(replica, place + i) for i in range(count)])
        return torch.from_numpy(rows), torch.full((count,), 0.3, dtype=torch.float64)

    monkeypatch.setattr(FreshPool, "look_ahead", look_ahead)
    return Compared


def reset(hand, replica, mask):
    """Reset the units of a network in NumPy where ``mask`` ``(D,)`` is true, in their order."""
    for unit in np.flatnonzero(mask):
        place = hand.memory["taken"] = hand.memory.get("taken", -1) + 1
        hand.p["w1"][unit] = fresh_row(replica, place)
        hand.p["b1"][unit] = 0.0
        hand.p["w2"][:, unit] = 0.0


@pytest.fixture(scope="session")
def reset_by_hand():
    return reset
