"""Hare and Tortoise: Lee et al. 2024, "Slow and Steady Wins the Race", arXiv:2406.02596.

Deviations: the hare becomes a copy of the tortoise, where in their code both share memory from then on; the optimizer
goes on with its state, where theirs is made anew at each task.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lopbench import Learner, Perturbation, Register, State, hookimpl, number, whole

lopbench_api = 2


@dataclass(frozen=True, kw_only=True)
class HareTortoise(Perturbation):
    """Evaluates a slow running mean of parameters and buffers, to which the trained network returns now and then.

    Args:
        momentum: Share of the old mean in the new one, in [0, 1).
        every: Steps after which the trained network becomes the mean, at least 1.
    """

    name: ClassVar[str] = "hare_tortoise"
    equation: ClassVar[str] = "slow = momentum * slow + (1 - momentum) * fast; every so many steps fast = slow"
    examples: ClassVar[tuple[Mapping[str, object], ...]] = ({"momentum": 0.9, "every": 7},)
    momentum: float = number(0.999, least=0, below=1)
    every: int = whole(10_000, least=1)

    def begin(self, learner: Learner, state: State) -> None:
        """Start the mean from the network as it is."""
        for name, value in everything(learner).items():
            state[f"slow/{name}"] = value.clone()
        state["steps"] = torch.zeros(learner.replicas, dtype=torch.int64, device=learner.device)

    def after_step(self, learner: Learner, state: State) -> None:
        """Move the mean, and put it in the place of the network when it is time."""
        state["steps"] += 1
        due = state["steps"] % self.every == 0  # (R,)
        for name, fast in everything(learner).items():
            slow = state[f"slow/{name}"]
            slow.lerp_(fast, 1 - self.momentum) if fast.is_floating_point() else slow.copy_(fast)
            fast.copy_(torch.where(due.view(-1, *[1] * (fast.ndim - 1)), slow, fast))

    def evaluated(self, learner: Learner, state: State) -> Mapping[str, Tensor]:
        """Return the mean of all parameters and buffers."""
        return {name: state[f"slow/{name}"] for name in everything(learner)}


def everything(learner: Learner) -> dict[str, Tensor]:
    """Return parameters and buffers ``(R, ...)``."""
    return {**learner.parameters, **learner.buffers}


@hookimpl
def lopbench_methods(register: Register) -> None:
    """Make the method known."""
    register("hare_tortoise", HareTortoise, "evaluates a slow mean, to which the network returns")
