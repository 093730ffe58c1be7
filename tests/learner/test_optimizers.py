import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from lopbench.core.errors import InvalidInputError, PluginError
from lopbench.core.interfaces import Optimizer
from lopbench.learner.fused import StackOptimizer
from lopbench.learner.optimizers import OptimizerStack, hidden_matrices
from lopbench.learner.unapplied import reads_parameters
from lopbench_plugins.optimizers.adam import Adam
from lopbench_plugins.optimizers.adamw import AdamW
from lopbench_plugins.optimizers.muon import Muon
from lopbench_plugins.optimizers.rmsprop import RMSprop
from lopbench_plugins.optimizers.sgd import SGD

SHAPES = {"weight": (4, 3), "bias": (4,), "head": (2, 4)}
RULES = {
    "sgd": SGD(lr=0.1),
    "sgd-decay": SGD(lr=0.1, weight_decay=0.03),
    "momentum": SGD(lr=0.1, momentum=0.9, weight_decay=0.03),
    "adam": Adam(lr=0.01),
    "adam-decay": Adam(lr=0.01, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.03),
    "adamw": AdamW(lr=0.01, weight_decay=0.03),
    "nesterov": SGD(lr=0.1, momentum=0.9, nesterov=True),
    "rmsprop": RMSprop(lr=0.01),
    "rmsprop-all": RMSprop(lr=0.01, momentum=0.9, centered=True, weight_decay=0.03, eps=1e-3),
}
FUSED = [name for name in RULES if not name.startswith("rmsprop")]
STATEFUL = [name for name in RULES if not name.startswith("sgd")]


def draw(seed: int, shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def parameters(dtype: torch.dtype = torch.float64, lead: tuple[int, ...] = ()) -> dict[str, nn.Parameter]:
    return {name: nn.Parameter(draw(i, lead + shape, dtype)) for i, (name, shape) in enumerate(SHAPES.items())}


def give_gradients(leaves: dict[str, nn.Parameter], step: int) -> None:
    for i, leaf in enumerate(leaves.values()):
        leaf.grad = draw(1000 + 10 * step + i, tuple(leaf.shape), leaf.dtype)


def values(leaves: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    return {name: leaf.detach().clone() for name, leaf in leaves.items()}


def equal(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def torch_optimizer(rule: Optimizer, leaves: list[nn.Parameter], *, fused: bool) -> torch.optim.Optimizer:
    fields = dataclasses.asdict(rule)
    if isinstance(rule, RMSprop):
        return torch.optim.RMSprop(leaves, **fields, foreach=False)
    theirs = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[rule.name]
    return theirs(leaves, **fields, fused=fused, foreach=False)


class EntryOracle:
    """The published rules, written for each entry with a step count of its own."""

    def __init__(self, rule: Any, value: Tensor) -> None:
        self.rule = rule
        self.value = value.clone()
        self.first, self.second, self.third, self.count = (torch.zeros_like(value) for _ in range(4))

    def step(self, gradient: Tensor) -> None:
        rule = self.rule
        if rule.name == "adamw":
            self.value *= 1 - rule.lr * rule.weight_decay
        else:
            gradient = gradient + rule.weight_decay * self.value
        if rule.name == "sgd":
            self.first = rule.momentum * self.first + gradient
            self.value -= rule.lr * (gradient + rule.momentum * self.first if rule.nesterov else self.first)
            return
        if rule.name == "rmsprop":
            self.first = rule.alpha * self.first + (1 - rule.alpha) * gradient
            self.second = rule.alpha * self.second + (1 - rule.alpha) * gradient**2
            variance = self.second - self.first**2 if rule.centered else self.second
            self.third = rule.momentum * self.third + gradient / (variance.sqrt() + rule.eps)
            self.value -= rule.lr * self.third
            return
        beta1, beta2 = rule.betas
        self.count += 1
        self.first = beta1 * self.first + (1 - beta1) * gradient
        self.second = beta2 * self.second + (1 - beta2) * gradient**2
        mean = self.first / (1 - beta1**self.count)
        deviation = (self.second / (1 - beta2**self.count)).sqrt()
        self.value -= rule.lr * mean / (deviation + rule.eps)

    def clear(self, mask: Tensor) -> None:
        for state in (self.first, self.second, self.third, self.count):
            state.masked_fill_(mask, 0)


# --- nothing is cleared ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", FUSED)
def test_without_clearing_equals_torch_bit_for_bit(name: str, dtype: torch.dtype) -> None:
    ours, theirs = parameters(dtype), parameters(dtype)
    optimizer = StackOptimizer(RULES[name], ours, stacked=False)
    reference = torch_optimizer(RULES[name], list(theirs.values()), fused=True)
    for step in range(12):
        give_gradients(ours, step)
        give_gradients(theirs, step)
        optimizer.step()
        reference.step()
        assert equal(values(ours), values(theirs))


@pytest.mark.parametrize("name", RULES)
def test_the_fused_rule_is_the_plain_one(name: str) -> None:
    ours, theirs = parameters(), parameters()
    optimizer = StackOptimizer(RULES[name], ours, stacked=False)
    reference = torch_optimizer(RULES[name], list(theirs.values()), fused=False)
    for step in range(12):
        give_gradients(ours, step)
        give_gradients(theirs, step)
        optimizer.step()
        reference.step()
    for leaf, other in zip(ours.values(), theirs.values(), strict=True):
        torch.testing.assert_close(leaf, other, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", RULES)
def test_a_parameter_without_gradient_stays(name: str) -> None:
    leaves = parameters()
    before = values(leaves)
    optimizer = StackOptimizer(RULES[name], leaves, stacked=False)
    give_gradients(leaves, 0)
    leaves["bias"].grad = None
    optimizer.step()
    assert torch.equal(leaves["bias"], before["bias"])
    assert not torch.equal(leaves["weight"], before["weight"])


def test_zero_grad_drops_the_gradients() -> None:
    leaves = parameters()
    optimizer = StackOptimizer(RULES["adam"], leaves, stacked=False)
    give_gradients(leaves, 0)
    optimizer.zero_grad()
    assert all(leaf.grad is None for leaf in leaves.values())


# --- entries start afresh -------------------------------------------------------------------------------------------

# Masks over the weight, (R, O, I) with R = 1: rows for incoming weights, columns for outgoing ones, or both.
MASKS: dict[str, Callable[[Tensor], Tensor]] = {
    "rows": lambda bits: bits[:4].view(1, 4, 1),
    "columns": lambda bits: bits[4:7].view(1, 1, 3),
    "both": lambda bits: bits[:4].view(1, 4, 1) & bits[4:7].view(1, 1, 3),
    "entries": lambda bits: bits[:12].view(1, 4, 3),
    "all": lambda bits: torch.ones(1, 1, 1, dtype=torch.bool),
}
events = st.lists(
    st.tuples(
        st.integers(0, 20),
        st.sampled_from(sorted(MASKS)),
        st.lists(st.booleans(), min_size=12, max_size=12),
    ),
    max_size=5,
)


@pytest.mark.parametrize("name", RULES)
@given(events=events)
@settings(max_examples=25)
def test_cleared_entries_are_those_of_a_new_optimizer_and_others_unaware(
    name: str, events: list[tuple[int, str, list[bool]]]
) -> None:
    rule = RULES[name]
    leaves = parameters()
    optimizer = StackOptimizer(rule, leaves, stacked=False)
    oracles = {key: EntryOracle(rule, leaf.detach()) for key, leaf in leaves.items()}
    for step in range(22):
        for at, kind, bits in events:
            if at == step:
                mask = MASKS[kind](torch.tensor(bits))
                optimizer.clear("weight", mask)
                oracles["weight"].clear(mask.expand(1, 4, 3)[0])
        give_gradients(leaves, step)
        optimizer.step()
        for key, leaf in leaves.items():
            assert leaf.grad is not None
            oracles[key].step(leaf.grad)
    for key, leaf in leaves.items():
        torch.testing.assert_close(leaf.detach(), oracles[key].value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", STATEFUL)
def test_a_replica_clears_alone(name: str) -> None:
    leaves = parameters(lead=(3,))
    optimizer = StackOptimizer(RULES[name], leaves, stacked=True)
    oracles = {key: EntryOracle(RULES[name], leaf.detach()) for key, leaf in leaves.items()}
    mask = torch.tensor([[False] * 4, [True, False, False, True], [False] * 4])
    for step in range(10):
        if step == 5:
            optimizer.clear("bias", mask)
            oracles["bias"].clear(mask)
        give_gradients(leaves, step)
        optimizer.step()
        for key, leaf in leaves.items():
            assert leaf.grad is not None
            oracles[key].step(leaf.grad)
    for key, leaf in leaves.items():
        torch.testing.assert_close(leaf.detach(), oracles[key].value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rule", [Adam(lr=0.01), AdamW(lr=0.01)], ids=["adam", "adamw"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_first_update_of_a_cleared_entry_is_one_learning_rate(rule: Optimizer, dtype: torch.dtype) -> None:
    # With the common step count it would be 0.1 / sqrt(0.001) = 3.2 learning rates (METHODS 0.5).
    leaf = nn.Parameter(torch.zeros(4, 3, dtype=dtype))
    optimizer = StackOptimizer(rule, {"weight": leaf}, stacked=False)
    for _ in range(500):
        leaf.grad = torch.full_like(leaf, 0.7)
        optimizer.step()
    optimizer.clear("weight", torch.tensor([True, False, False, False]).view(1, 4, 1))
    before = leaf.detach().clone()
    leaf.grad = torch.full_like(leaf, 0.7)
    optimizer.step()
    torch.testing.assert_close(before - leaf.detach(), torch.full_like(before, 0.01), rtol=1e-3, atol=0.0)


@pytest.mark.parametrize("name", RULES)
def test_clearing_everything_is_a_new_optimizer(name: str) -> None:
    leaves = parameters()
    optimizer = StackOptimizer(RULES[name], leaves, stacked=False)
    for step in range(4):
        give_gradients(leaves, step)
        optimizer.step()
        optimizer.clear("weight", torch.tensor([True, False, True, False]).view(1, 4, 1))
    optimizer.clear()
    others = {key: nn.Parameter(leaf.detach().clone()) for key, leaf in leaves.items()}
    fresh = StackOptimizer(RULES[name], others, stacked=False)
    for step in range(4, 8):
        give_gradients(leaves, step)
        give_gradients(others, step)
        optimizer.step()
        fresh.step()
        assert equal(values(leaves), values(others))


@pytest.mark.parametrize("name", RULES)
def test_clearing_one_parameter_leaves_the_others_bit_for_bit(name: str) -> None:
    leaves, others = parameters(), parameters()
    cleared = StackOptimizer(RULES[name], leaves, stacked=False)
    plain = StackOptimizer(RULES[name], others, stacked=False)
    for step in range(8):
        if step == 4:
            cleared.clear("weight")
        for optimizer, each in ((cleared, leaves), (plain, others)):
            give_gradients(each, step)
            optimizer.step()
    assert torch.equal(leaves["bias"], others["bias"])
    assert torch.equal(leaves["head"], others["head"])
    assert torch.equal(leaves["weight"], others["weight"]) == (name not in STATEFUL)


@pytest.mark.parametrize("name", RULES)
def test_all_parameters_can_be_cleared_one_by_one(name: str) -> None:
    leaves = parameters()
    optimizer = StackOptimizer(RULES[name], leaves, stacked=False)
    oracles = {key: EntryOracle(RULES[name], leaf.detach()) for key, leaf in leaves.items()}
    for step in range(6):
        give_gradients(leaves, step)
        optimizer.step()
        for key, leaf in leaves.items():
            assert leaf.grad is not None
            oracles[key].step(leaf.grad)
        if step == 2:
            for key, leaf in leaves.items():
                optimizer.clear(key)
                oracles[key].clear(torch.ones(leaf.shape, dtype=torch.bool))
    for key, leaf in leaves.items():
        torch.testing.assert_close(leaf.detach(), oracles[key].value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", RULES)
def test_clearing_before_the_first_step_changes_no_bit(name: str) -> None:
    leaves, others = parameters(), parameters()
    cleared = StackOptimizer(RULES[name], leaves, stacked=False)
    plain = StackOptimizer(RULES[name], others, stacked=False)
    cleared.clear("weight", torch.tensor([True, False, True, False]).view(1, 4, 1))
    cleared.clear("bias")
    cleared.clear()
    for step in range(3):
        for optimizer, each in ((cleared, leaves), (plain, others)):
            give_gradients(each, step)
            optimizer.step()
    assert equal(values(leaves), values(others))


# --- checkpoints ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", RULES)
def test_state_dict_resumes_bit_for_bit(name: str, dtype: torch.dtype) -> None:
    def advance(optimizer: StackOptimizer, leaves: dict[str, nn.Parameter], steps: range) -> None:
        for step in steps:
            if step % 3 == 2:
                optimizer.clear("weight", torch.tensor([step % 2 == 0, False, True, False]).view(1, 4, 1))
            if step == 5:
                optimizer.clear("head", torch.tensor([True, False, False, False]).view(1, 1, 4))
            give_gradients(leaves, step)
            optimizer.step()

    leaves = parameters(dtype)
    optimizer = StackOptimizer(RULES[name], leaves, stacked=False)
    advance(optimizer, leaves, range(7))
    saved = {key: tensor.clone() for key, tensor in optimizer.state_dict().items()}
    others = {key: nn.Parameter(leaf.detach().clone()) for key, leaf in leaves.items()}
    resumed = StackOptimizer(RULES[name], others, stacked=False)
    resumed.load_state_dict(saved)
    advance(optimizer, leaves, range(7, 14))
    advance(resumed, others, range(7, 14))
    assert equal(values(leaves), values(others))
    assert equal(optimizer.state_dict(), resumed.state_dict())


@pytest.mark.parametrize("name", RULES)
def test_an_unused_optimizer_resumes(name: str) -> None:
    leaves, others = parameters(), parameters()
    optimizer = StackOptimizer(RULES[name], leaves, stacked=False)
    resumed = StackOptimizer(RULES[name], others, stacked=False)
    give_gradients(others, 5)
    resumed.step()  # what it did before it resumes is forgotten
    resumed.load_state_dict(optimizer.state_dict())
    for key, leaf in others.items():
        leaf.data.copy_(leaves[key])
    for step in range(3):
        for each, shared in ((optimizer, leaves), (resumed, others)):
            give_gradients(shared, step)
            each.step()
    assert equal(values(leaves), values(others))


@pytest.mark.parametrize("name", STATEFUL)
def test_two_optimizers_share_no_memory_after_loading(name: str) -> None:
    leaves, others = parameters(), parameters()
    first = StackOptimizer(RULES[name], leaves, stacked=False)
    second = StackOptimizer(RULES[name], others, stacked=False)
    give_gradients(leaves, 0)
    first.step()
    first.clear("weight", torch.tensor([True, False, False, False]).view(1, 4, 1))
    second.load_state_dict(first.state_dict())
    before = {key: tensor.clone() for key, tensor in first.state_dict().items()}
    give_gradients(others, 1)
    second.step()
    assert equal(first.state_dict(), before)


def test_an_optimizer_of_nothing_does_nothing() -> None:
    optimizer = StackOptimizer(RULES["adam"], {}, stacked=False)
    optimizer.step()
    optimizer.clear()
    assert optimizer.state_dict() == {}


# --- looking at updates, scaling and holding ------------------------------------------------------------------------


def gradients(step: int, lead: tuple[int, ...] = (1,), dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    return {name: draw(1000 + 10 * step + i, lead + shape, dtype) for i, (name, shape) in enumerate(SHAPES.items())}


def advance(optimizer: StackOptimizer, leaves: dict[str, nn.Parameter], steps: range) -> None:
    for step in steps:
        give_gradients(leaves, step)
        optimizer.step()


def stack(rule: Optimizer, lead: int = 1, rates: float | Tensor | None = None) -> OptimizerStack:
    values = {name: leaf.detach() for name, leaf in parameters(lead=(lead,)).items()}
    entries = {name: rule.init(value, hidden=False) for name, value in values.items()}
    return OptimizerStack(rule, values, entries, rule.lr if rates is None else rates)


@pytest.mark.parametrize("name", RULES)
def test_updates_that_are_seen_are_the_steps_taken_fused(name: str) -> None:
    leaves, others = parameters(), parameters()
    fused = StackOptimizer(RULES[name], leaves, stacked=False)
    seen = StackOptimizer(RULES[name], others, stacked=False)
    plain = stack(RULES[name])
    for step in range(10):
        if step == 6:  # state is carried over from the fused optimizer
            seen = StackOptimizer(RULES[name], others, stacked=False)
            seen.load_state_dict(fused.state_dict())
            for key, leaf in others.items():
                leaf.data.copy_(leaves[key])
        give_gradients(leaves, step)
        fused.step()
        seen.apply(seen.updates(gradients(step)))
        plain.apply(plain.updates(gradients(step)))
    for key, leaf in leaves.items():
        torch.testing.assert_close(others[key], leaf, rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(plain.parameters[key][0], leaf.detach(), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("name", RULES)
def test_updates_that_are_seen_are_those_of_the_rule(name: str, dtype: torch.dtype, rtol: float) -> None:
    """Torch's fused optimizer goes on making them, but where the rule reads the parameters."""
    leaves = parameters(dtype)
    optimizer = StackOptimizer(RULES[name], leaves, stacked=False)
    start = {key: leaf.detach().unsqueeze(0) for key, leaf in parameters(dtype).items()}
    entries = {key: RULES[name].init(value, hidden=False) for key, value in start.items()}
    plain = OptimizerStack(RULES[name], start, entries, RULES[name].lr)
    for step in range(6):
        given = {key: value for key, value in gradients(step, dtype=dtype).items() if step != 3 or key != "bias"}
        before = values(leaves)
        ours, theirs = optimizer.updates(given), plain.updates(given)
        assert equal(values(leaves), before)
        assert all(leaf.grad is None for leaf in leaves.values())
        assert list(ours) == list(given)
        for key, update in ours.items():
            torch.testing.assert_close(update, theirs[key], rtol=rtol, atol=rtol)
        optimizer.apply(ours)
        plain.apply(theirs)
    reads = bool(dataclasses.asdict(RULES[name])["weight_decay"])
    assert reads_parameters(RULES[name]) == reads
    assert set(optimizer.entries) == (set(SHAPES) if reads else set())


@pytest.mark.parametrize("name", RULES)
def test_updates_that_are_seen_go_on_where_a_part_was_cleared(name: str) -> None:
    leaves, others = parameters(), parameters()
    seen, unseen = (StackOptimizer(RULES[name], each, stacked=False) for each in (leaves, others))
    for step in range(8):
        if step == 4:
            for optimizer in (seen, unseen):
                optimizer.clear("weight", torch.tensor([True, False, True, False]).view(1, 4, 1))
        give_gradients(others, step)
        unseen.step()
        seen.apply(seen.updates({key: leaf.grad.unsqueeze(0) for key, leaf in others.items() if leaf.grad is not None}))
    for key, leaf in leaves.items():
        torch.testing.assert_close(leaf, others[key], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("factor", [0.25, torch.tensor([0.25], dtype=torch.float64)], ids=["number", "tensor"])
def test_a_scaled_optimizer_has_another_learning_rate_and_the_same_state(name: str, factor: float | Tensor) -> None:
    rule = RULES[name]
    leaves, others = parameters(), parameters()
    scaled = StackOptimizer(rule, leaves, stacked=False)
    slower = StackOptimizer(dataclasses.replace(rule, lr=rule.lr * 0.25), others, stacked=False)
    advance(scaled, leaves, range(3))
    slower.load_state_dict(scaled.state_dict())
    for key, leaf in others.items():
        leaf.data.copy_(leaves[key])
    scaled.scale(factor)
    assert scaled.lr.tolist() == [rule.lr * 0.25]
    advance(scaled, leaves, range(3, 6))
    advance(slower, others, range(3, 6))
    assert equal(values(leaves), values(others))  # also bit for bit: the update is still the fused one


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("by", ["scale", "rates"])
def test_each_replica_has_its_own_learning_rate(name: str, by: str) -> None:
    rule, factors = RULES[name], torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64)
    leaves = parameters(lead=(3,))
    alone = [{key: nn.Parameter(leaf.detach()[r : r + 1].clone()) for key, leaf in leaves.items()} for r in range(3)]
    if by == "scale":
        together = StackOptimizer(rule, leaves, stacked=True)
        together.scale(factors)
    else:
        together = StackOptimizer(rule, leaves, stacked=True, rates=factors * rule.lr)
    assert together.lr.tolist() == (factors * rule.lr).tolist()
    for r, each in enumerate(alone):
        single = StackOptimizer(rule, each, stacked=True)
        single.scale(factors[r].item())
        for step in range(5):
            for key, leaf in each.items():
                leaf.grad = gradients(step, (3,))[key][r : r + 1]
            single.step()
    for step in range(5):
        for key, leaf in leaves.items():
            leaf.grad = gradients(step, (3,))[key]
        together.step()
    for key, leaf in leaves.items():
        apart = torch.cat([each[key].detach() for each in alone])
        torch.testing.assert_close(leaf.detach(), apart, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", RULES)
def test_a_later_scale_replaces_an_earlier_one_and_a_new_one_of_1_changes_no_bit(name: str) -> None:
    leaves, others = parameters(), parameters()
    scaled = StackOptimizer(RULES[name], leaves, stacked=False)
    plain = StackOptimizer(RULES[name], others, stacked=False)
    scaled.scale(0.5)
    scaled.scale(1.0)
    advance(scaled, leaves, range(4))
    advance(plain, others, range(4))
    assert equal(values(leaves), values(others))


# --- the learning rate has a schedule -------------------------------------------------------------------------------


def pair(name: str, *, factor: float) -> tuple[tuple[StackOptimizer, dict[str, nn.Parameter]], ...]:
    """Return an optimizer after some steps, and one of ``factor`` times the rate, in the same state, with leaves."""
    rule, leaves, others = RULES[name], parameters(), parameters()
    ours = StackOptimizer(rule, leaves, stacked=False)
    theirs = StackOptimizer(dataclasses.replace(rule, lr=rule.lr * factor), others, stacked=False)
    advance(ours, leaves, range(3))
    theirs.load_state_dict(ours.state_dict())
    for key, leaf in others.items():
        leaf.data.copy_(leaves[key])
    return (ours, leaves), (theirs, others)


@pytest.mark.parametrize("name", RULES)
def test_a_step_under_a_schedule_is_one_at_the_rate_times_its_factor_bit_for_bit(name: str) -> None:
    (ours, leaves), (theirs, others) = pair(name, factor=0.2)
    ours.follow(0.2)
    assert ours.lr.tolist() == theirs.lr.tolist() == [RULES[name].lr * 0.2]
    advance(ours, leaves, range(3, 6))
    advance(theirs, others, range(3, 6))
    assert equal(values(leaves), values(others))
    ours.follow(1.0)
    assert ours.lr.tolist() == [RULES[name].lr]


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("first", ["schedule", "scale"])
def test_schedule_and_scale_are_multiplied_whichever_comes_first(name: str, first: str) -> None:
    (ours, leaves), (theirs, others) = pair(name, factor=0.125)
    if first == "schedule":
        ours.follow(0.25)
        ours.scale(0.5)
    else:
        ours.scale(0.5)
        ours.follow(0.25)
    advance(ours, leaves, range(3, 6))
    advance(theirs, others, range(3, 6))
    assert equal(values(leaves), values(others))


@pytest.mark.parametrize("name", RULES)
def test_rates_of_several_replicas_follow_one_schedule(name: str) -> None:
    rates = torch.tensor([0.1, 0.02, 0.3], dtype=torch.float64)
    leaves, others = parameters(lead=(3,)), parameters(lead=(3,))
    ours = StackOptimizer(RULES[name], leaves, stacked=True, rates=rates)
    ours.follow(0.2)
    theirs = StackOptimizer(RULES[name], others, stacked=True, rates=rates * 0.2)
    assert torch.equal(ours.base_rates, rates * 0.2)
    for optimizer, each in ((ours, leaves), (theirs, others)):
        for step in range(3):
            for key, leaf in each.items():
                leaf.grad = gradients(step, (3,))[key]
            optimizer.step()
    assert equal(values(leaves), values(others))


@pytest.mark.parametrize("name", RULES)
def test_a_restart_and_a_cleared_state_keep_the_schedule(name: str) -> None:
    (ours, leaves), (theirs, others) = pair("momentum", factor=0.2)
    ours.follow(0.2)
    ours.restart(RULES[name])
    ours.clear()
    theirs.restart(dataclasses.replace(RULES[name], lr=RULES[name].lr * 0.2))
    advance(ours, leaves, range(3, 6))
    advance(theirs, others, range(3, 6))
    assert equal(values(leaves), values(others))
    ours.follow(1.0)
    assert ours.lr.tolist() == [RULES[name].lr]


@pytest.mark.parametrize("name", RULES)
def test_a_state_is_loaded_under_the_schedule_of_its_step(name: str) -> None:
    (ours, leaves), _ = pair(name, factor=1.0)
    ours.follow(0.2)
    advance(ours, leaves, range(3, 5))
    others = {key: nn.Parameter(leaf.detach().clone()) for key, leaf in leaves.items()}
    resumed = StackOptimizer(RULES[name], others, stacked=False)
    resumed.follow(0.2)
    resumed.load_state_dict({key: tensor.clone() for key, tensor in ours.state_dict().items()})
    advance(ours, leaves, range(5, 8))
    advance(resumed, others, range(5, 8))
    assert equal(values(leaves), values(others))


# --- parameters are held --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RULES)
def test_a_parameter_that_is_held_stays_and_so_does_its_state(name: str) -> None:
    leaves = parameters()
    optimizer = StackOptimizer(RULES[name], leaves, stacked=False)
    oracles = {key: EntryOracle(RULES[name], leaf.detach()) for key, leaf in leaves.items()}
    for step in range(9):
        if step == 3:
            optimizer.hold("weight", "bias")
        if step == 6:
            optimizer.release("weight")
        give_gradients(leaves, step)
        optimizer.step()
        for key, leaf in leaves.items():
            assert leaf.grad is not None
            if key == "head" or step < 3 or (key == "weight" and step >= 6):
                oracles[key].step(leaf.grad)
    for key, leaf in leaves.items():
        torch.testing.assert_close(leaf.detach(), oracles[key].value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", RULES)
def test_what_is_held_has_no_update(name: str) -> None:
    optimizer = StackOptimizer(RULES[name], parameters(), stacked=False)
    optimizer.hold("bias")
    assert set(optimizer.updates(gradients(0))) == {"weight", "head"}
    assert set(optimizer.updates({"head": gradients(1)["head"]})) == {"head"}


@pytest.mark.parametrize("name", RULES)
def test_hold_and_scale_are_saved(name: str) -> None:
    leaves = parameters()
    optimizer = StackOptimizer(RULES[name], leaves, stacked=False)
    advance(optimizer, leaves, range(2))
    optimizer.hold("bias", "weight")
    optimizer.release("weight")
    optimizer.scale(0.1)
    advance(optimizer, leaves, range(2, 4))
    others = {key: nn.Parameter(leaf.detach().clone()) for key, leaf in leaves.items()}
    resumed = StackOptimizer(RULES[name], others, stacked=False)
    resumed.load_state_dict({key: tensor.clone() for key, tensor in optimizer.state_dict().items()})
    assert resumed.held == {"bias"}
    assert torch.equal(resumed.lr, optimizer.lr)
    advance(optimizer, leaves, range(4, 7))
    advance(resumed, others, range(4, 7))
    assert equal(values(leaves), values(others))
    assert equal(optimizer.state_dict(), resumed.state_dict())


@pytest.mark.parametrize("name", RULES)
def test_a_program_goes_on_from_the_state_and_hands_it_back(name: str) -> None:
    leaves, others = parameters(), parameters()
    eager = StackOptimizer(RULES[name], leaves, stacked=False)
    handed = StackOptimizer(RULES[name], others, stacked=False)
    advance(eager, leaves, range(9))
    advance(handed, others, range(3))
    entries = {key: {k: v.clone() for k, v in state.items()} for key, state in handed.stacked_state().items()}
    shapes = {key: (1, *shape) for key, shape in SHAPES.items()}
    for key, state in entries.items():
        assert all(torch.broadcast_shapes(value.shape, shapes[key]) == shapes[key] for value in state.values())
    program = OptimizerStack(
        RULES[name], handed.parameters, entries, torch.tensor([RULES[name].lr], dtype=torch.float64)
    )
    for step in range(3, 6):
        program.apply(program.updates(gradients(step)))
    handed.adopt(program.entries)
    advance(handed, others, range(6, 9))
    for key, leaf in leaves.items():
        torch.testing.assert_close(others[key], leaf, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", RULES)
def test_restarting_is_a_new_optimizer_of_the_other_rule(name: str) -> None:
    leaves = parameters()
    optimizer = StackOptimizer(RULES["momentum"], leaves, stacked=False)
    optimizer.scale(0.5)
    advance(optimizer, leaves, range(3))
    optimizer.clear("weight", torch.tensor([True, False, True, False]).view(1, 4, 1))
    optimizer.restart(RULES[name])
    others = {key: nn.Parameter(leaf.detach().clone()) for key, leaf in leaves.items()}
    fresh = StackOptimizer(RULES[name], others, stacked=False)
    advance(optimizer, leaves, range(3, 6))
    advance(fresh, others, range(3, 6))
    assert equal(values(leaves), values(others))


# --- inside a trace -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*RULES, "muon"])
def test_a_traced_step_is_the_eager_one(name: str) -> None:
    rule = RULES.get(name) or Muon(lr=0.02, weight_decay=0.1)
    rates = torch.tensor([0.1, 0.2], dtype=torch.float64)

    def step(
        values: dict[str, Tensor], entries: dict[str, dict[str, Tensor]], given: dict[str, Tensor], mask: Tensor
    ) -> tuple[dict[str, Tensor], dict[str, dict[str, Tensor]], Tensor]:
        values = {key: value.clone() for key, value in values.items()}
        entries = {key: {k: v.clone() for k, v in state.items()} for key, state in entries.items()}
        optimizer = OptimizerStack(rule, values, entries, rates, hidden=frozenset({"weight"}))
        optimizer.apply(optimizer.updates(given))
        optimizer.clear("weight", mask)
        optimizer.scale(mask.double().mean(dim=(1, 2)))
        optimizer.clear("bias")
        optimizer.apply(optimizer.updates(given))
        return optimizer.parameters, optimizer.entries, optimizer.lr

    start = {key: leaf.detach() for key, leaf in parameters(lead=(2,)).items()}
    entries = {
        key: {k: v.expand(value.shape) for k, v in rule.init(value, hidden=key == "weight").items()}
        for key, value in start.items()
    }
    mask = torch.tensor([[True, False, False, True], [False] * 4]).view(2, 4, 1)
    arguments = (start, entries, gradients(0, (2,)))
    graph = make_fx(torch.func.functionalize(step), tracing_mode="fake", _allow_non_fake_inputs=True)(*arguments, ~mask)
    for traced, eager in zip(
        pytree.tree_leaves(graph(*arguments, mask)), pytree.tree_leaves(step(*arguments, mask)), strict=True
    ):
        assert torch.equal(traced, eager)


# --- which weights are matrices, and what is refused ----------------------------------------------------------------


def test_hidden_matrices_are_the_weights_of_layers_but_for_head_and_embeddings() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Embedding(10, 4)
            self.position = nn.Parameter(torch.zeros(1, 8, 4))
            self.conv = nn.Conv2d(3, 4, 3)
            self.norm = nn.LayerNorm(4)
            self.attention = nn.MultiheadAttention(4, 2)
            self.blocks = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
            self.head = nn.Linear(4, 2)

    found = hidden_matrices(Net(), ("head.weight", "head.bias"))
    assert found == {"conv.weight", "attention.in_proj_weight", "attention.out_proj.weight", "blocks.0.weight"}


def test_a_misspelt_parameter_is_refused() -> None:
    optimizer = StackOptimizer(RULES["adam"], parameters(), stacked=False)
    for act in (optimizer.hold, optimizer.release, optimizer.clear):
        with pytest.raises(InvalidInputError, match="no parameter 'wieght'"):
            act("wieght")
    with pytest.raises(InvalidInputError, match="needs the name"):
        optimizer.clear(mask=torch.ones(1, dtype=torch.bool))


def test_a_scale_of_the_wrong_shape_is_refused() -> None:
    optimizer = StackOptimizer(RULES["adam"], parameters(lead=(3,)), stacked=True)
    with pytest.raises(InvalidInputError, match=r"one for each of 3 replicas, got a tensor of shape \(2,\)"):
        optimizer.scale(torch.ones(2))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flat(Optimizer):
    name = "flat"

    def update(self, gradient: Tensor, entries: dict[str, Tensor], parameter: Tensor, lr: float | Tensor) -> Tensor:
        return gradient.sum()


def test_an_update_of_the_wrong_shape_is_refused() -> None:
    leaves = parameters()
    give_gradients(leaves, 0)
    with pytest.raises(PluginError, match=r"flat: update of 'weight' returned \(\), expected .* \(1, 4, 3\)"):
        StackOptimizer(Flat(lr=0.1), leaves, stacked=False).step()
