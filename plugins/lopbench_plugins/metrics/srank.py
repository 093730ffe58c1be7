"""srank: Kumar A. et al. 2021, arXiv:2010.14498, section 3 (effective rank ``srank_delta``)."""

from dataclasses import dataclass
from typing import ClassVar

from lopbench import Invariance, Known, LayerMetric, LayerProbe, number
from lopbench_plugins.metrics.base import fewest


@dataclass(frozen=True, kw_only=True)
class Srank(LayerMetric):
    """Fewest singular values of the uncentred activations that hold ``1 - delta`` of their sum.

    Args:
        delta: Share of the sum that may be missing, in (0, 1).
    """

    name: ClassVar[str] = "srank"
    known: ClassVar[Known] = (
        (((3.0, 0.0), (0.0, 3.0)), 2.0),
        (((9.0, 0.0), (0.0, 0.01)), 1.0),
    )
    invariances: ClassVar[frozenset[Invariance]] = frozenset({"scale", "units", "rows", "duplication"})
    delta: float = number(0.01, above=0, below=1)

    def compute(self, probe: LayerProbe) -> float:
        """Return the rank, a whole number in [1, min(N, D)], or 0 for an all-zero layer."""
        return fewest(probe.singular_values, 1 - self.delta)
