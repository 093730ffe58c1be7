"""Gradient norm: Abbas et al. 2023, arXiv:2303.07507, who see it collapse where plasticity is lost."""

from dataclasses import dataclass
from typing import ClassVar

from lopbench import InvalidInputError, NetworkMetric, NetworkProbe
from lopbench_plugins.metrics.base import total_norm


@dataclass(frozen=True, kw_only=True)
class GradientNorm(NetworkMetric):
    """L2 norm of the gradient of the probe's mean loss with respect to all trained parameters, the head included.

    It is not measured where the weights of the head are zero, as some protocols leave them at the start of a task: no
    gradient gets past it then, whatever the rest of the network is like.
    """

    name: ClassVar[str] = "gradient_norm"
    default: ClassVar[bool] = True

    def compute(self, probe: NetworkProbe) -> float | None:
        """Return the norm, at least 0, in units of loss per parameter; None where the head is zero.

        Raises:
            InvalidInputError: If the probe has no gradients.
        """
        if not probe.gradients:
            raise InvalidInputError(f"{self.name} reads gradients and the probe has none; take it with gradients")
        return None if probe.blocked else total_norm(probe.gradients.values())
