"""Lets normalisations use the statistics of the first run of a network in later runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from lopbench.learner.groups import UnitGroup


@contextmanager
def held_statistics(module: nn.Module, groups: Sequence[UnitGroup]) -> Iterator[None]:
    """For the duration, let the normalisations of ``groups`` use the mean and variance of their first run in all runs.

    A change of one unit moves the statistics of its layer, and through them the other units. A normalisation must not
    count as a reader of the unit for that.
    """
    names = {norm.module for group in groups for norm in group.norms}
    norms = [norm for norm in map(module.get_submodule, sorted(names)) if isinstance(norm, nn.LayerNorm | nn.GroupNorm)]
    if not norms:  # other kinds normalise each unit by itself
        yield
        return
    held = _HeldStatistics()
    handles = [
        handle
        for norm in norms
        for handle in (
            norm.register_forward_pre_hook(lambda norm, _: held.enter(norm)),
            norm.register_forward_hook(lambda *_: held.enter(None)),
        )
    ]
    try:
        with held:
            yield
    finally:
        for handle in handles:
            handle.remove()


class _HeldStatistics(TorchDispatchMode):
    """Computes layer and group normalisations with the statistics of their first run."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._inside: nn.Module | None = None
        self._statistics: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def enter(self, norm: nn.Module | None) -> None:
        """Note that ``norm`` is running, or with None that no normalisation is."""
        self._inside = norm

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation. A normalisation uses the statistics that are held for it."""
        result = func(*args, **(kwargs or {}))
        if self._inside is None:
            return result
        if func is torch.ops.aten.native_layer_norm.default:
            x, _, weight, bias, _ = args
            mean, deviation = self._statistics.setdefault(self._inside, result[1:])
            normal = (x - mean) * deviation
        elif func is torch.ops.aten.native_group_norm.default:
            x, weight, bias, samples, channels, _, groups, _ = args
            mean, deviation = self._statistics.setdefault(self._inside, result[1:])
            spread = x.reshape(samples, groups, -1)
            normal = ((spread - mean.unsqueeze(-1)) * deviation.unsqueeze(-1)).reshape(x.shape)
            shape = (channels, *[1] * (x.ndim - 2))
            weight, bias = (None if p is None else p.view(shape) for p in (weight, bias))
        else:
            return result
        normal = normal if weight is None else normal * weight
        return normal if bias is None else normal + bias, mean, deviation
