"""Sample plasticity: Elsayed and Mahmood 2024, arXiv:2404.00781 (UPGD).

As in the paper, the loss before the update is taken as at least 1e-8; the authors' code (mohmdelsayed/upgd, 043af2e,
core/run/run_stats.py) divides by it as it is.

Deviation: the loss is the mean over a batch, where the paper trains on one sample a step.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from lopbench import TrainingMetric

_EPSILON = 1e-8  # the paper's, in units of the loss


@dataclass(frozen=True, kw_only=True)
class SamplePlasticity(TrainingMetric):
    """Share by which a step lowers the loss on its own batch, averaged over the steps of a task.

    A step that raises the loss counts 0. It needs a loss that is not negative, and then is in [0, 1].
    """

    name: ClassVar[str] = "sample_plasticity"
    equation: ClassVar[str] = "max(1 - L(after) / max(L(before), 1e-8), 0)"

    def compute(self, before: Tensor, after: Tensor) -> Tensor:
        """Return the share of each replica, ``(R,)``, in [0, 1]; NaN where a loss is not finite.

        Args:
            before: Loss on the batch before the update, ``(R,)``.
            after: Loss on the same batch after it, ``(R,)``.
        """
        share = 1 - after / before.clamp(min=_EPSILON)
        return share.clamp(0, 1).where(after.isfinite() & before.isfinite(), float("nan"))
