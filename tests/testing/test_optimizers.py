"""The kit catches broken optimizers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from lopbench.core.optimizer import Optimizer
from lopbench.testing import checks
from lopbench_plugins.optimizers.adam import Adam
from lopbench_plugins.optimizers.muon import Muon
from lopbench_plugins.optimizers.sgd import SGD


class Upwards(SGD):
    """Loses a sign."""

    def update(self, gradient, entries, parameter, lr):
        return -super().update(gradient, entries, parameter, lr)


class Handless(SGD):
    """Gives its momentum away, which methods then change with the update."""

    def update(self, gradient, entries, parameter, lr):
        return entries["momentum_buffer"].mul_(self.momentum).sub_(gradient * self.lr)


class StepsItself(SGD):
    """Moves the parameter as well."""

    def update(self, gradient, entries, parameter, lr):
        update = super().update(gradient, entries, parameter, lr)
        parameter += update
        return update


class DecaysTheGradient(SGD):
    """Adds weight decay to the gradient it was given."""

    def update(self, gradient, entries, parameter, lr):
        gradient.add_(parameter, alpha=0.1)
        return super().update(gradient, entries, parameter, lr)


class DoublePrecision(SGD):
    """Computes in float64 and stays there."""

    def update(self, gradient, entries, parameter, lr):
        return super().update(gradient.double(), entries, parameter.double(), lr)


class Replaces(Adam):
    """Puts a new tensor where the old one was."""

    def update(self, gradient, entries, parameter, lr):
        update = super().update(gradient, entries, parameter, lr)
        entries["exp_avg"] = entries["exp_avg"].clone()
        return update


class OwnRate(SGD):
    """Steps at the rate of its field, whatever schedules and sweeps say."""

    def update(self, gradient, entries, parameter, lr):
        return super().update(gradient, entries, parameter, self.lr)


class Untouched(SGD):
    """Decays weights beside the learning rate."""

    def update(self, gradient, entries, parameter, lr):
        return super().update(gradient, entries, parameter, lr) - 0.001 * parameter


class Clips(SGD):
    """Clips the norm of the whole stack."""

    def update(self, gradient, entries, parameter, lr):
        return super().update(gradient / gradient.norm(), entries, parameter, lr)


class OneCount(Adam):
    """One step count for a tensor, on the host and for good."""

    def init(self, parameter, *, hidden):
        return super().init(parameter, hidden=hidden) | {"steps": parameter.new_zeros((1,) * parameter.ndim)}

    def update(self, gradient, entries, parameter, lr):
        entries["steps"].add_(1)
        count = entries["steps"].max()
        for key, beta in zip(("decay1", "decay2"), self.betas, strict=True):
            entries[key].copy_(beta ** (count - 1))
        return super().update(gradient, entries, parameter, lr)


class WrongCount(Adam):
    """Forgets the steps that the fused optimizer took."""

    def unfused(self, parameter, state: Mapping[str, Tensor]):
        return super().unfused(parameter, {**state, "step": torch.zeros(())})


class Another(SGD):
    """Has a fused optimizer of another momentum."""

    def fused(self, leaves):
        return torch.optim.SGD(leaves, lr=self.lr, momentum=0.5)


@dataclass(frozen=True, kw_only=True)
class Remembers(Optimizer):
    """Momentum on the object itself, and so in no checkpoint and under no mask.

    Args:
        lr: Learning rate.
    """

    name = "remembers"

    def update(self, gradient, entries, parameter, lr):
        memory: dict[Any, Tensor] = self.__dict__.setdefault("memory", {})
        kept = memory.setdefault(tuple(gradient.shape), torch.zeros_like(gradient))
        return kept.mul_(0.9).add_(gradient) * -self.lr


def made(cls: type[Optimizer], **fields: Any) -> Optimizer:
    if "__dataclass_params__" not in vars(cls):
        cls = dataclass(frozen=True, kw_only=True)(cls)
    return cls(**fields)


BROKEN = [
    (made(Upwards, lr=0.1), "the-loss-falls"),
    (made(Handless, lr=0.1, momentum=0.9), "update-is-a-function"),
    (made(StepsItself, lr=0.1), "update-is-a-function"),
    (made(DecaysTheGradient, lr=0.1), "update-is-a-function"),
    (made(DoublePrecision, lr=0.1), "update-is-a-function"),
    (made(Replaces, lr=0.1), "update-is-a-function"),
    (made(OwnRate, lr=0.1), "steps-follow-the-learning-rate"),
    (made(Untouched, lr=0.1), "steps-follow-the-learning-rate"),
    (made(Clips, lr=0.1), "replicas-are-independent"),
    (made(OneCount, lr=0.1), "cleared-entries-start-anew"),
    (made(OneCount, lr=0.1), "cleared-entries-of-matrices-start-anew"),
    (made(WrongCount, lr=0.1), "fused-is-unfused"),
    (made(Another, lr=0.1, momentum=0.9), "fused-is-unfused"),
    (made(Remembers, lr=0.1), "clearing-everything-starts-anew"),
    (made(Remembers, lr=0.1), "checkpoints-are-complete"),
]


@pytest.mark.parametrize(
    ("optimizer", "name"), BROKEN, ids=lambda value: value if isinstance(value, str) else value.name
)
def test_broken_optimizers_are_caught(optimizer, name):
    (found,) = (check for check in checks(optimizer) if check.name == name)
    outcome = found.run(optimizer)
    assert outcome.status == "failed", outcome
    assert "Error" not in outcome.found, outcome.message


def test_what_muon_is_exempt_from_it_could_not_pass():
    class Bare(Muon):
        """Muon without its exemption."""

        exempt: ClassVar[Mapping[str, str]] = {}

    bare = made(Bare, lr=0.02)
    for check in checks(bare):
        if check.name in Muon.exempt:
            assert check.run(bare).status == "failed"
