"""Dormant units: Sokar et al. 2023, arXiv:2302.12902v2, Definition 3.1, Eq. (1).

Deviation: an all-zero layer, 0/0 in Eq. (1), counts as fully dormant.
"""

from dataclasses import dataclass
from math import inf
from typing import ClassVar

from lopbench.core.errors import InvalidInputError
from lopbench.core.interfaces import Invariance, Known
from lopbench.core.probe import LayerProbe
from lopbench_plugins.metrics.base import LayerMetric


@dataclass(frozen=True, kw_only=True)
class DormantFraction(LayerMetric):
    """Share of units whose mean absolute activation is at most ``tau`` times the layer's mean.

    Args:
        tau: Dormancy threshold, dimensionless, at least 0 and finite; 0 counts the units that are zero on every row.
    """

    name: ClassVar[str] = "dormant_fraction"
    default: ClassVar[bool] = True
    known: ClassVar[Known] = ((((0.0, 1.0), (0.0, 2.0)), 0.5),)
    invariances: ClassVar[frozenset[Invariance]] = frozenset({"scale", "units", "rows", "duplication"})
    tau: float = 0.0  # default of the authors' code (google/dopamine, labs/redo)

    def __post_init__(self) -> None:
        """Validate the field.

        Raises:
            InvalidInputError: If ``tau`` is negative or not finite.
        """
        if not 0 <= self.tau < inf:  # also refuses NaN
            raise InvalidInputError(
                f"{self.name}: tau must be at least 0 and finite, got {self.tau}; the paper's is 0.1"
            )

    def measure(self, probe: LayerProbe) -> float:
        """Return the dormant share of the units, in [0, 1]."""
        score = probe.mean_magnitude
        # Both sides of Eq. (1) times the layer mean, which avoids the 0/0.
        return (score <= self.tau * score.mean()).double().mean().item()
