"""Decoupled weight decay: Loshchilov and Hutter 2019, arXiv:1711.05101v3.

Against loss of plasticity, with layer normalisation: Lyle et al. 2024, "Disentangling the Causes of Plasticity Loss in
Neural Networks", arXiv:2402.18762. Deviation, shared with torch: the decay is multiplied by the learning rate, and not
by the schedule alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from lopbench import Family, Learner, Perturbation, State, add_scaled, number
from lopbench_plugins.perturbations._weights import roles


@dataclass(frozen=True, kw_only=True)
class WeightDecay(Perturbation):
    """Shrinks parameters by ``lr * strength`` at each step, beside whatever the optimizer does.

    The decay does not pass through the optimizer: under Adam it is that of AdamW, where ``l2`` is a part of the
    gradient; under plain SGD both are the same.

    Args:
        strength: Coefficient of the decay, at least 0; the default is that of torch's AdamW.
        vectors: Whether all parameters decay, as in torch; otherwise the weights of linear layers, attention and
            convolutions alone, and no biases, gains, shifts and embeddings.
    """

    name: ClassVar[str] = "weight_decay"
    family: ClassVar[Family] = "regularise"
    cost: ClassVar[Mapping[str, float]] = {"time": 1.2, "memory": 1.0, "program": 1.0}
    examples: ClassVar[tuple[Mapping[str, object], ...]] = ({"strength": 1.0}, {"strength": 1.0, "vectors": False})
    grid: ClassVar[Mapping[str, tuple[object, ...]]] = {"strength": (0.1, 1e-2, 1e-3, 1e-4)}
    equation: ClassVar[str] = "theta = theta - lr * strength * theta - (the optimizer's step)"
    validated: ClassVar[tuple[str, ...]] = (
        "equal to AdamW's weight decay to 1e-12 in float64",
        "theorem: without gradients the norm falls as (1 - lr * strength)**t under any optimizer",
    )
    strength: float = number(0.01, least=0, zero=0, swept=True)
    vectors: bool = True

    def update(self, learner: Learner, state: State) -> None:
        """Take the decay off what the optimizer is about to add, for every parameter that it moves."""
        parameters, updates = learner.parameters, learner.updates
        decay = (-learner.optimizer.lr * self.strength).to(parameters[learner.head[0]])  # (R,)
        for name in updates if self.vectors else roles(learner.module).weights:
            if name in updates:
                add_scaled(updates[name], parameters[name], decay)
