"""Forgetting of the task before: Chaudhry et al. 2018, "Riemannian Walk for Incremental Learning", arXiv:1801.10112.

With ``a[t, j]`` the held-out accuracy on task j after task t was trained, their forgetting of task t - 1 after one more
task is ``a[t - 1, t - 1] - a[t, t - 1]``, which is the backward transfer of Lopez-Paz and Ranzato 2017
(arXiv:1706.08840) over one task with its sign exchanged. This metric is ``a[t, t - 1]``; the other term is the held-out
score of task t - 1, which every run measures. Tables have the difference as ``forgetting``.

Deviations: theirs is of all former tasks at the end of a stream, and begins from the best of the accuracies that the
task had before. A stream that exchanges everything again and again leaves nothing of a task after a few others, so that
this is of the task before alone, averaged over the late tasks.

Elsayed and Mahmood 2024 (arXiv:2404.00781) call forgetting what the online accuracy falls by from one task to the next.
Its mean is that of the first task minus that of the last over the number of changes, which ``trend`` tells against
fresh networks; it takes no metric.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from lopbench import NetworkMetric, NetworkProbe


@dataclass(frozen=True, kw_only=True)
class FormerScore(NetworkMetric):
    """Mean held-out score on the task before, of the network as it is now.

    It is measured of scenarios whose tasks tell which was before (`Task.former`), from the second task on. It takes a
    pass over the held-out samples of a task.
    """

    name: ClassVar[str] = "former_score"
    equation: ClassVar[str] = "a[t, t - 1]"

    def compute(self, probe: NetworkProbe) -> float | None:
        """Return the score, an accuracy in [0, 1] or an error of at least 0; None where there is no task before.

        It is NaN of a network that is not finite, whose accuracy would be that of guessing.
        """
        if not all(bool(value.isfinite().all()) for value in probe.parameters.values()):
            return math.nan
        return probe.former_score
