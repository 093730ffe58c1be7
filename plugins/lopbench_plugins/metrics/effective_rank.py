"""Effective rank: Roy and Vetterli 2007, "The effective rank: a measure of effective dimensionality", EUSIPCO."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from lopbench import Invariance, Known, LayerMetric, LayerProbe


@dataclass(frozen=True, kw_only=True)
class EffectiveRank(LayerMetric):
    """Exponential of the entropy of ``s / sum(s)``, where ``s`` are the singular values of the uncentred activations.

    Deviation: an all-zero layer, 0/0 in the definition, has rank 0. Unlike the code of Joudaki et al. 2025
    (arXiv:2510.00304), which is equal otherwise, this reads all rows, not at most 1,024 of them.
    """

    name: ClassVar[str] = "effective_rank"
    default: ClassVar[bool] = True
    known: ClassVar[Known] = (
        (((3.0, 0.0), (0.0, 3.0)), 2.0),
        (((1.0, 2.0), (2.0, 4.0)), 1.0),
    )
    invariances: ClassVar[frozenset[Invariance]] = frozenset({"scale", "units", "rows", "duplication"})

    def compute(self, probe: LayerProbe) -> float:
        """Return the rank, in [1, min(N, D)], or 0 for an all-zero layer."""
        values = probe.singular_values
        total = values.sum()
        share = values / total
        rank = torch.special.entr(share).sum().exp()
        return torch.where(total == 0, 0.0, rank).item()
