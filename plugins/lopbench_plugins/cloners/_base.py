"""What the built-in cloners share: checks of their fields, and noise on the weights of a clone."""

from collections.abc import Iterator
from typing import get_args

import torch
from torch import Generator, Tensor, nn

from lopbench.cloning.widen import Heads
from lopbench.core.errors import InvalidInputError
from lopbench.core.profile import Partition, Profile


def check_heads(name: str, heads: str) -> None:
    """Refuse an unknown way to clone attention heads.

    Raises:
        InvalidInputError: If ``heads`` is none.
    """
    if heads not in get_args(Heads):
        raise InvalidInputError(f"{name}: heads must be one of {', '.join(get_args(Heads))}, got {heads!r}")


def check_strength(name: str, strength: float) -> None:
    """Refuse a strength that is negative, infinite or NaN.

    Raises:
        InvalidInputError: If it is.
    """
    if not 0 <= strength < float("inf"):
        raise InvalidInputError(f"{name}: strength must be a number of at least 0, got {strength}; 0 adds nothing")


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
