"""Stability of the cloning manifold: Joudaki et al. 2025, arXiv:2510.00304, Definition A.2, as curvatures to follow.

They are of the probe's mean loss in evaluation mode, without penalties of a method, at the point of the equitable
manifold nearest to the network; `lopbench.cloning.stability` says more.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lopbench import NetworkMetric, NetworkProbe, normal_curvature, number, whole
from lopbench_plugins.metrics.base import profile_of


@dataclass(frozen=True, kw_only=True)
class NormalCurvature(NetworkMetric):
    """An extreme curvature of the loss along unit normals of the cloning manifold, in loss per squared weight.

    Both extremes come from one search, which is done once for a probe.

    Args:
        products: Most products of the Hessian with a vector, at least 1; each takes about as long as two backward
            passes in float64, and memory for one more vector of all parameters.
        tolerance: Error bound, as a share of the curvature, at which the search ends before, at least 0.
    """

    needs_clones: ClassVar[bool] = True
    products: int = whole(64, least=1)
    tolerance: float = number(1e-3, least=0)

    def compute(self, probe: NetworkProbe) -> float:
        """Return the curvature, NaN if the loss is not finite.

        Raises:
            UnsupportedError: If nothing is cloned in the network.
            InvalidInputError: If the probe was made without its network.
        """
        return self.choose(probe.shared(f"normal_curvature/{self.products}/{self.tolerance}", self._extremes)).item()

    def _extremes(self, probe: NetworkProbe) -> Tensor:
        profile = profile_of(self.name, probe)
        found = normal_curvature(
            probe.loss, probe.parameters, profile, products=self.products, tolerance=self.tolerance
        )
        return torch.tensor([found.smallest, found.largest], dtype=torch.float64)

    @abstractmethod
    def choose(self, extremes: Tensor) -> Tensor:
        """Return one of the smallest and the largest curvature, ``(2,)``."""


@dataclass(frozen=True, kw_only=True)
class SmallestNormalCurvature(NormalCurvature):
    """Smallest curvature: where it is negative, gradient flow leaves the manifold at this rate in some direction."""

    name: ClassVar[str] = "smallest_normal_curvature"

    def choose(self, extremes: Tensor) -> Tensor:
        """Return the smallest."""
        return extremes[0]


@dataclass(frozen=True, kw_only=True)
class LargestNormalCurvature(NormalCurvature):
    """Largest curvature: where it is positive, gradient flow returns to the manifold at this rate in some direction."""

    name: ClassVar[str] = "largest_normal_curvature"

    def choose(self, extremes: Tensor) -> Tensor:
        """Return the largest."""
        return extremes[1]
