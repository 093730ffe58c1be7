"""MyThing: say here whose idea it is (authors, year, arXiv id, equation), and what you do otherwise.

As written it pulls every parameter a little towards where it started, as L2 Init does (Kumar et al. 2023,
arXiv:2308.11958, in the form of its gradient).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from lopbench import Learner, Perturbation, Register, State, hookimpl, number

lopbench_api = 2  # the plugin API that this is written for


@dataclass(frozen=True, kw_only=True)
class MyThing(Perturbation):
    """Adds ``strength * (theta - theta_0)`` to the gradient.

    Args:
        strength: Coefficient of the pull, at least 0.
    """

    # The fields below are hyperparameters: `lopbench run --method my-thing:strength=0.1`. All else is a ClassVar.
    name: ClassVar[str] = "my-thing"
    # What `lopbench show my-thing` prints.
    equation: ClassVar[str] = "g = g + strength * (theta - theta_0)"
    validated: ClassVar[tuple[str, ...]] = ()
    # Where the checks see it act within some 25 steps.
    examples: ClassVar[tuple[Mapping[str, object], ...]] = ({"strength": 0.1},)
    # At `zero` no hook is called. Add `swept=True` where the hooks take a tensor (R,) too, one number for each replica:
    # runs with several values of the field can then be one compiled program.
    strength: float = number(1e-3, least=0, zero=0)

    # Hooks, all optional, in the order in which they act:
    #   configure(module)      change the network as it is built
    #   begin                  put what you remember into `state`: it is saved with the run, and restored to the bit
    #   on_task_start          at task boundaries; without it, the method cannot see them
    #   batch                  other inputs and targets to train on
    #   loss                   another loss (R,)
    #   penalty                a term (R,) of the loss
    #   after_backward         change learner.gradients in place
    #   update                 change learner.updates in place: what the optimizer is about to add
    #   after_step             change learner.parameters in place, or learner.units[...].reset(mask)
    #   evaluated              the parameters to evaluate, where they are not the trained ones
    #   report                 numbers of the method's own, recorded beside the metrics
    # Every tensor leads with an axis R of independent networks that train side by side. Random numbers come from
    # state.normal(like) and state.uniform(like).

    def after_backward(self, learner: Learner, state: State) -> None:
        """Add the pull to the gradients in place."""
        for parameter, gradient in learner.gradients.items():
            gradient.add_(learner.parameters[parameter] - learner.initial[parameter], alpha=self.strength)


@hookimpl
def lopbench_methods(register: Register) -> None:
    """Make the method known."""
    register("my-thing", MyThing, "pulls parameters towards where they started")
