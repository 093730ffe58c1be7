"""The vision transformer against the facts of the authors' code."""

import pytest
import torch
from torch import nn

from lopbench.core.errors import InvalidInputError, UnsupportedError
from lopbench_plugins.architectures.vit import ViT


def build(component, shape=(3, 64, 64), outputs=200):
    return component.build(shape, outputs, generator=torch.Generator().manual_seed(0))


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_parameter_counts_are_the_authors():
    assert count(build(ViT())) == 10_824_008
    assert count(build(ViT(normalization="batch"), (3, 32, 32), 10)) == 10_732_426


def test_it_is_initialised_as_the_authors_do():
    network = build(ViT(depth=1), (3, 32, 32), 100)
    for module in network.modules():
        if isinstance(module, nn.Linear):
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.05)
            assert not module.bias.any()
    for name in ("cls_token", "pos_embed"):
        assert network.get_parameter(name).std().item() == pytest.approx(0.02, rel=0.15)
    bound = (3 * 8 * 8) ** -0.5
    assert 0.9 * bound < network.get_parameter("patch_embed.proj.weight").abs().max() <= bound


def test_dropout_acts_on_tokens_attention_projection_and_mlp_but_not_before_the_head():
    network = build(ViT(patch=4, width=8, depth=1, heads=2, dropout=0.1), (3, 8, 8), 10)
    dropout = {name: module.p for name, module in network.named_modules() if isinstance(module, nn.Dropout)}
    names = [
        "pos_drop",
        "blocks.0.attn.attn_drop",
        "blocks.0.attn.proj_drop",
        "blocks.0.mlp.drop1",
        "blocks.0.mlp.drop2",
    ]
    assert dropout == dict.fromkeys(names, 0.1)


def test_the_probed_layers_are_the_blocks():
    component = ViT(patch=4, width=8, depth=3, heads=2)
    assert component.layers(build(component, (3, 8, 8), 10)) == ["blocks.0", "blocks.1", "blocks.2"]


def test_images_need_not_be_square():
    network = build(ViT(patch=4, width=8, depth=1, heads=2), (1, 8, 12), 10)
    assert network(torch.zeros(2, 1, 8, 12)).shape == (2, 10)


@pytest.mark.parametrize("shape", [(3, 30, 32), (3, 32, 30)])
def test_a_patch_that_does_not_divide_the_image_is_refused(shape):
    with pytest.raises(UnsupportedError, match=f"{shape[1]}x{shape[2]} images into patches of 8x8"):
        build(ViT(), shape)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"width": 100}, "multiple of heads, got width=100 and heads=6; the nearest is width=102"),
        ({"heads": 0}, "heads"),
        ({"patch": 0}, "patch"),
    ],
)
def test_impossible_sizes_are_refused(fields, told):
    with pytest.raises(InvalidInputError, match=told):
        ViT(**fields)
