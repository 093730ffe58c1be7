"""InFeR, initial feature regularisation: Lyle, Rowland and Dabney 2022, ICLR, arXiv:2204.09560.

"Understanding and Preventing Capacity Loss in Reinforcement Learning". It is the mean over heads, as in the text, and
not their sum, which other code has (a factor of ``heads``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn

from lopbench import Family, Learner, Perturbation, State, UnsupportedError, head_of, number, per_replica, rng, whole


@dataclass(frozen=True, kw_only=True)
class InFeR(Perturbation):
    """Trains linear functions of the features towards a multiple of what the initial network made of the inputs.

    Acts on all parameters but the head's, through the features, and trains the functions' own weights with them, which
    are parameters of the network that its outputs do not depend on.

    Args:
        strength: Coefficient of the penalty, at least 0.
        scale: The multiple; one port has 175.
        heads: Linear functions, at least 1.
    """

    name: ClassVar[str] = "infer"
    family: ClassVar[Family] = "regularise"
    cost: ClassVar[Mapping[str, float]] = {"time": 1.6, "memory": 1.0, "program": 1.6}
    examples: ClassVar[tuple[Mapping[str, object], ...]] = ({"strength": 0.01, "scale": 10.0},)
    grid: ClassVar[Mapping[str, tuple[object, ...]]] = {"strength": (0.01, 0.1), "scale": (10.0, 100.0)}
    equation: ClassVar[str] = "loss + strength * mean((g_i(x; theta) - scale * g_i(x; theta_0))**2)"
    validated: ClassVar[tuple[str, ...]] = (
        "trace in NumPy over several steps and replicas",
        "theorem: at the start the penalty is (1 - scale)**2 times the mean square of the functions",
    )
    strength: float = number(0.1, least=0, zero=0, swept=True)
    scale: float = number(100.0, swept=True)
    heads: int = whole(10, least=1)

    def configure(self, module: nn.Module, *, example: Tensor, generator: Generator) -> nn.Module:
        """Add the functions' parameters to the network, drawn by torch's law of a linear layer.

        Raises:
            UnsupportedError: If the head is no linear layer, or the network has such functions already.
        """
        if "infer_weight" in module._parameters:
            raise UnsupportedError(f"{self.name}: the network has functions of this kind already")
        head = module.get_submodule(head_of(module, example))
        if not isinstance(head, nn.Linear):
            raise UnsupportedError(f"{self.name}: the head is a {type(head).__name__}, not a linear layer")
        with rng.isolated(generator):
            drawn = nn.Linear(head.in_features, self.heads)
        module.register_parameter("infer_weight", nn.Parameter(drawn.weight))
        module.register_parameter("infer_bias", nn.Parameter(drawn.bias))
        return module

    def begin(self, learner: Learner, state: State) -> None:
        """Look whether the functions fit what the head reads.

        Raises:
            UnsupportedError: If another method has given the head other features since they were made.
        """
        head = next(name for name in learner.head if name.endswith("weight"))
        own, read = (learner.parameters[name].shape[-1] for name in ("infer_weight", head))
        if own != read:
            raise UnsupportedError(f"{self.name}: its functions read {own} features, and the head now reads {read}")

    def penalty(self, learner: Learner, state: State) -> Tensor:
        """Return the term, ``(R,)``."""
        with torch.no_grad():
            features = learner.forward(learner.inputs, learner.initial).features
            wanted = _functions(features, learner.initial) * per_replica(self.scale, features)
        distance = (_functions(learner.features, learner.differentiable) - wanted).square()
        mean = distance.flatten(1).mean(dim=1)
        return mean * per_replica(self.strength, mean)


def _functions(features: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
    """Return the values of the functions at features ``(R, N, ..., D)``, ``(R, N * ..., heads)``."""
    bias = parameters["infer_bias"].unsqueeze(1)
    return torch.baddbmm(bias, features.flatten(1, -2), parameters["infer_weight"].mT)
