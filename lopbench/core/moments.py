"""What metrics derive from the activations of a layer, of one replica or of many at once."""

from collections.abc import Callable
from functools import cached_property
from math import nan

import torch
from torch import Tensor

#: Elements of the blocks in which sums over rows run: 2 MiB in float64, which stays in cache and spares gigabytes.
_CHUNK_ELEMENTS = 2**18


def row_chunks(tensor: Tensor) -> tuple[Tensor, ...]:
    """Return ``tensor``, ``(..., N, D)``, as blocks of rows that are small enough to be copied in float64."""
    return torch.split(tensor, max(1, _CHUNK_ELEMENTS // (tensor.numel() // tensor.shape[-2])), dim=-2)


class Moments:
    """What follows from activations, each computed when it is first asked for; see `LayerProbe` for what it is.

    Args:
        activation: ``(..., N, D)``; the axes in front are those of all that follows from it.
    """

    def __init__(self, activation: Tensor) -> None:
        self.activation = activation

    def column_sums(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the sum over the rows of ``function`` of the activations, taken elementwise, float64 ``(..., D)``."""
        *front, _, units = self.activation.shape
        total = self.activation.new_zeros(*front, units, dtype=torch.float64)
        for chunk in row_chunks(self.activation):
            total += function(chunk).sum(dim=-2, dtype=torch.float64)
        return total

    @cached_property
    def mean_magnitude(self) -> Tensor:
        """Mean absolute activation of each unit, float64 ``(..., D)``."""
        return self.column_sums(torch.abs) / self.activation.shape[-2]

    @cached_property
    def mean(self) -> Tensor:
        """Mean activation of each unit, float64 ``(..., D)``."""
        return self.column_sums(lambda activation: activation) / self.activation.shape[-2]

    @cached_property
    def covariance(self) -> Tensor:
        """Centred scatter in float64, ``(..., D, D)``."""
        *front, _, units = self.activation.shape
        scatter = self.mean.new_zeros(*front, units, units)
        for chunk in row_chunks(self.activation):
            centred = chunk - self.mean.unsqueeze(-2)
            scatter += centred.mT @ centred
        return scatter

    @cached_property
    def gram(self) -> Tensor:
        """Uncentred ``H^T H`` in float64, ``(..., D, D)``."""
        # From the centred one, to save a product; this direction adds and so loses no digits.
        mean = self.mean
        return self.covariance.addcmul(mean.unsqueeze(-1), mean.unsqueeze(-2), value=self.activation.shape[-2])

    @cached_property
    def varying(self) -> Tensor:
        """Units that are not constant but for rounding, boolean ``(..., D)``."""
        return self.covariance.diagonal(dim1=-2, dim2=-1) > 1e-12 * self.gram.diagonal(dim1=-2, dim2=-1)

    @cached_property
    def singular_values(self) -> Tensor:
        """Singular values of the uncentred activations, descending, float64 ``(..., min(N, D))``."""
        n, d = self.activation.shape[-2:]
        if n >= d:
            gram = self.gram
        else:
            activation = self.activation.double()
            gram = activation @ activation.mT
        finite = gram.isfinite().flatten(-2).all(dim=-1, keepdim=True)
        # Of what is not finite there are no eigenvalues.
        values = torch.linalg.eigvalsh(torch.where(finite.unsqueeze(-1), gram, 0.0)).flip(-1)
        noise = min(n, d) * torch.finfo(torch.float64).eps * values[..., :1]
        return torch.where(finite, torch.where(values > noise, values, 0.0).sqrt(), nan)
