"""Dead units: Joudaki et al. 2025, arXiv:2510.00304, appendix B (metric suite)."""

from dataclasses import dataclass
from typing import ClassVar

from lopbench import Invariance, Known, LayerMetric, LayerProbe, number


@dataclass(frozen=True, kw_only=True)
class DeadFraction(LayerMetric):
    """Share of units that are silent on nearly all rows.

    A unit is dead if ``|h| < tolerance`` on more than ``row_share`` of the rows. In a convolution rows are pixels, so
    a channel that is zero on 96% of the pixels is dead, however strong it is on the rest.

    Args:
        tolerance: Magnitude below which an activation is silent, in units of the activation, above 0.
        row_share: Share of silent rows above which a unit is dead, in [0, 1).
    """

    name: ClassVar[str] = "dead_fraction"
    default: ClassVar[bool] = True
    known: ClassVar[Known] = ((((0.0, 1.0), (0.0, 2.0)), 0.5),)
    invariances: ClassVar[frozenset[Invariance]] = frozenset({"units", "rows", "duplication"})
    tolerance: float = number(1e-7, above=0)
    row_share: float = number(0.95, least=0, below=1)

    def compute(self, probe: LayerProbe) -> float:
        """Return the dead share of the units, in [0, 1]."""
        silent = probe.share_of_rows(lambda activation: activation.abs() < self.tolerance)
        return (silent > self.row_share).double().mean().item()
