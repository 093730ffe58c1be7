"""Gradient norm: Abbas et al. 2023, arXiv:2303.07507, who see it collapse where plasticity is lost."""

from dataclasses import dataclass
from typing import ClassVar

from lopbench import InvalidInputError, NetworkMetric, NetworkProbe
from lopbench_plugins.metrics.base import total_norm


@dataclass(frozen=True, kw_only=True)
class GradientNorm(NetworkMetric):
    """L2 norm of the gradient of the probe's mean loss with respect to all trained parameters, the head included."""

    name: ClassVar[str] = "gradient_norm"
    default: ClassVar[bool] = True

    def compute(self, probe: NetworkProbe) -> float:
        """Return the norm, at least 0, in units of loss per parameter.

        Raises:
            InvalidInputError: If the probe has no gradients.
        """
        if not probe.gradients:
            raise InvalidInputError(f"{self.name} reads gradients and the probe has none; take it with gradients")
        return total_norm(probe.gradients.values())
