"""C-CHAIN, reduced churn: Tang et al. 2025, "Mitigating Plasticity Loss in Continual RL by Reducing Churn", ICML 2025.

arXiv:2506.00592. Deviations:

- The coefficient is fixed, as in their supervised experiments. With ``ratio`` it follows task loss and churn, as in
  their reinforcement learning; there the loss is that of a policy, which may be negative, and here that of the task.
- Reference samples are those of the step before, which are not trained on now, in place of draws from a buffer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from lopbench import Family, Learner, Perturbation, State, UnsupportedError, number, per_replica, whole


@dataclass(frozen=True, kw_only=True)
class CChain(Perturbation):
    """Penalises how much the last update has changed the outputs on samples that it was not made for.

    Acts on all parameters, through the outputs.

    Args:
        strength: Coefficient of the penalty, at least 0.
        distance: How the change is measured: by the mean square over outputs and samples, as of values, or by the
            cross-entropy from the old to the new probabilities of the classes, as of policies.
        ratio: Mean penalty over mean absolute loss of the task at which the coefficient is held, at least 0; at 0 it
            is ``strength`` throughout. Theirs is 1e4 in classic control, where the churn is tiny, and 0.01 in MinAtar.
        window: Steps over which both means are taken, at least 1; 50 and 50,000 there.
        warm_up: First steps, in which the coefficient is ``strength``; 10 and 10,000 there. From then on each step
            has a forward pass more, or two.
    """

    name: ClassVar[str] = "c_chain"
    family: ClassVar[Family] = "regularise"
    cost: ClassVar[Mapping[str, float]] = {"time": 2.0, "memory": 1.1, "program": 1.2}
    examples: ClassVar[tuple[Mapping[str, object], ...]] = (
        {"strength": 1.0},
        {"strength": 1.0, "distance": "cross_entropy"},
        {"strength": 1.0, "ratio": 0.5, "window": 4, "warm_up": 3},
    )
    grid: ClassVar[Mapping[str, tuple[object, ...]]] = {"strength": (0.01, 0.1, 1.0)}
    equation: ClassVar[str] = "loss + strength * mean((f(x; theta) - f(x; theta before the last update))**2)"
    validated: ClassVar[tuple[str, ...]] = (
        "trace in NumPy of both distances over several steps and replicas, and of the coefficient that follows",
        "theorem: no gradient before the first update",
    )
    strength: float = number(0.1, least=0, zero=0, swept=True)
    distance: Literal["squared", "cross_entropy"] = "squared"
    ratio: float = number(0.0, least=0)
    window: int = whole(50, least=1)
    warm_up: int = whole(10, least=0)

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
        if self.ratio:
            for name in ("losses", "churns"):
                state[name] = torch.zeros(learner.replicas, self.window, dtype=torch.float64, device=learner.device)
            state["steps"] = torch.zeros(learner.replicas, dtype=torch.int64, device=learner.device)
        self._remember(learner, state, learner.forward(learner.inputs).outputs)

    def penalty(self, learner: Learner, state: State) -> Tensor:
        """Return the churn of the last update times its coefficient, ``(R,)``."""
        churn = self._churn(learner, state)
        return churn * per_replica(self._coefficient(state), churn)

    def after_backward(self, learner: Learner, state: State) -> None:
        """Remember the network before this update, and the batch; and loss and churn, if the coefficient follows."""
        if self.ratio:
            self._note(state, "losses", learner.loss(learner.outputs, learner.targets).abs())
            self._note(state, "churns", self._churn(learner, state))
            state["steps"] += 1
        self._remember(learner, state, learner.outputs)

    def _churn(self, learner: Learner, state: State) -> Tensor:
        """Return how much the last update has changed the outputs, ``(R,)``."""
        if _repeats(learner):
            old = state["outputs"]
        else:
            before = {name: state[f"before/{name}"] for name in learner.parameters}
            with torch.no_grad():
                old = learner.forward(state["reference"], before).outputs
        new = learner.forward(state["reference"]).outputs
        if self.distance == "squared":
            return (new - old).square().flatten(1).mean(dim=1)
        old, new = _counting(old, learner.classes), _counting(new, learner.classes)
        return -(old.softmax(dim=-1) * new.log_softmax(dim=-1)).sum(dim=-1).flatten(1).mean(dim=1)

    def _coefficient(self, state: State) -> float | Tensor:
        """Return what multiplies the churn, one number or ``(R,)``."""
        if not self.ratio:
            return self.strength
        losses, churns = (state[name].sum(dim=1) for name in ("losses", "churns"))  # of as many steps each
        follows = (state["steps"] >= self.warm_up) & (churns > 0)
        return torch.where(follows, self.ratio * losses / churns, self.strength)

    def _note(self, state: State, name: str, value: Tensor) -> None:
        """Put a value ``(R,)`` of this step in the place of that of ``window`` steps ago."""
        here = torch.arange(self.window, device=value.device) == (state["steps"] % self.window).unsqueeze(1)
        state[name] = torch.where(here, value.to(state[name]).unsqueeze(1), state[name])

    def _remember(self, learner: Learner, state: State, outputs: Tensor) -> None:
        """Remember the batch, and what the parameters as they are make of it, or these themselves."""
        state["reference"] = learner.inputs.clone()
        if _repeats(learner):
            state["outputs"] = outputs.clone()
            return
        for name, parameter in learner.parameters.items():
            state[f"before/{name}"] = parameter.clone()


def _repeats(learner: Learner) -> bool:
    """Return whether the same parameters always make the same of a batch, so that what they made need not be remade."""
    return not learner.is_random and not learner.buffers


def _counting(outputs: Tensor, classes: Tensor | None) -> Tensor:
    """Return those of the outputs ``(R, N, ..., K)`` that count in the task, ``classes`` ``(R, C)``; all if None."""
    if classes is None:
        return outputs
    places = classes.view(len(classes), *[1] * (outputs.ndim - 2), -1)
    return outputs.gather(-1, places.expand(*outputs.shape[:-1], -1))
