"""MyThing: say here whose idea it is (authors, year, arXiv id, equation), and what you do otherwise.

As written it decays weights beside the optimizer's step (Loshchilov and Hutter 2019, arXiv:1711.05101v3, Algorithm 2).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from lopbench import Family, Learner, Perturbation, Register, State, hookimpl, number, per_replica

lopbench_api = 2  # the plugin API that this is written for


@dataclass(frozen=True, kw_only=True)
class MyThing(Perturbation):
    """Shrinks parameters by ``lr * strength`` at each step, whatever the optimizer is.

    Args:
        strength: Coefficient of the decay, at least 0.
    """

    # The fields below are hyperparameters: `lopbench run --method my-thing:strength=0.1`. All else is a ClassVar.
    name: ClassVar[str] = "my-thing"
    family: ClassVar[Family] = "optimizer"
    # What `lopbench show my-thing` prints.
    equation: ClassVar[str] = "theta = theta - lr * strength * theta - (the optimizer's step)"
    validated: ClassVar[tuple[str, ...]] = ()
    # Where the checks see it act within some 25 steps.
    examples: ClassVar[tuple[Mapping[str, object], ...]] = ({"strength": 1.0},)
    # At `zero` no hook is called.
    strength: float = number(0.01, least=0, zero=0)

    def update(self, learner: Learner, state: State) -> None:
        """Change in place what the optimizer is about to add.

        Every tensor leads with an axis R of independent networks that train side by side. Each has its own learning
        rate, ``learner.optimizer.lr`` ``(R,)``, which `per_replica` makes fit.
        """
        for name, update in learner.updates.items():
            rate = per_replica(learner.optimizer.lr * self.strength, update)
            update.sub_(rate * learner.parameters[name])


@hookimpl
def lopbench_methods(register: Register) -> None:
    """Make the method known."""
    register("my-thing", MyThing, "decays weights beside the optimizer's step")
