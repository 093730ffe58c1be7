"""Sound methods that the kit once took for broken; all of its checks must pass, or not apply."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from lopbench.core.errors import UnsupportedError
from lopbench.core.fields import number
from lopbench.core.interfaces import Perturbation
from lopbench_plugins.perturbations.l2 import L2


def _penalty(self, learner, state):
    return self.strength * sum(value.square().sum() for value in learner.differentiable.values()).reshape(1)


class OneReplica(L2):
    """A penalty written for one network, which says so when it begins."""

    def begin(self, learner, state):
        if learner.replicas > 1:
            raise UnsupportedError("one network at a time")

    penalty = _penalty


class OneReplicaInSteps(L2):
    """A penalty written for one network, which says so in its first step."""

    def penalty(self, learner, state):
        if learner.replicas > 1:
            raise UnsupportedError("one network at a time")
        return _penalty(self, learner, state)


class OnlyReLU(L2):
    """Takes networks of ReLU alone, and so not the plain network of the kit."""

    def begin(self, learner, state):
        if any(isinstance(layer, nn.Tanh) for layer in learner.module.modules()):
            raise UnsupportedError("its scale is derived for ReLU")


class TakesNoneOfThem(L2):
    """Takes large networks alone, of which the kit has none: the only method here that fails a check, and one alone."""

    def begin(self, learner, state):
        layers = sum(isinstance(layer, nn.Linear) for layer in learner.module.modules())
        if layers < 12:
            raise UnsupportedError("it needs twelve linear layers")


class PenaltyOnActivations(L2):
    """Keeps activations small; what comes after the last of them gets no gradient from it."""

    def after_backward(self, learner, state):
        pass

    def penalty(self, learner, state):
        sizes = [value.square().flatten(1).mean(dim=1) for value in learner.activations.values()]
        return self.strength * sum(sizes, start=torch.zeros(learner.replicas))  # a linear network has no activations


@dataclass(frozen=True, kw_only=True)
class Schedule(Perturbation):
    """Scales the gradients by a schedule whose first factors are exactly 1.

    Args:
        decay: Factor of each step after the first ones.
    """

    name: ClassVar[str] = "schedule"
    decay: float = number(0.9, least=0, most=1, zero=1)

    def begin(self, learner, state):
        state["step"] = torch.zeros((), dtype=torch.int64)

    def after_backward(self, learner, state):
        for gradient in learner.gradients.values():
            gradient.mul_(self.decay ** (state["step"] - 3).clamp(min=0))
        state["step"] += 1


@dataclass(frozen=True, kw_only=True)
class Particular(L2):
    """A decay with fields for large batches and for kernels.

    Args:
        crowded: Factor of the strength in batches of more than ten samples.
        kernels: Factor of the strength of convolutions.
    """

    crowded: float = number(2.0, least=0)
    kernels: float = number(2.0, least=0)

    def after_backward(self, learner, state):
        for name, gradient in learner.gradients.items():
            factor = self.kernels if gradient.ndim > 3 else 1.0
            factor *= self.crowded if learner.inputs.shape[1] > 10 else 1.0
            gradient.add_(learner.parameters[name], alpha=self.strength * factor)


def made(cls: type[Perturbation], **fields) -> Perturbation:
    """Return a method as a component of its own."""
    if "__dataclass_params__" not in vars(cls):
        cls = dataclass(frozen=True, kw_only=True)(cls)
    return cls(**fields)


DECAY = {"strength": 0.1}

SOUND = [
    made(OneReplica, **DECAY),
    made(OneReplicaInSteps, **DECAY),
    made(OnlyReLU, **DECAY),
    made(PenaltyOnActivations, **DECAY),
    made(Schedule),
    made(Particular, **DECAY),
]
