"""Optimizers: update rules over stacks of parameters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from lopbench.core.component import Component
from lopbench.core.fields import number

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Optimizer(Component, ABC):
    """An update rule: what it remembers of each parameter, and the step it takes.

    All tensors carry the replica axis. What is remembered is kept entry by entry, so that entries that are cleared
    start anew: a tensor is of the parameter's shape, or broadcasts to it and grows where a part of it is cleared.

    Args:
        lr: Learning rate, above 0.
    """

    #: The values of its fields over which plain learning is tuned, and methods without a grid of their own: field ->
    #: values. All of them are combined, and crossed with learning rates.
    grid: ClassVar[Mapping[str, tuple[object, ...]]] = {}

    lr: float = number(above=0)

    def init(self, parameter: Tensor, *, hidden: bool) -> dict[str, Tensor]:
        """Return what is remembered of a parameter before its first step, by name; cleared entries become this again.

        Args:
            parameter: The parameter, ``(R, ...)``.
            hidden: Whether it is a weight matrix or kernel, the first layer's too, but not of an embedding or the head.
        """
        return {}

    @abstractmethod
    def update(self, gradient: Tensor, entries: dict[str, Tensor], parameter: Tensor, lr: float | Tensor) -> Tensor:
        """Return what is to be added to the parameter, a new tensor ``(R, ...)``, and change ``entries`` in place.

        Args:
            gradient: Gradient, ``(R, ...)``; left as it is.
            entries: What `init` returned and earlier steps changed.
            parameter: The parameter before the step, ``(R, ...)``; left as it is.
            lr: Learning rate, one for all replicas or ``(R,)``.
        """

    def fused(self, leaves: Sequence[nn.Parameter]) -> torch.optim.Optimizer | None:
        """Return torch's own optimizer that takes the same steps faster, None if there is none.

        It serves as long as nothing of a parameter's state is cleared, unless all that `unfused` returns is memory of
        its own. Its groups hold the learning rate as ``lr``.

        Args:
            leaves: The parameters to train, at least one.
        """
        return None

    def unfused(self, parameter: Tensor, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what `init` describes, as torch's optimizer has it in its ``state`` of one parameter.

        Args:
            parameter: The parameter, ``(R, ...)``.
            state: Its state in the fused optimizer, tensors of the parameter's shape with the replica axis, and
                numbers such as ``step`` as they are.
        """
        raise NotImplementedError
