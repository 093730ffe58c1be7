"""Approximate rank: Dohare et al. 2024, arXiv:2306.13812, and their public code (shibhansh/loss-of-plasticity)."""

from dataclasses import dataclass
from typing import ClassVar

from lopbench import Invariance, Known, LayerMetric, LayerProbe, number
from lopbench_plugins.metrics.base import fewest


@dataclass(frozen=True, kw_only=True)
class ApproximateRank(LayerMetric):
    """Fewest squared singular values of the uncentred activations that hold ``share`` of their sum.

    Args:
        share: Share of the sum of squares to hold, in (0, 1).
    """

    name: ClassVar[str] = "approximate_rank"
    known: ClassVar[Known] = (
        (((3.0, 0.0), (0.0, 3.0)), 2.0),
        (((9.0, 0.0), (0.0, 0.1)), 1.0),
    )
    invariances: ClassVar[frozenset[Invariance]] = frozenset({"scale", "units", "rows", "duplication"})
    share: float = number(0.99, above=0, below=1)

    def compute(self, probe: LayerProbe) -> float:
        """Return the rank, a whole number in [1, min(N, D)], or 0 for an all-zero layer."""
        return fewest(probe.singular_values.square(), self.share)
