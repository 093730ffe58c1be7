"""The target of online bit flipping: one hidden layer of linear threshold units (LTUs) with fixed random weights.

Weights, biases and output weights are -1 or +1. A hidden unit fires when more than a share ``beta`` of its input bits
match the signs of its weights: a one where the weight is +1, a zero where it is -1. Three texts state the threshold in
three ways, which give different problems. Written as a condition on the number of matching bits, with ``b`` the unit's
bias of -1 or +1 and ``m`` the number of bits, a unit fires where

- ``paper``: ``matches >= beta m - b/2`` (Joudaki et al. 2025, arXiv:2510.00304, appendix B);
- ``joudaki``: ``matches > beta (m + 1) - b/2`` (their code, ajoudaki/loss-of-plasticity at 52fdf81);
- ``dohare``: ``matches > beta (m + 1) - 3b/2`` (Dohare et al. 2024 and 2021, arXiv:2108.06325, their code
  shibhansh/loss-of-plasticity at 63c35f3; the sign of the bias is the other one in its threshold).

The first two give the learner a last input that is always one, the third gives it the bits alone. On uniform bits with
m = 20 and beta = 0.7 a unit fires with probability 0.0392, 0.0133 and 0.0295 in this order.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor

TargetName = Literal["paper", "joudaki", "dohare"]

#: Inputs whose hidden units are computed at once: bounds memory, and stays in cache at the published width.
_BLOCK = 4096


@dataclass(frozen=True)
class Convention:
    """How one of the texts states the threshold: in matching bits it is ``beta * (m + extra) - slope * b``.

    Args:
        extra: Bits counted beside the m of the input, 0 or 1.
        slope: What a bias of one takes off the threshold, in bits.
        strict: Whether the matches must exceed the threshold, and not only reach it.
        bias_input: Whether the learner gets a last input that is always one.
    """

    extra: int
    slope: float
    strict: bool
    bias_input: bool

    def matches_needed(self, m: int, beta: float, bias: int) -> int:
        """Return the fewest matching bits with which a unit of this bias (-1 or +1) fires."""
        # beta is a decimal: 0.7 * 45 is 31.5, which units can reach, though the product of floats is a little less.
        threshold = round(beta * (m + self.extra), 9) - self.slope * bias
        return math.floor(threshold) + 1 if self.strict else math.ceil(threshold)


CONVENTIONS: Mapping[TargetName, Convention] = {
    "paper": Convention(extra=0, slope=0.5, strict=False, bias_input=True),
    "joudaki": Convention(extra=1, slope=0.5, strict=True, bias_input=True),
    "dohare": Convention(extra=1, slope=1.5, strict=True, bias_input=False),
}


class LtuTarget:
    """A fixed random target function of ``m`` bits.

    All its values are small whole numbers, so that float32, and TF32 too, compute it exactly on any device.

    Args:
        convention: How the threshold is stated.
        m: Number of bits, at least 1.
        width: Number of hidden units, at least 1.
        beta: Share of the bits that must match.
        generator: Source of the weights, on the CPU; advanced in place. The draws do not depend on the convention.
        device: Where inputs are.
    """

    def __init__(
        self, convention: Convention, m: int, width: int, beta: float, *, generator: Generator, device: torch.device
    ) -> None:
        weights = _signs(width, m, generator=generator)
        biases = _signs(width, generator=generator)
        needed = torch.tensor([convention.matches_needed(m, beta, bias) for bias in biases.int().tolist()])
        negative = (weights < 0).sum(dim=1)  # bits = 0 match these, and bits @ weights counts the other matches
        self._weights = weights.T.contiguous().to(device)  # (m, width)
        self._thresholds = (needed - negative).float().to(device)  # (width,)
        self._output = _signs(width, generator=generator).to(device)
        self._output_bias = _signs(1, generator=generator).to(device)

    def firing(self, bits: Tensor) -> Tensor:
        """Return which hidden units fire, boolean ``(N, width)``, on zeros and ones ``bits``, float32 ``(N, m)``."""
        return bits @ self._weights >= self._thresholds

    def __call__(self, bits: Tensor) -> Tensor:
        """Return the target's value, float32 ``(N, 1)``, for ``bits``, zeros and ones in float32 ``(N, m)``."""
        values = [self.firing(block).float() @ self._output for block in bits.split(_BLOCK)]
        return (torch.cat(values) + self._output_bias).unsqueeze(1)


def _signs(*shape: int, generator: Generator) -> Tensor:
    """Return -1 or +1 with equal probability, float32."""
    return torch.randint(0, 2, shape, generator=generator).mul_(2).sub_(1).float()
