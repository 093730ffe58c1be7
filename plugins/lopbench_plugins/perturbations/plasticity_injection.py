"""Plasticity injection: Nikishin et al. 2023, "Deep Reinforcement Learning with Plasticity Injection", NeurIPS 2023.

arXiv:2305.15555. Deviations:

- What is injected into is the last layer, where theirs is the head of an agent, of several layers.
- As it is linear, its three parts are one matrix: the outputs stay what they were to the bit.
- ``repeat`` injects at later tasks too, with what was learned since folded into the frozen part; theirs happens once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor, nn
from torch.nn import functional

from lopbench import Family, Learner, Perturbation, State, UnsupportedError, head_of, rng, whole


@dataclass(frozen=True, kw_only=True)
class PlasticityInjection(Perturbation):
    """Freezes the head at a boundary and trains a fresh one in its place, without a change of the outputs.

    As many parameters are trained after it as before. Acts on the head, which has to be a linear layer.

    Args:
        boundary: The boundary at which it happens, from 1.
        repeat: Whether it happens at every later boundary too, with another fresh head each time.
    """

    name: ClassVar[str] = "plasticity_injection"
    family: ClassVar[Family] = "reset"
    cost: ClassVar[Mapping[str, float]] = {"time": 1.0, "memory": 1.1}
    examples: ClassVar[tuple[Mapping[str, object], ...]] = ({}, {"repeat": True})
    equation: ClassVar[str] = (
        "y = h(z; theta) + h(z; theta_1) - h(z; theta_2), theta and theta_2 frozen, theta_1 = theta_2 at first"
    )
    validated: ClassVar[tuple[str, ...]] = (
        "theorem: outputs unchanged by an injection, to the bit, and by a repeated one to rounding",
        "property: as many parameters trained after it as before, the original head not among them",
    )
    boundary: int = whole(1, least=1)
    repeat: bool = False

    def configure(self, module: nn.Module, *, example: Tensor, generator: Generator) -> nn.Module:
        """Put a head of three in the place of the head.

        Raises:
            UnsupportedError: If the head is no linear layer.
        """
        name = head_of(module, example)
        head = module.get_submodule(name)
        if type(head) is not nn.Linear:
            raise UnsupportedError(f"{self.name}: the head is a {type(head).__name__}, not a linear layer")
        with rng.isolated(generator):
            module.set_submodule(name, Injected(head))
        return module

    def begin(self, learner: Learner, state: State) -> None:
        """Let the fresh head wait."""
        learner.optimizer.hold(*_parts(learner, "fresh_"))

    def on_task_start(self, learner: Learner, state: State) -> None:
        """Freeze the head and train the fresh one, or put another fresh one in its place, when it is time."""
        state.host["boundaries"] = state.host.get("boundaries", 0) + 1
        if state.host["boundaries"] == self.boundary:
            learner.optimizer.hold(*_parts(learner, ""))
            learner.optimizer.release(*_parts(learner, "fresh_"))
        elif self.repeat and state.host["boundaries"] > self.boundary:
            drawn, parameters = learner.fresh(state), learner.parameters
            for frozen, fresh, start in zip(*(_parts(learner, kind) for kind in ("", "fresh_", "start_")), strict=True):
                parameters[frozen].add_(parameters[fresh] - parameters[start])
                parameters[fresh].copy_(drawn[fresh])
                parameters[start].copy_(drawn[fresh])
                learner.optimizer.clear(fresh)


class Injected(nn.Linear):
    """A linear layer, its fresh successor, and what the successor was at first; draws from torch's global generator.

    Args:
        first: The layer to succeed; its parameters are used on.
    """

    fresh_weight: Tensor
    fresh_bias: Tensor
    start_weight: Tensor
    start_bias: Tensor

    def __init__(self, first: nn.Linear) -> None:
        super().__init__(first.in_features, first.out_features, first.bias is not None, dtype=first.weight.dtype)
        for name, drawn in list(self.named_parameters()):
            setattr(self, f"fresh_{name}", nn.Parameter(drawn.detach().clone()))
            setattr(self, f"start_{name}", nn.Parameter(drawn.detach().clone(), requires_grad=False))
            setattr(self, name, getattr(first, name))

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs; until the successor is trained they are those of the first layer, to the bit."""
        weight = self.weight + (self.fresh_weight - self.start_weight)
        if self.bias is None:
            return functional.linear(x, weight)
        return functional.linear(x, weight, self.bias + (self.fresh_bias - self.start_bias))


def _parts(learner: Learner, kind: str) -> list[str]:
    """Return the names of the head's parameters of a kind: "fresh_", "start_", or "" for the first ones."""
    prefixes = ("fresh_", "start_")
    last = {name: name.rpartition(".")[2] for name in learner.head}
    return [n for n, own in last.items() if (own.startswith(kind) if kind else not own.startswith(prefixes))]
