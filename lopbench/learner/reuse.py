"""Reuses what layers compute from a batch in the pass for the score, in the training pass that follows.

If a network is random in training, as under dropout, its score comes from a pass of its own with randomness off. A
layer that reads the batch directly computes the same in both passes. In a multilayer perceptron on images, this layer
has most of the arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

#: The functions of layers whose results are costly enough to be kept.
_KEPT = frozenset({functional.linear, functional.conv1d, functional.conv2d, functional.conv3d})


class _Made(NamedTuple):
    """A call of a function, what identifies its arguments, and its result inside autograd."""

    function: Callable[..., Tensor]
    arguments: Sequence[object]
    marks: Sequence[object]
    result: Tensor
    version: int


class Reuse:
    """Keeps results of layers in one pass over a batch, for the next pass over the same batch."""

    def __init__(self) -> None:
        self._made: list[_Made] = []

    @contextmanager
    def keeping(self, inputs: Tensor) -> Iterator[None]:
        """Keep the results of layers that read ``inputs`` directly, for the duration of a pass outside autograd."""
        self._made.clear()
        with _Keeping(inputs, self._made):
            yield

    def using(self) -> AbstractContextManager[object]:
        """Return a context in which a pass uses the results that were kept. They are forgotten afterwards."""
        return self._handing_out() if self._made else nullcontext()

    @contextmanager
    def _handing_out(self) -> Iterator[None]:
        try:
            with _Using(self._made):
                yield
        finally:
            self._made.clear()


class _Mode(TorchFunctionMode):
    """Gives calls of the functions `_KEPT` to `_call`, and lets all others run as they are."""

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
            # A later layer may have changed the result in place. It is of no use then.
            if each.function is function and each.marks == marks and each.result._version == each.version:
                return self._made.pop(place).result
        return function(*arguments)


def _marks(arguments: Sequence[object]) -> list[object]:
    """Return what identifies the arguments of a call as long as they are in memory."""
    return [
        (each.data_ptr(), each._version, each.shape, each.stride(), each.dtype) if isinstance(each, Tensor) else each
        for each in arguments
    ]
