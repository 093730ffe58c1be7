"""Computes what torch's fused optimizers would add to parameters, for methods that change updates."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lopbench.core.optimizer import Optimizer


@torch.no_grad()
def reads_parameters(rule: Optimizer) -> bool:
    """Return whether a rule's updates depend on the values of parameters, as under weight decay. Tries three values."""
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

    It takes its step on zeros in the place of the parameters. The update is the same if its rule does not read
    parameters, see `reads_parameters`. The optimizer's state advances as in a step.

    Args:
        optimizer: Torch's optimizer.
        leaves: Its parameters, by name; left as they are.
        gradients: Gradients ``(R, ...)``, by name. There may be gradients of other parameters.
        stacked: Whether the leaves have the replica axis.
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
            if own is None or own.data_ptr() != gradient.data_ptr():  # in a training step it may be the leaf's own
                leaf.grad = gradient if stacked else gradient.squeeze(0)
        optimizer.step()
    finally:
        for name, leaf in leaves.items():
            leaf.data, leaf.grad = before[name]
    return made
