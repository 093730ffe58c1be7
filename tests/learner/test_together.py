"""Replicas that are seen together, in one pass, show what each shows by itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lopbench.core import rng
from lopbench.learner import together
from lopbench.learner.learner import StackLearner
from lopbench_plugins.architectures.cnn import CNN
from lopbench_plugins.architectures.mlp import MLP
from lopbench_plugins.architectures.vit import ViT
from lopbench_plugins.optimizers import sgd

SHAPE = (3, 8, 8)
SEEDS = (3, 1, 4)
NAMES = ("mean_magnitude", "covariance", "singular_values")


@dataclass(frozen=True)
class ToyTask:
    """Random images and labels of a seed."""

    seed: int
    classes: Tensor | None = None
    samples: int = 6

    def probe(self) -> tuple[Tensor, Tensor]:
        generator = rng.derive(self.seed, "toy")
        inputs = torch.randn(self.samples, *SHAPE, generator=generator, dtype=torch.float64)
        return inputs, torch.randint(2, (self.samples,), generator=generator)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets)


class OneByOne(ToyTask):
    """A task whose loss cannot be mapped."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return super().loss(outputs, targets) * (1.0 if bool(targets.any()) else 2.0)


def make(architecture: Any = None, seeds: Sequence[int] = SEEDS) -> StackLearner:
    architecture = architecture or MLP(width=6, depth=2)
    return StackLearner(
        build=lambda generator: architecture.build(SHAPE, 4, generator=generator),
        seeds=seeds,
        optimizer=sgd.SGD(lr=0.1),
        example=torch.zeros(2, *SHAPE),
        outputs=4,
        layers=architecture.layers,
        dtype=torch.float64,
    )


ARCHITECTURES = [
    MLP(width=6, depth=2, normalization="batch"),
    CNN(channels=(3, 4), hidden=5),
    ViT(depth=1, width=8, heads=2),
]


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=repr)
@pytest.mark.parametrize("masked", [False, True], ids=["all outputs", "some outputs"])
def test_a_probe_is_the_same_whether_replicas_were_seen_together(architecture, masked):
    learner = make(architecture)
    tasks = [ToyTask(seed, torch.tensor([place, 3]) if masked else None) for place, seed in enumerate(SEEDS)]
    seen = learner.see_together(tasks)
    assert seen is not None
    assert learner.network.module.training
    for place, task in enumerate(tasks):
        ours, alone = learner.probe(place, task, seen[place]), learner.probe(place, task)
        torch.testing.assert_close(ours.outputs, alone.outputs)
        torch.testing.assert_close(dict(ours.gradients), dict(alone.gradients))
        assert [layer.name for layer in ours.layers] == [layer.name for layer in alone.layers]
        for a, b in zip(ours.layers, alone.layers, strict=True):
            torch.testing.assert_close(a.activation, b.activation)
            torch.testing.assert_close(a.gradient, b.gradient)
            assert b.gradient.any()
            for name in NAMES:
                torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=1e-6, atol=1e-6, msg=name)


def test_a_replica_whose_weights_are_lost_does_not_touch_the_others():
    learner, tasks = make(), [ToyTask(seed) for seed in SEEDS]
    for value in learner.view.parameters.values():
        value[1] = float("nan")
    seen = learner.see_together(tasks)
    for place in (0, 2):
        ours, alone = learner.probe(place, tasks[place], seen[place]), learner.probe(place, tasks[place])
        for a, b in zip(ours.layers, alone.layers, strict=True):
            torch.testing.assert_close(a.singular_values, b.singular_values)
    assert learner.probe(1, tasks[1], seen[1]).layers[0].singular_values.isnan().all()


def test_one_replica_is_seen_by_itself():
    assert make(seeds=(0,)).see_together([ToyTask(0)]) is None


@pytest.mark.parametrize("kind", [OneByOne, lambda seed: ToyTask(seed, samples=seed + 2)], ids=["loss", "shapes"])
def test_what_cannot_be_mapped_is_seen_one_by_one(kind):
    assert make().see_together([kind(seed) for seed in SEEDS]) is None


def test_a_layer_that_the_loss_does_not_read_is_seen_one_by_one():
    class Deaf(ToyTask):
        def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
            return super().loss(outputs.detach().requires_grad_(), targets)

    assert make().see_together([Deaf(seed) for seed in SEEDS]) is None


@pytest.mark.parametrize("most", ["parameters", "inputs"])
def test_large_replicas_are_seen_one_by_one(most, monkeypatch):
    learner, tasks = make(MLP(width=1, depth=1) if most == "inputs" else None), [ToyTask(seed) for seed in SEEDS]
    parameters = sum(value.numel() for value in learner.view.parameters.values())
    inputs = sum(task.probe()[0].numel() for task in tasks)
    assert (parameters < inputs) == (most == "inputs")
    monkeypatch.setattr(together, "MOST_ELEMENTS", max(parameters, inputs))
    assert learner.see_together(tasks) is not None
    monkeypatch.setattr(together, "MOST_ELEMENTS", max(parameters, inputs) - 1)
    assert learner.see_together(tasks) is None
