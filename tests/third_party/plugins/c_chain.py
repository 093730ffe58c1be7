"""C-CHAIN, reduced churn: Tang et al. 2025, "Mitigating Plasticity Loss by Reducing Churn", arXiv:2506.00592.

The form for values: squared differences, with a fixed coefficient. Deviations: theirs follows the ratio of the losses
(the coefficient of their supervised experiments is fixed); the reference samples are those of the step before, which
are not trained on now, in place of draws from a buffer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lopbench import Learner, Perturbation, Register, State, hookimpl, number, per_replica

lopbench_api = 2


@dataclass(frozen=True, kw_only=True)
class CChain(Perturbation):
    """Penalises how much the last update has changed the outputs on samples that it was not made for.

    Args:
        strength: Coefficient of the penalty, at least 0.
    """

    name: ClassVar[str] = "c_chain"
    equation: ClassVar[str] = "loss + strength / 2 * mean((f(x; theta) - f(x; theta before the last update))**2)"
    examples: ClassVar[tuple[Mapping[str, object], ...]] = ({"strength": 1.0},)
    strength: float = number(0.1, least=0, zero=0, swept=True)

    def begin(self, learner: Learner, state: State) -> None:
        """Start from the parameters as they are: before the first update nothing has changed."""
        self._remember(learner, state)

    def penalty(self, learner: Learner, state: State) -> Tensor:
        """Return the churn of the last update, ``(R,)``."""
        with torch.no_grad():
            before = {name: state[f"before/{name}"] for name in learner.parameters}
            wanted = learner.forward(state["reference"], before).outputs
        churn = (learner.forward(state["reference"]).outputs - wanted).square()
        mean = churn.flatten(1).mean(dim=1)
        return mean * per_replica(self.strength / 2, mean)

    def after_backward(self, learner: Learner, state: State) -> None:
        """Remember the parameters before this update, and the batch."""
        self._remember(learner, state)

    def _remember(self, learner: Learner, state: State) -> None:
        for name, parameter in learner.parameters.items():
            state[f"before/{name}"] = parameter.clone()
        state["reference"] = learner.inputs.clone()


@hookimpl
def lopbench_methods(register: Register) -> None:
    """Make the method known."""
    register("c_chain", CChain, "penalises change of outputs on samples not trained on")
