"""Dormant units: Sokar et al. 2023, arXiv:2302.12902v2, Definition 3.1, Eq. (1).

Deviation: an all-zero layer, 0/0 in Eq. (1), counts as fully dormant.
"""

from dataclasses import dataclass
from typing import ClassVar

from lopbench import Invariance, Known, LayerMetric, LayerProbe, number


@dataclass(frozen=True, kw_only=True)
class DormantFraction(LayerMetric):
    """Share of units whose mean absolute activation is at most ``tau`` times the layer's mean.

    Args:
        tau: Dormancy threshold, dimensionless, at least 0; 0 counts the units that are zero on every row.
    """

    name: ClassVar[str] = "dormant_fraction"
    default: ClassVar[bool] = True
    known: ClassVar[Known] = ((((0.0, 1.0), (0.0, 2.0)), 0.5),)
    invariances: ClassVar[frozenset[Invariance]] = frozenset({"scale", "units", "rows", "duplication"})
    tau: float = number(0.0, least=0)  # default of the authors' code (google/dopamine, labs/redo)

    def compute(self, probe: LayerProbe) -> float:
        """Return the dormant share of the units, in [0, 1]."""
        score = probe.mean_magnitude
        # Both sides of Eq. (1) times the layer mean, which avoids the 0/0.
        return (score <= self.tau * score.mean()).double().mean().item()
