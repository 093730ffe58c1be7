"""What a pass in training need not compute, since the pass for the score has: what layers made of the batch itself.

Where a network is random in training, as under dropout, its score is that of a pass of its own, with all that is random
off. The layers in front of the first random one make the same of the same batch in both. The first of them, which reads
the samples, has most of the arithmetic of a multilayer perceptron on images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

#: The functions of layers that are dear enough to be kept.
_KEPT = frozenset({functional.linear, functional.conv1d, functional.conv2d, functional.conv3d})


class _Made(NamedTuple):
    """A call, and what came of it inside autograd."""

    function: Callable[..., Tensor]
    arguments: Sequence[object]
    marks: Sequence[object]
    result: Tensor
    version: int


class Reuse:
    """Hands what layers made of a batch in one pass to the next pass on the same batch."""

    def __init__(self) -> None:
        self._made: list[_Made] = []

    @contextmanager
    def keeping(self, inputs: Tensor) -> Iterator[None]:
        """Keep, for the duration of a pass outside autograd, what layers make of ``inputs`` themselves."""
        self._made.clear()
        with _Keeping(inputs, self._made):
            yield

    def using(self) -> AbstractContextManager[object]:
        """Use what was kept for the duration of a pass, and forget it."""
        return self._handing_out() if self._made else nullcontext()

    @contextmanager
    def _handing_out(self) -> Iterator[None]:
        try:
            with _Using(self._made):
                yield
        finally:
            self._made.clear()


class _Mode(TorchFunctionMode):
    """Looks at the calls that are worth it, and lets all others be."""

    def __init__(self, made: list[_Made]) -> None:
        super().__init__()
        self._made = made

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in _KEPT and not kwargs:
            return self._call(func, args)
        return func(*args, **(kwargs or {}))

    def _call(self, function: Callable[..., Tensor], arguments: tuple[Any, ...]) -> Tensor:
        raise NotImplementedError


class _Keeping(_Mode):
    def __init__(self, inputs: Tensor, made: list[_Made]) -> None:
        super().__init__(made)
        self._memory = inputs.untyped_storage().data_ptr()

    def _call(self, function: Callable[..., Tensor], arguments: tuple[Any, ...]) -> Tensor:
        if arguments[0].untyped_storage().data_ptr() != self._memory:
            return function(*arguments)
        with torch.enable_grad():
            result = function(*arguments)
        self._made.append(_Made(function, arguments, _marks(arguments), result, result._version))
        return result.detach()


class _Using(_Mode):
    def _call(self, function: Callable[..., Tensor], arguments: tuple[Any, ...]) -> Tensor:
        marks = _marks(arguments)
        for place, each in enumerate(self._made):
            # What a later layer has changed in place is not what the layer made.
            if each.function is function and each.marks == marks and each.result._version == each.version:
                return self._made.pop(place).result
        return function(*arguments)


def _marks(arguments: Sequence[object]) -> list[object]:
    """Return what tells the arguments of one call from those of another while both are in memory."""
    return [
        (each.data_ptr(), each._version, each.shape, each.stride(), each.dtype) if isinstance(each, Tensor) else each
        for each in arguments
    ]
