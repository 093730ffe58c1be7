"""Effective-rank regularisation: "Spectral Collapse Drives Loss of Plasticity" 2025, arXiv:2509.22335.

The part of their L2-ER that is not L2 (compose it with ``l2``). Deviations: the rank is that of the features before
the head, where theirs is of every layer, and it is raised in each step by the optimizer of the run, where theirs has
one of its own that acts every 100 steps.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lopbench import Learner, Perturbation, Register, State, hookimpl, number, per_replica

lopbench_api = 2


@dataclass(frozen=True, kw_only=True)
class RankPenalty(Perturbation):
    """Rewards features of a high effective rank (Roy and Vetterli 2007) over the batch.

    Args:
        strength: Coefficient of the rank, at least 0.
    """

    name: ClassVar[str] = "rank_penalty"
    equation: ClassVar[str] = "loss - strength * exp(-sum p log p), p = s / sum s, s singular values of the features"
    examples: ClassVar[tuple[Mapping[str, object], ...]] = ({"strength": 0.1},)
    strength: float = number(0.01, least=0, zero=0, swept=True)

    def penalty(self, learner: Learner, state: State) -> Tensor:
        """Return the term, ``(R,)``."""
        rank = effective_rank(learner.features.flatten(1, -2))
        return rank * per_replica(-self.strength, rank)


def effective_rank(features: Tensor) -> Tensor:
    """Return the effective rank, ``(R,)``, of features ``(R, N, D)``; of features that are all zero it is the least."""
    values = torch.linalg.svdvals(features)
    # Values that are zero but for rounding have an infinite slope, in whatever direction rounding gave them.
    floor = values.detach().amax(dim=1, keepdim=True) * torch.finfo(values.dtype).eps * max(features.shape[1:])
    counts = values > floor
    shares = values.where(counts, 0) / values.where(counts, 0).sum(dim=1, keepdim=True).clamp(min=1e-30)
    return torch.exp(-(shares * shares.where(counts, 1).log()).sum(dim=1))


@hookimpl
def lopbench_methods(register: Register) -> None:
    """Make the method known."""
    register("rank_penalty", RankPenalty, "rewards features of high effective rank")
