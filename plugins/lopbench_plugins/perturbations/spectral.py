"""Spectral regularisation: Lewandowski, Bortkiewicz, Kumar, Gyorgy, Schuurmans, Ostaszewski, Machado 2025.

"Learning Continually by Spectral Regularization", ICLR 2025, arXiv:2406.06811. Deviations:

- The penalty enters as its gradient, in which the singular vectors are constants, as they are in the paper's estimate.
- Power iteration starts from 20 iterations on the initial weights, so that the first steps know the norms.
- ``norms=False`` leaves normalisation layers out, which public code on gradual changes of task does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lopbench import Family, Learner, Perturbation, State, add_scaled, number, per_replica, whole
from lopbench_plugins.perturbations._weights import by_shape, roles, stacked

#: Power iterations before the first step.
WARM_UP = 20


@dataclass(frozen=True, kw_only=True)
class Spectral(Perturbation):
    """Pulls the largest singular value of every weight towards 1 and all that is added towards 0.

    The penalty is ``R = sum over weights of (sigma**k - 1)**2 + sum over biases of norm(b)**(2 k)`` with ``sigma`` the
    spectral norm, of which one power iteration a step keeps track; gains ``g`` of normalisation layers give
    ``(g**k - 1)**2`` each, and shifts count as biases.

    Acts on linear layers, attention and convolutions, as matrices ``(out, in * height * width)``, on the head too.
    Embeddings, tokens and positions stay out. The penalty is coupled: an adaptive optimizer scales it with the rest of
    the gradient.

    Args:
        strength: Coefficient of the penalty, at least 0.
        power: Exponent ``k``, at least 1.
        norms: Whether gains and shifts of normalisation layers take part.
    """

    name: ClassVar[str] = "spectral"
    family: ClassVar[Family] = "regularise"
    cost: ClassVar[Mapping[str, float]] = {"time": 1.4, "memory": 1.0, "program": 1.5}
    examples: ClassVar[tuple[Mapping[str, object], ...]] = ({"strength": 0.1}, {"strength": 0.1, "norms": False})
    grid: ClassVar[Mapping[str, tuple[object, ...]]] = {"strength": (1e-2, 1e-3, 1e-4, 1e-5)}
    equation: ClassVar[str] = "loss + strength * (sum (sigma_1(W)**k - 1)**2 + sum norm(b)**(2 k)), k = 2"
    validated: ClassVar[tuple[str, ...]] = (
        "theorem: orthogonal weights, unit gains and zero biases are not pulled",
        "gradient against automatic differentiation of the penalty by singular value decomposition",
    )
    strength: float = number(1e-4, least=0, zero=0, swept=True)
    power: int = whole(2, least=1)
    norms: bool = True

    def begin(self, learner: Learner, state: State) -> None:
        """Draw a vector for each weight, and find the singular vectors of the largest values.

        Raises:
            UnsupportedError: If the weight of a layer is computed from other parameters.
        """
        for shape, names in by_shape(roles(learner.module).weights, learner.parameters).items():
            matrices = stacked(names, learner.parameters)
            left = _unit(state.normal(matrices[..., 0]), torch.zeros_like(matrices[..., 0]))
            for _ in range(WARM_UP):
                left, _, _ = iterated(matrices, left)
            state[shape] = left

    def after_backward(self, learner: Learner, state: State) -> None:
        """Iterate once, and add the penalty's gradient in place to every parameter that has a gradient."""
        found, gradients, k = roles(learner.module), learner.gradients, self.power
        for shape, names in by_shape(found.weights, learner.parameters).items():
            left, right, norm = iterated(stacked(names, learner.parameters), state[shape])
            state[shape].copy_(left)
            left = left * (2 * k * (norm**k - 1) * norm ** (k - 1)).unsqueeze(-1)
            slopes = left.unsqueeze(-1) * right.unsqueeze(-2)  # (R, L, out, in)
            for name, slope in zip(names, slopes.unbind(1), strict=True):
                if name in gradients:
                    add_scaled(gradients[name], slope.view_as(gradients[name]), self.strength)
        for name in (*found.biases, *(found.shifts if self.norms else ())):
            if name in gradients:
                bias = learner.parameters[name]
                squared = bias.square().sum(dim=1)
                add_scaled(gradients[name], bias * per_replica(2 * k * squared ** (k - 1), bias), self.strength)
        for name in found.gains if self.norms else ():
            if name in gradients:
                gain = learner.parameters[name]
                add_scaled(gradients[name], 2 * k * (gain**k - 1) * gain ** (k - 1), self.strength)


def iterated(matrices: Tensor, left: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return left and right vectors and their singular value after one more power iteration.

    Args:
        matrices: Matrices ``(R, L, out, in)``; of a matrix of zeros the left vector stays, and the value is 0.
        left: Unit vectors ``(R, L, out)``.
    """
    right = (left.unsqueeze(-2) @ matrices).squeeze(-2)
    right = _unit(right, torch.zeros_like(right))
    image = (matrices @ right.unsqueeze(-1)).squeeze(-1)
    return _unit(image, left), right, image.norm(dim=-1)


def _unit(vectors: Tensor, otherwise: Tensor) -> Tensor:
    """Return vectors of length one, or ``otherwise`` for those of length zero."""
    length = vectors.norm(dim=-1, keepdim=True)
    return torch.where(length > 0, vectors / length.clamp(min=torch.finfo(length.dtype).tiny), otherwise)
