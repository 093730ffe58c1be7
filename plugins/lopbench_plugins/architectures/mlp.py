"""The multilayer perceptron of Joudaki et al. 2025, "Barriers for Learning in an Evolving World", as their code has it.

Deviation: their code applies dropout 0.2 and batch normalisation unless told otherwise; here both are off by default,
which is the plain baseline of the paper.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

from torch import nn

from lopbench import whole
from lopbench_plugins.architectures._base import PaperArchitecture, activation_names, named


@dataclass(frozen=True, kw_only=True)
class MLP(PaperArchitecture):
    """Fully connected network on the flattened sample: ``depth`` times linear, norm, activation, dropout; then ``out``.

    Initialised as torch does: weights and biases uniform within ``1 / sqrt(fan_in)``.

    Args:
        width: Units of each hidden layer, at least 1.
        depth: Number of hidden layers, at least 1.
    """

    name: ClassVar[str] = "mlp"
    examples: ClassVar[tuple[Mapping[str, object], ...]] = (
        {"width": 16, "depth": 2},
        {"width": 16, "depth": 2, "normalization": "batch"},
    )
    width: int = whole(128, least=1)
    depth: int = whole(5, least=1)

    def assemble(self, input_shape: Sequence[int], outputs: int) -> nn.Module:
        """Return the network for samples of any shape."""
        sizes = [math.prod(input_shape), *[self.width] * self.depth]
        layers = [
            named(
                linear=nn.Linear(fan_in, fan_out),
                norm=self.normalization_layer("vector", fan_out),
                activation=self.activation_layer(),
                dropout=self.dropout_layer(),
            )
            for fan_in, fan_out in pairwise(sizes)
        ]
        return named(flatten=nn.Flatten(), layers=nn.Sequential(*layers), out=nn.Linear(self.width, outputs))

    def layers(self, module: nn.Module) -> Sequence[str]:
        """Return the names of the activation modules, one per hidden layer."""
        return activation_names(module)

    def widened(self, factor: int) -> "MLP":
        """Return the architecture with ``factor`` times the units in each hidden layer."""
        return replace(self, width=self.width * factor)
