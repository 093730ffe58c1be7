"""Muon with the iteration that converges: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/.

Deviations: the cubic Newton-Schulz iteration ``1.5 x - 0.5 x**3``, whose singular values end at 1 and not between 0.7
and 1.2; momentum without Nesterov's step; all that is no hidden matrix moves by plain SGD.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from lopbench import Optimizer, Register, hookimpl, number, per_replica, whole

lopbench_api = 2


@dataclass(frozen=True, kw_only=True)
class Polar(Optimizer):
    """Moves hidden matrices by the orthogonal factor of their momentum, and everything else by SGD.

    Kernels are matrices of shape ``(out, in * height * width)``.

    Args:
        momentum: Decay rate of the running mean of gradients, in [0, 1).
        iterations: Number of iterations, at least 1.
        rest: Learning rate of SGD, as a multiple of ``lr``, at least 0.
    """

    name: ClassVar[str] = "polar"
    equation: ClassVar[str] = "M = momentum * M + (1 - momentum) * G; W = W - lr * U V^T, where M = U S V^T"
    examples: ClassVar[tuple[Mapping[str, object], ...]] = ({"lr": 0.02},)
    exempt: ClassVar[Mapping[str, str]] = {
        "cleared-entries-of-matrices-start-anew": "the entries of a matrix are orthogonalised together"
    }
    momentum: float = number(0.95, least=0, below=1)
    iterations: int = whole(12, least=1)
    rest: float = number(1.0, least=0)

    def init(self, parameter: Tensor, *, hidden: bool) -> dict[str, Tensor]:
        """Return the momentum of a hidden matrix; nothing else is remembered."""
        return {"momentum": parameter.new_zeros(parameter.shape)} if hidden else {}

    def update(self, gradient: Tensor, entries: dict[str, Tensor], parameter: Tensor, lr: float | Tensor) -> Tensor:
        """Return the step of a hidden matrix, or that of SGD."""
        if "momentum" not in entries:
            return gradient * per_replica(-lr * self.rest, gradient)
        mean = entries["momentum"].lerp_(gradient, 1 - self.momentum)
        return orthogonal(mean.flatten(2), self.iterations).view_as(mean) * per_replica(-lr, mean)


def orthogonal(matrices: Tensor, iterations: int) -> Tensor:
    """Return the orthogonal polar factors of ``matrices`` ``(R, A, B)``, nearly; zero matrices stay zero."""
    tall = matrices.shape[1] > matrices.shape[2]
    x: Tensor = matrices.mT if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-12)
    for _ in range(iterations):
        x = 1.5 * x - 0.5 * (x @ x.mT) @ x
    return x.mT if tall else x


@hookimpl
def lopbench_optimizers(register: Register) -> None:
    """Make the optimizer known."""
    register("polar", Polar, "orthogonal steps for hidden matrices, SGD for the rest")
