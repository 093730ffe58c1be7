"""Running standardisation of the inputs: Welford 1962; as Elsayed, Vasan and Mahmood 2024, arXiv:2410.14606, have it.

Observation normalisation of "Streaming Deep Reinforcement Learning Finally Works": a control that is rarely run beside
methods against loss of plasticity, and that moves the online accuracy of permuted MNIST as much as they do. Deviations:

- The variance is that of all samples so far, divided by their number and not by one less, and 0 of a single one.
- A batch moves mean and variance at once, by the rule of Chan, Golub and LeVeque 1979 for the union of two samples.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn

from lopbench import Family, Perturbation, UnsupportedError, number


@dataclass(frozen=True, kw_only=True)
class InputNorm(Perturbation):
    """Standardises each entry of the inputs by mean and variance of all training samples so far, the batch included.

    Acts on inputs that are real numbers. What is remembered are buffers of the network, so that evaluation uses them
    as they stand. An entry that has always been the same becomes 0.

    Args:
        eps: Added to the variance, above 0.
    """

    name: ClassVar[str] = "input_norm"
    family: ClassVar[Family] = "control"
    cost: ClassVar[Mapping[str, float]] = {"time": 1.2, "memory": 1.0, "program": 1.1}
    equation: ClassVar[str] = "x = (x - mean) / sqrt(var + eps), mean and var over all samples so far"
    validated: ClassVar[tuple[str, ...]] = (
        "mean and variance of all samples so far, as NumPy has them",
        "theorem: a shift and a scale of the inputs change nothing",
    )
    eps: float = number(1e-8, above=0)

    def configure(self, module: nn.Module, *, example: Tensor, generator: Generator) -> nn.Module:
        """Let the network standardise what it is given, in place; draws nothing.

        Raises:
            UnsupportedError: If the inputs are whole numbers, such as tokens, or are standardised already.
        """
        if "input_mean" in module._buffers:
            raise UnsupportedError(f"{self.name}: the network standardises its inputs already")
        if not example.is_floating_point():
            raise UnsupportedError(
                f"{self.name} standardises real numbers, and these inputs are whole numbers, such as tokens; leave "
                f"{self.name} out, or use a stream of real numbers"
            )
        # Buffers of the network itself and a hook: a layer in front would give all others new names.
        module.register_buffer("input_count", torch.zeros((), dtype=torch.int64))
        module.register_buffer("input_mean", torch.zeros(example.shape[1:]))
        module.register_buffer("input_variance", torch.ones(example.shape[1:]))
        module.register_forward_pre_hook(Standardise(self.eps))
        return module


class Standardise:
    """What the network does with its inputs first; in training they move the statistics.

    Args:
        eps: Added to the variance.
    """

    def __init__(self, eps: float) -> None:
        self.eps = eps

    def __call__(self, module: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the arguments of the network with standardised inputs ``(N, ...)``."""
        inputs, *others = arguments
        mean, variance = module.get_buffer("input_mean"), module.get_buffer("input_variance")
        if module.training:
            with torch.no_grad():
                self._move(module.get_buffer("input_count"), mean, variance, inputs)
        return ((inputs - mean) / (variance + self.eps).sqrt(), *others)

    def _move(self, count: Tensor, mean: Tensor, variance: Tensor, inputs: Tensor) -> None:
        """Take a batch into the statistics, in place."""
        share = len(inputs) / (count + len(inputs)).to(mean.dtype)  # of the batch in all samples
        centre = inputs.mean(dim=0)
        step = centre - mean
        # `Tensor.var` over samples takes a dozen times as long.
        variance.mul_(1 - share).add_(share * (inputs - centre).square().mean(dim=0))
        variance.add_(share * (1 - share) * step.square())
        mean.add_(share * step)
        count.add_(len(inputs))
