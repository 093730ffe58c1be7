"""The learner of slowly-changing regression: one small hidden layer, trained online.

Dohare et al. 2021 (arXiv:2108.06325v2), section 3, and 2024 (Nature 632), as their code (shibhansh/loss-of-plasticity
at 63c35f3) has it; the same network learns bit flipping in Joudaki et al. 2025 (arXiv:2510.00304), with up to 100
hidden units.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Generator, nn

from lopbench import Architecture, rng, whole
from lopbench_plugins.architectures._base import check_request, named

OnlineActivation = Literal["relu", "tanh", "sigmoid", "elu", "leaky_relu", "swish", "gelu"]

#: The layer of each activation, and the gain of its initialisation.
_ACTIVATIONS: Mapping[OnlineActivation, tuple[Callable[[], nn.Module], float]] = {
    "relu": (nn.ReLU, math.sqrt(2)),
    "tanh": (nn.Tanh, 5 / 3),
    "sigmoid": (nn.Sigmoid, 1.0),
    "leaky_relu": (nn.LeakyReLU, math.sqrt(2 / (1 + 0.01**2))),
    # No gain is published for these; the authors give elu and swish that of relu, which gelu resembles as much.
    "elu": (nn.ELU, math.sqrt(2)),
    "swish": (nn.SiLU, math.sqrt(2)),
    "gelu": (nn.GELU, math.sqrt(2)),
}


@dataclass(frozen=True, kw_only=True)
class OnlineMLP(Architecture):
    """Fully connected network with one hidden layer, on the flattened sample.

    Weights are uniform within ``gain * sqrt(3 / fan_in)`` (Kaiming), with the gain of the activation in the hidden
    layer and 1 in the output layer; biases are zero.

    Args:
        width: Units of the hidden layer, at least 1.
        activation: Activation function; the slope of "leaky_relu" is 0.01.
    """

    name: ClassVar[str] = "online_mlp"
    width: int = whole(5, least=1)
    activation: OnlineActivation = "relu"

    def build(self, input_shape: Sequence[int], outputs: int, *, generator: Generator) -> nn.Module:
        """Return a freshly initialised network in training mode, on the CPU.

        Args:
            input_shape: Shape of one sample, any.
            outputs: Number K of outputs of the head, at least 1; the network maps ``(N, *input_shape)`` to ``(N, K)``.
            generator: Source of every random draw, on the CPU; advanced in place.

        Raises:
            InvalidInputError: If a dimension or ``outputs`` is below 1, or the generator is not on the CPU.
        """
        check_request(self.name, input_shape, outputs, generator)
        layer, gain = _ACTIVATIONS[self.activation]
        inputs = math.prod(input_shape)
        return named(
            flatten=nn.Flatten(),
            hidden=kaiming_linear(inputs, self.width, gain, generator=generator),
            activation=layer(),
            out=kaiming_linear(self.width, outputs, 1.0, generator=generator),
        )

    def layers(self, module: nn.Module) -> Sequence[str]:
        """Return the name of the activation module."""
        return ["activation"]


def kaiming_linear(inputs: int, outputs: int, gain: float, *, generator: Generator) -> nn.Linear:
    """Return a linear layer with weights uniform within ``gain * sqrt(3 / inputs)`` and zero bias.

    Args:
        inputs: Number of inputs, the fan-in.
        outputs: Number of outputs.
        gain: Standard deviation of a weight times the root of ``inputs``.
        generator: Source of the weights, on the CPU; advanced in place.
    """
    with rng.isolated(generator):
        layer = nn.Linear(inputs, outputs)
    bound = gain * math.sqrt(3 / inputs)
    nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer
