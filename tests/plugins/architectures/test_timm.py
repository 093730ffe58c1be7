"""Models of timm."""

import pytest
import timm
import torch
from torch import nn

from lopbench.core import rng
from lopbench.core.errors import InvalidInputError, UnsupportedError, UsageError
from lopbench_plugins.architectures.timm import Timm


def build(component, shape=(3, 64, 64), outputs=10, seed=0):
    return component.build(shape, outputs, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        ("resnet18", (3, 64, 64)),
        ("resnet18", (1, 32, 48)),
        ("vit_tiny_patch16_224", (3, 224, 224)),
        ("vit_tiny_patch16_224", (3, 64, 64)),
        ("mobilenetv3_small_050", (3, 32, 32)),
    ],
)
def test_models_are_built_at_the_size_of_the_input(model, shape):
    network = build(Timm(model=model), shape)
    assert network.training
    x = torch.zeros(2, *shape)
    assert network(x).shape == (2, 10)
    head = [m for m in network.modules() if isinstance(m, nn.Linear) and m.out_features == 10][-1]
    nn.init.zeros_(head.weight)
    nn.init.constant_(head.bias, 3.0)
    assert torch.equal(network(x), torch.full((2, 10), 3.0))


def test_the_network_comes_from_the_generator_alone():
    before = torch.get_rng_state()
    first, second, other = (build(Timm(model="vit_tiny_patch16_224"), seed=seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_the_check_of_the_size_leaves_running_statistics_fresh():
    network = build(Timm(model="resnet18"))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert not module.running_mean.any()
            assert (module.running_var == 1).all()
            assert module.num_batches_tracked == 0


def test_transformer_blocks_are_probed_and_convolutional_networks_at_their_activations():
    transformer, convolutional = Timm(model="vit_tiny_patch16_224"), Timm(model="resnet18")
    assert transformer.layers(build(transformer)) == [f"blocks.{index}" for index in range(12)]
    assert convolutional.layers(build(convolutional)) is None
    stages = Timm(model="mobilenetv3_small_050")  # its "blocks" are stages, which end in no activation
    assert stages.layers(build(stages)) is None


@pytest.mark.parametrize(
    ("model", "transformer"),
    [
        ("vit_tiny_patch16_224", True),
        ("swin_tiny_patch4_window7_224", True),
        ("resnet18", False),
        ("mixer_s16_224", False),
        ("convnext_atto", False),
        ("resnet50_clip", False),  # attends once, to pool
    ],
)
def test_a_transformer_attends_in_more_than_one_layer(model, transformer):
    assert Timm(model=model).transformer is transformer


def test_activations_do_not_overwrite_their_input():
    assert any(getattr(module, "inplace", False) for module in timm.create_model("resnet18").modules())
    assert not any(getattr(module, "inplace", False) for module in build(Timm(model="resnet18")).modules())


@pytest.mark.parametrize(("dropout", "layers"), [(0.0, 0), (0.25, 1)])
def test_dropout_is_timms_drop_rate(dropout, layers):
    network = build(Timm(model="vit_tiny_patch16_224", dropout=dropout))
    rates = [module.p for module in network.modules() if isinstance(module, nn.Dropout)]
    assert rates == [0.25] * layers


def test_a_head_that_is_a_convolution_becomes_linear_and_computes_the_same():
    with rng.isolated(torch.Generator().manual_seed(0)):
        convolutional = timm.create_model("dla34", num_classes=10)
    linear = build(Timm(model="dla34"))
    assert isinstance(convolutional.get_classifier(), nn.Conv2d)
    assert isinstance(linear.get_classifier(), nn.Linear)
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(linear.eval()(x), convolutional.eval()(x))


def test_an_input_size_that_the_model_does_not_take_is_refused():
    with pytest.raises(
        UnsupportedError, match="timm:inception_v3 for images of 3x64x64 and 10 outputs cannot be built"
    ):
        build(Timm(model="inception_v3"))


def test_a_model_with_two_heads_is_refused():
    with pytest.raises(UnsupportedError, match="does not end in one linear head of 10 outputs"):
        build(Timm(model="deit_tiny_distilled_patch16_224"))


def test_vectors_are_refused():
    with pytest.raises(UnsupportedError, match=r"takes images of shape \(C, H, W\)"):
        build(Timm(model="resnet18"), (20,))


def test_an_unknown_model_is_a_usage_error_with_a_suggestion():
    with pytest.raises(UsageError, match=r"Unknown timm model 'resnt18'\. Did you mean 'resnet18'") as caught:
        Timm(model="resnt18")
    assert caught.value.exit_code == 2


def test_pretrained_tags_and_remote_models_are_refused():
    with pytest.raises(UsageError, match=r"Did you mean 'resnet18'.*untrained"):
        Timm(model="resnet18.a1_in1k")
    with pytest.raises(UsageError, match="Unknown timm model 'hf-hub:timm/resnet18'"):
        Timm(model="hf-hub:timm/resnet18")


def test_dropout_out_of_range_is_refused():
    with pytest.raises(InvalidInputError, match=r"dropout must be at least 0 and below 1, got 1\.5"):
        Timm(model="resnet18", dropout=1.5)
