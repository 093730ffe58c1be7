"""ReGraMa: Liu et al. 2025, arXiv:2505.24061, "Measure gradients, not activations!" (NeurIPS 2025).

GraMa is the gradient magnitude of a unit over the mean of its layer; ReGraMa resets the units in which it is small.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from lopbench import Family, Learner, Units, number
from lopbench_plugins.perturbations._resets import DormantResets
from lopbench_plugins.perturbations._units import fast_mean


@dataclass(frozen=True, kw_only=True)
class ReGraMa(DormantResets):
    """Resets, every ``period`` steps, the units whose incoming weights hardly get a gradient.

    The score of a unit is the mean ``|dL/dw|`` over its incoming weights, bias left out, over the mean of its layer.
    The gradient is that of the step that was just taken: of the mean loss of the batch, and as all methods of the run
    have changed it. A reset unit gets new incoming weights, bias zero and outgoing weights zero, and the optimizer
    forgets these entries. Unlike activations, gradients tell inactive units under every activation function.

    Acts on hidden units with private outgoing weights: of linear layers, channels of convolutions, the hidden layers
    of transformer blocks; neither on the head nor on a residual stream, attention or embeddings.

    Deviations:

    - Public codes disagree on the outgoing weights: zero as here (a port beside CPR), small and not zero (AgileRL's).
      Zero ones stop the gradient of the unit for one step, within which no ``period`` but 1 looks at it again.
    - Incoming weights are redrawn from the layer's own initialisation law.
    - Where a layer gets no gradient at all, all of its units count; the codes add 1e-8 to the mean, to the same effect.
    - ``cap`` is of these codes: where a network has converged, many units may fall below the threshold at once.

    Args:
        threshold: Share of the layer's mean up to which a unit is reset, at least 0.
        period: Steps from one reset to the next, at least 1.
        cap: Largest share of a layer that is reset at a time, in (0, 1], but at least one unit; the least scores first.
    """

    name: ClassVar[str] = "regrama"
    family: ClassVar[Family] = "reset"
    cost: ClassVar[Mapping[str, float]] = {"time": 1.2, "memory": 1.0, "program": 1.7}
    examples: ClassVar[tuple[Mapping[str, object], ...]] = (
        {"threshold": 0.5, "period": 5, "cap": 0.4},
        {"threshold": 0.9, "period": 5, "cap": 0.2},
    )
    equation: ClassVar[str] = "every period steps: reset unit i where mean|dL/dw_i| <= threshold * mean_k mean|dL/dw_k|"
    validated: ClassVar[tuple[str, ...]] = (
        "trace in NumPy of steps of gradient descent with resets, also in a program",
        "theorem: a dead unit of ReLU has score 0, so that with threshold=0 the outputs do not change",
        "property: outgoing weights and moments of exactly the reset units are zero",
    )
    grid: ClassVar[Mapping[str, tuple[object, ...]]] = {"threshold": (0.01, 0.1, 0.25)}
    threshold: float = number(0.01, least=0, swept=True)

    def _activity(self, learner: Learner, units: Units) -> Tensor | None:
        """Return the mean absolute gradients of incoming weights; layers that are held get none, and stay."""
        gradient = learner.gradients.get(f"{units.name}.weight")
        return None if gradient is None else fast_mean(gradient.flatten(2).abs(), 2)
