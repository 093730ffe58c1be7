"""Muon: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/; code KellerJordan/Muon at f90a42b.

Adjustment of the learning rate "match_rms_adamw": Liu et al. 2025, arXiv:2502.16982v1, Eq. (4).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from lopbench import Optimizer, number, numbers, per_replica, whole
from lopbench_plugins.optimizers.adam import moments, moved

if TYPE_CHECKING:
    from torch import Tensor

#: Of the quintic ``a x + b x^3 + c x^5``, whose slope at 0 is the largest for which the iteration does not diverge.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
#: Least norm by which a matrix is divided.
FLOOR = 1e-7


@dataclass(frozen=True, kw_only=True)
class Muon(Optimizer):
    """Moves hidden matrices by their momentum with all singular values near 1, and everything else by Adam.

    Kernels are matrices of shape ``(out, in * height * width)``. Singular values end between 0.7 and 1.2, not at 1.

    Deviations from `torch.optim.Muon`: the iteration runs in the parameter's precision, not in bfloat16; all replicas
    are orthogonalised at once; kernels are served; weight decay is 0 by default, torch's is 0.1. A cleared entry loses
    its momentum, but its next step depends on the whole matrix.

    Args:
        lr: Learning rate of the matrices, above 0: ten times that of Adam is usual.
        momentum: Decay rate of the running mean of gradients, in [0, 1).
        nesterov: Whether the gradient is mixed into the mean once more.
        iterations: Number of Newton-Schulz iterations, at least 1.
        adjust: How the learning rate follows the shape: "original" is ``sqrt(max(1, rows / columns))``,
            "match_rms_adamw" is ``0.2 * sqrt(max(rows, columns))``.
        weight_decay: Weight decay beside the step, times the learning rate of the parameter, at least 0.
        adam_lr: Learning rate of Adam's part, as a multiple of ``lr``, above 0; so schedules and sweeps of ``lr`` move
            both.
        betas: Decay rates of the running means of Adam's part, in [0, 1).
        eps: Added to the root of the mean square in Adam's part, at least 0.
    """

    name: ClassVar[str] = "muon"
    equation: ClassVar[str] = "M = momentum * M + (1 - momentum) * G; theta = theta - lr * adjust * NewtonSchulz(M)"
    validated: ClassVar[tuple[str, ...]] = (
        "equal to torch.optim.Muon to 1e-12 in float64, where its iteration is kept from rounding to bfloat16",
    )
    grid: ClassVar[Mapping[str, tuple[object, ...]]] = {"momentum": (0.95, 0.9)}
    examples: ClassVar[tuple[Mapping[str, object], ...]] = (
        {"lr": 0.02},
        {"lr": 0.02, "nesterov": False, "adjust": "match_rms_adamw", "weight_decay": 0.1},
    )
    exempt: ClassVar[Mapping[str, str]] = {
        "cleared-entries-of-matrices-start-anew": "the entries of a matrix are orthogonalised together"
    }
    momentum: float = number(0.95, least=0, below=1)
    nesterov: bool = True
    iterations: int = whole(5, least=1)
    adjust: Literal["original", "match_rms_adamw"] = "original"
    weight_decay: float = number(0.0, least=0)
    adam_lr: float = number(0.1, above=0)
    betas: tuple[float, float] = numbers((0.9, 0.95), least=0, below=1)
    eps: float = number(1e-8, least=0)

    def init(self, parameter: Tensor, *, hidden: bool) -> dict[str, Tensor]:
        """Return the momentum of a matrix, or the moments of the rest."""
        return {"momentum_buffer": parameter.new_zeros(parameter.shape)} if hidden else moments(parameter)

    def update(self, gradient: Tensor, entries: dict[str, Tensor], parameter: Tensor, lr: float | Tensor) -> Tensor:
        """Return the orthogonalised step of a matrix, or that of Adam."""
        if "momentum_buffer" in entries:
            step = self._matrix_step(gradient, entries["momentum_buffer"], lr)
        else:
            lr = lr * self.adam_lr
            step = moved(gradient, entries, lr, betas=self.betas, eps=self.eps)
        if self.weight_decay:
            step.sub_(parameter * (per_replica(lr, parameter) * self.weight_decay))
        return step

    def _matrix_step(self, gradient: Tensor, buffer: Tensor, lr: float | Tensor) -> Tensor:
        mean = buffer.lerp_(gradient, 1 - self.momentum)
        matrices = (gradient.lerp(mean, self.momentum) if self.nesterov else mean).flatten(2)  # (R, out, rest)
        rows, columns = matrices.shape[1:]
        if self.adjust == "original":
            factor = math.sqrt(max(1.0, rows / columns))
        else:
            factor = 0.2 * math.sqrt(max(rows, columns))
        step = orthogonalised(matrices, self.iterations).reshape(gradient.shape)
        return step * per_replica(-lr * factor, step)


def orthogonalised(matrices: Tensor, iterations: int) -> Tensor:
    """Return ``matrices`` ``(R, A, B)`` with all singular values near 1, by Newton-Schulz iterations on each."""
    a, b, c = COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x: Tensor = matrices.mT if tall else matrices  # the smaller Gram matrix
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=FLOOR)
    for _ in range(iterations):
        gram = x @ x.mT
        x = x.baddbmm(gram.baddbmm(gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
