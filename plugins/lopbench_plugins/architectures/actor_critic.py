"""Actor and critic: one perceptron for the policy and one for the value, which share nothing.

The networks of Tang et al. 2025, "Mitigating Plasticity Loss in Continual Reinforcement Learning by Reducing Churn"
(arXiv:2506.00592), on classic control, as their code (bluecontra/C-CHAIN) has them: three hidden layers of 256 units
each.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from lopbench import UnsupportedError
from lopbench_plugins.architectures.mlp import MLP


class Pair(nn.Module):
    """Two networks side by side on the same samples.

    Args:
        policy: Makes all outputs but the last.
        value: Makes the last one.
    """

    def __init__(self, policy: nn.Module, value: nn.Module) -> None:
        super().__init__()
        self.policy = policy
        self.value = value

    def forward(self, samples: Tensor) -> Tensor:
        """Return the outputs of both, ``(N, K)``."""
        return torch.cat([self.policy(samples), self.value(samples)], dim=1)


@dataclass(frozen=True, kw_only=True)
class ActorCritic(MLP):
    """Two networks as `mlp` builds them: one makes all outputs but the last, the other the last, which is the value.

    The head is the last layer of the policy; that of the value is a layer like others.
    """

    name: ClassVar[str] = "actor_critic"
    reads: ClassVar[Literal["numbers", "tokens", "observations"]] = "observations"

    def assemble(self, input_shape: Sequence[int], outputs: int) -> nn.Module:
        """Return the pair for samples of any shape.

        Raises:
            UnsupportedError: If there are fewer than two outputs.
        """
        if outputs < 2:
            raise UnsupportedError(
                f"actor_critic makes a value beside the outputs of a policy, and so at least 2 outputs, not {outputs}; "
                "use mlp"
            )
        return Pair(super().assemble(input_shape, outputs - 1), super().assemble(input_shape, 1))

    def head(self, module: nn.Module) -> str:
        """Return the name of the last layer of the policy."""
        return "policy.out"
