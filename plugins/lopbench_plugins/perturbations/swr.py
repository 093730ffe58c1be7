"""Selective weight reinitialisation: Hernandez-Garcia, Dohare, Luo, Sutton 2025, arXiv:2508.00212 (CoLLAs 2025).

"Reinitializing weights vs units for maintaining plasticity in neural networks", with the details of the authors' code
(JFernando4, ``selective_weight_reinitialization.py``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from lopbench import Family, Learner, Perturbation, State, number, per_replica, whole
from lopbench_plugins.perturbations._units import fast_mean, lowest


@dataclass(frozen=True, kw_only=True)
class SelectiveWeightReinitialisation(Perturbation):
    """Redraws, every ``period`` steps, the weights of least utility in each tensor: single weights, not units.

    The utility of a weight is, by ``utility``, "gradient" ``|g * w|`` with the gradient of the step that was just
    taken and the weight after it, or "magnitude" ``|w|``. By ``selection``, "proportional" redraws ``share`` of the
    tensor's weights, the fraction of one left over being its probability, and "threshold" those of a utility of at
    most ``share`` times the tensor's mean. The new value is the one in this place of a newly made network: a draw from
    the layer's own initialisation law, 1 and 0 for scale and shift of a normalisation.

    Acts on every tensor that has a gradient, each for itself: weights, biases, embeddings, normalisations and the
    head. What the optimizer remembers is kept, as in the authors' code.

    Steps are taken one by one, and not as a program: ranking all weights once in ``period`` steps costs little, and a
    program, which cannot branch, would rank them in each.

    Args:
        share: Share of the weights of each tensor, or of its mean utility, in [0, 1]. The paper names no default; this
            is the middle of its sweep, and so is that of ``period``.
        period: Steps from one redrawing to the next, at least 1.
        utility: Kind of utility; the paper's best is "gradient".
        selection: What ``share`` is a share of.
    """

    name: ClassVar[str] = "swr"
    family: ClassVar[Family] = "reset"
    cost: ClassVar[Mapping[str, float]] = {"time": 1.0, "memory": 1.0}
    examples: ClassVar[tuple[Mapping[str, object], ...]] = (
        {"share": 0.05, "period": 5},
        {"share": 0.3, "period": 5, "utility": "magnitude", "selection": "threshold"},
    )
    equation: ClassVar[str] = "every period steps: w ~ initialisation law, for the share of a tensor of least |g * w|"
    validated: ClassVar[tuple[str, ...]] = (
        "trace in NumPy of selections and weights",
        "property: as many as share says are redrawn, from the layer's law; all others and the optimizer are kept",
    )
    grid: ClassVar[Mapping[str, tuple[object, ...]]] = {"share": (0.01, 0.1), "period": (512, 2048)}
    share: float = number(0.05, least=0, most=1, zero=0, swept=True)
    period: int = whole(1024, least=1)
    utility: Literal["gradient", "magnitude"] = "gradient"
    selection: Literal["proportional", "threshold"] = "proportional"

    def begin(self, learner: Learner, state: State) -> None:
        """Start to count, from where the stream is."""
        state.host["step"] = learner.age
        state["redrawn"] = torch.zeros(learner.replicas, dtype=torch.float64, device=learner.device)

    def after_step(self, learner: Learner, state: State) -> None:
        """Redraw the weights of least utility in place if it is time."""
        state.host["step"] += 1
        if state.host["step"] % self.period:
            return
        fresh = learner.fresh(state)
        for name, gradient in learner.gradients.items():
            parameter = learner.parameters[name]
            utility = (parameter if self.utility == "magnitude" else gradient * parameter).flatten(1).abs()
            mask = self._chosen(utility, state).view_as(parameter)
            parameter.copy_(torch.where(mask, fresh[name], parameter))
            state["redrawn"] += mask.flatten(1).sum(dim=1)

    def report(self, learner: Learner, state: State) -> Mapping[str, Tensor]:
        """Return how many weights have been redrawn so far, ``(R,)``."""
        return {"redrawn": state["redrawn"]}

    def _chosen(self, utility: Tensor, state: State) -> Tensor:
        """Return which weights of a tensor to redraw, boolean ``(R, N)``."""
        if self.selection == "threshold":
            return utility <= per_replica(self.share, utility) * fast_mean(utility, 1).unsqueeze(1)
        size = utility.shape[1]
        # In double precision, so that 0.1 of 30 is 3 everywhere.
        expected = (torch.ones_like(state["redrawn"]) * size * self.share).clamp(max=size)
        count = expected.floor() + (state.uniform(expected) < expected.frac())
        return lowest(utility, count, size)
