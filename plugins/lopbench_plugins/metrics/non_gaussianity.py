"""Non-Gaussianity of units: public code of Joudaki et al. 2025, arXiv:2510.00304 (not in the paper's text).

Deviations: a unit is constant if its standard deviation is at most 1e-6 of its root mean square (`LayerProbe.varying`),
in the authors' code if it is at most 1e-6; the 1,000 rows are the same at every call, there the training seed's.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from scipy import stats
from torch import Tensor

from lopbench import InvalidInputError, Invariance, LayerMetric, LayerProbe, rng

#: Most rows that are read: the Shapiro-Wilk test costs 0.4 ms a unit here, and its law is not known beyond 5,000.
_ROWS = 1000
#: Largest kurtosis a unit can contribute, so that one unit does not decide the mean; the authors' constant.
_KURTOSIS_CAP = 10.0


@dataclass(frozen=True, kw_only=True)
class NonGaussianity(LayerMetric):
    """Mean over the units of how far the law of a unit's activation is from a Gaussian.

    Constant units count 1, or 10 for ``kurtosis``. Of more than 1,000 rows a fixed random choice is read.

    Args:
        kind: ``shapiro`` is 1 - W of Shapiro and Wilk 1965, in [0, 1]; ``ks`` the Kolmogorov-Smirnov distance of the
            standardised unit to the standard normal law, in [0, 1]; ``kurtosis`` the absolute excess kurtosis, capped
            at 10.
    """

    name: ClassVar[str] = "non_gaussianity"
    invariances: ClassVar[frozenset[Invariance]] = frozenset({"scale", "units", "duplication"})
    kind: Literal["shapiro", "ks", "kurtosis"] = "shapiro"

    def compute(self, probe: LayerProbe) -> float:
        """Return the mean over the units, in [0, 1], or in [0, 10] for ``kurtosis``.

        Raises:
            InvalidInputError: If there are fewer than 3 rows.
        """
        activation = probe.activation
        rows = activation.shape[0]
        if rows < 3:
            raise InvalidInputError(f"{self.name} needs at least 3 rows of activations, got {rows}")
        if rows > _ROWS:
            chosen = torch.randperm(rows, generator=rng.derive(0, self.name))[:_ROWS]
            activation = activation[chosen.to(activation.device)]
        read = LayerProbe(activation, name=probe.name)
        constant = 10.0 if self.kind == "kurtosis" else 1.0
        values = activation[:, read.varying].double()
        distance = {"shapiro": _shapiro, "ks": _kolmogorov_smirnov, "kurtosis": _kurtosis}[self.kind]
        centred = values - values.mean(dim=0)
        found = distance(centred / centred.square().mean(dim=0).sqrt())
        units = activation.shape[1]
        return (found.sum().item() + constant * (units - found.numel())) / units


def _shapiro(standardised: Tensor) -> Tensor:
    """Return 1 - W of each column of ``(N, D)``, ``(D,)``."""
    columns = standardised.T.cpu().numpy()
    return torch.tensor([1 - stats.shapiro(column).statistic for column in columns], dtype=torch.float64)


def _kolmogorov_smirnov(standardised: Tensor) -> Tensor:
    """Return the largest distance of each column's distribution function to the standard normal one, ``(D,)``."""
    rows = standardised.shape[0]
    normal = torch.special.ndtr(standardised.sort(dim=0).values)
    after = torch.arange(1, rows + 1, dtype=normal.dtype, device=normal.device)[:, None] / rows
    return torch.maximum(after - normal, normal - (after - 1 / rows)).amax(dim=0)


def _kurtosis(standardised: Tensor) -> Tensor:
    """Return the absolute excess kurtosis of each column, at most 10, ``(D,)``."""
    return (standardised.pow(4).mean(dim=0) - 3).abs().clamp(max=_KURTOSIS_CAP)
