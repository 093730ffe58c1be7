"""MyThing: say here whose idea it is (authors, year, arXiv id, equation), and what you do otherwise.

As written it resets dormant units, as ReDo does (Sokar et al. 2023, arXiv:2302.12902, Algorithm 1).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from lopbench import Family, Learner, Perturbation, Register, State, hookimpl, number, whole

lopbench_api = 2  # the plugin API that this is written for


@dataclass(frozen=True, kw_only=True)
class MyThing(Perturbation):
    """Resets, every ``period`` steps, the units whose mean ``|h|`` is at most ``threshold`` times their layer's mean.

    Args:
        threshold: Share of the layer's mean up to which a unit is reset, at least 0.
        period: Steps from one reset to the next, at least 1.
    """

    # The fields below are hyperparameters: `lopbench run --method my-thing:threshold=0.2`. All else is a ClassVar.
    name: ClassVar[str] = "my-thing"
    family: ClassVar[Family] = "reset"
    # What `lopbench show my-thing` prints.
    equation: ClassVar[str] = "every period steps: reset unit i where mean|h_i| <= threshold * mean_k mean|h_k|"
    validated: ClassVar[tuple[str, ...]] = ()
    # Where the checks see it act within some 25 steps.
    examples: ClassVar[tuple[Mapping[str, object], ...]] = ({"threshold": 0.5, "period": 5},)
    threshold: float = number(0.1, least=0)
    period: int = whole(100, least=1)  # ReDo has 1000, more steps than a smoke run

    def begin(self, learner: Learner, state: State) -> None:
        """Count the steps of the stream from where it is; ``state`` is saved with the run.

        Raises:
            UnsupportedError: If the network has no units that could be reset.
        """
        _ = learner.units
        state["step"] = torch.full((learner.replicas,), learner.age, device=learner.device)

    def after_step(self, learner: Learner, state: State) -> None:
        """Reset the dormant units if it is time.

        Every tensor leads with an axis R of independent networks that train side by side. So there is no ``if``: a mask
        ``(R, D)`` says which units of which network are reset.
        """
        state["step"] += 1
        due = state["step"] % self.period == 0  # (R,)
        for group in learner.units:  # only those that a method may reset
            activity = group.activation.abs().mean(dim=1)  # of (R, N, D), over the samples: (R, D)
            dormant = activity <= self.threshold * activity.mean(dim=1, keepdim=True)
            # New incoming weights, outgoing ones zero, and the optimizer forgets these entries.
            group.reset(dormant & due.unsqueeze(1), bias="zero")


@hookimpl
def lopbench_methods(register: Register) -> None:
    """Make the method known."""
    register("my-thing", MyThing, "resets dormant units")
