"""Feature norm: the size of a layer's output, a common diagnostic that is no paper's own."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lopbench import Invariance, Known, LayerMetric, LayerProbe


@dataclass(frozen=True, kw_only=True)
class FeatureNorm(LayerMetric):
    """Mean over the rows of the L2 norm of a row of activations.

    A row is one sample; in a convolution one pixel of one sample, in a transformer one token.
    """

    name: ClassVar[str] = "feature_norm"
    default: ClassVar[bool] = True
    known: ClassVar[Known] = ((((3.0, 4.0), (0.0, 0.0)), 2.5),)
    invariances: ClassVar[frozenset[Invariance]] = frozenset({"units", "rows"})

    def compute(self, probe: LayerProbe) -> float:
        """Return the mean norm, at least 0, in units of the activation."""
        norms: Tensor = torch.linalg.vector_norm(probe.activation, dim=1, dtype=torch.float64)
        return norms.mean().item()
