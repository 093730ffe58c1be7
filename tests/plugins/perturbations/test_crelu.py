"""CReLU: its values, and the layers that read it."""

import pytest
import torch
from torch import nn

from lopbench.core import rng
from lopbench.core.errors import UnsupportedError
from lopbench_plugins.architectures.cnn import CNN
from lopbench_plugins.architectures.mlp import MLP
from lopbench_plugins.architectures.online_mlp import OnlineMLP
from lopbench_plugins.architectures.resnet18 import ResNet18
from lopbench_plugins.architectures.vit import ViT
from lopbench_plugins.perturbations.crelu import CReLU, Doubled

SHAPE = (3, 16, 16)


def built(architecture, **fields):
    module = architecture.build(SHAPE, 5, generator=rng.derive(0, "init"))
    return CReLU(**fields).configure(module, example=torch.zeros(2, *SHAPE), generator=rng.derive(0, "configure"))


@pytest.mark.parametrize("shape", [(4, 3), (4, 7, 3), (4, 3, 5, 5)])
def test_halves_differ_by_the_input_and_one_of_them_has_slope_one(shape):
    z = torch.randn(shape, generator=rng.derive(0, "z"), dtype=torch.float64).requires_grad_()
    positive, negative = Doubled()(z).chunk(2, dim=1 if len(shape) == 4 else -1)
    assert torch.equal(positive - negative, z)
    assert not (positive * negative).any()
    slopes = [torch.autograd.grad(part.sum(), z, retain_graph=True)[0].abs() for part in (positive, negative)]
    assert torch.equal(slopes[0] + slopes[1], torch.ones_like(z))


@pytest.mark.parametrize("architecture", [MLP(), CNN()])
@pytest.mark.parametrize("removed", [0.0, 0.25, 0.75])
def test_layers_read_twice_the_units_that_are_left(architecture, removed):
    ours, theirs = built(architecture, removed=removed), architecture.build(SHAPE, 5, generator=rng.derive(0, "init"))
    layers, others = (
        [layer for layer in module.modules() if isinstance(layer, nn.Linear | nn.Conv2d)] for module in (ours, theirs)
    )
    assert torch.equal(layers[0].weight, others[0].weight[: len(layers[0].weight)])
    for here, there in zip(layers[:-1], others[:-1], strict=True):
        assert len(here.weight) == len(here.bias) == round(len(there.weight) * (1 - removed))
    for here, there in zip(layers[1:], others[1:], strict=True):
        assert here.weight.shape[1] == round(2 * (1 - removed) * there.weight.shape[1])
    assert ours(torch.randn(2, *SHAPE)).shape == (2, 5)


@pytest.mark.parametrize("architecture", [MLP(width=256), OnlineMLP(width=256)])
def test_widened_layers_have_the_law_of_twice_the_inputs(architecture):
    ours, theirs = built(architecture), architecture.build(SHAPE, 5, generator=rng.derive(0, "init"))
    weight, own = ours.out.weight, theirs.out.weight
    assert weight.shape == (5, 512)
    assert weight.std().item() == pytest.approx(own.std().item() / 2**0.5, rel=1e-3)
    assert weight.abs().max().item() == pytest.approx(own.abs().max().item() / 2**0.5)
    assert torch.equal(ours.out.bias, theirs.out.bias)
    halves = weight.detach().chunk(2, dim=1)
    assert torch.corrcoef(torch.stack([half.flatten() for half in halves]))[0, 1].abs() < 0.15


def test_widening_draws_from_its_generator_alone():
    before = torch.get_rng_state()
    assert torch.equal(built(MLP()).out.weight, built(MLP()).out.weight)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_layer_that_is_used_on_features_of_two_widths_is_refused():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.tied, self.activation, self.out = nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2)

        def forward(self, x):
            return self.out(self.activation(self.tied(self.activation(self.tied(x)))))

    with pytest.raises(UnsupportedError, match="does not run with twice as many features"):
        CReLU().configure(Tied(), example=torch.zeros(2, 6), generator=rng.derive(0))


@pytest.mark.parametrize(
    ("architecture", "reason"),
    [(ViT(depth=1), "GELU"), (ResNet18(), "twice as many features"), (MLP(activation="tanh"), "Tanh")],
)
def test_networks_that_cannot_take_it_are_refused(architecture, reason):
    with pytest.raises(UnsupportedError, match=reason):
        built(architecture)
