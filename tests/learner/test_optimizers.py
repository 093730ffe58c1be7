from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lopbench.core.spec import OptimizerSpec
from lopbench.learner.optimizers import StackOptimizer

SHAPES = {"weight": (4, 3), "bias": (4,), "head": (2, 4)}
SPECS = {
    "sgd": OptimizerSpec(kind="sgd", lr=0.1),
    "sgd-decay": OptimizerSpec(kind="sgd", lr=0.1, weight_decay=0.03),
    "momentum": OptimizerSpec(kind="sgd", lr=0.1, momentum=0.9, weight_decay=0.03),
    "adam": OptimizerSpec(kind="adam", lr=0.01),
    "adam-decay": OptimizerSpec(kind="adam", lr=0.01, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.03),
    "adamw": OptimizerSpec(kind="adamw", lr=0.01, weight_decay=0.03),
}
STATEFUL = [name for name in SPECS if not name.startswith("sgd")]


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


def torch_optimizer(spec: OptimizerSpec, leaves: list[nn.Parameter], *, fused: bool) -> torch.optim.Optimizer:
    if spec.kind == "sgd":
        return torch.optim.SGD(
            leaves, lr=spec.lr, momentum=spec.momentum, weight_decay=spec.weight_decay, fused=fused, foreach=False
        )
    rule = torch.optim.Adam if spec.kind == "adam" else torch.optim.AdamW
    return rule(
        leaves, lr=spec.lr, betas=spec.betas, eps=spec.eps, weight_decay=spec.weight_decay, fused=fused, foreach=False
    )


class EntryOracle:
    """The published rules, written for each entry with a step count of its own."""

    def __init__(self, spec: OptimizerSpec, value: Tensor) -> None:
        self.spec = spec
        self.value = value.clone()
        self.first, self.second, self.count = (torch.zeros_like(value) for _ in range(3))

    def step(self, gradient: Tensor) -> None:
        spec = self.spec
        if spec.kind == "adamw":
            self.value *= 1 - spec.lr * spec.weight_decay
        else:
            gradient = gradient + spec.weight_decay * self.value
        if spec.kind == "sgd":
            self.first = spec.momentum * self.first + gradient
            self.value -= spec.lr * self.first
            return
        beta1, beta2 = spec.betas
        self.count += 1
        self.first = beta1 * self.first + (1 - beta1) * gradient
        self.second = beta2 * self.second + (1 - beta2) * gradient**2
        mean = self.first / (1 - beta1**self.count)
        deviation = (self.second / (1 - beta2**self.count)).sqrt()
        self.value -= spec.lr * mean / (deviation + spec.eps)

    def clear(self, mask: Tensor) -> None:
        for state in (self.first, self.second, self.count):
            state.masked_fill_(mask, 0)


# --- nothing is cleared ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", SPECS)
def test_without_clearing_equals_torch_bit_for_bit(name: str, dtype: torch.dtype) -> None:
    ours, theirs = parameters(dtype), parameters(dtype)
    optimizer = StackOptimizer(SPECS[name], ours, stacked=False)
    reference = torch_optimizer(SPECS[name], list(theirs.values()), fused=True)
    for step in range(12):
        give_gradients(ours, step)
        give_gradients(theirs, step)
        optimizer.step()
        reference.step()
        assert equal(values(ours), values(theirs))


@pytest.mark.parametrize("name", SPECS)
def test_the_fused_rule_is_the_plain_one(name: str) -> None:
    ours, theirs = parameters(), parameters()
    optimizer = StackOptimizer(SPECS[name], ours, stacked=False)
    reference = torch_optimizer(SPECS[name], list(theirs.values()), fused=False)
    for step in range(12):
        give_gradients(ours, step)
        give_gradients(theirs, step)
        optimizer.step()
        reference.step()
    for leaf, other in zip(ours.values(), theirs.values(), strict=True):
        torch.testing.assert_close(leaf, other, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", SPECS)
def test_a_parameter_without_gradient_stays(name: str) -> None:
    leaves = parameters()
    before = values(leaves)
    optimizer = StackOptimizer(SPECS[name], leaves, stacked=False)
    give_gradients(leaves, 0)
    leaves["bias"].grad = None
    optimizer.step()
    assert torch.equal(leaves["bias"], before["bias"])
    assert not torch.equal(leaves["weight"], before["weight"])


def test_zero_grad_drops_the_gradients() -> None:
    leaves = parameters()
    optimizer = StackOptimizer(SPECS["adam"], leaves, stacked=False)
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


@pytest.mark.parametrize("name", SPECS)
@given(events=events)
@settings(max_examples=25, deadline=None)
def test_cleared_entries_are_those_of_a_new_optimizer_and_others_unaware(
    name: str, events: list[tuple[int, str, list[bool]]]
) -> None:
    spec = SPECS[name]
    leaves = parameters()
    optimizer = StackOptimizer(spec, leaves, stacked=False)
    oracles = {key: EntryOracle(spec, leaf.detach()) for key, leaf in leaves.items()}
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
    optimizer = StackOptimizer(SPECS[name], leaves, stacked=True)
    oracles = {key: EntryOracle(SPECS[name], leaf.detach()) for key, leaf in leaves.items()}
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


@pytest.mark.parametrize("kind", ["adam", "adamw"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_first_update_of_a_cleared_entry_is_one_learning_rate(kind: str, dtype: torch.dtype) -> None:
    # With the common step count it would be 0.1 / sqrt(0.001) = 3.2 learning rates (METHODS 0.5).
    spec = OptimizerSpec(kind=kind, lr=0.01)  # type: ignore[arg-type]
    leaf = nn.Parameter(torch.zeros(4, 3, dtype=dtype))
    optimizer = StackOptimizer(spec, {"weight": leaf}, stacked=False)
    for _ in range(500):
        leaf.grad = torch.full_like(leaf, 0.7)
        optimizer.step()
    optimizer.clear("weight", torch.tensor([True, False, False, False]).view(1, 4, 1))
    before = leaf.detach().clone()
    leaf.grad = torch.full_like(leaf, 0.7)
    optimizer.step()
    torch.testing.assert_close(before - leaf.detach(), torch.full_like(before, 0.01), rtol=1e-3, atol=0.0)


@pytest.mark.parametrize("name", SPECS)
def test_clearing_everything_is_a_new_optimizer(name: str) -> None:
    leaves = parameters()
    optimizer = StackOptimizer(SPECS[name], leaves, stacked=False)
    for step in range(4):
        give_gradients(leaves, step)
        optimizer.step()
        optimizer.clear("weight", torch.tensor([True, False, True, False]).view(1, 4, 1))
    optimizer.clear()
    others = {key: nn.Parameter(leaf.detach().clone()) for key, leaf in leaves.items()}
    fresh = StackOptimizer(SPECS[name], others, stacked=False)
    for step in range(4, 8):
        give_gradients(leaves, step)
        give_gradients(others, step)
        optimizer.step()
        fresh.step()
        assert equal(values(leaves), values(others))


@pytest.mark.parametrize("name", SPECS)
def test_clearing_one_parameter_leaves_the_others_bit_for_bit(name: str) -> None:
    leaves, others = parameters(), parameters()
    cleared = StackOptimizer(SPECS[name], leaves, stacked=False)
    plain = StackOptimizer(SPECS[name], others, stacked=False)
    for step in range(8):
        if step == 4:
            cleared.clear("weight")
        for optimizer, each in ((cleared, leaves), (plain, others)):
            give_gradients(each, step)
            optimizer.step()
    assert torch.equal(leaves["bias"], others["bias"])
    assert torch.equal(leaves["head"], others["head"])
    assert torch.equal(leaves["weight"], others["weight"]) == (name not in STATEFUL)


@pytest.mark.parametrize("name", SPECS)
def test_all_parameters_can_be_cleared_one_by_one(name: str) -> None:
    leaves = parameters()
    optimizer = StackOptimizer(SPECS[name], leaves, stacked=False)
    oracles = {key: EntryOracle(SPECS[name], leaf.detach()) for key, leaf in leaves.items()}
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


@pytest.mark.parametrize("name", SPECS)
def test_clearing_before_the_first_step_changes_no_bit(name: str) -> None:
    leaves, others = parameters(), parameters()
    cleared = StackOptimizer(SPECS[name], leaves, stacked=False)
    plain = StackOptimizer(SPECS[name], others, stacked=False)
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
@pytest.mark.parametrize("name", SPECS)
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
    optimizer = StackOptimizer(SPECS[name], leaves, stacked=False)
    advance(optimizer, leaves, range(7))
    saved = {key: tensor.clone() for key, tensor in optimizer.state_dict().items()}
    others = {key: nn.Parameter(leaf.detach().clone()) for key, leaf in leaves.items()}
    resumed = StackOptimizer(SPECS[name], others, stacked=False)
    resumed.load_state_dict(saved)
    advance(optimizer, leaves, range(7, 14))
    advance(resumed, others, range(7, 14))
    assert equal(values(leaves), values(others))
    assert equal(optimizer.state_dict(), resumed.state_dict())


@pytest.mark.parametrize("name", SPECS)
def test_an_unused_optimizer_resumes(name: str) -> None:
    leaves, others = parameters(), parameters()
    optimizer = StackOptimizer(SPECS[name], leaves, stacked=False)
    resumed = StackOptimizer(SPECS[name], others, stacked=False)
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
    first = StackOptimizer(SPECS[name], leaves, stacked=False)
    second = StackOptimizer(SPECS[name], others, stacked=False)
    give_gradients(leaves, 0)
    first.step()
    first.clear("weight", torch.tensor([True, False, False, False]).view(1, 4, 1))
    second.load_state_dict(first.state_dict())
    before = {key: tensor.clone() for key, tensor in first.state_dict().items()}
    give_gradients(others, 1)
    second.step()
    assert equal(first.state_dict(), before)


def test_an_optimizer_of_nothing_does_nothing() -> None:
    optimizer = StackOptimizer(SPECS["adam"], {}, stacked=False)
    optimizer.step()
    optimizer.clear()
    assert optimizer.state_dict() == {}


def test_learning_rate_is_that_of_the_spec() -> None:
    assert StackOptimizer(SPECS["adamw"], parameters(), stacked=False).lr == 0.01
