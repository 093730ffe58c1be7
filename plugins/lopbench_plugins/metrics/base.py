"""What all metrics of this package do before they measure: take the right probe and refuse non-finite numbers."""

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from math import nan
from typing import ClassVar, Literal

import torch
from torch import Tensor

from lopbench.core.errors import InvalidInputError, UnsupportedError
from lopbench.core.interfaces import Metric
from lopbench.core.probe import LayerProbe, NetworkProbe
from lopbench.core.profile import Profile


@dataclass(frozen=True, kw_only=True)
class LayerMetric(Metric):
    """A metric of the post-activation values of one layer; NaN where one of them is not finite."""

    scope: ClassVar[Literal["layer", "network"]] = "layer"

    def compute(self, probe: LayerProbe | NetworkProbe) -> float:
        """Return the value for the layer ``probe``, NaN if an activation is not finite.

        Raises:
            InvalidInputError: If ``probe`` is of a whole network, or lacks what the metric reads.
        """
        if not isinstance(probe, LayerProbe):
            raise InvalidInputError(f"{self.name} measures one layer, got a {type(probe).__name__}; pass a LayerProbe")
        return self.measure(probe) if probe.finite else nan

    @abstractmethod
    def measure(self, probe: LayerProbe) -> float:
        """Return the value for a layer whose activations are finite."""


@dataclass(frozen=True, kw_only=True)
class NetworkMetric(Metric):
    """A metric of a whole network; NaN where its value is not a finite number."""

    scope: ClassVar[Literal["layer", "network"]] = "network"

    def compute(self, probe: LayerProbe | NetworkProbe) -> float:
        """Return the value for the network ``probe``, NaN if it is not finite.

        Raises:
            InvalidInputError: If ``probe`` is of one layer, or lacks what the metric reads.
        """
        if not isinstance(probe, NetworkProbe):
            raise InvalidInputError(
                f"{self.name} measures a whole network, got a {type(probe).__name__}; pass a NetworkProbe"
            )
        value = self.measure(probe)
        return value if abs(value) < float("inf") else nan

    @abstractmethod
    def measure(self, probe: NetworkProbe) -> float:
        """Return the value; it may be infinite or NaN."""


def profile_of(name: str, probe: NetworkProbe) -> Profile:
    """Return what is a clone of what in the network of ``probe``, for the metric ``name``.

    Raises:
        UnsupportedError: If the network was not cloned.
    """
    if probe.profile is None:
        raise UnsupportedError(
            f"{name} asks what is a clone of what, and this network was not cloned; "
            "measure it in a scenario that clones the network, such as cloning"
        )
    return probe.profile


def total_norm(tensors: Iterable[Tensor]) -> float:
    """Return the L2 norm of all entries of ``tensors`` together, 0 if there are none."""
    # In float64: torch's float32 sums drift on the CPU from some million entries on, and overflow at 1e19.
    norms = [torch.linalg.vector_norm(tensor.detach(), dtype=torch.float64) for tensor in tensors]
    return torch.linalg.vector_norm(torch.stack(norms)).item() if norms else 0.0


def fewest(shares: Tensor, share: float) -> float:
    """Return how many of the descending, non-negative ``shares`` ``(D,)`` it takes to hold ``share`` of their sum.

    A sum within 1e-9 of the share holds it, so that rounding decides no tie. Zero if all are zero, NaN if one is NaN.
    """
    cumulative = shares.cumsum(0)
    total = cumulative[-1]
    count = (cumulative < (share - 1e-9) * total).sum() + (total > 0)
    return torch.where(total.isnan(), nan, count.double()).item()
