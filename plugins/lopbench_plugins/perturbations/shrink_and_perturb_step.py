"""Shrink and perturb at each step: the form of Dohare et al. 2024, Nature 632:768-774.

As their code (shibhansh/loss-of-plasticity, ``lop/algos/bp.py``) has it; Ash & Adams 2020, arXiv:1910.08475, mix in a
fresh network at the arrival of new data instead, which is ``shrink_and_perturb``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from lopbench import Family, Learner, Perturbation, State, add_scaled, number


@dataclass(frozen=True, kw_only=True)
class ShrinkAndPerturbStep(Perturbation):
    """Adds ``weight_decay * theta`` to the gradient, and ``N(0, std**2)`` to every parameter after each step.

    All parameters take part, those of normalisation layers too. The noise is scaled neither by the learning rate nor
    by the initialisation of the layer.

    Args:
        weight_decay: Coefficient of the decay, which the optimizer scales with the gradient, at least 0.
        std: Standard deviation of the noise, at least 0. Both defaults are of the sweep on permuted MNIST.
    """

    name: ClassVar[str] = "shrink_and_perturb_step"
    family: ClassVar[Family] = "optimizer"
    cost: ClassVar[Mapping[str, float]] = {"time": 1.6, "memory": 1.0, "program": 1.7}
    examples: ClassVar[tuple[Mapping[str, object], ...]] = ({"weight_decay": 0.1, "std": 0.01},)
    equation: ClassVar[str] = "g = g + weight_decay * theta; after the step theta = theta + std * N(0, I)"
    validated: ClassVar[tuple[str, ...]] = ("property: mean and variance of the noise",)
    grid: ClassVar[Mapping[str, tuple[object, ...]]] = {"std": (1e-3, 1e-4, 1e-5, 1e-6)}
    weight_decay: float = number(1e-4, least=0, zero=0, swept=True)
    std: float = number(1e-5, least=0, zero=0, swept=True)

    def after_backward(self, learner: Learner, state: State) -> None:
        """Add the decay to the gradients in place, for every parameter that has a gradient."""
        parameters = learner.parameters
        for name, gradient in learner.gradients.items():
            add_scaled(gradient, parameters[name], self.weight_decay)

    def after_step(self, learner: Learner, state: State) -> None:
        """Add noise to the parameters in place, drawn from the method's own generators."""
        if isinstance(self.std, Tensor) or self.std > 0:
            for parameter in learner.parameters.values():
                add_scaled(parameter, state.normal(parameter), self.std)
