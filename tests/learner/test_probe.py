"""What the learner's probe offers beside activations: the loss as a function, further modules, and what is cloned."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lopbench.core import rng
from lopbench.core.profile import Partition, Profile
from lopbench.core.spec import OptimizerSpec
from lopbench.learner.learner import StackLearner
from lopbench_plugins.architectures.mlp import MLP

SHAPE = (3, 4, 4)


@dataclass(frozen=True)
class ToyTask:
    """Random images and labels."""

    def probe(self) -> tuple[Tensor, Tensor]:
        generator = rng.derive(0, "toy")
        return torch.randn(9, *SHAPE, generator=generator), torch.randint(4, (9,), generator=generator)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets)


def make(architecture: Any = None, seeds: tuple[int, ...] = (0,), profile: Profile | None = None) -> StackLearner:
    architecture = architecture or MLP(width=6, depth=2, normalization="batch")
    learner = StackLearner(
        build=lambda generator: architecture.build(SHAPE, 4, generator=generator),
        seeds=seeds,
        optimizer=OptimizerSpec(kind="sgd", lr=0.1),
        input_shape=SHAPE,
        outputs=4,
        layers=architecture.layers,
    )
    learner.profile = profile
    return learner


def state(learner: StackLearner) -> Mapping[str, Tensor]:
    return {n: v.clone() for n, v in (*learner.parameters.items(), *learner.buffers.items())}


@pytest.mark.parametrize("seeds", [(0,), (0, 1)], ids=["alone", "stacked"])
def test_loss_is_that_of_the_probe_as_a_function_of_the_parameters(seeds):
    learner, task = make(seeds=seeds), ToyTask()
    index = len(seeds) - 1
    before = state(learner)
    probe = learner.probe(index, task)
    at = {name: value.clone().requires_grad_() for name, value in probe.parameters.items()}
    loss = probe.loss(at)
    torch.testing.assert_close(loss.detach(), task.loss(probe.outputs, task.probe()[1]))
    for (name, gradient), value in zip(
        probe.gradients.items(), torch.autograd.grad(loss, list(at.values())), strict=True
    ):
        torch.testing.assert_close(gradient, value, msg=name)
    assert probe.loss({name: value * 0 for name, value in at.items()}).item() == pytest.approx(torch.tensor(4.0).log())
    assert learner.module.training
    assert all(torch.equal(value, before[name]) for name, value in state(learner).items())


def test_loss_is_computed_in_the_precision_of_the_parameters():
    probe = make().probe(0, ToyTask())
    wide = probe.loss({name: value.double() for name, value in probe.parameters.items()})
    assert wide.dtype == torch.float64
    assert wide.item() == pytest.approx(probe.loss(probe.parameters).item(), rel=1e-6)


def test_loss_can_be_differentiated_where_gradients_are_off():
    probe = make().probe(0, ToyTask())
    with torch.no_grad():
        assert probe.loss(
            {name: value.clone().requires_grad_() for name, value in probe.parameters.items()}
        ).requires_grad


def test_any_module_can_be_probed():
    learner = make()
    probe = learner.probe(0, ToyTask())
    names = ["flatten", "layers.0.linear", "layers.0.norm", "layers.0.activation", "layers.1", "out"]
    flatten, linear, norm, activation, block, out = probe.modules(names)
    assert [layer.name for layer in (flatten, linear, norm, activation, block, out)] == names
    with learner.evaluating(), torch.no_grad():
        inputs = ToyTask().probe()[0].flatten(1)
        first = learner.module.get_submodule("layers.0")
        torch.testing.assert_close(linear.activation, first.linear(inputs))
        torch.testing.assert_close(norm.activation, first.norm(first.linear(inputs)))
    assert torch.equal(flatten.activation, inputs)
    assert not flatten.gradient.any()  # no parameter comes before it
    assert torch.equal(probe.modules(["flatten"])[0].activation, inputs)
    assert probe.modules([]) == ()
    for same, layer in ((activation, probe.layers[0]), (block, probe.layers[1])):
        assert torch.equal(same.activation, layer.activation)
        assert torch.equal(same.gradient, layer.gradient)
    torch.testing.assert_close(out.activation, probe.outputs)
    torch.testing.assert_close(norm.gradient, activation.gradient * (norm.activation > 0))


class InPlace(nn.Sequential):
    """Its activation overwrites what the linear layer returned."""

    def __init__(self, generator: torch.Generator) -> None:
        with rng.isolated(generator):
            super().__init__(nn.Flatten(), nn.Linear(48, 5), nn.ReLU(inplace=True), nn.Linear(5, 4))


def test_a_module_that_works_in_place_changes_no_probe_before_it():
    learner = StackLearner(
        build=InPlace,
        seeds=(0,),
        optimizer=OptimizerSpec(kind="sgd", lr=0.1),
        input_shape=SHAPE,
        outputs=4,
    )
    linear, relu = learner.probe(0, ToyTask()).modules(["1", "2"])
    assert linear.activation.min() < 0
    assert torch.equal(linear.activation.relu(), relu.activation)
    assert torch.equal(linear.gradient, relu.gradient * (linear.activation > 0))


def test_a_module_without_a_tensor_is_left_out():
    network = nn.Sequential(
        nn.Flatten(2), nn.TransformerEncoderLayer(16, 2, 8, batch_first=True), nn.Flatten(), nn.Linear(48, 4)
    )
    learner = StackLearner(
        build=lambda generator: network,
        seeds=(0,),
        optimizer=OptimizerSpec(kind="sgd", lr=0.1),
        input_shape=SHAPE,
        outputs=4,
    )
    assert [layer.name for layer in learner.probe(0, ToyTask()).modules(["1.self_attn", "1.norm1", "nowhere"])] == [
        "1.norm1"
    ]


def test_layers_are_told_what_is_a_clone_of_what_in_them():
    clones = Partition.clones(3, 2)
    profile = Profile({}, {"layers.0.activation": clones, "layers.1.activation": Partition.clones(4, 2)}, {})
    probe = make(profile=profile).probe(0, ToyTask())
    assert probe.profile is profile
    assert [layer.clones for layer in probe.layers] == [clones, None]  # the second partition is of other units
    assert probe.modules(["layers.0.norm", "layers.0.activation"])[1].clones == clones


def test_a_network_that_was_not_cloned_has_no_clones():
    probe = make().probe(0, ToyTask())
    assert probe.profile is None
    assert [layer.clones for layer in probe.layers] == [None, None]
