"""Stable rank: Rudelson and Vershynin 2007, arXiv:math/0503442, "numerical rank" there."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from lopbench import Invariance, Known, LayerMetric, LayerProbe


@dataclass(frozen=True, kw_only=True)
class StableRank(LayerMetric):
    """``sum(s^2) / max(s)^2`` of the singular values ``s`` of the uncentred activations.

    The squared Frobenius over the squared spectral norm, at most the rank. What Joudaki et al. 2025 call stable rank
    is `participation_ratio`; what Kumar et al. 2021 and others abbreviate is `srank`.
    """

    name: ClassVar[str] = "stable_rank"
    default: ClassVar[bool] = True
    known: ClassVar[Known] = ((((1.0, 0.0), (0.0, 2.0)), 1.25),)
    invariances: ClassVar[frozenset[Invariance]] = frozenset({"scale", "units", "rows", "duplication"})

    def compute(self, probe: LayerProbe) -> float:
        """Return the rank, in [1, min(N, D)], or 0 for an all-zero layer."""
        values = probe.singular_values
        largest = values[0]
        return torch.where(largest == 0, 0.0, (values / largest).square().sum()).item()
