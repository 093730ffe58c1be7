"""C-CHAIN, reduced churn: Tang et al. 2025, "Mitigating Plasticity Loss in Continual RL by Reducing Churn", ICML 2025.

arXiv:2506.00592. Deviations:

- The coefficient is fixed, as in their supervised experiments; in reinforcement learning it follows the ratio of task
  loss and churn.
- Reference samples are those of the step before, which are not trained on now, in place of draws from a buffer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from lopbench import Family, Learner, Perturbation, State, UnsupportedError, number, per_replica


@dataclass(frozen=True, kw_only=True)
class CChain(Perturbation):
    """Penalises how much the last update has changed the outputs on samples that it was not made for.

    Acts on all parameters, through the outputs.

    Args:
        strength: Coefficient of the penalty, at least 0.
        distance: How the change is measured: by the mean square over outputs and samples, as of values, or by the
            cross-entropy from the old to the new probabilities of the classes, as of policies.
    """

    name: ClassVar[str] = "c_chain"
    family: ClassVar[Family] = "regularise"
    examples: ClassVar[tuple[Mapping[str, object], ...]] = (
        {"strength": 1.0},
        {"strength": 1.0, "distance": "cross_entropy"},
    )
    grid: ClassVar[Mapping[str, tuple[object, ...]]] = {"strength": (0.01, 0.1, 1.0)}
    equation: ClassVar[str] = "loss + strength * mean((f(x; theta) - f(x; theta before the last update))**2)"
    validated: ClassVar[tuple[str, ...]] = (
        "trace in NumPy of both distances over several steps and replicas",
        "theorem: no gradient before the first update",
    )
    strength: float = number(0.1, least=0, zero=0, swept=True)
    distance: Literal["squared", "cross_entropy"] = "squared"

    def begin(self, learner: Learner, state: State) -> None:
        """Start from the parameters as they are: before the first update nothing has changed.

        Raises:
            UnsupportedError: If there is one output alone, which has no probabilities.
        """
        if self.distance == "cross_entropy" and learner.forward(learner.inputs).outputs.shape[-1] < 2:
            raise UnsupportedError(
                f"{self.name}: the network has one output, and no classes with probabilities; write "
                f"{self.name}:distance=squared"
            )
        self._remember(learner, state)

    def penalty(self, learner: Learner, state: State) -> Tensor:
        """Return the churn of the last update, ``(R,)``."""
        before = {name: state[f"before/{name}"] for name in learner.parameters}
        with torch.no_grad():
            old = learner.forward(state["reference"], before).outputs
        new = learner.forward(state["reference"]).outputs
        if self.distance == "squared":
            mean = (new - old).square().flatten(1).mean(dim=1)
        else:
            old, new = _counting(old, learner.classes), _counting(new, learner.classes)
            mean = -(old.softmax(dim=-1) * new.log_softmax(dim=-1)).sum(dim=-1).flatten(1).mean(dim=1)
        return mean * per_replica(self.strength, mean)

    def after_backward(self, learner: Learner, state: State) -> None:
        """Remember the parameters before this update, and the batch."""
        self._remember(learner, state)

    def _remember(self, learner: Learner, state: State) -> None:
        for name, parameter in learner.parameters.items():
            state[f"before/{name}"] = parameter.clone()
        state["reference"] = learner.inputs.clone()


def _counting(outputs: Tensor, classes: Tensor | None) -> Tensor:
    """Return those of the outputs ``(R, N, ..., K)`` that count in the task, ``classes`` ``(R, C)``; all if None."""
    if classes is None:
        return outputs
    places = classes.view(len(classes), *[1] * (outputs.ndim - 2), -1)
    return outputs.gather(-1, places.expand(*outputs.shape[:-1], -1))
