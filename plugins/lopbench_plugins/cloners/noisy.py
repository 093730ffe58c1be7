"""Growing a network with noise: Chen, Goodfellow and Shlens 2015, "Net2Net", arXiv:1511.05641v4, section 2.2.

They break the symmetry between copies of a unit by a small amount of noise; here every copy gets some, and every
parameter of it. Joudaki et al. 2025, "Barriers for Learning in an Evolving World", section 2, ask whether networks
escape from the cloning manifold; this is the ordinary way to give them a push.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor, nn

from lopbench import Cloner, Heads, Profile, number, widen_network
from lopbench_plugins.cloners._base import cloned_parameters, rms


@dataclass(frozen=True, kw_only=True)
class Noisy(Cloner):
    """Clones as ``interleave`` does and adds Gaussian noise to every parameter of cloned units.

    With noise the function is that of the base only approximately.

    Args:
        strength: Standard deviation of the noise, as a share of the root mean square of the parameter tensor, at
            least 0.
        heads: Whether attention gets more heads, or wider ones with the softmax scale divided by the factor.
    """

    name: ClassVar[str] = "noisy"
    exempt: ClassVar[Mapping[str, str]] = {
        "clones-are-certified": "noise tells clones apart, and with it the function is the base's only approximately",
    }
    equation: ClassVar[str] = "theta' = clone(theta) + strength * rms(theta) * N(0, 1)"
    strength: float = number(0.01, least=0, zero=0)
    heads: Heads = "duplicate"

    def clone(
        self, module: nn.Module, factor: int, *, example: Tensor, generator: Generator
    ) -> tuple[nn.Module, Profile]:
        """Return the network ``factor`` times as wide, and what is a clone of what up to the noise."""
        wide, profile = widen_network(module, factor, example=example, layout="interleave", heads=self.heads)
        for parameter, _, noise in cloned_parameters(wide, profile, generator):
            parameter += (self.strength * rms(parameter).cpu() * noise).to(parameter)
        return wide, profile
