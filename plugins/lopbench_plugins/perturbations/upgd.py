"""UPGD, utility-based perturbed gradient descent: Elsayed, Mahmood 2024, arXiv:2404.00781 (ICLR 2024), Algorithm 1.

"Addressing Loss of Plasticity and Catastrophic Forgetting in Continual Learning": the first-order utility of single
weights, scaled over the whole network (mohmdelsayed/upgd, ``core/optim/weight_upgd/first_order.py``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lopbench import Family, Learner, Perturbation, State, number, per_replica


@dataclass(frozen=True, kw_only=True)
class UPGD(Perturbation):
    """Moves useful weights less, and perturbs the others more.

    The utility ``u`` of a weight is the running mean of ``-g * w``. The optimizer's step and noise in proportion to
    the learning rate are multiplied by ``1 - sigmoid(u / max u)``: by 0.27 for the most useful weight, by 0.5 for one
    without utility, so that a learning rate means about half of what it does elsewhere; compare at tuned rates.
    Weights decay by their share whatever their utility.

    Acts on every parameter that is trained, and compares utilities over all of them. With SGD it is UPGD, with Adam
    the authors' AdaUPGD, where ``g`` is still the gradient and the noise is added to Adam's step.

    Deviations:

    - Running means are not corrected for their start at zero: as in the paper, where all of them are, this cancels. In
      the authors' code the utilities are corrected and the largest is not, so that their sigmoids are steeper in the
      first ``1 / (1 - decay)`` steps, a thousand times in the first one at the default.
    - The largest utility is at least the smallest normal number: where no weight has a positive one, the authors' code
      divides by zero or turns the sign of the utilities.

    Args:
        decay: Decay of the running mean from step to step, in [0, 1).
        noise: Standard deviation of the noise, at least 0.
        weight_decay: Share, times the learning rate, by which all weights shrink in a step, at least 0.
    """

    name: ClassVar[str] = "upgd"
    family: ClassVar[Family] = "optimizer"
    cost: ClassVar[Mapping[str, float]] = {"time": 2.0, "memory": 1.3, "program": 2.6}
    examples: ClassVar[tuple[Mapping[str, object], ...]] = ({"noise": 0.1}, {"decay": 0.5, "weight_decay": 0.1})
    equation: ClassVar[str] = (
        "u = decay * u - (1 - decay) * g * w; "
        "w = (1 - lr * weight_decay) * w - lr * (g + noise * N(0, I)) * (1 - sigmoid(u / max u))"
    )
    validated: ClassVar[tuple[str, ...]] = (
        "trace in NumPy of utilities, noise and weights, also in a program",
        "theorem: without utility and noise it takes half the step of SGD, and the shortest step is 0.269 of it",
    )
    grid: ClassVar[Mapping[str, tuple[object, ...]]] = {"decay": (0.999, 0.9999), "noise": (0.01, 0.1)}
    decay: float = number(0.999, least=0, below=1, swept=True)
    noise: float = number(0.001, least=0, swept=True)
    weight_decay: float = number(0.001, least=0, swept=True)

    def begin(self, learner: Learner, state: State) -> None:
        """Start all utilities at zero; each is in the state under its parameter's name."""
        for name, parameter in learner.parameters.items():
            state[name] = torch.zeros_like(parameter)

    def update(self, learner: Learner, state: State) -> None:
        """Update the utilities, and hold back what is about to be added, in place."""
        parameters, gradients = learner.parameters, learner.gradients
        for name in learner.updates:
            utility, gradient, parameter = state[name], gradients[name], parameters[name]
            utility.mul_(per_replica(self.decay, utility))
            if isinstance(self.decay, Tensor):
                utility.addcmul_(gradient * parameter, per_replica(self.decay - 1, utility))
            else:  # without a tensor for the product
                utility.addcmul_(gradient, parameter, value=self.decay - 1)
        falls = -1 / _largest([state[name] for name in learner.updates])
        noise, decay = ((learner.optimizer.lr * each).to(falls) for each in (self.noise, self.weight_decay))
        for name, update in learner.updates.items():
            if isinstance(self.noise, Tensor) or self.noise > 0:
                update.addcmul_(state.normal(update), per_replica(noise, update), value=-1)
            update.mul_(torch.mul(state[name], per_replica(falls, update)).sigmoid_())
            update.addcmul_(parameters[name], per_replica(decay, update), value=-1)


def _largest(utilities: list[Tensor]) -> Tensor:
    """Return the largest utility of each replica, ``(R,)``, above 0."""
    largest = torch.stack([utility.flatten(1).amax(dim=1) for utility in utilities]).amax(dim=0)
    return largest.clamp(min=torch.finfo(largest.dtype).tiny)
