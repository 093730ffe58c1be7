"""MyThing: say here whose idea it is (authors, year, arXiv id, equation), and what you do otherwise.

As written it is Lion without weight decay: Chen et al. 2023, arXiv:2302.06675v4, Algorithm 2.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from lopbench import Optimizer, Register, hookimpl, number, per_replica

lopbench_api = 2  # the plugin API that this is written for


@dataclass(frozen=True, kw_only=True)
class MyThing(Optimizer):
    """Moves every entry by one learning rate, in the direction of momentum and gradient.

    Args:
        momentum: Share of the running mean in the direction, in [0, 1).
        decay: Decay rate of the running mean, in [0, 1).
    """

    # The fields below are hyperparameters beside `lr`: `lopbench run --optimizer my-thing:lr=1e-4,momentum=0.8`.
    name: ClassVar[str] = "my-thing"
    # What `lopbench show my-thing` prints.
    equation: ClassVar[str] = "theta = theta - lr * sign(momentum * m + (1 - momentum) * g)"
    # Where the checks see it.
    examples: ClassVar[tuple[Mapping[str, object], ...]] = ({"lr": 1e-3},)
    momentum: float = number(0.9, least=0, below=1)
    decay: float = number(0.99, least=0, below=1)

    def init(self, parameter: Tensor, *, hidden: bool) -> dict[str, Tensor]:
        """Return what is remembered of a parameter `(R, ...)`: tensors of its shape, or that broadcast to it."""
        return {"mean": parameter.new_zeros(parameter.shape)}

    def update(self, gradient: Tensor, entries: dict[str, Tensor], parameter: Tensor, lr: float | Tensor) -> Tensor:
        """Return what is added to the parameter, a new tensor, and change `entries` in place."""
        direction = gradient.lerp(entries["mean"], self.momentum).sign_()
        entries["mean"].lerp_(gradient, 1 - self.decay)
        return direction * per_replica(-lr, direction)  # `lr` is one number, or (R,)


@hookimpl
def lopbench_optimizers(register: Register) -> None:
    """Make the optimizer known."""
    register("my-thing", MyThing, "steps of one size for all entries")
