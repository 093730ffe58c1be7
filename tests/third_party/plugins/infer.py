"""InFeR, initial feature regularisation: Lyle, Rowland and Dabney 2022, arXiv:2204.09560.

Deviation: the mean over heads, as in the text, and not their sum, which other code has (a factor of ``heads``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn

from lopbench import (
    Learner,
    Perturbation,
    Register,
    State,
    UnsupportedError,
    head_of,
    hookimpl,
    number,
    per_replica,
    rng,
    whole,
)

lopbench_api = 2


@dataclass(frozen=True, kw_only=True)
class InFeR(Perturbation):
    """Trains linear functions of the features towards a multiple of what the initial network made of the inputs.

    Args:
        strength: Coefficient of the penalty, at least 0.
        scale: The multiple.
        heads: Linear functions, at least 1.
    """

    name: ClassVar[str] = "infer"
    equation: ClassVar[str] = "loss + strength * mean((g_i(x; theta) - scale * g_i(x; theta_0))**2)"
    examples: ClassVar[tuple[Mapping[str, object], ...]] = ({"strength": 0.01, "scale": 10.0},)
    strength: float = number(0.1, least=0, zero=0, swept=True)
    scale: float = number(100.0, swept=True)
    heads: int = whole(10, least=1)

    def configure(self, module: nn.Module, *, example: Tensor, generator: Generator) -> nn.Module:
        """Add the auxiliary heads' parameters to the network, which itself does not use them.

        Raises:
            UnsupportedError: If the head is no linear layer.
        """
        head = module.get_submodule(head_of(module, example))
        if not isinstance(head, nn.Linear):
            raise UnsupportedError(f"{self.name}: the head is a {type(head).__name__}, not a linear layer")
        with rng.isolated(generator):
            drawn = nn.Linear(head.in_features, self.heads)
        module.register_parameter("infer_weight", nn.Parameter(drawn.weight))
        module.register_parameter("infer_bias", nn.Parameter(drawn.bias))
        return module

    def penalty(self, learner: Learner, state: State) -> Tensor:
        """Return the term, ``(R,)``."""
        with torch.no_grad():
            features = learner.forward(learner.inputs, learner.initial).features
            wanted = heads(features, learner.initial) * per_replica(self.scale, features)
        distance = (heads(learner.features, learner.differentiable) - wanted).square()
        mean = distance.flatten(1).mean(dim=1)
        return mean * per_replica(self.strength, mean)


def heads(features: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
    """Return what the auxiliary heads make of features ``(R, N, ..., D)``, ``(R, N * ..., heads)``."""
    bias = parameters["infer_bias"].unsqueeze(1)
    return torch.baddbmm(bias, features.flatten(1, -2), parameters["infer_weight"].mT)


@hookimpl
def lopbench_methods(register: Register) -> None:
    """Make the method known."""
    register("infer", InFeR, "ties functions of the features to their initial values")
