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

from lopbench import InvalidInputError, later, whole
from lopbench_plugins.architectures._base import PaperArchitecture, activation_names, named


@dataclass(frozen=True, kw_only=True)
class MLP(PaperArchitecture):
    """Fully connected network on the flattened sample: ``depth`` times linear, norm, activation, dropout; then ``out``.

    Initialised as torch does: weights and biases uniform within ``1 / sqrt(fan_in)``.

    Args:
        width: Units of each hidden layer, at least 1.
        depth: Number of hidden layers, at least 1.
        widths: Units of each hidden layer where they differ, in place of ``width`` and ``depth``; written ``300/150``
            on the command line.
    """

    name: ClassVar[str] = "mlp"
    examples: ClassVar[tuple[Mapping[str, object], ...]] = (
        {"width": 16, "depth": 2},
        {"width": 16, "depth": 2, "normalization": "batch"},
        {"widths": (12, 8)},
    )
    width: int = whole(128, least=1)
    depth: int = whole(5, least=1)
    widths: tuple[int, ...] = later(())

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.widths and min(self.widths) < 1:
            given = "/".join(map(str, self.widths))
            raise InvalidInputError(f"{self.name}: widths must be at least 1 each, got {given}")
        if self.widths and (self.width, self.depth) != (MLP.width, MLP.depth):
            raise InvalidInputError(
                f"{self.name}: widths={'/'.join(map(str, self.widths))} says how many layers of how many units there "
                f"are; leave out width={self.width} and depth={self.depth}"
            )

    @property
    def _hidden(self) -> tuple[int, ...]:
        return self.widths or (self.width,) * self.depth

    def assemble(self, input_shape: Sequence[int], outputs: int) -> nn.Module:
        """Return the network for samples of any shape."""
        sizes = [math.prod(input_shape), *self._hidden]
        layers = [self.hidden_layer(fan_in, fan_out) for fan_in, fan_out in pairwise(sizes)]
        return named(flatten=nn.Flatten(), layers=nn.Sequential(*layers), out=nn.Linear(sizes[-1], outputs))

    def layers(self, module: nn.Module) -> Sequence[str]:
        """Return the names of the activation modules, one per hidden layer."""
        return activation_names(module)

    def widened(self, factor: int) -> "MLP":
        """Return the architecture with ``factor`` times the units in each hidden layer."""
        if self.widths:
            return replace(self, widths=tuple(factor * width for width in self.widths))
        return replace(self, width=self.width * factor)
