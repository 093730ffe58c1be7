"""Stochastic gradient descent with momentum, as `torch.optim.SGD` has it.

Momentum: Polyak 1964, USSR Computational Mathematics and Mathematical Physics 4(5):1-17; Nesterov's in the form of
Sutskever et al. 2013, "On the importance of initialization and momentum in deep learning" (ICML).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from lopbench import InvalidInputError, Optimizer, later, number, per_replica

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class SGD(Optimizer):
    """Moves against the gradient, or against a decaying sum of gradients.

    Deviation from the papers, shared with torch: the learning rate multiplies the sum, and not each gradient in it.

    Args:
        momentum: Share of the sum that is kept from step to step, in [0, 1); 0 for none.
        weight_decay: Weight decay, added to the gradient, at least 0.
        nesterov: Whether the gradient is taken as if after the next move of the sum.
    """

    name: ClassVar[str] = "sgd"
    equation: ClassVar[str] = "m = momentum * m + g + weight_decay * theta; theta = theta - lr * m"
    validated: ClassVar[tuple[str, ...]] = ("bit for bit equal to torch.optim.SGD(fused=True) on the CPU",)
    grid: ClassVar[Mapping[str, tuple[object, ...]]] = {"momentum": (0.0, 0.9)}
    examples: ClassVar[tuple[Mapping[str, object], ...]] = (
        {"lr": 0.05},
        {"lr": 0.02, "momentum": 0.9},
        {"lr": 0.02, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    )
    momentum: float = number(0.0, least=0, below=1)
    weight_decay: float = number(0.0, least=0)
    nesterov: bool = later(False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and not self.momentum:
            raise InvalidInputError(f"{self.name}: nesterov needs momentum, as in {self.name}:lr=0.1,momentum=0.9")

    def init(self, parameter: Tensor, *, hidden: bool) -> dict[str, Tensor]:
        """Return the sum of gradients, if there is momentum."""
        return {"momentum_buffer": parameter.new_zeros(parameter.shape)} if self.momentum else {}

    def update(self, gradient: Tensor, entries: dict[str, Tensor], parameter: Tensor, lr: float | Tensor) -> Tensor:
        """Return the step against the gradient or its sum."""
        if self.weight_decay:
            gradient = gradient.add(parameter, alpha=self.weight_decay)
        if self.momentum:
            moving = entries["momentum_buffer"].mul_(self.momentum).add_(gradient)
            gradient = gradient.add(moving, alpha=self.momentum) if self.nesterov else moving
        return gradient * per_replica(-lr, gradient)

    def fused(self, leaves: Sequence[nn.Parameter]) -> torch.optim.Optimizer | None:
        """Return `torch.optim.SGD`."""
        import torch

        return torch.optim.SGD(
            leaves,
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            nesterov=self.nesterov,
            fused=leaves[0].device.type in ("cpu", "cuda"),
        )

    def unfused(self, parameter: Tensor, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the sum of gradients as it is."""
        return dict(state)
