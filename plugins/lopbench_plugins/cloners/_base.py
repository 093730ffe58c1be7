"""What the built-in cloners share: noise on the weights of a clone."""

from collections.abc import Iterator

import torch
from torch import Generator, Tensor, nn

from lopbench import Partition, Profile


def cloned_parameters(
    module: nn.Module, profile: Profile, generator: Generator
) -> Iterator[tuple[Tensor, list[tuple[int, Partition]], Tensor]]:
    """Yield each parameter with cloned axes, these axes, and standard normal noise of its shape; draws the noise.

    The noise is drawn on the CPU in float64, so that devices and precisions agree.
    """
    for name, parameter in module.named_parameters():
        axes = [(axis, p) for axis, p in enumerate(profile.parameters[name]) if p is not None and not p.trivial]
        if axes:
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            yield parameter.data, axes, noise


def rms(tensor: Tensor) -> Tensor:
    """Return the root mean square of all entries, float64."""
    return tensor.double().square().mean().sqrt()
