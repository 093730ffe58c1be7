"""Cloning of Joudaki et al. 2025, "Barriers for Learning in an Evolving World", sections A.3 and B.1.2.

The layout is that of their code (ajoudaki/loss-of-plasticity, 52fdf81, src/utils/cloning.py): clone j of unit i is unit
``factor * i + j``. Deviations from that code, which changes the function of some networks: attention heads are
duplicated as the paper says (or their softmax scale is corrected), group normalisation is cloned too, and a flatten
works for every factor.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor, nn

from lopbench import Cloner, Heads, Profile, widen_network


@dataclass(frozen=True, kw_only=True)
class Interleave(Cloner):
    """Puts each unit beside its clones; weights are constant on the blocks of clones.

    What makes a unit is copied, what reads it is divided by the number of clones. Groups of normalisations and
    convolutions keep their number and hold all clones of their channels; depthwise convolutions stay depthwise.

    Args:
        heads: Whether attention gets more heads, or wider ones with the softmax scale divided by the factor.
    """

    name: ClassVar[str] = "interleave"
    equation: ClassVar[str] = "W'[E i + a, E j + b] = W[i, j] / E, b'[E i + a] = b[i], for a, b < E"
    heads: Heads = "duplicate"

    def clone(
        self, module: nn.Module, factor: int, *, example: Tensor, generator: Generator
    ) -> tuple[nn.Module, Profile]:
        """Return the network ``factor`` times as wide, and what is a clone of what; draws nothing."""
        return widen_network(module, factor, example=example, layout="interleave", heads=self.heads)
