import copy
import importlib.util
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lopbench.core.errors import UnsupportedError
from lopbench.core.rng import derive
from lopbench.learner.discovery import discover

_SPEC = importlib.util.spec_from_file_location("lopbench_networks", Path(__file__).with_name("networks.py"))
networks = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(networks)
IMAGE, PHOTO = networks.IMAGE, networks.PHOTO
mlp, Cnn, resnet18, vit, TwoReaders = (networks.mlp, networks.Cnn, networks.resnet18, networks.vit, networks.TwoReaders)
Parts, parts = networks.Parts, networks.parts


def names(module: nn.Module, batch: Tensor) -> list[str]:
    return [group.name for group in discover(module, batch).groups]


@pytest.mark.parametrize(
    "norm", [lambda d: nn.Identity(), nn.BatchNorm1d, nn.LayerNorm], ids=["none", "batch", "layer"]
)
def test_mlp_has_one_group_for_each_hidden_layer(norm: Callable[[int], nn.Module]) -> None:
    groups = discover(mlp(norm), IMAGE).groups
    assert [g.name for g in groups] == ["1", "5", "9", "13", "17"]
    assert [g.read for g in groups] == ["5", "9", "13", "17", "21"]
    assert all(g.size == 6 and g.consumers[0].expansion == 1 for g in groups)
    assert [len(g.norms) for g in groups] == [0 if isinstance(norm(6), nn.Identity) else 1] * 5


def test_norms_are_told_with_the_tensors_they_have() -> None:
    (batch,) = discover(mlp(nn.BatchNorm1d, depth=1), IMAGE).groups[0].norms
    assert (batch.weight, batch.bias) == ("2.weight", "2.bias")
    assert (batch.running_mean, batch.running_var) == ("2.running_mean", "2.running_var")
    (layer,) = discover(mlp(lambda d: nn.LayerNorm(d, elementwise_affine=False), depth=1), IMAGE).groups[0].norms
    assert (layer.module, layer.weight, layer.bias, layer.running_mean) == ("2", None, None, None)


@pytest.mark.parametrize("norm", [lambda d: nn.Identity(), nn.BatchNorm2d, lambda d: nn.GroupNorm(1, d)])
def test_cnn_has_a_group_for_each_convolution_and_hidden_linear(norm: Callable[[int], nn.Module]) -> None:
    groups = discover(Cnn(norm), PHOTO).groups
    assert [g.name for g in groups] == ["conv1", "conv2", "conv3", "fc"]
    assert [g.consumers[0].expansion for g in groups] == [1, 1, 4, 1]
    assert groups[2].consumers[0].bias == "fc.bias"


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, lambda d: nn.GroupNorm(1, d), lambda d: nn.Identity()])
def test_resnet18_has_the_first_convolution_of_each_block(norm: Callable[[int], nn.Module]) -> None:
    assert names(resnet18(norm), PHOTO) == [f"{i}.conv1" for i in range(3, 11)]


def test_vit_has_the_hidden_layer_of_each_mlp() -> None:
    assert names(vit(depth=6), PHOTO) == [f"blocks.{i}.mlp.fc1" for i in range(6)]


@pytest.mark.parametrize(
    ("model", "size", "expected"),
    [
        ("resnet18", 64, [f"layer{i}.{j}.conv1" for i in (1, 2, 3, 4) for j in (0, 1)]),
        ("vit_tiny_patch16_224", 224, [f"blocks.{i}.mlp.fc1" for i in range(12)]),
        ("convnext_atto", 32, [f"stages.{s}.blocks.{b}.mlp.fc1" for s, n in enumerate((2, 2, 6, 2)) for b in range(n)]),
    ],
)
def test_timm_models_are_traced(model: str, size: int, expected: list[str]) -> None:
    assert names(timm.create_model(model, pretrained=False), torch.zeros(2, 3, size, size)) == expected


def test_all_consumers_are_found_in_forward_order() -> None:
    (group,) = discover(
        TwoReaders(), IMAGE
    ).groups  # left and right are summed: their units have no weights of their own
    assert group.name == "fc"
    assert [c.module for c in group.consumers] == ["left", "right"]
    assert group.read == "left"


class PixelLinear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(1))[:, :, None, None]


def attention(m: Parts, x: Tensor) -> Tensor:
    tokens = x.unflatten(1, (2, 6))
    return m.o(F.scaled_dot_product_attention(m.q(tokens), m.k(tokens), m.v(tokens))).sum(1)


@pytest.mark.parametrize(
    "module",
    [
        parts(lambda m, x: m.b(F.relu(m.a(x)) + m.c(x)), c=nn.Linear(12, 6)),
        parts(lambda m, x: m.b(F.relu(m.a(x)) + x[:, :6])),
        parts(lambda m, x: m.b(F.relu(m.a(x)) * torch.sigmoid(m.c(x))), c=nn.Linear(12, 6)),
        parts(lambda m, x: m.b(F.relu(m.a(x)) + m.free)),
        parts(lambda m, x: m.b(torch.softmax(m.a(x), 1))),
        parts(lambda m, x: m.b(m.a(x).flip(1))),
        parts(lambda m, x: m.b(torch.cat([m.a(x).relu(), (-m.a(x)).relu()], 1)), b=nn.Linear(12, 3)),
        parts(lambda m, x: (lambda h: m.b(torch.cat([h.relu(), (-h).relu()], 1)))(m.a(x)), b=nn.Linear(12, 3)),
        parts(lambda m, x: (lambda h: m.b(h) + h[:, :3])(m.a(x).relu())),
        parts(lambda m, x: m.b(m.c(x.unflatten(1, (3, 4)).mT).flatten(1)), c=nn.Linear(3, 6), b=nn.Linear(24, 3)),
        parts(lambda m, x: m.b(m.a(torch.cat([m.a(x), m.a(x)], 1)))),
        parts(lambda m, x: m.b(m.c(m.a(x))), a=nn.Linear(12, 6), c=nn.PReLU(6)),
        parts(lambda m, x: F.log_softmax(m.a(x), 1)),
        parts(lambda m, x: m.a(x)),
        parts(attention, **{name: nn.Linear(6, 6) for name in "qkvo"}),
        parts(
            lambda m, x: m.b(m.c(m.a(x.unflatten(1, (3, 4)))).relu().mean(2)),
            a=nn.Conv1d(3, 6, 3),
            c=nn.Conv1d(6, 6, 2, groups=6),
        ),
        parts(lambda m, x: m.b(m.a(x)[:, :, None, None]).flatten(1), b=PixelLinear(6, 3)),
        parts(lambda m, x: m.b(m.a(x)), a=nn.utils.parametrizations.weight_norm(nn.Linear(12, 6))),
    ],
    ids=[
        "residual stream",
        "skip from the input",
        "gate",
        "parameter added to each unit",
        "softmax over units",
        "permuted",
        "layer called twice",
        "two separate columns",
        "read without weights",
        "tokens flattened position first",
        "recursive layer",
        "parameter of the activation for each unit",
        "network output behind a function",
        "network output",
        "query, key, value, output",
        "grouped convolution",
        "axis of its own",
        "computed weights",
    ],
)
def test_units_without_private_outgoing_weights_are_left_out(module: nn.Module) -> None:
    assert discover(module, IMAGE).groups == ()


def test_tied_weights_are_left_out() -> None:
    module = parts(lambda m, x: m.b(m.d(m.c(m.a(x)).relu()).relu()), c=nn.Linear(6, 6), d=nn.Linear(6, 6))
    assert names(module, IMAGE) == ["a", "c", "d"]
    module.d.weight = module.c.weight
    assert names(module, IMAGE) == []


@pytest.mark.parametrize(
    "activation",
    [
        lambda m, h: h * torch.sigmoid(h),
        lambda m, h: m.coefficients[0] * h + m.coefficients[1] * F.gelu(h),
        lambda m, h: torch.where(h > 0, h, 0.1 * h),
        lambda m, h: m.c(h),
    ],
    ids=["x sigmoid(x)", "shared coefficients", "where", "PReLU"],
)
def test_any_unitwise_activation_is_followed(activation: Callable[[Parts, Tensor], Tensor]) -> None:
    module = parts(lambda m, x: m.b(activation(m, m.a(x))), c=nn.PReLU())
    assert names(module, IMAGE) == ["a"]


def test_tokens_flattened_unit_by_unit_own_consecutive_columns() -> None:
    module = parts(
        lambda m, x: m.b(m.c(x.unflatten(1, (3, 4)).mT).mT.flatten(1)), c=nn.Linear(3, 6), b=nn.Linear(24, 3)
    )
    (group,) = discover(module, IMAGE).groups
    assert (group.name, group.consumers[0].expansion) == ("c", 4)


def test_discovery_leaves_no_trace() -> None:
    module = Cnn(nn.BatchNorm2d).train()
    module.conv2.eval()
    module.conv3.weight.requires_grad_(False)
    module(torch.randn(4, 3, 16, 16, generator=derive(0, "x"))).sum().backward()
    state = copy.deepcopy(module.state_dict())
    gradients = {n: None if p.grad is None else p.grad.clone() for n, p in module.named_parameters()}
    flags = [(m.training, len(m._forward_hooks), len(m._forward_pre_hooks)) for m in module.modules()]
    state_of_random = torch.get_rng_state()

    with torch.no_grad():
        groups = discover(module, PHOTO).groups
        assert not torch.is_grad_enabled()

    assert len(groups) == 4
    assert torch.equal(torch.get_rng_state(), state_of_random)
    assert [(m.training, len(m._forward_hooks), len(m._forward_pre_hooks)) for m in module.modules()] == flags
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    assert [n for n, p in module.named_parameters() if not p.requires_grad] == ["conv3.weight"]
    for name, parameter in module.named_parameters():
        before = gradients[name]
        assert parameter.grad is None if before is None else torch.equal(parameter.grad, before)
    assert not PHOTO.requires_grad


def test_discovery_draws_nothing_from_the_global_generators() -> None:
    def noisy(m: nn.Module, x: Tensor) -> Tensor:
        return m.b(F.dropout(m.a(x), 0.1, training=True)) + random.random() + np.random.rand()

    module = parts(noisy)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()
    assert names(module, IMAGE) == ["a"]
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.random.get_state()[2] == before[2][2]
    assert (np.random.get_state()[1] == before[2][1]).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_discovery_works_on_a_gpu_and_leaves_its_generator_alone() -> None:
    before = torch.cuda.get_rng_state()
    assert names(mlp(nn.LayerNorm).cuda(), IMAGE.cuda()) == ["1", "5", "9", "13", "17"]
    assert names(resnet18().cuda(), PHOTO.cuda()) == [f"{i}.conv1" for i in range(3, 11)]
    assert torch.equal(torch.cuda.get_rng_state(), before)


def test_frozen_parameters_are_seen() -> None:
    module = parts(lambda m, x: m.b(F.relu(m.a(x)) * m.free))
    assert names(module.requires_grad_(False), IMAGE) == []


def test_networks_that_cannot_be_traced_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="cannot be traced"):
        discover(nn.Linear(5, 3), IMAGE)


@pytest.mark.parametrize("training", [True, False])
def test_memory_that_runs_out_is_not_the_networks_fault(training: bool) -> None:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        if m.training == training:
            raise torch.OutOfMemoryError("no memory")
        return m.b(m.a(x))

    with pytest.raises(torch.OutOfMemoryError):
        discover(parts(forward), IMAGE)
