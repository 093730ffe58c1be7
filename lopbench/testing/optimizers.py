"""The checks of optimizers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from lopbench.core import rng
from lopbench.core.interfaces import Component, Optimizer
from lopbench.learner.fused import StackOptimizer
from lopbench.learner.optimizers import OptimizerStack
from lopbench.testing.check import Check, Mismatch, NotApplicable, check
from lopbench.testing.comparing import listed, same
from lopbench.testing.shared import SHARED

Tensors = dict[str, Tensor]

REPLICAS = 3
#: Parameters of one replica; those of the first two are hidden.
SHAPES: Mapping[str, tuple[int, ...]] = {"matrix": (6, 4), "kernel": (4, 3, 2, 2), "head": (3, 6), "bias": (6,)}
HIDDEN = frozenset({"matrix", "kernel"})
STEPS = 12
#: Relative difference up to which two ways of computing the same are the same.
_CLOSE = 1e-9


def _rule(component: Component) -> Optimizer:
    assert isinstance(component, Optimizer)
    return component


def draw(place: object, replicas: int = REPLICAS, dtype: torch.dtype = torch.float64) -> Tensors:
    """Return a tensor ``(R, ...)`` for each parameter: values, or the gradients of a step."""
    generator = rng.derive(0, "conformance", "optimizer", str(place))
    return {
        name: torch.randn(REPLICAS, *shape, generator=generator, dtype=torch.float64)[:replicas].to(dtype)
        for name, shape in SHAPES.items()
    }


def stack(
    rule: Optimizer, values: Tensors, rates: float | Tensor | None = None, *, whole: bool = False
) -> OptimizerStack:
    """Return the optimizer of copies of ``values``.

    Args:
        rule: The rule.
        values: Parameters ``(R, ...)``.
        rates: Learning rate; None for that of the rule.
        whole: Whether what is remembered is of the parameter's shape, as in programs.
    """
    parameters = {name: value.clone() for name, value in values.items()}
    entries = {name: rule.init(value, hidden=name in HIDDEN) for name, value in parameters.items()}
    if whole:
        entries = {
            name: {key: value.expand(parameters[name].shape).clone() for key, value in state.items()}
            for name, state in entries.items()
        }
    return OptimizerStack(rule, parameters, entries, rule.lr if rates is None else rates, hidden=HIDDEN)


def advance(optimizer: OptimizerStack, steps: range) -> None:
    """Take steps on gradients that depend on their number alone."""
    first = next(iter(optimizer.parameters.values()))
    for step in steps:
        optimizer.apply(optimizer.updates(draw(step, len(first), first.dtype)))


def _compare(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], expected: str) -> None:
    wrong = [name for name in ours if not torch.allclose(ours[name], theirs[name], rtol=_CLOSE, atol=_CLOSE)]
    if wrong:
        raise Mismatch(expected, f"{listed(wrong)} differ")


@check("Updates and what is remembered keep type, device and shape; nothing but the latter changes, in place.")
def update_is_a_function(component: Component) -> None:
    """Look at all tensors before and after some steps."""
    rule = _rule(component)
    for dtype in (torch.float32, torch.float64):
        optimizer = stack(rule, draw("start", dtype=dtype))
        for step in range(2):
            gradients = draw(step, dtype=dtype)
            before = {
                k: {n: v.clone() for n, v in t.items()}
                for k, t in (("parameters", optimizer.parameters), ("gradients", gradients))
            }
            memory = {name: dict(state) for name, state in optimizer.entries.items()}
            updates = optimizer.updates(gradients)
            for name, update in updates.items():
                _look(name, update, gradients[name], optimizer.parameters[name], optimizer.entries[name], memory[name])
            for key, tensors in (("parameters", optimizer.parameters), ("gradients", gradients)):
                wrong = [name for name, value in tensors.items() if not same(value, before[key][name])]
                if wrong:
                    raise Mismatch(f"{key} left as they are", f"{listed(wrong)} changed")
            optimizer.apply(updates)


def _look(name: str, update: Tensor, gradient: Tensor, parameter: Tensor, entries: Tensors, before: Tensors) -> None:
    expected = (parameter.dtype, parameter.device)
    if (update.dtype, update.device) != expected:
        raise Mismatch(f"an update of {parameter.dtype} on {parameter.device}", f"{update.dtype} on {update.device}")
    memory = {value.untyped_storage().data_ptr() for value in (gradient, parameter, *entries.values())}
    if update.untyped_storage().data_ptr() in memory:
        raise Mismatch("an update with memory of its own", f"that of {name} lies in its gradient, parameter or entries")
    for key, entry in entries.items():
        if entry is not before.get(key):
            raise Mismatch("what is remembered to be changed in place", f"{key!r} of {name} is another tensor")
        if entry.ndim != parameter.ndim or torch.broadcast_shapes(entry.shape, parameter.shape) != parameter.shape:
            raise Mismatch("tensors that broadcast to the parameter", f"{key!r} of {name}: {tuple(entry.shape)}")
    if entries.keys() != before.keys():
        raise Mismatch(f"the entries {sorted(before)} of init", f"{sorted(entries)} after a step")


@check("At a learning rate of 0 nothing moves, and steps are in proportion to it.")
def steps_follow_the_learning_rate(component: Component) -> None:
    """Compare steps of several rates."""
    rule = _rule(component)
    values = draw("start")
    once, twice, none = (stack(rule, values, rule.lr * factor) for factor in (1.0, 2.0, 0.0))
    for step in range(2):
        gradients = draw(step)
        updates = {factor: each.updates(gradients) for factor, each in ((1, once), (2, twice), (0, none))}
        for name, update in updates[1].items():
            if not torch.allclose(2 * update, updates[2][name], rtol=_CLOSE, atol=_CLOSE):
                raise Mismatch("twice the step at twice the learning rate", f"another one of {name}")
            if updates[0][name].any():
                raise Mismatch("no step at a learning rate of 0", f"one of {name}")


@check("The update goes down: on a quadratic the loss falls.", lesson="a sign is lost where the update is added")
def the_loss_falls(component: Component) -> None:
    """Train on half the squared norm."""
    optimizer = stack(_rule(component), draw("start"))
    before = sum(value.square().sum() for value in optimizer.parameters.values())
    for _ in range(STEPS):
        optimizer.apply(optimizer.updates({name: value.clone() for name, value in optimizer.parameters.items()}))
    after = sum(value.square().sum() for value in optimizer.parameters.values())
    if not after < before:
        raise Mismatch("a lower loss after some steps", f"{after} after {before}")


@check(
    "A replica's steps are those that it takes alone, with learning rates of their own too.",
    lesson="norms and means over a stack tie its networks together",
)
def replicas_are_independent(component: Component) -> None:
    """Train them together and one by one."""
    rule = _rule(component)
    rates = rule.lr * torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64)
    values = draw("start")
    together = stack(rule, values, rates)
    alone = [stack(rule, {n: v[r : r + 1] for n, v in values.items()}, rates[r].item()) for r in range(REPLICAS)]
    for step in range(STEPS):
        gradients = draw(step)
        together.apply(together.updates(gradients))
        for replica, each in enumerate(alone):
            each.apply(each.updates({name: value[replica : replica + 1] for name, value in gradients.items()}))
    apart = {name: torch.cat([each.parameters[name] for each in alone]) for name in values}
    _compare(together.parameters, apart, "the steps that each replica takes alone")


def _masks(shape: tuple[int, ...]) -> dict[str, Tensor]:
    """Return masks over a parameter as resets make them: rows, columns, and single entries, in some replicas."""
    generator = rng.derive(0, "conformance", "masks", str(shape))
    forms = {"rows": (REPLICAS, shape[0], *[1] * (len(shape) - 1)), "entries": (REPLICAS, *shape)}
    if len(shape) > 1:
        forms["columns"] = (REPLICAS, 1, shape[1], *[1] * (len(shape) - 2))
    return {name: torch.rand(form, generator=generator) < 0.4 for name, form in forms.items()}


def _check_cleared(rule: Optimizer, names: list[str]) -> None:
    for name in names:
        for form, mask in _masks(SHAPES[name]).items():
            for whole in (False, True):
                cleared, untouched = (stack(rule, draw("start"), whole=whole) for _ in range(2))
                for each in (cleared, untouched):
                    advance(each, range(STEPS))
                fresh = stack(rule, cleared.parameters)
                cleared.clear(name, mask)
                for each in (cleared, untouched, fresh):
                    advance(each, range(STEPS, 2 * STEPS))
                expected = torch.where(mask, fresh.parameters[name], untouched.parameters[name])
                if not torch.allclose(cleared.parameters[name], expected, rtol=_CLOSE, atol=_CLOSE):
                    raise Mismatch(
                        "entries that were cleared to move as in a new optimizer, others as ever",
                        f"other moves in {name} after {form} were cleared",
                    )


@check(
    "Entries that are cleared move as in a new optimizer, and others as if nothing had happened.",
    lesson="one step count for a whole tensor makes the first step of a cleared entry 3.2 learning rates in Adam",
)
def cleared_entries_start_anew(component: Component) -> None:
    """Clear rows, columns and entries of parameters that are no hidden matrices."""
    _check_cleared(_rule(component), [name for name in SHAPES if name not in HIDDEN])


@check("The same holds for hidden matrices and kernels.")
def cleared_entries_of_matrices_start_anew(component: Component) -> None:
    """Clear rows, columns and entries of hidden matrices."""
    _check_cleared(_rule(component), sorted(HIDDEN))


@check("Clearing everything is a new optimizer, bit for bit.")
def clearing_everything_starts_anew(component: Component) -> None:
    """Clear after some steps."""
    rule = _rule(component)
    cleared = stack(rule, draw("start"))
    advance(cleared, range(STEPS))
    cleared.clear()
    fresh = stack(rule, cleared.parameters)
    for each in (cleared, fresh):
        advance(each, range(STEPS, 2 * STEPS))
    wrong = [name for name, value in cleared.parameters.items() if not same(value, fresh.parameters[name])]
    if wrong:
        raise Mismatch("the steps of a new optimizer", f"others in {listed(wrong)}")


def _leaves() -> dict[str, nn.Parameter]:
    return {name: nn.Parameter(value) for name, value in draw("start").items()}


def _train(optimizer: StackOptimizer, steps: range) -> None:
    for step in steps:
        for name, gradient in draw(step).items():
            optimizer.leaves[name].grad = gradient
        optimizer.step()


@check("torch's fused optimizer takes the steps of the rule, and what it remembers carries over.")
def fused_is_unfused(component: Component) -> None:
    """Compare steps, and leave the fused optimizer on the way."""
    rule = _rule(component)
    if rule.fused([nn.Parameter(torch.zeros(1, 2, 2))]) is None:
        raise NotApplicable("it has no fused optimizer")
    fused, left = (StackOptimizer(rule, _leaves(), stacked=True, hidden=HIDDEN) for _ in range(2))
    plain = stack(rule, draw("start"))
    _train(fused, range(STEPS))
    _train(left, range(STEPS // 2))
    for name, leaf in left.leaves.items():
        left.clear(name, torch.zeros_like(leaf, dtype=torch.bool))  # by entry, which no fused optimizer can, and none
    advance(left, range(STEPS // 2, STEPS))
    advance(plain, range(STEPS))
    _compare(fused.parameters, plain.parameters, "the same steps fused and by the rule")
    _compare(left.parameters, plain.parameters, "the same steps after the fused optimizer was left")


@check("What is remembered survives a checkpoint, bit for bit.")
def checkpoints_are_complete(component: Component) -> None:
    """Save, restore and go on, before and after entries were cleared."""
    rule = _rule(component)
    for mask in (None, _masks(SHAPES["head"])["columns"]):
        whole, resumed = (StackOptimizer(rule, _leaves(), stacked=True, hidden=HIDDEN) for _ in range(2))
        _train(whole, range(STEPS))
        if mask is not None:
            whole.clear("head", mask)
        resumed.load_state_dict(whole.state_dict())
        resumed_values, values = resumed.parameters, whole.parameters
        for name, value in values.items():
            resumed_values[name].copy_(value)
        for each in (whole, resumed):
            _train(each, range(STEPS, 2 * STEPS))
        wrong = [name for name, value in values.items() if not same(value, resumed_values[name])]
        if wrong:
            raise Mismatch("the steps of an optimizer that was not interrupted", f"others in {listed(wrong)}")


@check("A traced step is the step itself: runs of many seeds can be one program.")
def traced_steps_are_steps(component: Component) -> None:
    """Trace a step that clears, and compare."""
    rule = _rule(component)
    rates = rule.lr * torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64)

    def step(values: Tensors, entries: dict[str, Tensors], gradients: Tensors, mask: Tensor) -> Any:
        values = {name: value.clone() for name, value in values.items()}
        entries = {name: {key: value.clone() for key, value in state.items()} for name, state in entries.items()}
        optimizer = OptimizerStack(rule, values, entries, rates, hidden=HIDDEN)
        optimizer.apply(optimizer.updates(gradients))
        optimizer.clear("matrix", mask)
        optimizer.apply(optimizer.updates(gradients))
        return values, entries

    begun = stack(rule, draw("start"), rates, whole=True)
    mask = _masks(SHAPES["matrix"])["rows"]
    arguments = (begun.parameters, begun.entries, draw(0), mask)
    try:
        graph = make_fx(torch.func.functionalize(step), tracing_mode="fake", _allow_non_fake_inputs=True)(*arguments)
    except Exception as error:  # whatever tracing raises
        raise NotApplicable(f"it cannot be traced, and its seeds train one by one: {error}") from error
    arguments = (begun.parameters, begun.entries, draw(1), ~mask)
    pairs = zip(pytree.tree_leaves(graph(*arguments)), pytree.tree_leaves(step(*arguments)), strict=True)
    if not all(torch.allclose(ours, theirs, rtol=_CLOSE, atol=_CLOSE) for ours, theirs in pairs):
        raise Mismatch("the numbers of the step", "others: something was read when it was traced")


CHECKS: tuple[Check, ...] = (
    *SHARED,
    update_is_a_function,
    steps_follow_the_learning_rate,
    the_loss_falls,
    replicas_are_independent,
    cleared_entries_start_anew,
    cleared_entries_of_matrices_start_anew,
    clearing_everything_starts_anew,
    fused_is_unfused,
    checkpoints_are_complete,
    traced_steps_are_steps,
)
