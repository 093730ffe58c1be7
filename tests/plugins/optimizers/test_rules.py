"""`update` of the built-in rules, against torch's over many steps and against the formulas of published runs."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lopbench.core.errors import InvalidInputError
from lopbench.core.interfaces import Optimizer
from lopbench_plugins.optimizers.adam import Adam
from lopbench_plugins.optimizers.adamw import AdamW
from lopbench_plugins.optimizers.rmsprop import RMSprop
from lopbench_plugins.optimizers.sgd import SGD

RULES: list[Optimizer] = [
    SGD(lr=0.1),
    SGD(lr=0.1, weight_decay=0.03),
    SGD(lr=0.1, momentum=0.9, weight_decay=0.03),
    SGD(lr=0.1, momentum=0.9, nesterov=True),
    Adam(lr=0.01),
    Adam(lr=0.01, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.03),
    AdamW(lr=0.01, weight_decay=0.03),
    RMSprop(lr=0.01),
    RMSprop(lr=0.01, momentum=0.9, centered=True, weight_decay=0.03, eps=1e-3),
]
THEIRS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "rmsprop": torch.optim.RMSprop}


def draw(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def per_replica(value: float | Tensor, like: Tensor) -> Any:
    return value if isinstance(value, float) else value.to(like.dtype).view(-1, *(1,) * (like.ndim - 1))


def published(rule: Any, gradient: Tensor, entries: Mapping[str, Tensor], weight: Tensor, lr: float | Tensor) -> Tensor:
    """What the published runs added to their weights: the formulas of their release, with the last sum left out.

    There this sum was part of `add_`, `addcdiv_` or `addcmul_`. In compiled programs, and in `addcdiv_` everywhere, the
    term is rounded before it is added; eager `add_` and `addcmul_` may round once for both.
    """
    if rule.weight_decay:
        gradient = gradient.add(weight, alpha=rule.weight_decay)
    if rule.name == "sgd":
        if rule.momentum:
            gradient = entries["momentum_buffer"].mul_(rule.momentum).add_(gradient)
        return torch.addcmul(torch.zeros_like(weight), gradient, torch.ones_like(weight) * per_replica(-lr, weight))
    beta1, beta2 = rule.betas
    entries["exp_avg"].lerp_(gradient, 1 - beta1)
    entries["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    correction1 = 1 - entries["decay1"].mul_(beta1)
    correction2 = 1 - entries["decay2"].mul_(beta2)
    denominator = entries["exp_avg_sq"].sqrt().mul_(correction1 * correction2.rsqrt()).add_(rule.eps * correction1)
    if isinstance(lr, float):
        return torch.addcdiv(torch.zeros_like(weight), entries["exp_avg"], denominator, value=-lr)
    return torch.addcmul(torch.zeros_like(weight), entries["exp_avg"] / denominator, per_replica(-lr, weight))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("lr", [0.013, torch.tensor([0.013, 0.1], dtype=torch.float64)], ids=["number", "replicas"])
@pytest.mark.parametrize(
    "rule", [r for r in RULES if r.name in ("sgd", "adam") and not getattr(r, "nesterov", 0)], ids=str
)
def test_update_is_that_of_published_runs_bit_for_bit(rule: Optimizer, lr: float | Tensor, dtype: torch.dtype) -> None:
    weight, twin = draw(0, 2, 37, 5, dtype=dtype), draw(0, 2, 37, 5, dtype=dtype)
    ours, theirs = rule.init(weight, hidden=True), rule.init(twin, hidden=True)
    for step in range(20):
        gradient = draw(1 + step, 2, 37, 5, dtype=dtype)
        update, expected = rule.update(gradient, ours, weight, lr), published(rule, gradient, theirs, twin, lr)
        assert torch.equal(update, expected)
        weight.add_(update)
        twin.add_(expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("weight_decay", [0.0, 0.03])
def test_adam_added_to_the_weight_is_addcdiv_bit_for_bit(dtype: torch.dtype, weight_decay: float) -> None:
    rule = Adam(lr=0.013, weight_decay=weight_decay)
    weight, twin = draw(0, 1, 37, 5, dtype=dtype), draw(0, 1, 37, 5, dtype=dtype)
    entries = rule.init(weight, hidden=True)
    for step in range(20):
        gradient = draw(1 + step, 1, 37, 5, dtype=dtype)
        before = {key: value.clone() for key, value in entries.items()}
        weight.add_(rule.update(gradient, entries, weight, rule.lr))
        published(rule, gradient, before, twin, rule.lr)
        c1, c2 = 1 - before["decay1"], 1 - before["decay2"]
        denominator = before["exp_avg_sq"].sqrt().mul_(c1 * c2.rsqrt()).add_(rule.eps * c1)
        twin.addcdiv_(before["exp_avg"], denominator, value=-rule.lr)
        assert torch.equal(weight, twin)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_update_is_torchs_rule(rule: Optimizer) -> None:
    weight, leaf = draw(0, 1, 7, 5), nn.Parameter(draw(0, 7, 5))
    entries = rule.init(weight, hidden=True)
    theirs = THEIRS[rule.name]([leaf], **dataclasses.asdict(rule), foreach=False)
    for step in range(200):
        gradient = draw(1 + step, 1, 7, 5)
        leaf.grad = gradient[0].clone()
        weight += rule.update(gradient, entries, weight, rule.lr)
        theirs.step()
    torch.testing.assert_close(weight[0], leaf.detach(), rtol=1e-11, atol=1e-12)


def test_a_step_of_adamw_in_single_precision_is_within_1e6_of_torchs() -> None:
    rule = AdamW(lr=0.01, weight_decay=0.03)
    weight, leaf = draw(0, 1, 7, 5, dtype=torch.float32), nn.Parameter(draw(0, 7, 5, dtype=torch.float32))
    entries = rule.init(weight, hidden=True)
    theirs = torch.optim.AdamW([leaf], **dataclasses.asdict(rule), foreach=False)
    for step in range(50):
        gradient = draw(1 + step, 1, 7, 5, dtype=torch.float32)
        leaf.grad = gradient[0].clone()
        leaf.data.copy_(weight[0])
        weight += rule.update(gradient, entries, weight, rule.lr)
        theirs.step()
        torch.testing.assert_close(weight[0], leaf.detach(), rtol=0, atol=1e-6)


def test_nesterov_without_momentum_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="nesterov needs momentum"):
        SGD(lr=0.1, nesterov=True)


def test_with_equal_betas_adam_moves_nothing_by_more_than_its_rate():
    """Both means have the same weights then, and the square of a mean is at most the mean of the squares."""
    rule = Adam(lr=0.01, betas=(0.99, 0.99))
    weight = torch.zeros(2, 50, dtype=torch.float64)
    entries = rule.init(weight, hidden=True)
    for step in range(60):
        gradient = draw(step, 2, 50) * 10.0 ** (3 * (step // 20 % 2))  # a thousand times as large for a while
        assert rule.update(gradient, entries, weight, rule.lr).abs().max() <= rule.lr * (1 + 1e-12)
