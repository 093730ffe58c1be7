"""Self-Normalized Resets: Farias, Jozefiak 2025, arXiv:2410.20098, "Self-Normalized Resets for Plasticity".

Algorithm 1, in the form of the authors' code (ajozefiak/SelfNormalizedResets, ``src/algorithms/snr.py``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lopbench import Family, Learner, Perturbation, State, number, per_replica, whole
from lopbench_plugins.perturbations._eager import surely_none
from lopbench_plugins.perturbations._units import side_by_side

#: Runs of up to so many batches are counted one by one, longer ones in eighths of an octave.
_EXACT = 64


@dataclass(frozen=True, kw_only=True)
class SelfNormalizedResets(Perturbation):
    """Resets a unit that is silent for longer than is likely, given how long it used to be silent.

    A unit is silent in a batch if it is at most 0 on all of its samples, in convolutions at all positions; its age is
    the number of samples of its present run of silent batches, and the unit is reset once it reaches the unit's own
    threshold. Every ``window`` samples the thresholds are set anew: to the shortest run that at least ``1 - eta`` of
    the unit's runs did not exceed, or to twice the old threshold where that run is not below it, within a batch and
    ``cap``. Runs that end in a reset count as well. A reset unit gets new incoming weights, bias zero and outgoing
    weights zero, and the optimizer forgets these entries.

    Acts on hidden units with private outgoing weights, of linear layers, channels of convolutions and the hidden
    layers of transformer blocks, and is meant for ReLU: other functions are rarely at most 0 on a whole batch, or
    always.

    Deviations:

    - A unit without any run in a window keeps its threshold. In the authors' code its distribution is 0/0, which puts
      the threshold of what always fires at the least possible, so that it is reset at its first silent batch.
    - The least threshold is the batch's own size, which the authors' code states as 100.
    - ``window`` takes the place of every 16 tasks, and so needs no boundaries; the default is as long as in their
      permuted MNIST.
    - Runs of more than 64 batches are counted in eighths of an octave, shorter by at most one in eight: exact counts
      of all would take 20,000 numbers a unit.

    Args:
        eta: Share of runs that may be longer than the threshold, above 0 and below 1.
        cap: Largest threshold, in samples, at least 1: where all begin.
        window: Samples after which thresholds are set anew, at least 1.
    """

    name: ClassVar[str] = "snr"
    family: ClassVar[Family] = "reset"
    cost: ClassVar[Mapping[str, float]] = {"time": 1.2, "memory": 1.0, "program": 3.0}
    examples: ClassVar[tuple[Mapping[str, object], ...]] = (
        {"eta": 0.2, "cap": 40, "window": 60},
        {"eta": 0.6, "cap": 24, "window": 30},
    )
    equation: ClassVar[str] = "reset unit i at age a_i >= tau_i; tau_i = min {a: P(A_i <= a) >= 1 - eta}, or 2 tau_i"
    validated: ClassVar[tuple[str, ...]] = (
        "trace in NumPy of ages, thresholds, resets and weights, with a list of all runs, also in a program",
        "property: what always fires keeps its threshold, at batches of 1 and of 256",
        "theorem: what is always silent is reset at exactly its threshold",
    )
    grid: ClassVar[Mapping[str, tuple[object, ...]]] = {"eta": (0.08, 0.02, 0.005, 0.00125)}
    eta: float = number(0.08, above=0, below=1, swept=True)
    cap: int = whole(20_000, least=1)
    window: int = whole(160_000, least=1)

    def begin(self, learner: Learner, state: State) -> None:
        """Start all units at age 0 and at the largest threshold; those of all groups stand side by side.

        Raises:
            UnsupportedError: If the network has no units that could be reset.
        """
        replicas, samples = learner.replicas, learner.inputs.shape[1]
        edges = torch.tensor(self._edges(samples), device=learner.device)
        state["edges"] = edges.repeat(replicas, 1)
        units = edges.new_zeros(replicas, sum(group.size for group in learner.units))
        state["age"] = units
        state["threshold"] = torch.full_like(units, self.cap)
        state["runs"] = units.unsqueeze(2).repeat(1, 1, len(edges)).int()
        state["seen"] = edges.new_full((replicas,), learner.age * samples % self.window)
        state["resets"] = edges.new_zeros(replicas)

    def after_step(self, learner: Learner, state: State) -> None:
        """Count silence, reset the units whose time has come, and set thresholds anew if it is time."""
        groups, samples = learner.units, learner.inputs.shape[1]
        silent = side_by_side(lambda h: h.amax(dim=-2), [group.activation for group in groups]) <= 0
        before = state["age"]
        age = torch.where(silent, before + samples, 0)
        chosen = age >= state["threshold"]
        ended = torch.where(chosen, age, torch.where(silent, 0, before))  # the run that is over, 0 if none
        place = self._place(state, ended).clamp_(min=0).unsqueeze(2)
        state["runs"].scatter_add_(2, place, (ended > 0).int().unsqueeze(2))
        state["age"] = age.masked_fill(chosen, 0)
        state["resets"] += chosen.sum(dim=1)
        for group, mask in zip(groups, chosen.split([group.size for group in groups], dim=1), strict=True):
            group.reset(mask, bias="zero")
        state["seen"] += samples
        due = state["seen"] >= self.window
        state["seen"] %= self.window
        if not surely_none(due):
            state["threshold"] = torch.where(due.unsqueeze(1), self._thresholds(state), state["threshold"])
            state["runs"].masked_fill_(due.view(-1, 1, 1), 0)

    def report(self, learner: Learner, state: State) -> Mapping[str, Tensor]:
        """Return how many units have been reset so far, and the mean threshold, ``(R,)`` each."""
        return {"resets": state["resets"], "threshold": state["threshold"].double().mean(dim=1)}

    def _edges(self, samples: int) -> list[int]:
        """Return the shortest run of each bin, in samples: those of whole batches, and `cap`."""
        edges, length = [], 1
        while length * samples < self.cap:
            edges.append(length * samples)
            octave = max(0, (length // _EXACT).bit_length() - 1)
            length += 1 if length < _EXACT else _EXACT // 8 << octave
        return [*edges, self.cap]

    def _place(self, state: State, runs: Tensor) -> Tensor:
        """Return the bins of runs ``(R, D)``; -1 for those that are shorter than the first."""
        return torch.searchsorted(state["edges"], runs.contiguous(), right=True) - 1

    def _thresholds(self, state: State) -> Tensor:
        """Return the thresholds that follow from the runs of the window, ``(R, D)``; all of them are edges of bins."""
        counts = state["runs"].cumsum(dim=2)
        total = counts[..., -1:]
        share = counts.double() / total.clamp(min=1)
        likely = (share < 1 - per_replica(self.eta, share)).sum(dim=2).clamp_(max=share.shape[2] - 1)
        quantile = state["edges"].gather(1, likely)
        old = state["threshold"]
        doubled = state["edges"].gather(1, self._place(state, 2 * old))
        return torch.where(total[..., 0] == 0, old, torch.where(quantile < old, quantile, doubled))
