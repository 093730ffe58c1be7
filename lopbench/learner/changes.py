"""What tells that a method has changed something.

Torch counts the changes of a tensor in place. Along some ways to its values it counts none (``tensor.data``, numpy):
whoever takes one is believed to change something. What a network consists of is compared. So a change is never missed.
Watching costs a small network about a third of a step; it ends with the first change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

#: Ways to the values of a tensor along which torch counts no change.
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
    """Whether something was changed while it was watched.

    Args:
        versions: Counts the changes of tensors in place, and whatever else is counted.
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
    """Sees whether somebody took a way to the values of a tensor along which torch counts no change."""

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
    """Return how often tensors of a network were changed in place, as torch counts."""
    return sum(tensor._version for tensors in (module.parameters(), module.buffers()) for tensor in tensors)


def _parts(module: nn.Module) -> list[object]:
    """Return what a network consists of: modules, their attributes, and what stands in their lists and dictionaries."""
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
    """Return whether a network consists of the same parts; numbers and texts are the same where they are equal."""
    if len(before) != len(after):
        return False
    others = [(x, y) for x, y in zip(before, after, strict=True) if x is not y]
    return all(isinstance(x, str | int | float) and type(x) is type(y) and x == y for x, y in others)
