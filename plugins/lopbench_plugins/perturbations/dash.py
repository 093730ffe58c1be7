"""DASH, direction-aware shrinking: Shin, Oh, Cho and Yun 2024, NeurIPS, arXiv:2410.23495.

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

from lopbench import Family, InvalidInputError, Learner, Perturbation, State, number


@dataclass(frozen=True, kw_only=True)
class Dash(Perturbation):
    """Shrinks, before each task, weights that its gradients do not point along, and clears the optimizer.

    Acts on all parameters: rows of matrices, kernels ``(height, width)`` of each pair of channels, and vectors such as
    biases, gains and shifts as a whole. Directions stay as they are.

    Args:
        floor: Smallest factor, in [0, 1]; 1 shrinks nothing.
        share: Share of the newest gradient in the running mean, in (0, 1].
        steps: Batches of the coming task to look at, at least 1; None for one pass over its data.
    """

    name: ClassVar[str] = "dash"
    family: ClassVar[Family] = "reset"
    cost: ClassVar[Mapping[str, float]] = {"time": 1.1, "memory": 1.0}
    uses_data: ClassVar[bool] = True
    examples: ClassVar[tuple[Mapping[str, object], ...]] = ({"steps": 3},)
    grid: ClassVar[Mapping[str, tuple[object, ...]]] = {"share": (0.1, 0.3), "floor": (0.1, 0.3)}
    equation: ClassVar[str] = "w = w * clamp(cos(G, w), floor, 1), G the running mean of -gradient over the coming data"
    validated: ClassVar[tuple[str, ...]] = (
        "trace in NumPy of running mean, cosines and factors, of rows, kernels and vectors",
        "property: directions stay, factors lie between floor and 1",
    )
    floor: float = number(0.3, least=0, most=1, zero=1)
    share: float = number(0.3, above=0, most=1)
    steps: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps is not None and self.steps < 1:
            raise InvalidInputError(f"{self.name}: steps must be at least 1 or none, got {self.steps}")

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
    start = {2: 1, 3: 2}.get(parameter.ndim, 3)  # (R, out), (R, out, in), (R, out, in, height, width)
    cosine = functional.cosine_similarity(direction.flatten(start), parameter.flatten(start), dim=-1)
    return cosine.view(*cosine.shape, *[1] * (parameter.ndim - cosine.ndim))
