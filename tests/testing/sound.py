"""Sound methods that the kit once took for broken; all of its checks must pass, or not apply."""

from dataclasses import dataclass

from torch import nn

from lopbench.core.errors import UnsupportedError
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


def made(cls: type[Perturbation], **fields) -> Perturbation:
    """Return a method as a component of its own."""
    if "__dataclass_params__" not in vars(cls):
        cls = dataclass(frozen=True, kw_only=True)(cls)
    return cls(**fields)


DECAY = {"strength": 0.1}

SOUND = [made(OneReplica, **DECAY), made(OneReplicaInSteps, **DECAY), made(OnlyReLU, **DECAY)]
