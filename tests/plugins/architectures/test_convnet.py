"""The network of continual ImageNet against the facts of the authors' code."""

import pytest
import torch
from torch import nn

from lopbench.core.errors import InvalidInputError, UnsupportedError
from lopbench.core.spec import ComponentSpec
from lopbench_plugins.architectures.convnet import ConvNet


def build(component, shape=(3, 32, 32), outputs=2):
    return component.build(shape, outputs, generator=torch.Generator().manual_seed(0))


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_default_is_the_authors_network():
    network = build(ConvNet())
    # 3*32*25 + 32, 32*64*9 + 64, 64*128*9 + 128; then 512 -> 128 -> 128 -> 2
    assert count(network) == 2_432 + 18_496 + 73_856 + 65_664 + 16_512 + 258
    kinds = [type(module) for module in network.modules() if not list(module.children())]
    convolution, layer = [nn.Conv2d, nn.ReLU, nn.MaxPool2d], [nn.Linear, nn.ReLU]
    assert kinds == [*(3 * convolution), nn.Flatten, *(2 * layer), nn.Linear]
    assert [m.kernel_size for m in network.modules() if isinstance(m, nn.Conv2d)] == [(5, 5), (3, 3), (3, 3)]
    assert {m.padding for m in network.modules() if isinstance(m, nn.Conv2d)} == {(0, 0)}


def test_the_network_of_kumar_et_al_is_of_this_form():
    spec = ComponentSpec.parse("architectures", "convnet:channels=16/16,kernels=5/5,hidden=100/100")
    # 3*16*25 + 16, 16*16*25 + 16, 400*100 + 100, 100*100 + 100, 100*10 + 10
    assert count(build(spec.build(), outputs=10)) == 1_216 + 6_416 + 40_100 + 10_100 + 1_010


def test_norm_and_dropout_stand_where_they_are_said_to():
    network = build(ConvNet(channels=(4, 6), kernels=(3, 3), hidden=(8,), normalization="batch", dropout=0.1))
    assert [type(m) for m in network.get_submodule("layers.1")] == [
        *(nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d),
    ]
    assert [type(m) for m in network.get_submodule("hidden.0")] == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Dropout]


def test_the_probed_layers_are_the_activations():
    component = ConvNet(channels=(2, 3), kernels=(3, 3), hidden=(4, 5))
    names = ["layers.0.activation", "layers.1.activation", "hidden.0.activation", "hidden.1.activation"]
    assert component.layers(build(component)) == names


@pytest.mark.parametrize("shape", [(1, 24, 24), (3, 25, 40), (3, 64, 31)])
def test_sizes_that_pooling_does_not_divide_are_taken(shape):
    assert build(ConvNet(), shape, 6)(torch.zeros(2, *shape)).shape == (2, 6)


def test_an_image_of_which_nothing_is_left_is_refused():
    with pytest.raises(
        UnsupportedError, match="nothing is left of 23x64 pixels; use larger images, fewer convolutions or sm"
    ):
        build(ConvNet(), (3, 23, 64))


def test_channels_and_kernels_must_be_as_many():
    with pytest.raises(InvalidInputError, match="got channels=4/6 and kernels=3; give as many of both"):
        ConvNet(channels=(4, 6), kernels=(3,))
