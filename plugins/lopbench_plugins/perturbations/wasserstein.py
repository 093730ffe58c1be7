"""Wasserstein regularisation: Lewandowski, Tanaka, Schuurmans and Machado 2023, arXiv:2312.00246.

"Directions of Curvature as an Explanation for Loss of Plasticity": the squared 2-Wasserstein distance between the
weights of a tensor and its initial ones, each as a set of numbers. Deviations:

- The penalty has a factor of one half, so that ``strength`` is the coefficient of the pull, as in ``l2``.
- It is a sum over entries. Public code (wechu/parseval_reg, ``w-regen``) takes the mean, which makes the pull of a
  large layer weaker; the default strength is theirs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from lopbench import Family, Learner, Perturbation, State, add_scaled, number
from lopbench_plugins.perturbations._eager import can_look

#: So many numbers are ranked by comparing all with all, which a program does in one go; more are cheaper to sort.
_FEW = 128


@dataclass(frozen=True, kw_only=True)
class Wasserstein(Perturbation):
    """Pulls the sorted weights of each tensor towards its sorted initial weights, in the form of its gradient.

    All parameters take part, biases too. A weight that has traded places with another one of its tensor costs nothing,
    where L2 regularisation towards initial weights would pull both back. The penalty is coupled: an adaptive optimizer
    scales it with the rest of the gradient.

    Args:
        strength: Coefficient of the pull, at least 0.
    """

    name: ClassVar[str] = "wasserstein"
    family: ClassVar[Family] = "regularise"
    cost: ClassVar[Mapping[str, float]] = {"time": 2.6, "memory": 1.3, "program": 3.3}
    examples: ClassVar[tuple[Mapping[str, object], ...]] = ({"strength": 0.1},)
    grid: ClassVar[Mapping[str, tuple[object, ...]]] = {"strength": (1e-2, 1e-3, 1e-4, 1e-5)}
    equation: ClassVar[str] = "loss + strength / 2 * sum over tensors of norm(sort(theta) - sort(theta_0))**2"
    validated: ClassVar[tuple[str, ...]] = (
        "theorem: zero for any permutation of the initial weights",
        "theorem (rearrangement inequality): at most the squared distance to the initial weights",
        "gradient against automatic differentiation of the penalty",
    )
    strength: float = number(1e-3, least=0, zero=0, swept=True)

    def begin(self, learner: Learner, state: State) -> None:
        """Sort the initial weights, once."""
        for name, initial in learner.initial.items():
            state[name] = initial.flatten(1).sort(dim=1).values

    def after_backward(self, learner: Learner, state: State) -> None:
        """Add the penalty's gradient in place, to every parameter that has a gradient."""
        for name, gradient in learner.gradients.items():
            add_scaled(gradient, transport(learner.parameters[name], state[name]), self.strength)


def transport(weights: Tensor, target: Tensor) -> Tensor:
    """Return how far each weight is from its place in the optimal transport to ``target``, ``(R, ...)``.

    Args:
        weights: Parameters of one tensor, ``(R, ...)``.
        target: Sorted numbers, as many for each replica, ``(R, N)``.
    """
    flat = weights.flatten(1)
    if flat.shape[1] <= _FEW:
        places = target.gather(1, _ranks(flat))
    else:
        places = torch.empty_like(flat).scatter_(1, _order(flat), target)
    return torch.sub(flat, places, out=places).view_as(weights)


def _ranks(rows: Tensor) -> Tensor:
    """Return how many numbers of a row ``(R, N)`` come before each, by comparing all with all."""
    one, other = rows.unsqueeze(2), rows.unsqueeze(1)
    place = torch.arange(rows.shape[1], device=rows.device)
    before = (other < one) | ((other == one) & (place < place.unsqueeze(1)))
    return before.to(rows.dtype).sum(dim=2).long()  # a program adds up whole numbers one by one


def _order(rows: Tensor) -> Tensor:
    """Return the places of the numbers of each row ``(R, N)`` from the least on; of equal ones the first come first."""
    if rows.dtype != torch.float32 or not can_look(rows):
        return rows.argsort(dim=1, stable=True)
    # Number and place in one integer: numpy sorts these in a small part of the time of torch's stable sort.
    bits = (rows.numpy() + np.float32(0.0)).view(np.int32)  # zero has one sign
    below = bits >> 31
    below &= np.int32(0x7FFFFFFF)
    bits ^= below  # of negative numbers the larger bits are further down
    keys = bits.astype(np.int64)
    keys <<= 32
    keys |= np.arange(rows.shape[1])  # of the same type: numpy takes six times as long to mix two
    keys.sort(axis=1)
    keys &= 0xFFFFFFFF
    return torch.from_numpy(keys)
