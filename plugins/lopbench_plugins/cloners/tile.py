"""Cloning of Joudaki et al. 2025, "Barriers for Learning in an Evolving World", sections A.3 and B.1.2, tiled.

The same manifold as ``interleave`` up to the order of units: whole copies of a layer stand one after another, as in
Net2Net and most tools that grow networks.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor, nn

from lopbench import Cloner, Heads, Profile, widen_network


@dataclass(frozen=True, kw_only=True)
class Tile(Cloner):
    """Puts whole copies of each layer one after another; weights are constant on the blocks of clones.

    Groups of normalisations and convolutions are multiplied with the copies, except where one group holds all.

    Args:
        heads: Whether attention gets more heads, or wider ones with the softmax scale divided by the factor.
    """

    name: ClassVar[str] = "tile"
    equation: ClassVar[str] = (
        "W'[i + a D, j + b D'] = W[i, j] / E, b'[i + a D] = b[i], for a, b < E and layers of D and D' units"
    )
    heads: Heads = "duplicate"

    def clone(
        self, module: nn.Module, factor: int, *, example: Tensor, generator: Generator
    ) -> tuple[nn.Module, Profile]:
        """Return the network ``factor`` times as wide, and what is a clone of what; draws nothing."""
        return widen_network(module, factor, example=example, layout="tile", heads=self.heads)
