"""Broken methods that behave where one looks first: at a single boundary, in a single layer, on a single network.

``PLANTED`` gives, for each, the check that must fail and a part of what it must say.
"""

from dataclasses import dataclass

import torch

from lopbench.core.interfaces import Perturbation
from lopbench_plugins.perturbations.l2 import L2


def head_is_small(learner):
    return (learner.parameters[learner.head[0]].abs().amax() < 0.05).all()


class ClearsAtZeroHead(L2):
    """Clears the optimizer, parameter by parameter, when the head is zero, which protocols make it at boundaries."""

    def after_step(self, learner, state):
        if head_is_small(learner):
            for name in learner.parameters:
                learner.optimizer.clear(name)


class ShrinksAtZeroHead(L2):
    """Shrinks the weights a little when the head is zero."""

    def after_step(self, learner, state):
        if head_is_small(learner):
            for parameter in learner.parameters.values():
                parameter.mul_(0.9)


class ShrinksBeforeTheStep(L2):
    """Shrinks the weights when the head is zero to the bit, before the first step has changed it."""

    def after_backward(self, learner, state):
        super().after_backward(learner, state)
        if not learner.parameters[learner.head[0]].any():
            for parameter in learner.parameters.values():
                parameter.mul_(0.9)


class ShrinksWhereTheGradientJumps(L2):
    """Shrinks the weights when the gradient's norm is far above its running mean."""

    def begin(self, learner, state):
        state["mean"] = torch.full((learner.replicas,), torch.inf)
        state["factor"] = torch.ones(learner.replicas)

    def after_backward(self, learner, state):
        norm = sum(gradient.flatten(1).square().sum(dim=1) for gradient in learner.gradients.values()).sqrt()
        state["factor"].copy_(torch.where(norm > 3 * state["mean"], 0.9, 1.0))
        state["mean"].copy_(torch.where(state["mean"].isinf(), norm, state["mean"].lerp(norm, 0.1)))
        super().after_backward(learner, state)

    def after_step(self, learner, state):
        for parameter in learner.parameters.values():
            parameter.mul_(state["factor"].view(-1, *[1] * (parameter.ndim - 1)))


def made(cls: type[Perturbation], **fields) -> Perturbation:
    """Return a broken method as a component of its own."""
    if "__dataclass_params__" not in vars(cls):
        cls = dataclass(frozen=True, kw_only=True)(cls)
    return cls(**fields)


DECAY = {"strength": 0.01}

PLANTED: list[tuple[Perturbation, str, str]] = [
    (made(ClearsAtZeroHead, **DECAY), "boundaries-stay-unknown", "clears 100% of the optimizer's entries there"),
    (made(ShrinksAtZeroHead, **DECAY), "boundaries-stay-unknown", "moves 10% of the weights' norm there"),
    (made(ShrinksBeforeTheStep, **DECAY), "boundaries-stay-unknown", "moves 10% of the weights' norm there"),
    (made(ShrinksWhereTheGradientJumps, **DECAY), "boundaries-stay-unknown", "of the weights' norm there"),
]
