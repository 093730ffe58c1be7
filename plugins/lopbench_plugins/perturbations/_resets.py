"""What methods share that reset, now and then, the units of least activity of one kind or another."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lopbench import Learner, Perturbation, State, Units, number, whole
from lopbench_plugins.perturbations._units import dormant, start_clock, tick


@dataclass(frozen=True, kw_only=True)
class DormantResets(Perturbation):
    """Resets, every ``period`` steps, the units that are dormant by the method's own measure of activity.

    A reset unit gets new incoming weights, bias zero and outgoing weights zero, and the optimizer forgets these
    entries.
    """

    threshold: float = number(0.1, least=0, swept=True)
    period: int = whole(1000, least=1)
    cap: float = number(1.0, above=0, most=1)

    @abstractmethod
    def _activity(self, learner: Learner, units: Units) -> Tensor | None:
        """Return how active each unit was in the step that was taken, ``(R, D)``; None where that cannot be told."""

    def begin(self, learner: Learner, state: State) -> None:
        """Start to count.

        Raises:
            UnsupportedError: If the network has no units that could be reset.
        """
        start_clock(learner, state)
        state["resets"] = torch.zeros(learner.replicas, len(learner.units), device=learner.device)

    def after_step(self, learner: Learner, state: State) -> None:
        """Reset the dormant units if it is time."""
        due = tick(state, self.period)
        for place, group in enumerate(learner.units):
            activity = self._activity(learner, group)
            if activity is not None:
                mask = due & dormant(activity, self.threshold, self.cap)
                group.reset(mask, bias="zero")
                state["resets"][:, place] += mask.sum(dim=1)

    def report(self, learner: Learner, state: State) -> Mapping[str, Tensor]:
        """Return how many units have been reset so far, ``(R,)``."""
        return {"resets": state["resets"].sum(dim=1)}
