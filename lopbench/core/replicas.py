"""Arithmetic with numbers that are one for all replicas, or one for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

if TYPE_CHECKING:
    from torch import Tensor


@overload
def per_replica(value: Tensor, like: Tensor) -> Tensor: ...


@overload
def per_replica(value: float | Tensor, like: Tensor) -> float | Tensor: ...


def per_replica(value: float | Tensor, like: Tensor) -> float | Tensor:
    """Return ``value`` so that it broadcasts with ``like`` ``(R, ...)``: a tensor ``(R,)`` as ``(R, 1, ...)``.

    A number stays as it is; a tensor takes the type of ``like``.
    """
    if isinstance(value, int | float):
        return value
    return value.to(like.dtype).view(-1, *(1,) * (like.ndim - 1))


def add_scaled(target: Tensor, tensor: Tensor, factor: float | Tensor) -> None:
    """Add ``factor * tensor`` to ``target`` ``(R, ...)`` in place; ``factor`` is one for all replicas or ``(R,)``."""
    factor = per_replica(factor, target)
    if isinstance(factor, int | float):
        target.add_(tensor, alpha=factor)
    else:
        target.addcmul_(tensor, factor)
