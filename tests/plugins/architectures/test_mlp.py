"""The multilayer perceptron against the facts of the authors' code."""

import pytest
import torch
from torch import nn

from lopbench.core.errors import InvalidInputError
from lopbench.core.spec import ComponentSpec
from lopbench_plugins.architectures.mlp import MLP


def build(component, shape=(3, 64, 64), outputs=200):
    return component.build(shape, outputs, generator=torch.Generator().manual_seed(0))


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_parameter_counts_are_the_authors():
    assert count(build(MLP())) == 1_664_840
    assert count(build(MLP(normalization="batch"))) == 1_666_120
    assert count(build(MLP(normalization="batch"), (3, 32, 32), 10)) == 461_962


def test_layers_stand_in_the_authors_order():
    network = build(MLP(normalization="batch", dropout=0.2), (3, 4, 4), 10)
    kinds = [type(module) for module in network.get_submodule("layers.0")]
    assert kinds == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Dropout]
    names = [name for name, _ in network.get_submodule("layers.4").named_children()]
    assert names == ["linear", "norm", "activation", "dropout"]
    assert [name for name, _ in network.named_children()] == ["flatten", "layers", "out"]


def test_the_plain_network_is_relu_of_affine_maps():
    network, x = build(MLP(width=6, depth=2), (2, 3), 4).double(), torch.randn(5, 2, 3).double()
    state = network.state_dict()
    hidden = x.reshape(5, 6)
    for layer in ("layers.0.linear", "layers.1.linear"):
        hidden = (hidden @ state[f"{layer}.weight"].T + state[f"{layer}.bias"]).clamp(min=0)
    torch.testing.assert_close(network(x), hidden @ state["out.weight"].T + state["out.bias"])


def test_it_is_initialised_uniformly_within_one_over_the_root_of_fan_in():
    network = build(MLP(), (3, 32, 32), 10)
    for module in network.modules():
        if isinstance(module, nn.Linear):
            bound = module.in_features**-0.5
            assert 0.9 * bound < module.weight.abs().max() <= bound
            assert 0.5 * bound < module.bias.abs().max() <= bound


def test_the_probed_layers_are_the_activations():
    component = MLP(depth=3, dropout=0.1)
    network = build(component, (3, 4, 4), 10)
    assert component.layers(network) == [f"layers.{index}.activation" for index in range(3)]


@pytest.mark.parametrize("field", ["width", "depth"])
def test_a_size_of_zero_is_refused(field):
    with pytest.raises(InvalidInputError, match=f"{field} must be at least 1, got 0"):
        MLP(**{field: 0})


def test_widths_are_those_of_the_layers_in_order():
    network = build(MLP(widths=(300, 150)), (1, 28, 28), 10)
    shapes = [tuple(module.weight.shape) for module in network.modules() if isinstance(module, nn.Linear)]
    assert shapes == [(300, 784), (150, 300), (10, 150)]


def test_equal_widths_are_width_and_depth_and_widen_alike():
    def weights(component):
        return build(component, (2, 3), 4).state_dict()

    for one, other in (
        (MLP(width=7, depth=3), MLP(widths=(7, 7, 7))),
        (MLP(widths=(6, 4)).widened(2), MLP(widths=(12, 8))),
    ):
        for (name, value), (also, expected) in zip(weights(one).items(), weights(other).items(), strict=True):
            assert name == also
            assert torch.equal(value, expected)


def test_runs_that_were_recorded_without_widths_keep_their_ids():
    spec = ComponentSpec.of("architectures", MLP(width=16, depth=2))
    assert "widths" not in spec.fields
    assert ComponentSpec.parse("architectures", "mlp:widths=300/150").build() == MLP(widths=(300, 150))


def test_widths_beside_width_or_depth_are_refused():
    with pytest.raises(InvalidInputError, match=r"widths=8/4 says how many layers .* leave out width=16 and depth=5"):
        MLP(widths=(8, 4), width=16)
    with pytest.raises(InvalidInputError, match="widths must be at least 1 each, got 8/0"):
        MLP(widths=(8, 0))
