"""AdamW: Loshchilov and Hutter 2019, arXiv:1711.05101v3, Algorithm 2, as `torch.optim.AdamW` has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from lopbench import per_replica
from lopbench_plugins.optimizers.adam import Adam, moved

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class AdamW(Adam):
    """Adam whose weight decay acts on the weights themselves, in proportion to the learning rate.

    Deviation from the paper, shared with torch: the decay is multiplied by the learning rate, and not by the schedule
    alone. The default decay is 0, torch's is 0.01.

    Args:
        betas: Decay rates of the running means of gradient and square, in [0, 1).
        eps: Added to the root of the mean square, at least 0.
        weight_decay: Weight decay, beside Adam's step, at least 0.
    """

    name: ClassVar[str] = "adamw"
    presets: ClassVar[Mapping[str, str]] = {}
    equation: ClassVar[str] = "theta = theta - lr * weight_decay * theta - lr * (Adam's step)"
    validated: ClassVar[tuple[str, ...]] = ("bit for bit equal to torch.optim.AdamW(fused=True) on the CPU",)

    def update(self, gradient: Tensor, entries: dict[str, Tensor], parameter: Tensor, lr: float | Tensor) -> Tensor:
        """Return Adam's step and the decay."""
        step = moved(gradient, entries, lr, betas=self.betas, eps=self.eps)
        if self.weight_decay:
            step.sub_(parameter * (per_replica(lr, parameter) * self.weight_decay))
        return step

    def fused(self, leaves: Sequence[nn.Parameter]) -> torch.optim.Optimizer | None:
        """Return `torch.optim.AdamW`."""
        import torch

        return self._fused(torch.optim.AdamW, leaves)
