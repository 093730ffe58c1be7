"""Plasticity injection: Nikishin et al. 2023, "Deep RL with Plasticity Injection", arXiv:2305.15555.

Deviation: what is injected into is the last layer, where theirs is the head of the network, of several layers.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor, nn
from torch.nn import functional

from lopbench import Learner, Perturbation, Register, State, UnsupportedError, head_of, hookimpl, rng, whole

lopbench_api = 2


@dataclass(frozen=True, kw_only=True)
class PlasticityInjection(Perturbation):
    """Freezes the head at a boundary and trains a fresh one in its place, without a change of the outputs.

    As many parameters are trained after it as before.

    Args:
        boundary: The boundary at which it happens, from 1.
    """

    name: ClassVar[str] = "plasticity_injection"
    equation: ClassVar[str] = (
        "y = h(z; theta) + h(z; theta_1) - h(z; theta_2), theta and theta_2 frozen, theta_1 = theta_2"
    )
    boundary: int = whole(1, least=1)

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
        learner.optimizer.hold(*parts(learner, fresh=True))

    def on_task_start(self, learner: Learner, state: State) -> None:
        """Freeze the head, and train the fresh one, when it is time."""
        state.host["boundaries"] = state.host.get("boundaries", 0) + 1
        if state.host["boundaries"] == self.boundary:
            learner.optimizer.hold(*parts(learner, fresh=False))
            learner.optimizer.release(*parts(learner, fresh=True))


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
        bias = self.bias + (self.fresh_bias - self.start_bias)
        return functional.linear(x, weight, bias)


def parts(learner: Learner, *, fresh: bool) -> list[str]:
    """Return the names of the head's parameters that are trained after the injection, or before it."""
    trained = [name for name in learner.head if not name.rpartition(".")[2].startswith("start_")]
    return [name for name in trained if name.rpartition(".")[2].startswith("fresh_") == fresh]


@hookimpl
def lopbench_methods(register: Register) -> None:
    """Make the method known."""
    register("plasticity_injection", PlasticityInjection, "freezes the head and trains a fresh one beside it")
