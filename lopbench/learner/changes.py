"""Finds out whether a method has changed a network.

Torch counts the in-place changes of a tensor. Changes through ``tensor.data``, numpy and a few others are not counted,
so a method that uses one of these is taken to have changed something. The modules and attributes of the network are
compared before and after. Watching costs about a third of a step of a small network. `Hooks` therefore watches a
method only until its first change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

#: Functions that give access to the values of a tensor without counting what is changed.
_AROUND = frozenset(
    {
        Tensor.data.__get__,  # type: ignore[attr-defined]
        Tensor.data.__set__,  # type: ignore[attr-defined]
        Tensor.data_ptr,
        Tensor.numpy,
        Tensor.__array__,
        Tensor.untyped_storage,
    }
)


class Watch:
    """Sets ``changed`` to whether something was changed during `watching`.

    Args:
        versions: Returns a number that grows with each in-place change of a tensor that counts.
        module: The network.
    """

    def __init__(self, versions: Callable[[], int], module: nn.Module) -> None:
        self.changed = False
        self._versions = versions
        self._module = module

    @contextmanager
    def watching(self) -> Iterator[Watch]:
        """Watch for the duration."""
        versions, parts = self._versions(), _parts(self._module)
        with _Around() as around:
            yield self
        self.changed = around.seen or versions != self._versions() or not _same(parts, _parts(self._module))


class _Around(TorchFunctionMode):
    """Notes whether one of the functions `_AROUND` was called."""

    seen = False

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        self.seen = self.seen or func in _AROUND
        return func(*args, **(kwargs or {}))


def versions_of(module: nn.Module) -> int:
    """Return how many in-place changes torch has counted on the parameters and buffers of a network."""
    return sum(tensor._version for tensors in (module.parameters(), module.buffers()) for tensor in tensors)


def _parts(module: nn.Module) -> list[object]:
    """Return the attributes of all modules of a network, and the items of those that are containers."""
    parts: list[object] = []
    for each in module.modules():
        attributes = vars(each).values()
        parts += attributes
        for value in attributes:
            if isinstance(value, dict):
                parts += value.values()
            elif isinstance(value, list | tuple | set):
                parts += value
    return parts


def _same(before: list[object], after: list[object]) -> bool:
    """Return whether all parts are the same objects; numbers and texts may also be equal ones."""
    if len(before) != len(after):
        return False
    others = [(x, y) for x, y in zip(before, after, strict=True) if x is not y]
    return all(isinstance(x, str | int | float) and type(x) is type(y) and x == y for x, y in others)
