"""The convolutional network against the facts of the authors' code."""

import pytest
import torch
from torch import nn

from lopbench.core.errors import InvalidInputError, UnsupportedError
from lopbench_plugins.architectures.cnn import CNN


def build(component, shape=(3, 64, 64), outputs=200):
    return component.build(shape, outputs, generator=torch.Generator().manual_seed(0))


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("normalization", ["batch", "layer", "group"])
def test_parameter_counts_with_normalization_are_the_authors(normalization):
    assert count(build(CNN(normalization=normalization), (3, 32, 32), 10)) == 2_474_506


def test_parameter_counts_at_full_size():
    assert count(build(CNN(normalization="batch"))) == 8_863_432
    assert count(build(CNN())) == 8_863_432 - 2 * (64 + 128 + 256)  # less scale and shift


def test_norm_and_dropout_stand_where_the_authors_have_them():
    network = build(CNN(normalization="batch", dropout=0.1), (3, 8, 8), 10)
    convolution = [type(module) for module in network.get_submodule("layers.0")]
    assert convolution == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d]
    assert [type(module) for module in network.get_submodule("fc")] == [nn.Linear, nn.ReLU, nn.Dropout]
    assert all(module.bias is not None for module in network.modules() if isinstance(module, nn.Conv2d))


def test_the_probed_layers_are_the_activations():
    component = CNN(channels=(2, 3), hidden=4)
    names = component.layers(build(component, (3, 8, 8), 10))
    assert names == ["layers.0.activation", "layers.1.activation", "fc.activation"]


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 15), (3, 8, 31)])
def test_sizes_that_pooling_does_not_divide_are_taken(shape):
    network = build(CNN(channels=(2, 3, 4), hidden=5), shape, 6)
    assert network(torch.zeros(2, *shape)).shape == (2, 6)


def test_an_image_too_small_for_the_pooling_is_refused():
    with pytest.raises(UnsupportedError, match="at least 8x8 pixels, got 7x64"):
        build(CNN(), (3, 7, 64))


@pytest.mark.parametrize(
    ("fields", "told"), [({"channels": ()}, "at least one"), ({"channels": (4, 0)}, "channels"), ({"hidden": 0}, "hid")]
)
def test_sizes_of_zero_are_refused(fields, told):
    with pytest.raises(InvalidInputError, match=told):
        CNN(**fields)
