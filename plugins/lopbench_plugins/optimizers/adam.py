"""Adam: Kingma and Ba 2015, arXiv:1412.6980v9, Algorithm 1, as `torch.optim.Adam` has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from lopbench import Optimizer, number, numbers, per_replica

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Adam(Optimizer):
    """Divides the running mean of the gradient by the root of that of its square; weight decay joins the gradient.

    Steps are counted for each entry, so that an entry that was cleared moves by one learning rate at first. With one
    common count it would move by ``(1 - beta1) / sqrt(1 - beta2)``, 3.2 learning rates (Dohare et al. 2021,
    arXiv:2108.06325v3).

    Its grid has what was found to keep plasticity: equal betas (Dohare et al. 2024, doi:10.1038/s41586-024-07711-7, for
    agents), and a larger epsilon (Lyle et al. 2023, arXiv:2303.01486).

    Args:
        betas: Decay rates of the running means of gradient and square, in [0, 1).
        eps: Added to the root of the mean square, at least 0.
        weight_decay: Weight decay, added to the gradient (L2), at least 0.
    """

    name: ClassVar[str] = "adam"
    equation: ClassVar[str] = (
        "m = beta1 * m + (1 - beta1) * g; v = beta2 * v + (1 - beta2) * g**2; "
        "theta = theta - lr * m / (1 - beta1**t) / (sqrt(v / (1 - beta2**t)) + eps)"
    )
    validated: ClassVar[tuple[str, ...]] = ("bit for bit equal to torch.optim.Adam(fused=True) on the CPU",)
    presets: ClassVar[Mapping[str, str]] = {
        "adam:betas=0.99/0.99": "equal decays (Dohare et al. 2024, Nature 632): nothing moves by more than the rate"
    }
    grid: ClassVar[Mapping[str, tuple[object, ...]]] = {
        "betas": ((0.9, 0.999), (0.99, 0.99)),
        "eps": (1e-8, 1e-3),
    }
    examples: ClassVar[tuple[Mapping[str, object], ...]] = ({"lr": 0.01}, {"lr": 0.01, "weight_decay": 0.1})
    betas: tuple[float, float] = numbers((0.9, 0.999), least=0, below=1)
    eps: float = number(1e-8, least=0)
    weight_decay: float = number(0.0, least=0)

    def init(self, parameter: Tensor, *, hidden: bool) -> dict[str, Tensor]:
        """Return both means at 0 and counts of no step."""
        return moments(parameter)

    def update(self, gradient: Tensor, entries: dict[str, Tensor], parameter: Tensor, lr: float | Tensor) -> Tensor:
        """Return the step along the moments of a gradient that has the weight decay in it."""
        if self.weight_decay:
            gradient = gradient.add(parameter, alpha=self.weight_decay)
        return moved(gradient, entries, lr, betas=self.betas, eps=self.eps)

    def fused(self, leaves: Sequence[nn.Parameter]) -> torch.optim.Optimizer | None:
        """Return `torch.optim.Adam`."""
        import torch

        return self._fused(torch.optim.Adam, leaves)

    def _fused(self, rule: type[torch.optim.Adam], leaves: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        """Return torch's ``rule`` of these hyperparameters."""
        return rule(
            leaves,
            lr=self.lr,
            betas=self.betas,
            eps=self.eps,
            weight_decay=self.weight_decay,
            fused=leaves[0].device.type in ("cpu", "cuda"),
        )

    def unfused(self, parameter: Tensor, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the means as they are, and the step count as powers of the betas."""
        steps = state["step"].double()
        decay1, decay2 = (
            parameter.new_ones((1,) * parameter.ndim) * (beta**steps).to(parameter) for beta in self.betas
        )
        return {"exp_avg": state["exp_avg"], "exp_avg_sq": state["exp_avg_sq"], "decay1": decay1, "decay2": decay2}


def moments(parameter: Tensor) -> dict[str, Tensor]:
    """Return what Adam remembers of a parameter ``(R, ...)`` before its first step.

    ``decay1`` and ``decay2`` are ``beta ** steps``, of the smallest shape that tells cleared entries apart: rows are
    cleared for incoming weights and columns for outgoing ones, so most parameters need one of the two only.
    """
    means = {key: parameter.new_zeros(parameter.shape) for key in ("exp_avg", "exp_avg_sq")}
    return means | {key: parameter.new_ones((1,) * parameter.ndim) for key in ("decay1", "decay2")}


def moved(
    gradient: Tensor, entries: Mapping[str, Tensor], lr: float | Tensor, *, betas: tuple[float, float], eps: float
) -> Tensor:
    """Return the step of Adam without weight decay, a new tensor ``(R, ...)``, and change `moments` in place.

    Args:
        gradient: Gradient, ``(R, ...)``; left as it is.
        entries: What `moments` returned and earlier steps changed.
        lr: Learning rate, one for all replicas or ``(R,)``.
        betas: Decay rates of the running means, in [0, 1).
        eps: Added to the root of the mean square, at least 0.
    """
    import torch

    beta1, beta2 = betas
    mean = entries["exp_avg"].lerp_(gradient, 1 - beta1)
    square = entries["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    correction1 = 1 - entries["decay1"].mul_(beta1)
    correction2 = 1 - entries["decay2"].mul_(beta2)
    # m / c1 / (sqrt(v / c2) + eps), with both corrections moved into the denominator. In place and in two
    # passes: one `addcmul` over corrections that broadcast takes seven times as long as all the rest.
    denominator = square.sqrt().mul_(correction1 * correction2.rsqrt()).add_(eps * correction1)
    # Into the memory of the denominator: another tensor of this size would cost as much as all the arithmetic.
    if isinstance(lr, int | float):
        return torch.addcdiv(mean.new_zeros(()), mean, denominator, value=-lr, out=denominator)
    return torch.div(mean, denominator, out=denominator).mul_(per_replica(-lr, mean))
