"""Other activation functions: their values, and what of the network changes with them."""

import pytest
import torch
from torch import nn

from lopbench.core import rng
from lopbench.core.errors import UnsupportedError
from lopbench.learner.network import activation_layers
from lopbench_plugins.architectures.cnn import CNN
from lopbench_plugins.architectures.mlp import MLP
from lopbench_plugins.architectures.resnet18 import ResNet18
from lopbench_plugins.architectures.vit import ViT
from lopbench_plugins.perturbations.activation import Activation, Fourier, SmoothLeaky

SHAPE = (3, 16, 16)
POINTS = torch.tensor([-30.0, -3.0, -0.5, 0.0, 0.5, 3.0, 30.0], dtype=torch.float64)


def built(architecture, **fields):
    module = architecture.build(SHAPE, 5, generator=rng.derive(0, "init"))
    return Activation(**fields).configure(module, example=torch.zeros(2, *SHAPE), generator=rng.derive(0, "configure"))


def functions(module):
    return [module.get_submodule(name) for name in activation_layers(module)]


@pytest.mark.parametrize("kind", ["leaky_relu", "smooth_leaky", "gelu", "silu", "tanh"])
@pytest.mark.parametrize("architecture", [MLP(), CNN(), ViT(depth=1), ResNet18()])
def test_every_function_is_replaced_and_no_parameter(kind, architecture):
    ours, theirs = built(architecture, kind=kind), architecture.build(SHAPE, 5, generator=rng.derive(0, "init"))
    made = {type(function) for function in functions(ours)}
    assert len(made) == 1
    assert made.isdisjoint({type(function) for function in functions(theirs)} - {{"gelu": nn.GELU}.get(kind)})
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_leaky_relu_has_the_slope_everywhere_below_zero():
    (function, *_) = functions(built(MLP(), slope=0.3))
    torch.testing.assert_close(function(POINTS), torch.where(POINTS > 0, POINTS, 0.3 * POINTS))


def test_smooth_leaky_is_leaky_far_from_zero_and_its_slope_at_zero_is_half_way():
    z = POINTS.clone().requires_grad_()
    values = SmoothLeaky(0.1)(z)
    # By hand at 0.5: 0.05 + 0.9 * 0.5 / (1 + exp(-5/6)) = 0.05 + 0.45 * 0.697059 = 0.363677.
    assert values[4].item() == pytest.approx(0.363677, abs=1e-6)
    assert values[[0, -1]].tolist() == pytest.approx([-3.0, 30.0], abs=1e-12)
    (slopes,) = torch.autograd.grad(values.sum(), z)
    assert slopes[3].item() == pytest.approx(0.1 + 0.9 / 2)
    assert slopes[[0, -1]].tolist() == pytest.approx([0.1, 1.0], abs=1e-12)


@pytest.mark.parametrize("shape", [(4, 3), (4, 7, 3), (4, 3, 5, 5)])
def test_pairs_of_fourier_features_lie_on_a_circle_with_their_slopes(shape):
    z = torch.randn(shape, generator=rng.derive(0, "z"), dtype=torch.float64).requires_grad_()
    sines, cosines = Fourier(odd=False)(z).chunk(2, dim=1 if len(shape) == 4 else -1)
    torch.testing.assert_close(sines.square() + cosines.square(), torch.ones_like(z))
    slopes = [torch.autograd.grad(part.sum(), z, retain_graph=True)[0] for part in (sines, cosines)]
    torch.testing.assert_close(slopes[0].square() + slopes[1].square(), torch.ones_like(z))


@pytest.mark.parametrize("architecture", [MLP(width=6), MLP(width=7), CNN(), MLP(width=7, normalization="batch")])
def test_fourier_features_are_as_many_as_the_units_were_of_half_the_rows(architecture):
    ours, theirs = built(architecture, kind="fourier"), architecture.build(SHAPE, 5, generator=rng.derive(0, "init"))
    inputs = torch.randn(2, *SHAPE, generator=rng.derive(0, "x"))
    sizes = {}
    for module in (ours, theirs):
        sizes[module] = found = []
        for function in functions(module):
            function.register_forward_hook(lambda m, i, o, found=found: found.append((i[0].shape[1], o.shape[1])))
        assert module(inputs).isfinite().all()
    for (rows, features), (_, width) in zip(sizes[ours], sizes[theirs], strict=True):
        assert (rows, features) == ((width + 1) // 2, width)
    for (name, kept), whole in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert torch.equal(kept, whole[: len(kept)]), name  # what is left is as it was drawn


def test_fourier_features_train_several_replicas(runner):
    trained = runner([Activation(kind="fourier")], seeds=(0, 1)).run(3)
    assert trained.learner.view.parameters["1.weight"].shape == (2, 4, 16)
    assert trained.learner.view.parameters["3.weight"].shape == (2, 4, 8)


def test_fourier_features_of_a_sum_are_refused():
    with pytest.raises(UnsupportedError, match="reads no outputs of a single layer"):
        built(ResNet18(), kind="fourier")


def test_fourier_features_of_one_dimensional_maps_are_refused():
    module = nn.Sequential(nn.Conv1d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(42, 2))
    with pytest.raises(UnsupportedError, match="one-dimensional convolution"):
        Activation(kind="fourier").configure(module, example=torch.zeros(2, 3, 9), generator=rng.derive(0))


def test_network_without_activation_modules_is_refused():
    module = nn.Sequential(nn.Flatten(), nn.Linear(768, 5))
    with pytest.raises(UnsupportedError, match="no activation function"):
        Activation().configure(module, example=torch.zeros(2, *SHAPE), generator=rng.derive(0))
