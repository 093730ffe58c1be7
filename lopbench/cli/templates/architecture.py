"""MyThing: say here where the network is from, and what you do otherwise."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, nn

from lopbench import Architecture, InvalidInputError, Register, hookimpl, rng, whole

lopbench_api = 2  # the plugin API that this is written for


@dataclass(frozen=True, kw_only=True)
class MyThing(Architecture):
    """A fully connected network with one hidden layer.

    Args:
        width: Units of the hidden layer, at least 1.
    """

    name: ClassVar[str] = "my-thing"
    examples: ClassVar[tuple[Mapping[str, object], ...]] = ({"width": 16},)
    width: int = whole(128, least=1)

    def build(self, input_shape: Sequence[int], outputs: int, *, generator: Generator) -> nn.Module:
        """Return a freshly initialised network for samples of any shape.

        Raises:
            InvalidInputError: If a dimension or ``outputs`` is below 1.
        """
        if min((*input_shape, outputs)) < 1:
            raise InvalidInputError(f"{self.name}: shape {tuple(input_shape)} with {outputs} outputs is no network")
        # Layers draw from torch's global generator as they are made; in here it is `generator`.
        with rng.isolated(generator):
            return nn.Sequential(
                nn.Flatten(),
                nn.Linear(math.prod(input_shape), self.width),
                nn.ReLU(),  # activation functions are modules, each used once: they are what is probed
                nn.Linear(self.width, outputs),
            )


@hookimpl
def lopbench_architectures(register: Register) -> None:
    """Make the architecture known."""
    register("my-thing", MyThing, "one hidden layer")
