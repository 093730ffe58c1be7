"""Effective-rank regularisation: "Spectral Collapse Drives Loss of Plasticity in Deep Continual Learning" 2025.

arXiv:2509.22335. It is the part of their L2-ER that is not L2: compose it with ``l2``. As in their code the rank of all
layers is raised now and then, by steps of plain gradient ascent of its own. Deviations:

- The ascent has the learning rate of the run, where theirs has one that is told nowhere; ``strength`` multiplies it.
- A layer is what one activation function returns, or a block of a transformer.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lopbench import Family, Learner, Perturbation, State, UnsupportedError, add_scaled, number, whole


@dataclass(frozen=True, kw_only=True)
class EffectiveRankPenalty(Perturbation):
    """Raises, now and then, the mean effective rank (Roy and Vetterli 2007) of the hidden activations of a batch.

    With ``p = s / sum(s)`` the shares of the singular values of a layer's activations ``(N, D)``, the rank is
    ``exp(-sum p log p)``. Acts on all parameters in front of the last activation function. Feature maps and tokens of a
    sample make one row.

    With ``every`` above 1 the method counts steps on the host, and its seeds train one after another; with 1 it is a
    part of compiled programs, and has a decomposition in each step.

    Args:
        strength: Coefficient of the rank, at least 0.
        every: Steps between two steps of ascent, at least 1.
    """

    name: ClassVar[str] = "effective_rank_penalty"
    family: ClassVar[Family] = "regularise"
    cost: ClassVar[Mapping[str, float]] = {"time": 1.1, "memory": 1.0}
    examples: ClassVar[tuple[Mapping[str, object], ...]] = (
        {"strength": 0.1, "every": 1},
        {"strength": 0.1, "every": 5},
    )
    exempt: ClassVar[Mapping[str, str]] = {
        "layers-are-served-or-refused": "layers that no activation function follows move no activation, and no rank"
    }
    grid: ClassVar[Mapping[str, tuple[object, ...]]] = {"strength": (0.1, 0.01, 0.001)}
    equation: ClassVar[str] = "each 100 steps theta = theta + lr * strength * d mean_l exp(-sum p log p) / d theta"
    validated: ClassVar[tuple[str, ...]] = (
        "theorem: the rank of orthogonal activations of one length is their number, of one direction 1",
        "property: a small step raises the rank; two layers of one shape give the mean of both",
    )
    strength: float = number(0.01, least=0, zero=0, swept=True)
    every: int = whole(100, least=1)

    def begin(self, learner: Learner, state: State) -> None:
        """Look for hidden layers and samples.

        Raises:
            UnsupportedError: If there are no hidden layers, or batches are of one sample.
        """
        if not learner.forward(learner.inputs).activations:
            raise UnsupportedError(f"{self.name}: {type(learner.module).__name__} has no hidden layers")
        if learner.inputs.shape[1] < 2:
            raise UnsupportedError(f"{self.name}: a batch of one sample has rank 1, whatever the network makes of it")

    def after_step(self, learner: Learner, state: State) -> None:
        """Take a step of ascent, in place, when it is time."""
        if self.every > 1:
            state.host["steps"] = state.host.get("steps", 0) + 1
            if state.host["steps"] % self.every:
                return
        parameters = learner.parameters

        def rank(leaves: Mapping[str, Tensor]) -> Tensor:
            return mean_rank(learner.forward(learner.inputs, leaves).activations.values()).sum()

        for name, slope in torch.func.grad(rank)(dict(parameters)).items():
            add_scaled(parameters[name], slope, learner.optimizer.lr * self.strength)


def mean_rank(activations: Iterable[Tensor]) -> Tensor:
    """Return the mean over layers of the effective rank ``(R,)`` of activations ``(R, N, ...)``."""
    of_one_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
    for each in activations:
        matrix = each.flatten(2)
        of_one_shape[matrix.shape].append(matrix)
    ranks = [effective_rank(torch.stack(matrices)) for matrices in of_one_shape.values()]  # (layers, R) each
    return torch.cat(ranks).mean(dim=0)


def effective_rank(matrices: Tensor) -> Tensor:
    """Return the effective rank ``(...)`` of matrices ``(..., N, D)``; of zeros it is 1, the least."""
    values = torch.linalg.svdvals(matrices)
    # Values that are zero but for rounding have an infinite slope, in whatever direction rounding gave them.
    floor = values.detach().amax(dim=-1, keepdim=True) * torch.finfo(values.dtype).eps * max(matrices.shape[-2:])
    counts = values > floor
    kept = values.where(counts, 0)
    shares = kept / kept.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(values.dtype).tiny)
    return torch.exp(-(shares * shares.where(counts, 1).log()).sum(dim=-1))
