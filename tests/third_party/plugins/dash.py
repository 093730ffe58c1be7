"""DASH, direction-aware shrinking: Shin, Oh, Cho and Yun 2024, arXiv:2410.23495.

As in their code (baekrok/DASH-Direction-Aware-SHrinking, ``utils/train_utils.py``) the gradients of the coming task are
averaged first, then each row of a matrix, each kernel and each vector shrinks by itself. Deviation: running statistics
of normalisation layers stay where they are while the gradients are computed; theirs move.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from lopbench import Learner, Perturbation, Register, State, hookimpl, number

lopbench_api = 2


@dataclass(frozen=True, kw_only=True)
class Dash(Perturbation):
    """Shrinks, before each task, weights that its gradients do not point along, and clears the optimizer.

    Args:
        floor: Smallest factor, in [0, 1]; 1 shrinks nothing.
        share: Share of the newest gradient in the running mean, in (0, 1].
        steps: Batches of the coming task to look at; None for one pass over its data.
    """

    name: ClassVar[str] = "dash"
    uses_data: ClassVar[bool] = True
    equation: ClassVar[str] = "w = w * clamp(cos(G, w), floor, 1), G the running mean of -gradient over the coming data"
    examples: ClassVar[tuple[Mapping[str, object], ...]] = ({"steps": 3},)
    floor: float = number(0.3, least=0, most=1, zero=1)
    share: float = number(0.3, above=0, most=1)
    steps: int | None = None

    def on_task_start(self, learner: Learner, state: State) -> None:
        """Shrink the parameters in place and clear the optimizer."""
        means = {name: torch.zeros_like(parameter) for name, parameter in learner.parameters.items()}
        for inputs, targets in learner.coming(self.steps):
            for name, gradient in gradients(learner, inputs, targets).items():
                means[name].lerp_(-gradient, self.share)
        for name, parameter in learner.parameters.items():
            parameter.mul_(cosines(means[name], parameter).clamp(self.floor, 1))
        learner.optimizer.clear()


def gradients(learner: Learner, inputs: Tensor, targets: Tensor) -> Mapping[str, Tensor]:
    """Return the gradients ``(R, ...)`` of the task's loss on a batch ``(R, N, ...)``."""
    with torch.enable_grad():
        parameters = {name: value.detach().requires_grad_() for name, value in learner.parameters.items()}
        losses = learner.loss(learner.forward(inputs, parameters).outputs, targets)
        found = torch.autograd.grad(losses.sum(), list(parameters.values()), materialize_grads=True)
    return dict(zip(parameters, found, strict=True))


def cosines(direction: Tensor, parameter: Tensor) -> Tensor:
    """Return the cosines of rows, kernels or vector of ``parameter`` ``(R, ...)`` with ``direction``; it broadcasts."""
    start = {2: 1, 3: 2}.get(parameter.ndim, 3)  # (R, out, in, height, width), (R, out, in), (R, out)
    cosine = functional.cosine_similarity(direction.flatten(start), parameter.flatten(start), dim=-1)
    return cosine.view(*cosine.shape, *[1] * (parameter.ndim - cosine.ndim))


@hookimpl
def lopbench_methods(register: Register) -> None:
    """Make the method known."""
    register("dash", Dash, "shrinks what the coming task's gradients do not point along")
