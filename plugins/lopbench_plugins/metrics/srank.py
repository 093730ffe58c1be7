"""srank: Kumar A. et al. 2021, arXiv:2010.14498, section 3 (effective rank ``srank_delta``)."""

from dataclasses import dataclass
from typing import ClassVar

from lopbench.core.errors import InvalidInputError
from lopbench.core.interfaces import Invariance, Known
from lopbench.core.probe import LayerProbe
from lopbench_plugins.metrics.base import LayerMetric, fewest


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
    delta: float = 0.01

    def __post_init__(self) -> None:
        """Validate the field.

        Raises:
            InvalidInputError: If ``delta`` is out of range.
        """
        if not 0 < self.delta < 1:
            raise InvalidInputError(f"{self.name}: delta must be in (0, 1), got {self.delta}; the paper's is 0.01")

    def measure(self, probe: LayerProbe) -> float:
        """Return the rank, a whole number in [1, min(N, D)], or 0 for an all-zero layer."""
        return fewest(probe.singular_values, 1 - self.delta)
