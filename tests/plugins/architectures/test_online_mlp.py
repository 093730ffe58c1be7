"""The learner of bit flipping and the linear baseline against the facts of the authors' code."""

import math

import pytest
import torch
from torch import nn

from lopbench.core.errors import InvalidInputError
from lopbench_plugins.architectures.linear import Linear
from lopbench_plugins.architectures.online_mlp import OnlineMLP

#: The function and the gain of each activation, torch's own gain where it has one.
ACTIVATIONS = {
    "relu": (lambda x: x.clamp(min=0), nn.init.calculate_gain("relu")),
    "tanh": (torch.tanh, nn.init.calculate_gain("tanh")),
    "sigmoid": (lambda x: 1 / (1 + (-x).exp()), nn.init.calculate_gain("sigmoid")),
    "elu": (lambda x: torch.where(x > 0, x, x.exp() - 1), math.sqrt(2)),
    "leaky_relu": (lambda x: torch.where(x > 0, x, 0.01 * x), nn.init.calculate_gain("leaky_relu", 0.01)),
    "swish": (lambda x: x / (1 + (-x).exp()), math.sqrt(2)),
    "gelu": (lambda x: x * (1 + (x / math.sqrt(2)).erf()) / 2, math.sqrt(2)),
}


def build(component, shape=(21,), outputs=1, seed=0):
    return component.build(shape, outputs, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_it_is_two_affine_maps_with_the_activation_between(activation):
    network = build(OnlineMLP(width=7, activation=activation), (2, 3), 4).double()
    x = torch.randn(9, 2, 3, generator=torch.Generator().manual_seed(1)).double() * 3
    state = {name: value + 0.1 for name, value in network.state_dict().items()}  # biases of zero would hide
    network.load_state_dict(state)
    hidden = ACTIVATIONS[activation][0](x.reshape(9, 6) @ state["hidden.weight"].T + state["hidden.bias"])
    torch.testing.assert_close(network(x), hidden @ state["out.weight"].T + state["out.bias"])


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_weights_are_uniform_within_the_gain_times_the_root_of_three_over_fan_in(activation):
    network = build(OnlineMLP(width=400, activation=activation), (50,), 60)
    for weight, gain in ((network.hidden.weight, ACTIVATIONS[activation][1]), (network.out.weight, 1.0)):
        bound = gain * math.sqrt(3 / weight.shape[1])
        assert 0.999 * bound < weight.abs().max() <= bound
        # sd of a sample's standard deviation, uniform law, 20,000 weights or more: 0.32%
        assert weight.std().item() == pytest.approx(gain / math.sqrt(weight.shape[1]), rel=0.015)
        assert abs(weight.mean().item()) < 5 * weight.std().item() / weight.numel() ** 0.5


def test_biases_are_zero():
    for component in (OnlineMLP(), OnlineMLP(activation="tanh"), Linear()):
        for name, parameter in build(component).named_parameters():
            if name.endswith("bias"):
                assert not parameter.any()


def test_the_default_is_the_published_learner_of_five_units():
    assert sum(parameter.numel() for parameter in build(OnlineMLP(), (20,)).parameters()) == 111


def test_the_probed_layer_is_the_activation():
    component = OnlineMLP()
    assert component.layers(build(component)) == ["activation"]


def test_the_linear_baseline_is_an_affine_map():
    network = build(Linear(), (2, 3), 4)
    x = torch.randn(9, 2, 3)
    torch.testing.assert_close(network(x), x.reshape(9, 6) @ network.out.weight.T + network.out.bias)
    assert [name for name, _ in network.named_parameters()] == ["out.weight", "out.bias"]
    weight = build(Linear(), (300,), 60).out.weight
    assert 0.999 * 0.1 < weight.abs().max() <= 0.1
    assert Linear().layers(network) == []


@pytest.mark.parametrize("component", [OnlineMLP(), Linear()])
def test_weights_are_the_generators_alone(component):
    weights = [build(component, seed=seed).out.weight for seed in (0, 0, 1)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    before = torch.get_rng_state()
    build(component)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"width": 0}, "online_mlp: width must be at least 1, got 0"),
        ({"activation": "selu"}, "online_mlp: activation must be one of relu, .*, gelu, got 'selu'"),
    ],
)
def test_values_out_of_range_are_refused(fields, message):
    with pytest.raises(InvalidInputError, match=message):
        OnlineMLP(**fields)


@pytest.mark.parametrize("component", [OnlineMLP(), Linear()])
def test_requests_that_no_network_can_serve_are_refused(component):
    with pytest.raises(InvalidInputError, match=f"{component.name}: the head needs at least 1 output, got 0"):
        build(component, outputs=0)
    with pytest.raises(InvalidInputError, match=f"{component.name}: every dimension"):
        build(component, shape=(3, 0))
