"""Churn: Tang et al. 2025, "Mitigating plasticity loss in continual RL by reducing churn", arXiv:2506.00592v1.

The change of a network's outputs on samples that it was not trained on, which they see grow as plasticity is lost.

Deviation: the change is over the steps between two probes, where theirs is over one update.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from lopbench import NetworkMetric, NetworkProbe
from lopbench_plugins.metrics.samples import at_once, widened


@dataclass(frozen=True, kw_only=True)
class Churn(NetworkMetric):
    """Mean absolute change of the outputs on the probe batch since the probe before.

    Both times the outputs are those that count in the task of now, of its probe batch, in float64. At the start of a
    task it tells of what the boundary changed, at the end, if there is no probe in between, of the whole task. It
    keeps a copy of parameters and buffers.
    """

    name: ClassVar[str] = "churn"
    equation: ClassVar[str] = "mean |f(x; now) - f(x; at the probe before)|"

    def compute(self, probe: NetworkProbe) -> float | None:
        """Return the mean change, at least 0, in units of the output; None at the first probe.

        Raises:
            InvalidInputError: If the probe was made without its network.
        """
        before = probe.previous
        if before is None:
            return None
        total = torch.zeros((), dtype=torch.float64, device=probe.inputs.device)
        count = 0
        with torch.no_grad():
            for inputs in probe.inputs.split(at_once(probe)):
                now, then = (probe.forward(widened(state), inputs) for state in (probe.parameters, before))
                total += (now - then).abs().sum()
                count += now.numel()
        return (total / count).item()
