"""Splits the replicas of a program into blocks that fit into the caches of the processor."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lopbench.learner.network import Tensors

#: Bytes of state that a core can work on without waiting for slower memory; a step reads gradients and writes new
#: values besides. Measured on 16 networks 784-100-100-10 at batch 16 on cores with caches of 2 MiB: a step takes 84 us
#: per network in blocks of four, and 77 us in blocks of two or one.
CACHE_BYTES = 2**19


@dataclass(frozen=True)
class Calls:
    """What several calls of a program are given beside state and constants.

    Args:
        noise: Random numbers of the calls, ``(calls, R, ...)`` each.
        batches: For each tensor of a period, inputs and targets in turn, that of each replica:
            ``(calls, periods, N, ...)``.
    """

    noise: Sequence[Tensor]
    batches: Sequence[Sequence[Tensor]]

    def __len__(self) -> int:
        return len(self.batches[0][0])

    def part(self, start: int, stop: int) -> Calls:
        """Return the calls from ``start`` to before ``stop``, or to the last one."""
        batches = [[each[start:stop] for each in replicas] for replicas in self.batches]
        return Calls([each[start:stop] for each in self.noise], batches)

    def arguments(self, block: slice) -> list[list[Tensor]]:
        """Return noise ``(R, ...)`` and batches ``(periods, R, N, ...)`` of each call, for the replicas of a block.

        The batches are put together here, so that they are in the caches when the block's calls read them.
        """
        together = [_beside(replicas[block]) for replicas in self.batches]
        return [
            [*(each[index, block] for each in self.noise), *(each[index] for each in together)]
            for index in range(len(self))
        ]


class Blocks:
    """The replicas of a stack, in blocks of equal size.

    Args:
        replicas: R, the number of replicas.
        size: Number of replicas in a block, a divisor of R.
    """

    def __init__(self, replicas: int, size: int) -> None:
        self._slices = [slice(start, start + size) for start in range(0, replicas, size)]

    @classmethod
    def of(cls, replicas: int, state: Mapping[str, Tensor]) -> Blocks:
        """Return blocks of about as many replicas as fit into the caches of the cores that torch uses.

        Args:
            replicas: R, the number of replicas.
            state: The tensors ``(R, ...)`` that a step changes, by name.
        """
        bytes_each = sum(value.nbytes for value in state.values()) / replicas
        fitting = torch.get_num_threads() * CACHE_BYTES / bytes_each
        divisors = [count for count in range(1, replicas + 1) if replicas % count == 0]
        return cls(replicas, min(divisors, key=lambda count: abs(math.log(count / fitting))))

    def __len__(self) -> int:
        return len(self._slices)

    def first(self, tensors: Mapping[str, Tensor]) -> Tensors:
        """Return the rows of the first block of tensors ``(R, ...)``."""
        return {name: self.first_of(value) for name, value in tensors.items()}

    def first_of(self, tensor: Tensor) -> Tensor:
        """Return the rows of the first block of a tensor ``(R, ...)``."""
        return _part(tensor, self._slices[0])

    def run(
        self,
        call: Callable[..., Sequence[Tensor]],
        state: Tensors,
        constants: Tensors,
        calls: Calls,
    ) -> tuple[Tensors, list[Sequence[Tensor]]]:
        """Run several calls of a program. Each block runs all calls before the next block begins.

        Args:
            call: Takes state, constants, noise and batches of one block. Returns its new state, then the results.
            state: The tensors ``(R, ...)`` that a call changes, by name.
            constants: The tensors ``(R, ...)`` that a call only reads, by name.
            calls: Noise and batches of the calls.

        Returns:
            The new state by name, and the results ``(unroll, R)`` of each call.
        """
        values, results = [], []
        for block in self._slices:
            made, taken = _run(call, state, constants, calls.arguments(block), block)
            values.append(made)
            results.append(taken)
        if len(self) == 1:
            return dict(zip(state, values[0], strict=True)), results[0]
        tensors = {
            name: parts[0] if _is_shared(before) else torch.cat(parts)
            for (name, before), *parts in zip(state.items(), *values, strict=True)
        }
        joined: list[Sequence[Tensor]] = [
            [torch.cat(parts, dim=1) for parts in zip(*each, strict=True)] for each in zip(*results, strict=True)
        ]
        return tensors, joined


def _run(
    call: Callable[..., Sequence[Tensor]],
    state: Tensors,
    constants: Tensors,
    calls: Sequence[Sequence[Tensor]],
    block: slice,
) -> tuple[list[Tensor], list[Sequence[Tensor]]]:
    """Run all calls, given the noise and the batches of each, for the replicas of one block."""
    values, fixed = ([_part(value, block) for value in each.values()] for each in (state, constants))
    results: list[Sequence[Tensor]] = []
    for parts in calls:
        made = call(*values, *fixed, *parts)
        values = list(made[: len(state)])
        results.append(made[len(state) :])
    return values, results


def _beside(replicas: Sequence[Tensor]) -> Tensor:
    """Return tensors ``(calls, periods, ...)`` as one, ``(calls, periods, R, ...)``; a single one is not copied."""
    if len(replicas) == 1:
        return replicas[0].contiguous().unsqueeze(2)
    return torch.stack([*replicas], dim=2)


def _is_shared(tensor: Tensor) -> bool:
    """Return whether all replicas share one row, as they share an optimizer's step count until entries are cleared."""
    return len(tensor) == 1


def _part(tensor: Tensor, block: slice) -> Tensor:
    return tensor if _is_shared(tensor) else tensor[block]
