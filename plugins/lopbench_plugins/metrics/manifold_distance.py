"""Distance to the cloning manifolds of Joudaki et al. 2025, "Barriers for Learning in an Evolving World", section A.2.

The distance is ours; the paper looks at activations only.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from lopbench import NetworkMetric, NetworkProbe
from lopbench_plugins.metrics.base import profile_of, total_norm


@dataclass(frozen=True, kw_only=True)
class ManifoldDistance(NetworkMetric):
    """L2 distance of all trained parameters from a cloning manifold, as a share of their L2 norm.

    Args:
        manifold: "constant", weights that are equal within each block of clones; or "equitable", weights whose sums
            over the rows and over the columns of each block are equal, which is enough for clones to stay clones.
    """

    name: ClassVar[str] = "manifold_distance"
    needs_clones: ClassVar[bool] = True
    manifold: Literal["constant", "equitable"] = "constant"

    def compute(self, probe: NetworkProbe) -> float:
        """Return the relative distance, in [0, 1]; 0 if all parameters are zero.

        Raises:
            UnsupportedError: If the network was not cloned.
        """
        profile = profile_of(self.name, probe)
        normal = profile.residual if self.manifold == "constant" else profile.equitable_residual
        # In float64, where the mean of up to 2**29 equal float32 numbers is exactly that number.
        parameters = {name: value.double() for name, value in probe.parameters.items()}
        distance = total_norm(normal(parameters).values())
        return distance / total_norm(parameters.values()) if distance else 0.0
