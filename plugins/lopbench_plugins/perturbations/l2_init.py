"""L2-Init, regenerative regularisation: Kumar, Marklund, Van Roy 2023, arXiv:2308.11958, section 3.

"Maintaining Plasticity in Continual Learning via Regenerative Regularization".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from lopbench import Family, Learner, Perturbation, State, add_scaled, number


@dataclass(frozen=True, kw_only=True)
class L2Init(Perturbation):
    """Adds ``strength / 2 * norm(theta - theta_0)**2`` to the loss, in the form of its gradient.

    ``theta_0`` are the parameters as built, before the first step; they stay the same for the whole run, also where
    another method resets units. Where nothing is to be learned, weights drift back to where they could learn.

    Acts on all parameters: weights, biases, embeddings, the head, scales and shifts of normalisation layers. It is
    coupled: an adaptive optimizer scales it with the rest of the gradient.

    Deviations:

    - The paper writes the penalty without the factor 1/2; the authors' code (skumar9876/L2_Init) has it, as this one.
    - The authors' code leaves normalisation layers out, of which the paper's penalty on all parameters says nothing.

    Args:
        strength: Coefficient of the pull, at least 0. The default was the best or near it in most of the authors'
            experiments with Adam.
    """

    name: ClassVar[str] = "l2_init"
    family: ClassVar[Family] = "regularise"
    cost: ClassVar[Mapping[str, float]] = {"time": 1.1, "memory": 1.0, "program": 1.1}
    examples: ClassVar[tuple[Mapping[str, object], ...]] = ({"strength": 0.1},)
    equation: ClassVar[str] = "g = g + strength * (theta - theta_0)"
    validated: ClassVar[tuple[str, ...]] = (
        "theorem: without loss the distance to theta_0 falls as (1 - lr * strength)**t under SGD",
        "theorem: the gradient of the term is zero, to the bit, at theta_0",
    )
    grid: ClassVar[Mapping[str, tuple[object, ...]]] = {"strength": (1e-2, 1e-3, 1e-4, 1e-5)}
    strength: float = number(1e-2, least=0, zero=0, swept=True)

    def after_backward(self, learner: Learner, state: State) -> None:
        """Add the penalty's gradient in place, to every parameter that has a gradient."""
        for name, gradient in learner.gradients.items():
            add_scaled(gradient, learner.parameters[name] - learner.initial[name], self.strength)
