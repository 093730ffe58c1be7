"""What holds for every built-in architecture of the paper."""

from types import SimpleNamespace
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from lopbench.core.errors import InvalidInputError, UnsupportedError
from lopbench_plugins.architectures import _base
from lopbench_plugins.architectures.cnn import CNN
from lopbench_plugins.architectures.mlp import MLP
from lopbench_plugins.architectures.resnet18 import ResNet18
from lopbench_plugins.architectures.vit import ViT

SHAPE = (3, 16, 12)
OUTPUTS = 8
#: Each small enough to build in milliseconds; OUTPUTS is also a hidden width, which must not confuse the head.
SMALL = {
    MLP: {"width": 8, "depth": 2},
    CNN: {"channels": (4, 8), "hidden": 8},
    ResNet18: {"base_width": 4},
    ViT: {"patch": 4, "width": 8, "depth": 2, "heads": 2},
}
NORMALIZATIONS = get_args(_base.Normalization)
ACTIVATIONS = get_args(_base.Activation)
every_architecture = pytest.mark.parametrize("architecture", SMALL, ids=lambda cls: cls.name)


def small(architecture, **fields):
    return architecture(**SMALL[architecture], **fields)


def build(component, seed=0, shape=SHAPE, outputs=OUTPUTS):
    return component.build(shape, outputs, generator=torch.Generator().manual_seed(seed))


def images(samples=4, shape=SHAPE):
    return torch.randn(samples, *shape, generator=torch.Generator().manual_seed(99))


def same_state(one, other):
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@every_architecture
def test_equal_generators_give_equal_networks_and_other_ones_others(architecture):
    component = small(architecture, normalization="batch")
    assert same_state(build(component, seed=1), build(component, seed=1))
    assert not same_state(build(component, seed=1), build(component, seed=2))


@every_architecture
def test_a_second_build_from_the_same_generator_differs(architecture):
    generator = torch.Generator().manual_seed(0)
    first, second = (small(architecture).build(SHAPE, OUTPUTS, generator=generator) for _ in range(2))
    assert not same_state(first, second)


@every_architecture
def test_build_leaves_the_global_generator_alone(architecture):
    before = torch.get_rng_state()
    build(small(architecture, dropout=0.1))
    assert torch.equal(torch.get_rng_state(), before)


@every_architecture
def test_initialisation_ignores_the_global_generator(architecture):
    before = torch.get_rng_state()
    first = build(small(architecture))
    torch.rand(7)
    second = build(small(architecture))
    torch.set_rng_state(before)
    assert same_state(first, second)


@every_architecture
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("affine", [True, False])
def test_every_option_trains(architecture, normalization, affine):
    for activation in ACTIVATIONS:
        network = build(small(architecture, normalization=normalization, affine=affine, activation=activation))
        assert network.training
        output = network(images())
        assert output.shape == (4, OUTPUTS)
        output.square().sum().backward()
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name


@every_architecture
def test_affine_decides_whether_norms_learn(architecture):
    for normalization in NORMALIZATIONS[1:]:
        norms = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)
        for affine in (True, False):
            network = build(small(architecture, normalization=normalization, affine=affine))
            found = [module for module in network.modules() if isinstance(module, norms)]
            assert found
            assert all((norm.weight is not None) == affine == (norm.bias is not None) for norm in found)
    network = build(small(architecture, normalization="none"))
    assert not any(isinstance(module, norms) for module in network.modules())


@every_architecture
def test_dropout_acts_in_training_alone(architecture):
    network, x = build(small(architecture, dropout=0.5)), images()
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))


@every_architecture
def test_without_dropout_no_dropout_layer_is_built_and_nothing_is_drawn(architecture):
    network = build(small(architecture, normalization="layer"))
    assert not any(isinstance(module, nn.modules.dropout._DropoutNd) for module in network.modules())
    before = torch.get_rng_state()
    network(images())
    assert torch.equal(torch.get_rng_state(), before)


@every_architecture
def test_the_last_linear_layer_of_as_many_units_as_outputs_is_the_head(architecture):
    network, x = build(small(architecture)), images()
    head = [m for m in network.modules() if isinstance(m, nn.Linear) and m.out_features == OUTPUTS][-1]
    nn.init.zeros_(head.weight)
    nn.init.constant_(head.bias, 3.0)
    assert torch.equal(network(x), torch.full((4, OUTPUTS), 3.0))


@every_architecture
def test_probed_layers_fire_once_a_pass_in_the_order_named(architecture):
    component = small(architecture)
    network, fired = build(component), []
    names = list(component.layers(network))
    assert names
    for name in names:
        network.get_submodule(name).register_forward_hook(lambda *_, name=name: fired.append(name))
    network(images())
    assert fired == names


@every_architecture
def test_no_activation_module_is_shared(architecture):
    network, calls = build(small(architecture, activation="tanh")), []
    for module in network.modules():
        if isinstance(module, nn.Tanh):
            module.register_forward_hook(lambda module, *_: calls.append(module))
    network(images())
    assert calls
    assert len(calls) == len(set(calls))


# Fused attention has no batching rule on the CPU; a slow loop stands in for it.
@pytest.mark.filterwarnings("ignore:There is a performance drop")
@every_architecture
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_a_stack_of_networks_equals_separate_ones(architecture, normalization):
    component = small(architecture, normalization=normalization)
    networks = [build(component, seed).double() for seed in range(3)]
    x = torch.stack([images() + seed for seed in range(3)]).double()
    parameters, buffers = stack_module_state(networks)

    def call(parameters, buffers, x):
        return functional_call(networks[0], (parameters, buffers), (x,))

    stacked = vmap(call)(parameters, buffers, x)
    separate = torch.stack([network(rows) for network, rows in zip(networks, x, strict=True)])
    torch.testing.assert_close(stacked, separate)
    for name, buffer in buffers.items():
        torch.testing.assert_close(buffer, torch.stack([dict(n.named_buffers())[name] for n in networks]))


@every_architecture
@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, got 1.0"),
        ({"dropout": -0.1}, "dropout must be at least 0 and below 1, got -0.1"),
        ({"dropout": float("nan")}, "dropout must be a finite number, got nan"),
        ({"normalization": "instance"}, "none, batch, layer, group"),
        ({"activation": "swish"}, "relu, leaky_relu"),
    ],
)
def test_values_out_of_range_are_refused(architecture, fields, told):
    with pytest.raises(InvalidInputError, match=told):
        small(architecture, **fields)


@every_architecture
@pytest.mark.parametrize(("shape", "outputs"), [((3, 0, 16), 5), ((), 5), (SHAPE, 0)])
def test_an_empty_input_or_head_is_refused(architecture, shape, outputs):
    with pytest.raises(InvalidInputError, match="at least 1"):
        build(small(architecture), shape=shape, outputs=outputs)


@pytest.mark.parametrize("architecture", [CNN, ResNet18, ViT], ids=lambda cls: cls.name)
def test_image_networks_refuse_vectors(architecture):
    with pytest.raises(UnsupportedError, match=r"takes images of shape \(C, H, W\)"):
        build(small(architecture), shape=(20,))


def test_group_normalization_of_an_unsplittable_width_says_what_to_choose():
    with pytest.raises(UnsupportedError, match="cannot split 37 channels"):
        build(MLP(width=37, normalization="group"))


def test_another_normalization_takes_any_width():
    for normalization in ("none", "batch", "layer"):
        build(MLP(width=37, normalization=normalization))


@given(st.integers(1, 600))
def test_groups_are_equal_at_most_32_and_never_single_channels(channels):
    proper = [g for g in range(2, 33) if channels % g == 0 and channels // g >= 2]
    if proper:
        assert _base.group_count(channels) == max(proper)
    else:
        with pytest.raises(UnsupportedError, match=f"cannot split {channels} channels"):
            _base.group_count(channels)


@pytest.mark.parametrize("width", [64, 128, 256, 384, 512])
def test_published_widths_have_32_groups(width):
    assert _base.group_count(width) == 32


def test_layer_normalization_of_images_is_over_channels_and_pixels():
    norm = _base.normalization_layer("layer", "image", 6, affine=False)
    out = norm(images(5, (6, 4, 4)) * 3 + 1).flatten(1)
    torch.testing.assert_close(out.mean(1), torch.zeros(5), atol=1e-6, rtol=0)
    torch.testing.assert_close(out.var(1, unbiased=False), torch.ones(5), atol=1e-4, rtol=0)


def test_batch_normalization_of_tokens_is_over_samples_and_tokens():
    norm = _base.normalization_layer("batch", "token", 6, affine=False)
    out = norm(images(5, (7, 6)) * 3 + 1).flatten(0, 1)
    torch.testing.assert_close(out.mean(0), torch.zeros(6), atol=1e-6, rtol=0)
    torch.testing.assert_close(out.var(0, unbiased=False), torch.ones(6), atol=1e-4, rtol=0)


def test_leaky_relu_has_the_authors_slope():
    assert _base.ACTIVATIONS["leaky_relu"]()(torch.tensor([-2.0])).item() == pytest.approx(-0.2)


@pytest.mark.parametrize("layout", ["vector", "token"])
def test_layer_normalization_of_vectors_and_tokens_is_over_channels_alone(layout):
    norm = _base.normalization_layer("layer", layout, 8, affine=False)
    out = norm(images(5, (8,) if layout == "vector" else (7, 8)) * 3 + 1)
    torch.testing.assert_close(out.mean(-1), torch.zeros(out.shape[:-1]), atol=1e-6, rtol=0)
    torch.testing.assert_close(out.var(-1, unbiased=False), torch.ones(out.shape[:-1]), atol=1e-3, rtol=0)


def test_a_generator_of_another_device_is_refused():
    elsewhere = SimpleNamespace(device=torch.device("cuda", 0))  # stands for one where there is no such device
    with pytest.raises(InvalidInputError, match=r"drawn on the CPU.*got a generator on cuda:0"):
        _base.check_request("mlp", SHAPE, OUTPUTS, elsewhere)
