"""Hare and Tortoise: Lee et al. 2024, "Slow and Steady Wins the Race", ICML 2024, arXiv:2406.02596.

Deviations:

- The hare becomes a copy of the tortoise; in the authors' code both share memory from then on, and are one network.
- Time is counted in steps, where theirs is in epochs: the default is ten epochs of CIFAR-10 in batches of 256.
- The optimizer goes on with its state across returns and tasks, where theirs is made anew at each task.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lopbench import Family, Learner, Perturbation, State, number, per_replica, whole
from lopbench_plugins.perturbations._eager import surely_none


@dataclass(frozen=True, kw_only=True)
class HareAndTortoise(Perturbation):
    """Evaluates a slow running mean of parameters and buffers, to which the trained network returns now and then.

    Whole numbers among the buffers, such as counts of batches, are those of the trained network.

    Args:
        momentum: Share of the old mean in the new one, in [0, 1).
        every: Steps after which the trained network becomes the mean, at least 1.
    """

    name: ClassVar[str] = "hare_and_tortoise"
    family: ClassVar[Family] = "optimizer"
    cost: ClassVar[Mapping[str, float]] = {"time": 1.1, "memory": 1.3, "program": 1.3}
    examples: ClassVar[tuple[Mapping[str, object], ...]] = ({"momentum": 0.9, "every": 7},)
    grid: ClassVar[Mapping[str, tuple[object, ...]]] = {"momentum": (0.99, 0.999), "every": (200, 2000)}
    equation: ClassVar[str] = "slow = momentum * slow + (1 - momentum) * fast; every so many steps fast = slow"
    validated: ClassVar[tuple[str, ...]] = (
        "trace in NumPy over several returns",
        "property: fast and slow share no memory after a return",
        "theorem: every slow entry lies within what its fast one has been since the last return",
    )
    momentum: float = number(0.999, least=0, below=1, swept=True)
    every: int = whole(2000, least=1)

    def begin(self, learner: Learner, state: State) -> None:
        """Start the mean from the network as it is."""
        for name, value in _everything(learner).items():
            state[f"slow/{name}"] = value.clone()
        state["steps"] = torch.zeros(learner.replicas, dtype=torch.int64, device=learner.device)

    def after_step(self, learner: Learner, state: State) -> None:
        """Move the mean, and copy it into the network when it is time."""
        state["steps"] += 1
        due = state["steps"] % self.every == 0  # (R,)
        stays = surely_none(due)
        for name, fast in _everything(learner).items():
            slow = state[f"slow/{name}"]
            if fast.is_floating_point():
                slow.lerp_(fast, per_replica(1 - self.momentum, slow))
                if not stays:
                    fast.lerp_(slow, per_replica(due, slow))  # all of the way or none of it
            else:
                slow.copy_(fast)

    def evaluated(self, learner: Learner, state: State) -> Mapping[str, Tensor]:
        """Return the mean of all parameters and buffers."""
        return {name: state[f"slow/{name}"] for name in _everything(learner)}


def _everything(learner: Learner) -> dict[str, Tensor]:
    """Return parameters and buffers ``(R, ...)``."""
    return {**learner.parameters, **learner.buffers}
