"""Batches of the samples that a task holds, in an order of its own for each pass over them."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from lopbench import ChunkedBatches


class Rows(Protocol):
    """A task that makes batches of the samples at given places."""

    def order(self, passage: int) -> Tensor:
        """Return the places of all samples in the order of a pass, from 0, ``(M,)`` on the CPU."""

    def stored(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return stored inputs and targets ``(N, ...)`` of the samples at places ``rows``, ``(N,)`` on the CPU."""

    def presented(self, inputs: Tensor) -> Tensor:
        """Return what the network is given of stored ``inputs`` ``(..., *shape)``."""


class RowBatches(ChunkedBatches):
    """The samples of a task in its order, pass after pass, which has no end.

    Args:
        rows: The task.
        size: Samples of a batch.
    """

    def __init__(self, rows: Rows, size: int) -> None:
        self._task = rows
        self._size = size
        self._next = 0  #: Samples that were taken.
        self._passage = -1  #: The pass whose order is at hand.
        self._order = torch.empty(0, dtype=torch.int64)

    @property
    def sizes(self) -> Sequence[int]:
        """Size of every batch."""
        return (self._size,)

    def __next__(self) -> tuple[Tensor, Tensor]:
        """Return the next batch ``(N, ...)`` and its targets."""
        first = self._next
        inputs, targets = self.made(self._rows(self._size), first)
        return self._task.presented(inputs), targets

    def take(self, periods: int) -> Sequence[tuple[Tensor, Tensor]]:
        """Return the next batches ``(periods, N, ...)`` and their targets, made at once."""
        return [(self._task.presented(inputs), targets) for inputs, targets in self.take_stored(periods)]

    def take_stored(self, periods: int) -> Sequence[tuple[Tensor, Tensor]]:
        """Return the same batches with inputs as they are stored."""
        first = self._next
        inputs, targets = self.made(self._rows(periods * self._size), first)
        return [(inputs.unflatten(0, (periods, -1)), targets.unflatten(0, (periods, -1)))]

    def made(self, rows: Tensor, first: int) -> tuple[Tensor, Tensor]:
        """Return stored inputs and targets of the samples at ``rows``; the first is sample ``first`` of all, from 0."""
        return self._task.stored(rows)

    def _rows(self, count: int) -> Tensor:
        """Return the places of the next samples."""
        parts: list[Tensor] = []
        while count:
            if self._passage < 0:
                self._passage, self._order = 0, self._task.order(0)
            passage, offset = divmod(self._next, len(self._order))
            if passage != self._passage:
                self._passage, self._order = passage, self._task.order(passage)
            parts.append(self._order[offset : offset + count])
            self._next += len(parts[-1])
            count -= len(parts[-1])
        return torch.cat(parts)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the place in the task."""
        return {"next": torch.tensor(self._next)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue from ``state``."""
        self._next = int(state["next"])
