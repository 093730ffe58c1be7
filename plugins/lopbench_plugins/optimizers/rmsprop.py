"""RMSprop: Tieleman and Hinton 2012, Coursera "Neural Networks for Machine Learning", lecture 6e; torch's form.

Centred: Graves 2013, arXiv:1308.0850v5, Eq. (38-45).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from lopbench import Optimizer, number, per_replica

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class RMSprop(Optimizer):
    """Divides the gradient by the root of the running mean of its square.

    The mean starts at 0 and is not corrected: the first steps, and those of entries that were cleared, are of
    ``1 / sqrt(1 - alpha)`` learning rates, 10 by default. As in `torch.optim.RMSprop`, ``eps`` is added to the root,
    and momentum gathers steps without the learning rate.

    Args:
        alpha: Decay rate of the mean square, in [0, 1).
        eps: Added to the root of the mean square, at least 0.
        momentum: Share of the sum of steps that is kept from step to step, in [0, 1); 0 for none.
        centered: Whether the square of the mean gradient is taken off the mean square.
        weight_decay: Weight decay, added to the gradient, at least 0.
    """

    name: ClassVar[str] = "rmsprop"
    equation: ClassVar[str] = "v = alpha * v + (1 - alpha) * g**2; theta = theta - lr * g / (sqrt(v) + eps)"
    validated: ClassVar[tuple[str, ...]] = ("equal to torch.optim.RMSprop to 1e-12 in float64",)
    grid: ClassVar[Mapping[str, tuple[object, ...]]] = {"alpha": (0.99, 0.9), "eps": (1e-8, 1e-3)}
    examples: ClassVar[tuple[Mapping[str, object], ...]] = (
        {"lr": 0.001},
        {"lr": 0.001, "momentum": 0.9, "centered": True, "weight_decay": 0.01},
    )
    alpha: float = number(0.99, least=0, below=1)
    eps: float = number(1e-8, least=0)
    momentum: float = number(0.0, least=0, below=1)
    centered: bool = False
    weight_decay: float = number(0.0, least=0)

    def init(self, parameter: Tensor, *, hidden: bool) -> dict[str, Tensor]:
        """Return what the variant needs, at 0."""
        names = ["square_avg", *["momentum_buffer"] * bool(self.momentum), *["grad_avg"] * self.centered]
        return {name: parameter.new_zeros(parameter.shape) for name in names}

    def update(self, gradient: Tensor, entries: dict[str, Tensor], parameter: Tensor, lr: float | Tensor) -> Tensor:
        """Return the step of the gradient over its running size."""
        if self.weight_decay:
            gradient = gradient.add(parameter, alpha=self.weight_decay)
        square = entries["square_avg"].mul_(self.alpha).addcmul_(gradient, gradient, value=1 - self.alpha)
        if self.centered:
            mean = entries["grad_avg"].lerp_(gradient, 1 - self.alpha)
            square = square.addcmul(mean, mean, value=-1)
        step = gradient / square.sqrt().add_(self.eps)
        if self.momentum:
            step = entries["momentum_buffer"].mul_(self.momentum).add_(step)
        return step * per_replica(-lr, step)

    def fused(self, leaves: Sequence[nn.Parameter]) -> torch.optim.Optimizer | None:
        """Return `torch.optim.RMSprop`."""
        import torch

        return torch.optim.RMSprop(
            leaves,
            lr=self.lr,
            alpha=self.alpha,
            eps=self.eps,
            momentum=self.momentum,
            centered=self.centered,
            weight_decay=self.weight_decay,
        )

    def unfused(self, parameter: Tensor, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return everything but the number of steps, which is not used."""
        return {name: value for name, value in state.items() if name != "step"}
