"""Weight norm: the size of the parameters, whose growth often goes with lost plasticity."""

from dataclasses import dataclass
from typing import ClassVar

from lopbench import NetworkMetric, NetworkProbe
from lopbench_plugins.metrics.base import total_norm


@dataclass(frozen=True, kw_only=True)
class WeightNorm(NetworkMetric):
    """L2 norm of all trained parameters as one vector: weights, biases, norms' affine parameters and the head.

    Dohare et al. 2024, arXiv:2306.13812, report the mean absolute weight instead.
    """

    name: ClassVar[str] = "weight_norm"
    default: ClassVar[bool] = True

    def compute(self, probe: NetworkProbe) -> float:
        """Return the norm, at least 0."""
        return total_norm(probe.parameters.values())
