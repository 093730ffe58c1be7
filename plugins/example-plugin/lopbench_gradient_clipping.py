"""Gradient clipping: Pascanu, Mikolov and Bengio 2013, arXiv:1211.5063, Algorithm 1.

"On the difficulty of training recurrent neural networks". The continual streams of FIRE (arXiv:2602.08040) train with a
norm of .5. Deviation: `torch.nn.utils.clip_grad_norm_` divides by the norm plus 1e-6, this by the norm alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lopbench import Learner, Perturbation, Register, State, hookimpl, number, per_replica

lopbench_api = 2  # the plugin API that this is written for


@dataclass(frozen=True, kw_only=True)
class GradientClipping(Perturbation):
    """Shortens the gradient of all parameters together to ``norm`` where it is longer, and keeps its direction.

    ``clipped`` reports in how many steps it was.

    Args:
        norm: Largest Euclidean norm, above 0.
    """

    name: ClassVar[str] = "gradient_clipping"
    equation: ClassVar[str] = "g = g * min(1, norm / norm_2(g))"
    validated: ClassVar[tuple[str, ...]] = (
        "theorem: the norm is at most the bound, the direction stays, and a shorter gradient stays to the bit",
        "against torch.nn.utils.clip_grad_norm_",
    )
    examples: ClassVar[tuple[Mapping[str, object], ...]] = ({"norm": 0.01},)
    grid: ClassVar[Mapping[str, tuple[object, ...]]] = {"norm": (0.1, 0.5, 1.0, 5.0)}
    norm: float = number(0.5, above=0, swept=True)

    def begin(self, learner: Learner, state: State) -> None:
        """Start counting, for each replica."""
        state["clipped"] = torch.zeros(learner.replicas, dtype=torch.float64, device=learner.device)

    def after_backward(self, learner: Learner, state: State) -> None:
        """Clip in place."""
        gradients = learner.gradients.values()
        squares = torch.stack([gradient.flatten(1).square().sum(dim=1) for gradient in gradients])  # (tensors, R)
        factor = (self.norm / squares.sum(dim=0).sqrt()).clamp(max=1)
        for gradient in gradients:
            gradient.mul_(per_replica(factor, gradient))
        state["clipped"] += factor < 1

    def report(self, learner: Learner, state: State) -> Mapping[str, Tensor]:
        """Return how many steps were clipped so far, ``(R,)``."""
        return {"clipped": state["clipped"]}


@hookimpl
def lopbench_methods(register: Register) -> None:
    """Make the method known."""
    register("gradient_clipping", GradientClipping, "shortens gradients that are longer than a bound")
