"""L2 regularisation: the oldest remedy, and a strong one against loss of plasticity.

Kumar, Marklund, Van Roy 2023, arXiv:2308.11958 and Dohare et al. 2024, Nature 632:768-774 compare with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from lopbench import Family, Learner, Perturbation, State, add_scaled, number


@dataclass(frozen=True, kw_only=True)
class L2(Perturbation):
    """Adds ``strength / 2 * norm(theta)**2`` to the loss, in the form of its gradient ``strength * theta``.

    It is coupled: an adaptive optimizer scales it with the rest of the gradient (`torch.optim.Adam`'s
    ``weight_decay``, not `AdamW`'s). All parameters take part, biases and the scales and shifts of normalisation
    layers too, as in the weight decay of Dohare et al. (shibhansh/loss-of-plasticity).

    Deviation: Kumar et al. write the penalty without the factor 1/2; their code, like this one, has it.

    Args:
        strength: Coefficient of the decay, at least 0; published sweeps run from 1e-5 to 1e-2. The default is that of
            Dohare et al. on permuted MNIST.
    """

    name: ClassVar[str] = "l2"
    family: ClassVar[Family] = "regularise"
    cost: ClassVar[Mapping[str, float]] = {"time": 1.0, "memory": 1.0, "program": 1.0}
    examples: ClassVar[tuple[Mapping[str, object], ...]] = ({"strength": 0.1},)
    equation: ClassVar[str] = "g = g + strength * theta"
    validated: ClassVar[tuple[str, ...]] = ("theorem: without loss the norm falls as (1 - lr * strength)**t under SGD",)
    grid: ClassVar[Mapping[str, tuple[object, ...]]] = {"strength": (1e-2, 1e-3, 1e-4, 1e-5)}
    strength: float = number(1e-4, least=0, zero=0, swept=True)

    def after_backward(self, learner: Learner, state: State) -> None:
        """Add the penalty's gradient in place, to every parameter that has a gradient."""
        parameters = learner.parameters
        for name, gradient in learner.gradients.items():
            add_scaled(gradient, parameters[name], self.strength)
