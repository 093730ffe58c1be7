"""Reset of the last layers: Nikishin et al. 2022, "The Primacy Bias in Deep Reinforcement Learning", arXiv:2205.07802.

Deviation: they reset every so many steps, as reinforcement learning knows no boundaries; here at each task.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from lopbench import Family, Learner, Perturbation, State, UnsupportedError, whole


@dataclass(frozen=True, kw_only=True)
class HeadReset(Perturbation):
    """Redraws the last layers from their construction law at each task and clears their optimizer state.

    Where the scenario zeroes the head by protocol, it does so afterwards and for all methods alike: with ``layers=1``
    the effect is then on the head's optimizer state alone.

    Args:
        layers: Number of last layers to reset, at least 0; 1 is the head. A layer is what has a weight matrix or a
            convolution kernel; its bias and the normalisations behind it go with it. 0 means no reset.
    """

    name: ClassVar[str] = "head_reset"
    family: ClassVar[Family] = "control"
    cost: ClassVar[Mapping[str, float]] = {"time": 1.0, "memory": 1.0}
    examples: ClassVar[tuple[Mapping[str, object], ...]] = ({}, {"layers": 2})
    equation: ClassVar[str] = "theta_last ~ initialisation law, at each task"
    validated: ClassVar[tuple[str, ...]] = ("property: all other layers are left alone to the bit",)
    layers: int = whole(1, least=0, zero=0)

    def on_task_start(self, learner: Learner, state: State) -> None:
        """Redraw the last layers and clear their optimizer state.

        Raises:
            UnsupportedError: If the network has fewer layers.
        """
        fresh = learner.fresh(state)
        for name in self._names(learner):
            learner.parameters[name].copy_(fresh[name])
            learner.optimizer.clear(name)

    def _names(self, learner: Learner) -> list[str]:
        """Return the parameters to reset, in order of definition."""
        names = list(learner.parameters)
        names = names[: max(names.index(name) for name in learner.head) + 1]
        starts = [
            i for i, n in enumerate(names) if n.endswith("weight") and learner.parameters[n].ndim > 2
        ]  # one axis more than the layer's own, of the replicas
        if self.layers > len(starts):
            raise UnsupportedError(
                f"{self.name}: layers={self.layers} is more than the {len(starts)} layers of this network"
            )
        return names[starts[-self.layers] :]
