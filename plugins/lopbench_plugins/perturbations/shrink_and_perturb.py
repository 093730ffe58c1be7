"""Shrink and perturb: Ash & Adams 2020, "On Warm-Starting Neural Network Training", arXiv:1910.08475."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from lopbench import Family, Learner, Perturbation, State, number
from lopbench_plugins.perturbations._layers import is_norm


@dataclass(frozen=True, kw_only=True)
class ShrinkAndPerturb(Perturbation):
    """Sets ``theta = shrink * theta + perturb * theta_fresh`` at each task, ``theta_fresh`` a newly made network.

    The noise so has the scale that each layer's initialisation gives it. The optimizer starts anew, as in the
    authors' code. Running statistics of batch normalisation stay.

    Deviation: scales and shifts of normalisation layers are shrunk towards their initial values (1 and 0) instead of
    zero, where the rule would multiply all features by about ``shrink + perturb`` at each layer. With ``shrink=0``
    and ``perturb=1`` the outcome is a fresh network.

    Args:
        shrink: Share of the old parameters that is kept, in [0, 1]; the default is that of the authors' code.
        perturb: Share of the fresh network, at least 0; the default is that of the authors' code.
    """

    name: ClassVar[str] = "shrink_and_perturb"
    family: ClassVar[Family] = "reset"
    cost: ClassVar[Mapping[str, float]] = {"time": 1.0, "memory": 1.0}
    equation: ClassVar[str] = "theta = shrink * theta + perturb * theta_fresh, at each task"
    validated: ClassVar[tuple[str, ...]] = ("theorem: shrink=0 and perturb=1 give a fresh network",)
    grid: ClassVar[Mapping[str, tuple[object, ...]]] = {"shrink": (0.2, 0.4, 0.6, 0.8)}
    shrink: float = number(0.4, least=0, most=1, zero=1)
    perturb: float = number(0.1, least=0, zero=0)

    def on_task_start(self, learner: Learner, state: State) -> None:
        """Shrink and perturb all parameters in place and clear the optimizer."""
        fresh = learner.fresh(state)
        norms = {name for name, module in learner.module.named_modules() if is_norm(module)}
        for name, parameter in learner.parameters.items():
            share = 1 - self.shrink if name.rpartition(".")[0] in norms else self.perturb
            parameter.mul_(self.shrink).add_(fresh[name], alpha=share)
        learner.optimizer.clear()
