"""UPGD, utility-based perturbed gradient descent: Elsayed and Mahmood 2024, arXiv:2404.00781.

The first-order, global form of their code (mohmdelsayed/upgd, ``core/optim/weight_upgd/first_order.py``), on top of any
optimizer: with SGD it is UPGD, with Adam their AdaUPGD. As in their code the largest utility is taken of running means
that are not corrected for their start at zero. Deviation: it is at least the smallest normal number, where theirs
divides by zero or turns the sign of the utilities.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lopbench import Learner, Perturbation, Register, State, hookimpl, number, per_replica

lopbench_api = 2


@dataclass(frozen=True, kw_only=True)
class UPGD(Perturbation):
    """Moves useful weights less, and perturbs the others more.

    The utility of a weight is the running mean of ``-g * w``. Noise is added to the gradient, and the optimizer's step
    is multiplied by ``1 - sigmoid(utility / largest utility)``: by 0.27 for the most useful weight, by 0.5 for one
    without utility.

    Args:
        decay: Decay of the running mean from step to step, in [0, 1).
        noise: Standard deviation of the noise, at least 0.
        weight_decay: Share, times the learning rate, by which all weights shrink in a step, at least 0.
    """

    name: ClassVar[str] = "upgd"
    equation: ClassVar[str] = "u = decay * u - (1 - decay) * g * w; w = w - lr * (g + noise) * (1 - sigmoid(u / max u))"
    decay: float = number(0.999, least=0, below=1)
    noise: float = number(0.01, least=0, swept=True)
    weight_decay: float = number(0.0, least=0, swept=True)

    def begin(self, learner: Learner, state: State) -> None:
        """Start all utilities at zero."""
        for name, parameter in learner.parameters.items():
            state[name] = torch.zeros_like(parameter)
        state["steps"] = torch.zeros(learner.replicas, dtype=torch.float64, device=learner.device)

    def after_backward(self, learner: Learner, state: State) -> None:
        """Update the utilities in place, and add noise to the gradients."""
        state["steps"] += 1
        for name, gradient in learner.gradients.items():
            state[name].lerp_(-gradient * learner.parameters[name], 1 - self.decay)
            gradient.add_(state.normal(gradient) * per_replica(self.noise, gradient))

    def update(self, learner: Learner, state: State) -> None:
        """Hold back the step of each weight by its utility, in place."""
        gates = gate({name: state[name] for name in learner.updates}, 1 - self.decay ** state["steps"])
        for name, update in learner.updates.items():
            shrinking = learner.parameters[name] * per_replica(learner.optimizer.lr * self.weight_decay, update)
            update.mul_(gates[name]).sub_(shrinking)


def gate(utilities: Mapping[str, Tensor], correction: Tensor) -> dict[str, Tensor]:
    """Return the factors of the steps, in [0.27, 1], given running means ``(R, ...)`` and their weight ``(R,)``."""
    tops = [utility.flatten(1).amax(dim=1) for utility in utilities.values()]
    largest = torch.stack(tops).amax(dim=0)  # (R,)
    scale = 1 / (largest * correction.to(largest)).clamp(min=torch.finfo(largest.dtype).tiny)
    return {name: torch.sigmoid(-utility * per_replica(scale, utility)) for name, utility in utilities.items()}


@hookimpl
def lopbench_methods(register: Register) -> None:
    """Make the method known."""
    register("upgd", UPGD, "moves useful weights less, and perturbs the others")
