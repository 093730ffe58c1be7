"""Gradient noise in proportion to the gradient: NoisySGD of Joudaki et al. 2025.

"Barriers for Learning in an Evolving World: Mathematical Understanding of Loss of Plasticity", as their code
(ajoudaki/loss-of-plasticity, ``src/utils/noisy_optimizer.py``) has it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from lopbench import Family, Learner, Perturbation, State, add_scaled, number


@dataclass(frozen=True, kw_only=True)
class NoisySGD(Perturbation):
    """Adds ``scale * decay**t * norm(g) * N(0, I)`` to the gradient ``g`` of each tensor at step t = 0, 1, ...

    The schedule is one over the stream: in a fresh network that is born later, t is the step of the stream as well.

    The norm is that of the whole tensor and is not divided by the root of its size, as in the authors' code: in a
    tensor of ``d`` entries the noise is ``scale * sqrt(d)`` times as long as the gradient, 6.3 times at scale 0.01
    and 3072 x 128 weights. The optimizer of the run does the rest (theirs: weight decay and momentum after the noise).

    Args:
        scale: Standard deviation of the noise in units of the tensor's gradient norm, at least 0.
        decay: Factor of ``scale`` from step to step, in [0, 1]; 0 leaves one noisy step.
    """

    name: ClassVar[str] = "noisy_sgd"
    family: ClassVar[Family] = "optimizer"
    cost: ClassVar[Mapping[str, float]] = {"time": 1.6, "memory": 1.0, "program": 1.8}
    examples: ClassVar[tuple[Mapping[str, object], ...]] = ({"scale": 0.1, "decay": 0.9},)
    equation: ClassVar[str] = "g = g + scale * decay**t * norm(g) * N(0, I), tensor by tensor"
    validated: ClassVar[tuple[str, ...]] = ("property: mean and variance of the noise",)
    grid: ClassVar[Mapping[str, tuple[object, ...]]] = {"scale": (0.1, 0.01, 0.001)}
    scale: float = number(0.01, least=0, zero=0, swept=True)
    decay: float = number(1.0, least=0, most=1, swept=True)

    def begin(self, learner: Learner, state: State) -> None:
        """Start at the full scale, or where the schedule has come to."""
        device = learner.parameters[learner.head[0]].device
        decay = torch.as_tensor(self.decay, dtype=torch.float64, device=device)
        state["decayed"] = (decay**learner.age).expand(learner.replicas).clone()

    def after_backward(self, learner: Learner, state: State) -> None:
        """Add noise to the gradients in place, drawn from the method's own generators."""
        decays = isinstance(self.decay, torch.Tensor) or self.decay < 1
        scale = self.scale * state["decayed"] if decays else self.scale
        state["decayed"] *= self.decay
        for gradient in learner.gradients.values():
            norm = torch.linalg.vector_norm(gradient.flatten(1), dim=1)  # (R,)
            norm = norm.view(-1, *(1,) * (gradient.ndim - 1))
            if isinstance(scale, torch.Tensor):
                add_scaled(gradient, state.normal(gradient) * norm, scale)
            else:  # in one operation, which rounds otherwise: as in the published runs
                gradient.addcmul_(state.normal(gradient), norm, value=scale)
