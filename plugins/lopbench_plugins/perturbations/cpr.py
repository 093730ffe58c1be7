"""Continuous partial resets: "Learning Continually at Peak Performance with Continuous Continual Backpropagation".

Submission 24844 to ICLR 2026, openreview.net/forum?id=UJqXhFFzKu (CCBP; later CPR), with the details of the authors'
code (``continual_learning_2/optim/ccbp.py``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lopbench import Family, Learner, Perturbation, State, number, per_replica, whole
from lopbench_plugins.perturbations._units import fast_mean, start_clock, tick

_PARTS = "units are moved a part of the way to new ones, and never reset; the method's own tests hold it to the formula"


@dataclass(frozen=True, kw_only=True)
class PartialResets(Perturbation):
    """Moves, every ``period`` steps, each unit a small share of the way to a new one, the larger the less it learns.

    The utility of a unit is the running mean, which starts at 1, of ``mean|dL/dw|`` over its incoming weights, in
    units of its layer's mean. Its incoming weights are mixed with a fresh draw and its outgoing weights shrink, by the
    share ``rate`` for all that learn less than the mean of their layer, and less the more they learn. Nothing jumps,
    unlike where whole units are reset.

    Acts on hidden units with private outgoing weights: of linear layers, channels of convolutions, the hidden layers
    of transformer blocks; neither on the head's own biases nor on a residual stream, attention or embeddings. Biases,
    normalisations and the optimizer's state stay as they are, as in the authors' code.

    Deviations:

    - Fresh weights are drawn from the layer's own initialisation law; the authors' code draws He's uniform law.
    - The running mean goes on after a partial reset; in one version of the authors' code it starts at 1 again.

    Args:
        rate: Largest share, in [0, 1].
        period: Steps from one partial reset to the next, at least 1.
        decay: Decay of the running mean from step to step, in [0, 1).
        steepness: How fast the share falls above the mean, at least 0.
    """

    name: ClassVar[str] = "cpr"
    family: ClassVar[Family] = "reset"
    cost: ClassVar[Mapping[str, float]] = {"time": 1.2, "memory": 1.0, "program": 1.8}
    examples: ClassVar[tuple[Mapping[str, object], ...]] = ({"rate": 0.01, "period": 5, "decay": 0.9},)
    equation: ClassVar[str] = (
        "u = decay * u + (1 - decay) * mean|dL/dw_in| / (mean of the layer); every period steps "
        "w_in = (1 - r) * w_in + r * fresh and w_out = (1 - r) * w_out, with "
        "r = rate * min(1, 2 * sigmoid(-steepness * (u - 1)))"
    )
    validated: ClassVar[tuple[str, ...]] = (
        "trace in NumPy of utilities, partial resets and weights, also in a program",
        "theorem: a dead unit is moved by rate, and with rate=1 to a new one without outgoing weights",
        "property: the optimizer's state is as without the method",
    )
    exempt: ClassVar[Mapping[str, str]] = dict.fromkeys(
        (
            "resets-redraw-incoming-weights",
            "resets-erase-outgoing-weights",
            "resets-touch-nothing-else",
            "resets-clear-the-optimizer",
            "resets-renew-normalisations",
            "resets-follow-the-law-of-construction",
        ),
        _PARTS,
    )
    grid: ClassVar[Mapping[str, tuple[object, ...]]] = {"rate": (0.01, 0.015), "period": (100, 1000)}
    rate: float = number(0.015, least=0, most=1, zero=0, swept=True)
    period: int = whole(1000, least=1)
    decay: float = number(0.99, least=0, below=1, swept=True)
    steepness: float = number(16.0, least=0, swept=True)

    def begin(self, learner: Learner, state: State) -> None:
        """Start all utilities at 1, what they are on average; the units of all groups stand side by side.

        Raises:
            UnsupportedError: If the network has no units.
        """
        start_clock(learner, state)
        units = sum(group.size for group in learner.units)
        state["utility"] = learner.parameters[learner.head[0]].new_ones(learner.replicas, units)

    def after_step(self, learner: Learner, state: State) -> None:
        """Update the utilities, and move the units if it is time."""
        sizes = [group.size for group in learner.units]
        utility = state["utility"]
        scores = []
        for group, before in zip(learner.units, utility.split(sizes, dim=1), strict=True):
            gradient = learner.gradients.get(f"{group.name}.weight")
            # A layer that is held has no gradient, and one that gets none has no unit that learns less than others.
            size = None if gradient is None else fast_mean(gradient.flatten(2).abs(), 2)
            scores.append(before if size is None else _over_mean(size))
        utility.lerp_(torch.cat(scores, dim=1), 1 - per_replica(self.decay, utility))
        share = (2 * torch.sigmoid(per_replica(self.steepness, utility) * (1 - utility))).clamp(max=1)
        share = share * per_replica(self.rate, utility) * tick(state, self.period)
        for group, part in zip(learner.units, share.split(sizes, dim=1), strict=True):
            group.mix(part)

    def report(self, learner: Learner, state: State) -> Mapping[str, Tensor]:
        """Return which share of the units learns less than the mean of its layer, ``(R,)``."""
        return {"below_mean": (state["utility"] < 1).double().mean(dim=1)}


def _over_mean(size: Tensor) -> Tensor:
    """Return sizes ``(R, D)`` over their mean; 1 each where all are zero."""
    mean = fast_mean(size, 1).unsqueeze(1)
    return torch.where(mean > 0, size / mean, 1.0)
