"""Rank of the gradient covariance: Lyle et al. 2023, "Understanding plasticity in neural networks", arXiv:2303.01486.

Their matrix has the cosines of the gradients of the loss at pairs of samples; where they draw it, this takes its
effective rank (Roy and Vetterli 2007, "The effective rank", EUSIPCO). A rank of one says that all samples pull alike.

Deviation: a sample without a gradient, whose cosines are 0/0, is left out.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lopbench import NetworkMetric, NetworkProbe, whole
from lopbench_plugins.metrics.samples import Parameters, chosen, eigenvalues, entropy_rank, gradient_products


@dataclass(frozen=True, kw_only=True)
class GradientCovarianceRank(NetworkMetric):
    """Effective rank of the cosines between the gradients of the loss at single samples. Not centred.

    It costs what `ntk_rank` costs. It is not measured where the weights of the head are zero, which no gradient passes.

    Args:
        samples: Most samples of the probe batch, at least 2; a fixed random choice is read.
    """

    name: ClassVar[str] = "gradient_covariance_rank"
    equation: ClassVar[str] = "exp H(e / sum(e)), e = eigenvalues of cos(grad L(x_i), grad L(x_j))"
    examples: ClassVar[tuple[dict[str, object], ...]] = ({"samples": 4},)
    samples: int = whole(128, least=2)

    def compute(self, probe: NetworkProbe) -> float | None:
        """Return the rank, in [1, samples], or 0 if no sample has a gradient.

        Raises:
            InvalidInputError: If the probe was made without its network.
        """
        if probe.blocked:
            return None

        def loss(parameters: Parameters, row: Tensor) -> Tensor:
            return probe.loss(parameters, row)

        products = gradient_products(loss, probe, chosen(probe, self.samples, self.name))
        scale = torch.where(products.diagonal() == 0, 0.0, products.diagonal().rsqrt())
        return entropy_rank(eigenvalues(products * scale.outer(scale)))
