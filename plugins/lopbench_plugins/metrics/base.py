"""What several metrics of this package use."""

from collections.abc import Iterable
from math import nan

import torch
from torch import Tensor

from lopbench import NetworkProbe, Profile, UnsupportedError


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
