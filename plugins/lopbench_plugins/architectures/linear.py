"""The linear baseline of slowly-changing regression and bit flipping: a network without hidden units.

Dohare et al. 2021 (arXiv:2108.06325v2), section 3: what cannot lose plasticity, for it has no representation to lose.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, nn

from lopbench import Architecture
from lopbench_plugins.architectures._base import check_request, named
from lopbench_plugins.architectures.online_mlp import kaiming_linear


@dataclass(frozen=True, kw_only=True)
class Linear(Architecture):
    """An affine map of the flattened sample; weights uniform within ``sqrt(3 / fan_in)`` (Kaiming), biases zero."""

    name: ClassVar[str] = "linear"

    def build(self, input_shape: Sequence[int], outputs: int, *, generator: Generator) -> nn.Module:
        """Return a freshly initialised network in training mode, on the CPU.

        Args:
            input_shape: Shape of one sample, any.
            outputs: Number K of outputs, at least 1; the network maps ``(N, *input_shape)`` to ``(N, K)``.
            generator: Source of every random draw, on the CPU; advanced in place.

        Raises:
            InvalidInputError: If a dimension or ``outputs`` is below 1, or the generator is not on the CPU.
        """
        check_request(self.name, input_shape, outputs, generator)
        return named(
            flatten=nn.Flatten(), out=kaiming_linear(math.prod(input_shape), outputs, 1.0, generator=generator)
        )

    def layers(self, module: nn.Module) -> Sequence[str]:
        """Return no names: there is no hidden layer to probe."""
        return []
