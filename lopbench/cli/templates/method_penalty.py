"""MyThing: say here whose idea it is (authors, year, arXiv id, equation), and what you do otherwise.

As written it adds the penalty of L2 Init to the loss (Kumar et al. 2023, arXiv:2308.11958, section 3).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lopbench import Family, Learner, Perturbation, Register, State, hookimpl, number

lopbench_api = 2  # the plugin API that this is written for


@dataclass(frozen=True, kw_only=True)
class MyThing(Perturbation):
    """Adds ``strength / 2 * norm(theta - theta_0)**2`` to the loss.

    Args:
        strength: Coefficient of the penalty, at least 0.
    """

    # The fields below are hyperparameters: `lopbench run --method my-thing:strength=0.1`. All else is a ClassVar.
    name: ClassVar[str] = "my-thing"
    family: ClassVar[Family] = "regularise"
    # What `lopbench show my-thing` prints.
    equation: ClassVar[str] = "loss + strength / 2 * norm(theta - theta_0)**2"
    validated: ClassVar[tuple[str, ...]] = ()
    # Where the checks see it act within some 25 steps.
    examples: ClassVar[tuple[Mapping[str, object], ...]] = ({"strength": 0.1},)
    # At `zero` no hook is called.
    strength: float = number(1e-3, least=0, zero=0)

    def penalty(self, learner: Learner, state: State) -> Tensor:
        """Return the term ``(R,)`` that is added to the loss: one number for each of the R networks side by side.

        It is differentiated: ``learner.differentiable`` has the parameters inside autograd. ``learner.outputs``,
        ``features`` and ``activations`` are inside autograd here too.
        """
        distances = [
            (parameter - learner.initial[name]).square().flatten(1).sum(dim=1)
            for name, parameter in learner.differentiable.items()
        ]
        return self.strength / 2 * torch.stack(distances).sum(dim=0)


@hookimpl
def lopbench_methods(register: Register) -> None:
    """Make the method known."""
    register("my-thing", MyThing, "pulls parameters towards where they started")
