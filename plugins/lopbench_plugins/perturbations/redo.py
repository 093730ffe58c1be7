"""ReDo: Sokar, Agarwal, Castro, Evci 2023, arXiv:2302.12902, "The Dormant Neuron Phenomenon in Deep RL".

Definition 3.1 and Algorithm 1, with the details of the authors' code (google/dopamine, ``labs/redo``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from lopbench import Family, Learner, Units
from lopbench_plugins.perturbations._resets import DormantResets
from lopbench_plugins.perturbations._units import fast_mean


@dataclass(frozen=True, kw_only=True)
class ReDo(DormantResets):
    """Resets, every ``period`` steps, the units whose mean ``|h|`` is at most ``threshold`` times their layer's mean.

    The means are over the batch that was just trained on, in convolutions over space as well. A reset unit gets new
    incoming weights, bias zero and outgoing weights zero, and the optimizer forgets these entries.

    Acts on hidden units with private outgoing weights: of linear layers, channels of convolutions, the hidden layers
    of transformer blocks; neither on the head nor on a residual stream, attention or embeddings.

    Deviations:

    - Incoming weights are redrawn from the layer's own initialisation law; the authors' code draws Xavier's uniform
      law, whatever the layer.
    - Entries that are reset start their step count anew; the authors' code keeps Adam's count for the whole network.
    - Where a layer's mean is zero all of its units count as dormant; the authors add 1e-9 to it, to the same effect.
    - ``cap`` is of later users, who found that many units may fall below the threshold at once.

    Args:
        threshold: Share of the layer's mean up to which a unit is dormant, at least 0; 0 resets what is silent on the
            whole batch.
        period: Steps from one reset to the next, at least 1.
        cap: Largest share of a layer that is reset at a time, in (0, 1], but at least one unit; the least active first.
    """

    name: ClassVar[str] = "redo"
    family: ClassVar[Family] = "reset"
    cost: ClassVar[Mapping[str, float]] = {"time": 1.2, "memory": 1.0, "program": 1.6}
    examples: ClassVar[tuple[Mapping[str, object], ...]] = (
        {"threshold": 0.5, "period": 5},
        {"threshold": 0.9, "period": 5, "cap": 0.2},
    )
    equation: ClassVar[str] = "every period steps: reset unit i where mean|h_i| <= threshold * mean_k mean|h_k|"
    validated: ClassVar[tuple[str, ...]] = (
        "theorem: with threshold=0 and ReLU the outputs on the batch do not change",
        "trace in NumPy of steps of gradient descent with resets, also in a program",
        "property: outgoing weights and moments of exactly the reset units are zero",
    )
    grid: ClassVar[Mapping[str, tuple[object, ...]]] = {"threshold": (0.01, 0.1), "period": (100, 1000)}

    def _activity(self, learner: Learner, units: Units) -> Tensor:
        """Return the mean absolute activations over the batch."""
        return fast_mean(units.activation.abs(), 1)
