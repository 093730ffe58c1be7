"""A new optimizer at each task: Asadi, Fakoor, Sabach 2023, arXiv:2306.17833, "Resetting the Optimizer in Deep RL".

A control for methods that start the optimizer anew beside what they do to weights (`shrink_and_perturb`, `reset`): what
of their effect it has alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from lopbench import Family, Learner, Perturbation, State


@dataclass(frozen=True, kw_only=True)
class OptimizerReset(Perturbation):
    """Clears, at each task, all that the optimizer remembers: moments and step counts of every parameter.

    Acts on no weight. It does nothing under an optimizer that remembers nothing (SGD without momentum), and nothing
    beyond the protocol where a scenario starts the optimizer anew for all methods alike.

    Deviation: the paper resets at each update of a target network, as reinforcement learning knows no boundaries; here
    at each task.
    """

    name: ClassVar[str] = "optimizer_reset"
    family: ClassVar[Family] = "control"
    cost: ClassVar[Mapping[str, float]] = {"time": 1.0, "memory": 1.0}
    equation: ClassVar[str] = "m = v = t = 0, at each task"
    validated: ClassVar[tuple[str, ...]] = (
        "theorem: goes on as a learner of these weights that was started at this task, to the bit",
    )

    def on_task_start(self, learner: Learner, state: State) -> None:
        """Clear the optimizer."""
        learner.optimizer.clear()
