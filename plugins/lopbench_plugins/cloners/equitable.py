"""The larger cloning manifold of Joudaki et al. 2025, "Barriers for Learning in an Evolving World", Theorem 2.1(2).

Within each pair of blocks of clones, the weights may differ as long as all rows have one sum and all columns have one
sum (the row- and column-equitable manifolds of section A.2): clones then still compute the same, receive the same
error, and have gradients that are constant on the block.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor, nn

from lopbench import Cloner, Heads, Profile, number, widen_network
from lopbench_plugins.cloners._base import cloned_parameters, rms


@dataclass(frozen=True, kw_only=True)
class Equitable(Cloner):
    """Clones as ``interleave`` does and redistributes weights at random within the blocks, sums kept.

    Weights between two layers of clones have such freedom; those that read the input or make the output, biases,
    normalisations and depthwise convolutions have none and are as in ``interleave``. Gaussian noise is added with its
    means over each row and each column of a block taken away, which projects it orthogonally onto the freedom.

    Args:
        strength: Root mean square of the redistribution, as a share of that of the weight tensor, at least 0.
        heads: Whether attention gets more heads, or wider ones with the softmax scale divided by the factor.
    """

    name: ClassVar[str] = "equitable"
    equation: ClassVar[str] = "W'[E i + a, E j + b] = W[i, j] / E + T[a, b; i, j], with sum_a T = sum_b T = 0"
    strength: float = number(1.0, least=0, zero=0)
    heads: Heads = "duplicate"

    def clone(
        self, module: nn.Module, factor: int, *, example: Tensor, generator: Generator
    ) -> tuple[nn.Module, Profile]:
        """Return the network ``factor`` times as wide, and what is a clone of what."""
        wide, profile = widen_network(module, factor, example=example, layout="interleave", heads=self.heads)
        for parameter, axes, noise in cloned_parameters(wide, profile, generator):
            if len(axes) < 2 or not self.strength:
                continue
            for axis, partition in axes:
                noise -= partition.project(noise, axis)
            scale = self.strength * rms(parameter).cpu() / rms(noise)
            parameter += (scale * noise).to(parameter)
        return wide, profile
