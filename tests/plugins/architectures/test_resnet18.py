"""ResNet-18 against the facts of the authors' code."""

import pytest
import torch
from torch import nn

from lopbench.core.errors import InvalidInputError
from lopbench_plugins.architectures.resnet18 import BasicBlock, ResNet18


def build(component, shape=(3, 64, 64), outputs=200):
    return component.build(shape, outputs, generator=torch.Generator().manual_seed(0))


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_parameter_counts_are_the_authors():
    assert count(build(ResNet18(normalization="batch"))) == 11_271_432
    assert count(build(ResNet18(normalization="layer"), outputs=10)) == 11_173_962


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("normalization", ["none", "batch", "layer", "group"])
def test_convolutions_have_a_bias_only_without_normalization(normalization, affine):
    network = build(ResNet18(base_width=4, normalization=normalization, affine=affine), (3, 8, 8), 10)
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert len(convolutions) == 20  # stem, two in each of eight blocks, three shortcuts
    assert all((module.bias is not None) == (normalization == "none") for module in convolutions)


def test_stages_halve_the_image_and_double_the_channels():
    network, shapes = build(ResNet18(base_width=4), (3, 16, 16), 10), []
    for block in network.get_submodule("blocks"):
        block.register_forward_hook(lambda _m, _i, output: shapes.append(tuple(output.shape[1:])))
    network(torch.zeros(1, 3, 16, 16))
    assert shapes == [(4, 16, 16)] * 2 + [(8, 8, 8)] * 2 + [(16, 4, 4)] * 2 + [(32, 2, 2)] * 2


def test_a_block_adds_its_shortcut_before_the_activation():
    block, x = BasicBlock(nn.Flatten(), nn.Identity(), nn.ReLU()), torch.tensor([[-1.0, 2.0]])
    assert torch.equal(block(x), torch.tensor([[0.0, 4.0]]))


def test_the_probed_layers_are_the_outputs_of_the_blocks():
    component = ResNet18(base_width=4)
    network = build(component, (3, 8, 8), 10)
    assert component.layers(network) == [f"blocks.{index}" for index in range(8)]
    output = network.get_submodule("blocks.0")(torch.randn(2, 4, 8, 8))
    assert output.min() == 0


def test_convolutions_have_variance_two_over_fan_out():
    network = build(ResNet18(base_width=32), outputs=10)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * module.kernel_size[0] ** 2
            assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.1)


def test_dropout_acts_before_the_head_alone():
    network = build(ResNet18(base_width=4, dropout=0.1), (3, 8, 8), 10)
    dropout = [name for name, module in network.named_modules() if isinstance(module, nn.Dropout)]
    assert dropout == ["dropout"]
    assert [name for name, _ in network.named_children()][-2:] == ["dropout", "out"]


def test_a_width_of_zero_is_refused():
    with pytest.raises(InvalidInputError, match="base_width must be at least 1, got 0"):
        ResNet18(base_width=0)
