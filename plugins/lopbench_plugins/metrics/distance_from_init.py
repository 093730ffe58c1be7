"""Distance from initialisation: the root of what L2 Init penalises, Kumar S. et al. 2023, arXiv:2308.11958."""

from dataclasses import dataclass
from typing import ClassVar

from lopbench import InvalidInputError, NetworkMetric, NetworkProbe
from lopbench_plugins.metrics.base import total_norm


@dataclass(frozen=True, kw_only=True)
class DistanceFromInit(NetworkMetric):
    """L2 norm of the difference between all trained parameters, the head included, and the same as built."""

    name: ClassVar[str] = "distance_from_init"
    default: ClassVar[bool] = True

    def compute(self, probe: NetworkProbe) -> float:
        """Return the distance, at least 0.

        Raises:
            InvalidInputError: If parameters and initial parameters do not have the same names.
        """
        unmatched = sorted(probe.parameters.keys() ^ probe.initial.keys())
        if unmatched:
            raise InvalidInputError(
                f"{self.name} needs each parameter as trained and as built; only one is there of {', '.join(unmatched)}"
            )
        return total_norm(value - probe.initial[name] for name, value in probe.parameters.items())
