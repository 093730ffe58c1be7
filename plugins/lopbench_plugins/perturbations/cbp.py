"""Continual backprop: Dohare, Sutton, Mahmood 2021, arXiv:2108.06325; Dohare et al. 2024, Nature 632:768-774.

The kinds of utility, the order of events in a step and the count of replacements are those of their code for
feed-forward networks (shibhansh/loss-of-plasticity, ``lop/algos/gnt.py``), the rate being a share of the mature units
in every architecture. Deviations:

- Incoming weights are redrawn from the layer's own initialisation law, which their code states anew (and, for
  convolutions, differently).
- The transfer of a unit's mean into the bias of the next layer works. In their code for feed-forward networks it adds
  zero, and for convolutions it is absent, so that no published result has it; hence it is off by default.
- The momentum of SGD is cleared for replaced entries, as Adam's state is; theirs stays.
- In convolutions the utility is of the activation that the next layer reads, with the mean taken over space.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from lopbench import Family, Learner, Perturbation, State, Units, number, per_replica, whole
from lopbench_plugins.perturbations._units import count_each, fast_mean, lowest_of_each, side_by_side

Utility = Literal[
    "weight",
    "contribution",
    "adaptation",
    "zero_contribution",
    "adaptable_contribution",
    "feature_by_input",
    "random",
]
#: What the utility kinds are products of.
_USES_OUTGOING = ("weight", "contribution", "zero_contribution", "adaptable_contribution")
_USES_DEVIATION = ("zero_contribution", "adaptable_contribution", "feature_by_input")
_USES_INCOMING = ("adaptation", "adaptable_contribution", "feature_by_input")


@dataclass(frozen=True, kw_only=True)
class ContinualBackprop(Perturbation):
    """Replaces, after each step, a small share of the mature hidden units: those of the lowest utility.

    With ``h`` the unit's activation over the batch, ``f`` its running mean, ``w_out`` and ``w_in`` the means of the
    absolute outgoing and incoming weights (biases left out), a step's utility is, by ``utility``: "weight" ``w_out``,
    "contribution" ``w_out * mean|h|``, "adaptation" ``1 / w_in``, "zero_contribution" ``w_out * mean|h - f|``,
    "adaptable_contribution" that over ``w_in``, "feature_by_input" ``mean|h - f| / w_in``, "random" a uniform number.
    Running means of utility and activation are corrected for their start at zero.

    A unit is mature once its age exceeds ``maturity`` steps. A replaced unit gets new incoming weights, bias zero and
    outgoing weights zero, and the optimizer forgets it; its age starts from zero.

    Args:
        replacement_rate: Share of a layer's mature units to replace in each step, in [0, 1].
        decay: Decay of the running means from step to step, in [0, 1); 0 looks at the last batch alone.
        maturity: Number of steps for which a new unit is safe, at least 0.
        utility: Kind of utility.
        accumulate: Whether shares of a unit add up over steps until they make a whole one. Otherwise a share below
            one is the probability of replacing one unit, and a share above it is rounded down.
        bias_transfer: Whether a replaced unit's mean contribution moves into the biases of the layers that read it.
    """

    name: ClassVar[str] = "cbp"
    family: ClassVar[Family] = "reset"
    cost: ClassVar[Mapping[str, float]] = {"time": 1.6, "memory": 1.1, "program": 1.8}
    examples: ClassVar[tuple[Mapping[str, object], ...]] = (
        {"replacement_rate": 0.05, "maturity": 5},
        {"replacement_rate": 0.05, "maturity": 5, "accumulate": False, "utility": "random", "bias_transfer": True},
        {"replacement_rate": 0.05, "maturity": 5, "utility": "adaptable_contribution", "bias_transfer": True},
    )
    equation: ClassVar[str] = (
        "u = decay * u + (1 - decay) * mean|h| * mean|w_out|; "
        "each step redraws rate * (mature units) of least u / (1 - decay**age)"
    )
    validated: ClassVar[tuple[str, ...]] = (
        "recorded runs of the authors' code: losses, utilities, ages, weights over 2,000 steps under SGD and Adam",
        "theorem: replacing a unit of constant activation with bias_transfer leaves the outputs alone",
        "property: replacements are the sum of rate times mature units, within one",
    )
    grid: ClassVar[Mapping[str, tuple[object, ...]]] = {"replacement_rate": (1e-3, 1e-4, 1e-5, 1e-6)}
    replacement_rate: float = number(1e-4, least=0, most=1, zero=0, swept=True)
    decay: float = number(0.99, least=0, below=1)
    maturity: int = whole(100, least=0)
    utility: Utility = "contribution"
    accumulate: bool = True
    bias_transfer: bool = False

    def begin(self, learner: Learner, state: State) -> None:
        """Start all units at age, utility and mean activation zero.

        The units of all groups stand side by side, ``(R, sum of D)``, in the tensors of the state.

        Raises:
            UnsupportedError: If the network has no units that could be replaced, or ``bias_transfer`` is asked for
                and a layer that would take it has no bias.
        """
        sizes = [group.size for group in learner.units]
        units = learner.parameters[learner.head[0]].new_zeros(learner.replicas, sum(sizes))
        state["age"] = units.long()
        state["utility"] = units.clone()
        state["mean_activation"] = units.clone()
        state["share"] = units.new_zeros(learner.replicas, len(sizes), dtype=torch.float64)
        state["replaced"] = torch.zeros_like(state["share"])
        if self.bias_transfer:
            for group, mean in zip(learner.units, units.split(sizes, dim=1), strict=True):
                # Replaces nothing, but refuses now what it would refuse at the first replacement.
                group.reset(torch.zeros_like(mean, dtype=torch.bool), transfer_mean=mean)

    def after_step(self, learner: Learner, state: State) -> None:
        """Update ages, means and utilities of all units, and replace those whose turn it is."""
        groups = learner.units
        sizes = [group.size for group in groups]
        state["age"] += 1
        self._measure(groups, state)
        correction = self._correction(state)
        chosen = lowest_of_each(self._ranked_by(state, correction), self._count(state, sizes), sizes, self._most)
        means = (state["mean_activation"] / correction).split(sizes, dim=1)
        for group, mask, mean in zip(groups, chosen.split(sizes, dim=1), means, strict=True):
            group.reset(mask, bias="zero", transfer_mean=mean if self.bias_transfer else None)
        state["replaced"] += count_each(chosen, sizes)
        for name in ("age", "utility", "mean_activation"):
            state[name].masked_fill_(chosen, 0)

    def report(self, learner: Learner, state: State) -> Mapping[str, Tensor]:
        """Return how many units have been replaced so far, ``(R,)``."""
        return {"replaced": state["replaced"].sum(dim=1)}

    def _measure(self, groups: Sequence[Units], state: State) -> None:
        """Update running mean and utility of all units in place, from the last batch and the weights after it."""
        activations = [group.activation for group in groups]  # (R, N, D) each
        means = side_by_side(lambda h: fast_mean(h, -2), activations)
        state["mean_activation"].lerp_(means, 1 - self.decay)
        state["utility"].lerp_(self._utility(groups, activations, state), 1 - self.decay)

    def _utility(self, groups: Sequence[Units], activations: list[Tensor], state: State) -> Tensor:
        """Return this step's utility of all units, ``(R, sum of D)``."""
        value = torch.ones_like(state["utility"])
        if self.utility == "random":
            return state.uniform(value)
        if self.utility == "contribution":
            value = side_by_side(lambda h: fast_mean(h.abs(), -2), activations)
        elif self.utility in _USES_DEVIATION:
            means = (state["mean_activation"] / self._correction(state)).split([g.size for g in groups], dim=1)
            deviations = [h - f.unsqueeze(1) for h, f in zip(activations, means, strict=True)]
            value = side_by_side(lambda d: fast_mean(d.abs_(), -2), deviations)
        if self.utility in _USES_OUTGOING:
            value *= side_by_side(lambda w: fast_mean(w.abs_(), -2), [group.outgoing().mT for group in groups])
        if self.utility in _USES_INCOMING:
            value /= side_by_side(lambda w: fast_mean(w.abs_(), -1), [group.incoming() for group in groups])
        return value

    def _correction(self, state: State) -> Tensor:
        """Return the weight of all of a running mean's terms, ``1 - decay**age``, ``(R, sum of D)``."""
        age = state["age"]
        return (1 - self.decay ** age.double()).to(state["utility"])

    def _ranked_by(self, state: State, correction: Tensor) -> Tensor:
        """Return what mature units are ranked by, ``(R, sum of D)``, infinite for all others."""
        # A mature unit comes before all others, even if it has diverged.
        largest = torch.finfo(state["utility"].dtype).max
        utility = (state["utility"] / correction).nan_to_num_(nan=largest)
        return utility.masked_fill_(state["age"] <= self.maturity, torch.inf)

    def _count(self, state: State, sizes: Sequence[int]) -> Tensor:
        """Return how many units of each group to replace now, ``(R, groups)``."""
        mature = count_each(state["age"] > self.maturity, sizes)
        # In double precision, so that sums of shares such as 0.01 reach a whole unit at the same step everywhere.
        expected = mature.double() * per_replica(self.replacement_rate, state["share"])
        if not self.accumulate:
            return torch.where(expected < 1, (state.uniform(expected) < expected).double(), expected.floor())
        state["share"] += expected
        counts = state["share"].floor()
        state["share"] -= counts
        return counts

    def _most(self, size: int) -> int:
        """Return a number of units that is never exceeded in one step of a group of ``size``."""
        if isinstance(self.replacement_rate, Tensor):  # the replicas' own, and not to be read here
            return size
        return max(1, math.ceil(self.replacement_rate * size))
