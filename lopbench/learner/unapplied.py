"""What torch's fused optimizers would add to parameters, for methods that look at it before it is added."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lopbench.core.optimizer import Optimizer


@torch.no_grad()
def reads_parameters(rule: Optimizer) -> bool:
    """Return whether the steps of a rule depend on where the parameters are, as under weight decay; it is tried."""
    steps = []
    for start in (0.0, 1.0, 3.0):
        parameter = torch.full((1, 2, 2), start, dtype=torch.float64)
        entries = rule.init(parameter, hidden=False)
        steps.append(rule.update(torch.ones_like(parameter), entries, parameter, rule.lr))
    return not all(isinstance(step, Tensor) and torch.equal(step, steps[0]) for step in steps)


@torch.no_grad()
def fused_updates(
    optimizer: torch.optim.Optimizer,
    leaves: Mapping[str, nn.Parameter],
    gradients: Mapping[str, Tensor],
    *,
    stacked: bool,
) -> dict[str, Tensor]:
    """Return what ``optimizer`` would add ``(R, ...)`` to those of its parameters that have a gradient.

    It moves zeros in their place, which comes to the same where its rule does not read them, and remembers the
    gradients.

    Args:
        optimizer: Torch's optimizer.
        leaves: Its parameters, by name; left as they are.
        gradients: Gradients ``(R, ...)``, by name, among them those of others.
        stacked: Whether the leaves carry the replica axis themselves.
    """
    before = {name: (leaf.data, leaf.grad) for name, leaf in leaves.items()}
    made: dict[str, Tensor] = {}
    try:
        for name, leaf in leaves.items():
            data, own = before[name]
            gradient = gradients.get(name)
            if gradient is None:
                leaf.grad = None
                continue
            leaf.data = zeros = torch.zeros_like(data)
            made[name] = zeros if stacked else zeros.unsqueeze(0)
            if own is None or own.data_ptr() != gradient.data_ptr():  # in a step it is the leaf's own
                leaf.grad = gradient if stacked else gradient.squeeze(0)
        optimizer.step()
    finally:
        for name, leaf in leaves.items():
            leaf.data, leaf.grad = before[name]
    return made
