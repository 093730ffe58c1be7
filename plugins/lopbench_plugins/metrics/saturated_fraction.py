"""Saturated units: Joudaki et al. 2025, arXiv:2510.00304, appendix B (metric suite)."""

from dataclasses import dataclass
from math import nan
from typing import ClassVar

import torch

from lopbench import InvalidInputError, Invariance, LayerMetric, LayerProbe, number

#: Least mean magnitude by which a gradient is divided; the authors' constant.
_EPSILON = 1e-12


@dataclass(frozen=True, kw_only=True)
class SaturatedFraction(LayerMetric):
    """Share of units through which nearly no gradient flows, measured against their activation.

    A unit ``j`` is saturated if ``|G_ij| / max(mean_i |H_ij|, 1e-12) < tolerance`` on more than ``row_share`` of the
    rows. ``G`` is the gradient of the mean loss, so it shrinks as 1/N: values of probes of different size cannot be
    compared. Tokens that the output does not read have no gradient, so the last block of a ViT is saturated by
    construction. It is not measured where the weights of the head are zero, as some protocols leave them at the start
    of a task: no gradient gets past it then, whatever the units are like.

    Args:
        tolerance: Ratio below which a gradient has vanished, in units of gradient per activation, above 0.
        row_share: Share of such rows above which a unit is saturated, in [0, 1).
    """

    name: ClassVar[str] = "saturated_fraction"
    default: ClassVar[bool] = True
    invariances: ClassVar[frozenset[Invariance]] = frozenset({"scale", "units", "rows", "duplication"})
    tolerance: float = number(1e-4, above=0)
    row_share: float = number(0.99, least=0, below=1)

    def compute(self, probe: LayerProbe) -> float | None:
        """Return the saturated share of the units, in [0, 1], NaN if a gradient is not finite; None at a zero head.

        Raises:
            InvalidInputError: If the probe has no gradient.
        """
        gradient = probe.gradient
        if gradient is None:
            raise InvalidInputError(
                f"{self.name} reads gradients and the probe of layer {probe.name!r} has none; take it with gradients"
            )
        if probe.blocked:
            return None
        limit = self.tolerance * probe.mean_magnitude.clamp(min=_EPSILON)
        # In the gradient's precision, which spares a wider copy of it; half precision would round the limit to zero.
        limit = limit.to(torch.promote_types(gradient.dtype, torch.float32))
        magnitude = gradient.abs()
        if not magnitude.sum(dtype=torch.float64).isfinite():
            return nan
        vanished = (magnitude < limit).sum(dim=0).double() / gradient.shape[0]
        return (vanished > self.row_share).double().mean().item()
