"""Rank of the neural tangent kernel: Tang et al. 2025 (C-CHAIN), arXiv:2506.00592v1, who see it fall with plasticity.

The kernel is that of Jacot et al. 2018, arXiv:1806.07572, at the parameters of now: ``<grad f(x_i), grad f(x_j)>``. Its
rank is the effective rank of Roy and Vetterli 2007, "The effective rank", EUSIPCO, of its eigenvalues. Others take that
of their roots, the singular values of the Jacobian, or count the eigenvalues that hold 99% of their sum.
"""

from dataclasses import dataclass
from math import nan
from typing import ClassVar, Literal

from torch import Tensor

from lopbench import NetworkMetric, NetworkProbe, whole
from lopbench_plugins.metrics.samples import Parameters, chosen, eigenvalues, entropy_rank, gradient_products


@dataclass(frozen=True, kw_only=True)
class NtkRank(NetworkMetric):
    """Effective rank of the neural tangent kernel of the sum of a network's outputs, or its condition.

    Of sequences, the sum is over all places too. It is not measured where the weights of the head are zero, which leave
    of the kernel the head's own part.

    A sample costs a pass forward and back, and more of them where the gradients of all do not fit into half a GiB:
    about ``1 + samples * parameters / 2.7e8``, which is 6 for 128 samples of a network of 11 million parameters.

    Args:
        samples: Most samples of the probe batch, at least 2; a fixed random choice is read.
        kind: ``rank`` is the exponential of the entropy of the eigenvalues, in [1, samples]; ``condition`` the largest
            eigenvalue over the smallest, at least 1, and not measured where the smallest is zero.
    """

    name: ClassVar[str] = "ntk_rank"
    equation: ClassVar[str] = "exp H(e / sum(e)), e = eigenvalues of <grad f(x_i), grad f(x_j)>"
    examples: ClassVar[tuple[dict[str, object], ...]] = ({"samples": 4},)
    samples: int = whole(128, least=2)
    kind: Literal["rank", "condition"] = "rank"

    def compute(self, probe: NetworkProbe) -> float | None:
        """Return rank or condition, NaN if an output is not finite; a network that no parameter moves has rank 0.

        Raises:
            InvalidInputError: If the probe was made without its network.
        """
        if probe.blocked:
            return None
        if not probe.outputs.isfinite().all():
            return nan  # a bias that is not finite would not show in the gradients

        def summed(parameters: Parameters, row: Tensor) -> Tensor:
            return probe.forward(parameters, probe.inputs[row]).sum()

        values = eigenvalues(gradient_products(summed, probe, chosen(probe, self.samples, self.name)))
        if self.kind == "rank":
            return entropy_rank(values)
        return None if values[-1] == 0 else (values[0] / values[-1]).item()
