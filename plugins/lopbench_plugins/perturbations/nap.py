"""Normalize and project: Lyle, Zheng, Khetarpal, Martens, van Hasselt, Pascanu, Dabney 2024, arXiv:2407.01800.

"Normalization and Effective Learning Rates in Reinforcement Learning", NeurIPS 2024. As in their code the head is not
projected, and the layers in front of a normalisation lose their biases. Of the three ways with scales and shifts that
the paper names, their slow decay towards 1 and 0 is left out, for which it gives no rate. There is no strength: as
projection keeps the effective learning rate where it is, a schedule of the learning rate is what is left to choose.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor, nn

from lopbench import Family, Learner, Perturbation, State, UnsupportedError, activation_layers, per_replica
from lopbench_plugins.perturbations._layers import is_norm
from lopbench_plugins.perturbations._producers import producers
from lopbench_plugins.perturbations._weights import hidden_weights, roles
from lopbench_plugins.perturbations.crelu import Doubled
from lopbench_plugins.perturbations.layernorm import LayerNorm

#: What multiplies its outputs if its inputs are multiplied by a positive number.
_HOMOGENEOUS = (nn.ReLU, nn.LeakyReLU, nn.PReLU, Doubled)


@dataclass(frozen=True, kw_only=True)
class NormalizeAndProject(Perturbation):
    """Normalises in front of each activation function, and gives hidden weights their initial norm after each step.

    The normalisation is that of ``layernorm``. Each weight of a linear layer, attention or convolution but the head's
    is multiplied by ``norm(W_0) / norm(W)`` (Frobenius), which changes no output where a normalisation follows. A
    layer whose outputs go through a normalisation at once has no bias, since that would break it. A weight that is zero
    from the start stays free.

    Args:
        scales: What is done about the scales and shifts of the normalisations: with "project" both together keep the
            norm that they had, which takes functions such as ReLU, for which that is no change of direction; with
            "remove" there are none.
    """

    name: ClassVar[str] = "nap"
    family: ClassVar[Family] = "normalise"
    cost: ClassVar[Mapping[str, float]] = {"time": 1.5, "memory": 1.0, "program": 1.3}
    examples: ClassVar[tuple[Mapping[str, object], ...]] = ({}, {"scales": "remove"})
    equation: ClassVar[str] = "h = phi(norm(W h)); after each step W = W * norm(W_0) / norm(W)"
    validated: ClassVar[tuple[str, ...]] = (
        "theorem: the norm of each hidden weight stays what it was",
        "theorem: projecting the weights leaves the outputs alone",
    )
    scales: Literal["project", "remove"] = "project"

    def configure(self, module: nn.Module, *, example: Tensor, generator: Generator) -> nn.Module:
        """Put in the normalisations and take away the biases in front of them, in place; draws nothing.

        Raises:
            UnsupportedError: If the network normalises already, has no activation function that is a module of its
                own, or scales cannot be projected in front of one.
        """
        self._check_functions(module)
        sources = producers(module, example)
        try:
            module = LayerNorm().configure(module, example=example, generator=generator)
        except UnsupportedError as error:
            raise UnsupportedError(f"{self.name}: {str(error).removeprefix('layernorm: ')}") from error
        for calls in sources.values():
            for producer in calls:
                if producer is not None:
                    module.get_submodule(producer.layer).register_parameter("bias", None)
        if self.scales == "remove":
            for norm in (layer for layer in module.modules() if is_norm(layer)):
                norm.register_parameter("weight", None)
                norm.register_parameter("bias", None)
        return module

    def _check_functions(self, module: nn.Module) -> None:
        """Refuse activation functions in front of which scales cannot be projected, if they are to be."""
        for name in activation_layers(module) if self.scales == "project" else ():
            function = module.get_submodule(name)
            if type(function) not in _HOMOGENEOUS:
                raise UnsupportedError(
                    f"{self.name}: projected scales in front of {name!r} ({type(function).__name__}) would change what "
                    f"it does; write {self.name}:scales=remove"
                )

    def begin(self, learner: Learner, state: State) -> None:
        """Remember the norms of the hidden weights.

        Raises:
            UnsupportedError: If another method has put in activation functions before which scales cannot be projected.
        """
        self._check_functions(learner.module)
        for name in hidden_weights(learner, self.name):
            state[name] = _norm(learner.initial[name])

    def after_step(self, learner: Learner, state: State) -> None:
        """Project hidden weights, and scales with their shifts, in place."""
        parameters = learner.parameters
        for name in hidden_weights(learner, self.name):
            _rescale([parameters[name]], state[name])
        found = roles(learner.module)
        for gain, shift in zip(found.gains, found.shifts, strict=True):
            scale = parameters[gain]
            _rescale([scale, parameters[shift]], torch.full_like(scale[:, 0], scale.shape[1] ** 0.5))


def _norm(*tensors: Tensor) -> Tensor:
    """Return the norm of tensors ``(R, ...)`` taken together, ``(R,)``."""
    return torch.stack([tensor.flatten(1).square().sum(dim=1) for tensor in tensors]).sum(dim=0).sqrt()


def _rescale(tensors: list[Tensor], norm: Tensor) -> None:
    """Give tensors ``(R, ...)`` together the norm ``(R,)``, in place; zeros stay, and so do all where it is 0."""
    now = _norm(*tensors)
    factor = torch.where((now > 0) & (norm > 0), norm / now, 1)
    for tensor in tensors:
        tensor.mul_(per_replica(factor, tensor))
