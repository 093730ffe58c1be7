"""Renyi-2 rank of the correlations: Joudaki et al. 2025, arXiv:2510.00304, section 3, er_2, and Theorem 3.1."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from lopbench import Invariance, Known, LayerMetric, LayerProbe


@dataclass(frozen=True, kw_only=True)
class Renyi2Rank(LayerMetric):
    """``er_2(M) = (tr M)^2 / ||M||_F^2`` of the correlation matrix ``M`` of the units. Centred and standardised.

    Unlike `participation_ratio`, which is the same of the covariance, it does not depend on the scale of single units.

    Deviation: constant units (`LayerProbe.varying`), whose correlation is 0/0, are left out; ``M`` is the correlation
    matrix of the others.
    """

    name: ClassVar[str] = "renyi2_rank"
    known: ClassVar[Known] = ((((1.0, 0.0), (-1.0, 0.0), (0.0, 3.0), (0.0, -3.0)), 2.0),)
    invariances: ClassVar[frozenset[Invariance]] = frozenset({"scale", "units", "rows", "duplication"})

    def compute(self, probe: LayerProbe) -> float:
        """Return the rank, in [1, min(N - 1, D)], or 0 if all units are constant."""
        scale = torch.where(probe.varying, probe.covariance.diagonal().rsqrt(), 0.0)
        correlation = probe.covariance * scale.outer(scale)
        units = probe.varying.sum()
        return torch.where(units == 0, 0.0, (units / correlation.norm()).square()).item()
