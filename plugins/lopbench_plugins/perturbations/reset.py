"""A fresh network at each task: the control that scores a retention of 1 by construction."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from lopbench import Family, Learner, Perturbation, State


@dataclass(frozen=True, kw_only=True)
class Reset(Perturbation):
    """Becomes the protocol's fresh reference at each task boundary: new network, new optimizer, its learning rate.

    The standard retrained baseline, as in Dohare et al. 2024, Nature 632:768-774 (incremental CIFAR). It tells
    whether a scenario measures what it means to: its score must not depend on the index of the task. The runner gives
    it the reference's optimizer for the first task as well.
    """

    name: ClassVar[str] = "reset"
    family: ClassVar[Family] = "control"
    cost: ClassVar[Mapping[str, float]] = {"time": 1.0, "memory": 1.0}
    control: ClassVar[bool] = True
    equation: ClassVar[str] = "theta ~ initialisation law, at each task"
    validated: ClassVar[tuple[str, ...]] = ("property: bit-identical to the fresh reference of each task",)

    def on_task_start(self, learner: Learner, state: State) -> None:
        """Replace network and optimizer by those of the reference that starts at this task."""
        learner.restart()
