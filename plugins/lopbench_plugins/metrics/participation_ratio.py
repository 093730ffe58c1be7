"""Participation ratio of the covariance: the "stable rank" of Joudaki et al. 2025, arXiv:2510.00304, appendix B."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from lopbench import Invariance, Known, LayerMetric, LayerProbe


@dataclass(frozen=True, kw_only=True)
class ParticipationRatio(LayerMetric):
    """``(tr C)^2 / ||C||_F^2`` of the covariance ``C`` of the units: the Renyi-2 rank of its eigenvalues. Centred.

    The paper calls it stable rank, which elsewhere is the squared Frobenius over the squared spectral norm. Cloning
    every unit equally often leaves it as it is.

    Deviations: units that are constant up to rounding (`LayerProbe.varying`) are left out, where the authors' code
    returns 0 for a denominator below 1e-9, which depends on the scale; all rows are read, not at most 1,024 of them.
    """

    name: ClassVar[str] = "participation_ratio"
    default: ClassVar[bool] = True
    known: ClassVar[Known] = ((((1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0)), 2.0),)
    invariances: ClassVar[frozenset[Invariance]] = frozenset({"scale", "units", "rows", "duplication"})

    def compute(self, probe: LayerProbe) -> float:
        """Return the ratio, in [1, min(N - 1, D)], or 0 if all units are constant."""
        kept = probe.varying.double()
        covariance = probe.covariance * kept.outer(kept)
        trace = covariance.trace()
        return torch.where(trace == 0, 0.0, (trace / covariance.norm()).square()).item()
