"""MyThing: say here whose idea it is, and what you do otherwise."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor, nn

from lopbench import Cloner, Profile, Register, hookimpl, widen_network

lopbench_api = 2  # the plugin API that this is written for


@dataclass(frozen=True, kw_only=True)
class MyThing(Cloner):
    """Puts every unit beside its clones, all of equal weights."""

    name: ClassVar[str] = "my-thing"

    def clone(
        self, module: nn.Module, factor: int, *, example: Tensor, generator: Generator
    ) -> tuple[nn.Module, Profile]:
        """Return the network ``factor`` times as wide, and what is a clone of what."""
        # Change the weights of what this returns in place; the checks say whether the function survives.
        return widen_network(module, factor, example=example, layout="interleave")


@hookimpl
def lopbench_cloners(register: Register) -> None:
    """Make the cloner known."""
    register("my-thing", MyThing, "every unit beside its clones")
