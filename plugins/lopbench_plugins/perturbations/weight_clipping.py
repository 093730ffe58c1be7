"""Weight clipping: Elsayed, Lan, Lyle, Mahmood 2024, arXiv:2407.01704, "Weight Clipping for Deep Continual and RL"."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from lopbench import Family, Learner, Perturbation, State, UnsupportedError, number, per_replica
from lopbench_plugins.perturbations._layers import is_norm


@dataclass(frozen=True, kw_only=True)
class WeightClipping(Perturbation):
    """Keeps every weight and bias of a layer within ``kappa * s``, ``s = 1 / sqrt(fan_in)`` of this layer.

    Acts after each step on the matrices and kernels of layers and on their biases, which have the bound of the
    layer's weights. Scales and shifts of normalisation layers, embeddings, and parameters that belong to no layer's
    weight have no fan-in and are left alone; ``left_out`` reports how many numbers these are, ``clipped`` which share
    of the others is at its bound.

    Deviations:

    - The paper's ``s`` is the bound of the law from which the layer is drawn. Here it is that of torch's own layers,
      on which the paper's experiments run, whatever the law: where an architecture draws from a wider one, such as
      Kaiming's uniform law of ``sqrt(6 / fan_in)``, a ``kappa`` below the ratio clips at the first step already.
    - In the authors' code (mohmdelsayed/weight-clipping) vectors that are no biases get a bound as well, which is that
      of no layer of theirs.

    Args:
        kappa: Bound in units of ``s``, above 0. The paper's best is between 1 and 5 and differs between problems.
        clip_head: Whether the head is clipped as well, as it is by default in the authors' code.
    """

    name: ClassVar[str] = "weight_clipping"
    family: ClassVar[Family] = "normalise"
    cost: ClassVar[Mapping[str, float]] = {"time": 1.1, "memory": 1.0, "program": 1.2}
    examples: ClassVar[tuple[Mapping[str, object], ...]] = ({"kappa": 0.5}, {"kappa": 0.5, "clip_head": False})
    equation: ClassVar[str] = "theta = clip(theta, -kappa * s, kappa * s), s = 1 / sqrt(fan_in) of the layer"
    validated: ClassVar[tuple[str, ...]] = (
        "theorem: no weight is ever beyond its bound, and kappa=1 leaves torch's layers as they are built",
        "trace in NumPy of steps of gradient descent",
    )
    grid: ClassVar[Mapping[str, tuple[object, ...]]] = {"kappa": (1.0, 2.0, 3.0, 5.0)}
    kappa: float = number(2.0, above=0, swept=True)
    clip_head: bool = True

    def begin(self, learner: Learner, state: State) -> None:
        """Find out the bounds: ``s`` of each parameter that has one, ``(R,)``, under its name.

        Raises:
            UnsupportedError: If nothing has a bound.
        """
        parameters = learner.parameters
        fans = {name: fan for name, fan in _fans_in(learner.module) if name in parameters}
        for name, fan_in in fans.items():
            if self.clip_head or name not in learner.head:
                state[name] = parameters[name].new_full((learner.replicas,), fan_in**-0.5)
        if not any(name in state for name in parameters):
            raise UnsupportedError(
                f"{self.name}: no layer of {type(learner.module).__name__} has a weight matrix or kernel to clip"
            )

    def after_step(self, learner: Learner, state: State) -> None:
        """Clip in place."""
        for parameter, bound in self._clipped(learner, state):
            # As `clamp_`, which takes several times as long where bounds are tensors that broadcast.
            torch.minimum(torch.maximum(parameter, -bound, out=parameter), bound, out=parameter)

    def report(self, learner: Learner, state: State) -> Mapping[str, Tensor]:
        """Return the share of numbers at their bound, and how many have none, ``(R,)`` each."""
        clipped = list(self._clipped(learner, state))
        at_bound = torch.stack([(p.abs() >= bound).flatten(1).sum(dim=1) for p, bound in clipped]).sum(dim=0)
        size = sum(parameter[0].numel() for parameter, _ in clipped)
        left_out = sum(parameter[0].numel() for parameter in learner.parameters.values()) - size
        return {"clipped": at_bound / size, "left_out": torch.full_like(at_bound, left_out)}

    def _clipped(self, learner: Learner, state: State) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield each parameter that is clipped, with its bound ``(R, 1, ...)``."""
        for name, parameter in learner.parameters.items():
            if name in state:
                yield parameter, per_replica(state[name], parameter) * per_replica(self.kappa, parameter)


def _fans_in(module: nn.Module) -> Iterator[tuple[str, int]]:
    """Yield the weights and biases of layers, with the number of inputs of one of the layer's outputs."""
    for path, layer in module.named_modules():
        if is_norm(layer) or isinstance(layer, nn.Embedding | nn.EmbeddingBag):
            continue
        own: dict[str, nn.Parameter] = dict(layer.named_parameters(recurse=False))
        for name, parameter in own.items():
            # A bias beside its weight: `bias` and `weight`, or `in_proj_bias` and `in_proj_weight` of attention.
            weight = own.get(name.replace("bias", "weight"), parameter)
            if "weight" in name.replace("bias", "weight") and weight.ndim > 1:
                yield (f"{path}.{name}" if path else name), weight[0].numel()
