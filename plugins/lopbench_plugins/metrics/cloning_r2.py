"""Cloning R2: Joudaki et al. 2025, "Barriers for Learning in an Evolving World", arXiv:2510.00304, sections 2 and B.1.

"The proportion of variance in individual unit activations within a cloned block that is explained by the mean
activation of that block", forward and backward. The paper leaves open which mean the total variance is about; as in
its code, it is that of all units on the same row, so that R2 is the correlation ratio of units in blocks: 0 if all
blocks have one mean. Unlike its code, this takes variances and not standard deviations; see `cloning_r2_authors`. Units
that have nothing in common still give about 1 / factor, which is how much of them the mean of ``factor`` explains.
"""

from abc import abstractmethod
from dataclasses import dataclass
from math import isfinite, nan
from typing import ClassVar

import torch
from torch import Tensor

from lopbench import InvalidInputError, LayerMetric, LayerProbe, Partition, UnsupportedError, row_chunks

#: Relative differences, in roundings of the activations, that clones have because they were summed in other orders.
_ROUNDINGS = 8


@dataclass(frozen=True, kw_only=True)
class CloningR2(LayerMetric):
    """Share of the variance across units, pooled over the rows, that is between the blocks of clones."""

    needs_clones: ClassVar[bool] = True

    def compute(self, probe: LayerProbe) -> float | None:
        """Return R2, in [0, 1]: 1 if clones agree to rounding; NaN for a layer in which no unit is cloned.

        Raises:
            UnsupportedError: If the network was not cloned.
            InvalidInputError: If the probe lacks what is read.
        """
        if probe.clones is None:
            raise UnsupportedError(
                f"{self.name} compares clones and nothing says what is cloned in layer {probe.name!r}; "
                "measure it in a scenario that clones the network, such as cloning"
            )
        return nan if probe.clones.trivial else explained(self.values(probe), probe.clones)

    @abstractmethod
    def values(self, probe: LayerProbe) -> Tensor:
        """Return what is compared, ``(N, D)``."""


@dataclass(frozen=True, kw_only=True)
class CloningR2Forward(CloningR2):
    """Share of the variance of activations across units that is between the blocks of clones."""

    name: ClassVar[str] = "cloning_r2_forward"

    def values(self, probe: LayerProbe) -> Tensor:
        """Return the activations."""
        return probe.activation


@dataclass(frozen=True, kw_only=True)
class CloningR2Backward(CloningR2):
    """The same for the gradients of the probe's mean loss with respect to the activations; NaN if one is not finite."""

    name: ClassVar[str] = "cloning_r2_backward"

    def compute(self, probe: LayerProbe) -> float | None:
        """Return R2 as `CloningR2.compute` does; None behind a head of zeros, which no gradient passes.

        Raises:
            UnsupportedError: If the network was not cloned.
            InvalidInputError: If the probe has no gradient.
        """
        return None if probe.blocked else super().compute(probe)

    def values(self, probe: LayerProbe) -> Tensor:
        """Return the gradients.

        Raises:
            InvalidInputError: If the probe has none.
        """
        if probe.gradient is None:
            raise InvalidInputError(
                f"{self.name} reads gradients and the probe of layer {probe.name!r} has none; take it with gradients"
            )
        return probe.gradient


def explained(values: Tensor, clones: Partition) -> float:
    """Return the share of the variance across the units of ``values``, ``(N, D)``, that is between blocks."""
    within = total = size = 0.0
    for chunk in row_chunks(values):
        wide = chunk.double()
        within += (wide - clones.project(wide, 1)).square().sum().item()
        total += (wide - wide.mean(dim=1, keepdim=True)).square().sum().item()
        size += wide.square().sum().item()
    if not isfinite(size):
        return nan
    # Also where all units agree, dead ones for one, and nothing is left to explain.
    if within <= (_ROUNDINGS * torch.finfo(values.dtype).eps) ** 2 * size:
        return 1.0
    return 1 - within / total
