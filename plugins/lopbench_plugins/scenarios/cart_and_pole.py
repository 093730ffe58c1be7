"""The cart with a pole of Barto, Sutton and Anderson 1983, for many of them at once.

"Neuronlike adaptive elements that can solve difficult learning control problems" (IEEE Transactions on Systems, Man,
and Cybernetics 13), with the constants and the integrator of CartPole-v1 of gymnasium, against which the tests hold
each step. A state is position and velocity of the cart, in metres and seconds, and angle and angular velocity of the
pole, in radians.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor

#: Acceleration of gravity, masses of cart and pole, half the length of the pole, force, and seconds of a step.
GRAVITY, CART, POLE, LENGTH, FORCE, SECONDS = 9.8, 1.0, 0.1, 0.5, 10.0, 0.02

#: Largest position and angle of a state that has not failed.
FARTHEST, STEEPEST = 2.4, math.radians(12)

#: Largest entry of a state at the start of an episode, from which it is drawn uniformly to either side.
START = 0.05

_TOTAL = CART + POLE
_MOMENT = POLE * LENGTH / _TOTAL


def step(state: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Push the carts for one step.

    Args:
        state: States ``(..., 4)``.
        right: Whether each is pushed to the right, and not to the left, boolean ``(...)``.

    Returns:
        The next states, and whether each has failed, boolean ``(...)``.
    """
    _, velocity, angle, turning = state.unbind(-1)
    sine, cosine = angle.sin(), angle.cos()
    force = (right.to(state) * 2 - 1) * (FORCE / _TOTAL)
    push = torch.addcmul(force, turning.square(), sine, value=_MOMENT)
    inertia = LENGTH * 4 / 3 - LENGTH * POLE / _TOTAL * cosine.square()
    bending = torch.addcmul(GRAVITY * sine, cosine, push, value=-1) / inertia
    pushing = torch.addcmul(push, bending, cosine, value=-_MOMENT)
    after = torch.add(state, torch.stack([velocity, pushing, turning, bending], dim=-1), alpha=SECONDS)
    return after, (after.abs() > _limits(state.device)).any(dim=-1)


@lru_cache
def _limits(device: torch.device) -> Tensor:
    """Return the largest entries of a state that has not failed; made once, for each step asks for them."""
    return torch.tensor([FARTHEST, math.inf, STEEPEST, math.inf], dtype=torch.float64, device=device)


def starts(*shape: int, generator: torch.Generator) -> Tensor:
    """Return states at the start of an episode, ``(*shape, 4)`` in double precision."""
    drawn = torch.rand(*shape, 4, generator=generator, dtype=torch.float64)
    return (2 * drawn - 1) * START
