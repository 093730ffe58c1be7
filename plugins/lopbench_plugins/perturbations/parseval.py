"""Parseval regularisation: Chung, Cherif, Precup, Meger 2024, "Parseval Regularization for Continual RL".

NeurIPS 2024, arXiv:2412.07224; the scaling by width is that of their code (wechu/parseval_reg, ``agent.py``).
Deviations:

- The penalty enters as its gradient, by the smaller of the two Gram matrices: ``(W W^T - s I) W = W (W^T W - s I)``.
- Networks keep their initialisation, where theirs starts at orthogonal matrices, and get no learned diagonal layers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lopbench import Family, Learner, Perturbation, State, number, per_replica
from lopbench_plugins.perturbations._weights import by_shape, hidden_weights, stacked

#: Width at which their strength is told.
WIDTH = 64

#: Fewest rows that are multiplied at once where a product with its own transpose is made in parts.
_LEAST_BLOCK = 16


@dataclass(frozen=True, kw_only=True)
class Parseval(Perturbation):
    """Pulls the rows of hidden weights towards orthogonality and one length.

    The penalty is ``strength * (64 / rows)**2 * norm(W W^T - scale * I)**2``, summed over linear layers, attention and
    convolutions, as matrices ``(out, in * height * width)``, but for the head. Biases, gains and embeddings stay out.
    Of matrices with more rows than columns it is the columns that become orthogonal: the two penalties differ by a
    constant.

    Args:
        strength: Coefficient of the penalty, at least 0.
        scale: Squared length of a row, above 0: the squared gain of the activation function, 2 for ReLU.
    """

    name: ClassVar[str] = "parseval"
    family: ClassVar[Family] = "regularise"
    cost: ClassVar[Mapping[str, float]] = {"time": 2.0, "memory": 1.0, "program": 1.5}
    examples: ClassVar[tuple[Mapping[str, object], ...]] = ({"strength": 1e-3},)
    grid: ClassVar[Mapping[str, tuple[object, ...]]] = {"strength": (1e-3, 1e-4, 1e-5)}
    equation: ClassVar[str] = "loss + strength * sum (64 / rows)**2 * norm(W W^T - scale * I)**2"
    validated: ClassVar[tuple[str, ...]] = (
        "theorem: sqrt(scale) times an orthogonal matrix is not pulled",
        "gradient against automatic differentiation of the penalty, of wide and of tall matrices",
    )
    strength: float = number(1e-3, least=0, zero=0, swept=True)
    scale: float = number(2.0, above=0)

    def begin(self, learner: Learner, state: State) -> None:
        """Look for hidden weights.

        Raises:
            UnsupportedError: If there are none, or the weight of a layer is computed from other parameters.
        """
        hidden_weights(learner, self.name)

    def after_backward(self, learner: Learner, state: State) -> None:
        """Add the penalty's gradient in place, to every hidden weight that has a gradient."""
        parameters, gradients = learner.parameters, learner.gradients
        for names in by_shape(hidden_weights(learner, self.name), parameters).values():
            found = excess(stacked(names, parameters), self.scale)
            for name, each in zip(names, (found * per_replica(self.strength, found)).unbind(1), strict=True):
                if name in gradients:
                    add_pull(gradients[name], parameters[name], each)


def excess(matrices: Tensor, scale: float) -> Tensor:
    """Return ``4 (64 / rows)**2 (G - scale * I)`` for matrices ``(..., out, in)``, with G the smaller Gram matrix."""
    rows, columns = matrices.shape[-2:]
    gram = _times_own_transpose(matrices if rows <= columns else matrices.mT)
    gram.diagonal(dim1=-2, dim2=-1).sub_(scale)
    return gram.mul_(4 * (WIDTH / rows) ** 2)


def _times_own_transpose(matrices: Tensor) -> Tensor:
    """Return ``M M^T`` of matrices ``(..., n, k)``; where it pays, what is above the diagonal is copied from below."""
    rows, columns = matrices.shape[-2:]
    block = rows // 4
    if block < _LEAST_BLOCK or columns < 2 * rows:
        return matrices @ matrices.mT
    gram = matrices.new_empty(*matrices.shape[:-1], rows)
    for start in range(0, rows, block):
        here = slice(start, start + block)
        made = matrices[..., here, :] @ matrices[..., : start + block, :].mT
        gram[..., here, : made.shape[-1]] = made
        gram[..., :start, here] = made[..., :start].mT
    return gram


def add_pull(gradient: Tensor, weight: Tensor, excess: Tensor) -> None:
    """Add to the gradient ``(R, out, ...)`` of a weight, in place, its matrix times what `excess` found of it."""
    matrix = weight.flatten(2)
    pair = (excess, matrix) if matrix.shape[1] <= matrix.shape[2] else (matrix, excess)
    if gradient.is_contiguous():  # in one pass over the gradient
        gradient.view(matrix.shape).baddbmm_(*pair)
    else:
        gradient.add_(torch.bmm(*pair).view_as(gradient))
