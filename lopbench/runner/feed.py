"""The batches that a run trains on: for each replica those of its seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lopbench.core.interfaces import ActingBatches, Batches, ChunkedBatches, Stream, Task
from lopbench.learner.acting import Actor
from lopbench.learner.program import Period, Periods
from lopbench.runner.checkpoint import part


class Feed:
    """The current task of each replica and its training stream.

    Replicas of one seed see one stream. Where it depends on the learner (`Batches.observe`, `ActingBatches`) each has
    its own.

    Args:
        streams: The stream of each seed.
        seeds: Seed of each replica.
    """

    def __init__(self, streams: Mapping[int, Stream], seeds: Sequence[int]) -> None:
        self._streams = streams
        self._seeds = tuple(seeds)
        self.turn_to(0)

    def turn_to(self, index: int) -> None:
        """Take up task ``index`` from its start."""
        by_seed = {seed: stream.task(index) for seed, stream in self._streams.items()}
        self.tasks: list[Task] = [by_seed[seed] for seed in self._seeds]
        shared = {str(seed): task.batches() for seed, task in by_seed.items()}
        #: The streams by name, and the name of each replica's.
        self._batches: dict[str, Batches] = shared
        self._names = [str(seed) for seed in self._seeds]
        #: Whether the stream is told what the networks make of each batch.
        self.observes = any(type(each).observe is not Batches.observe for each in shared.values())
        if self.observes or any(isinstance(each, ActingBatches) for each in shared.values()):
            self._batches = {f"{r}-{seed}": self.tasks[r].batches() for r, seed in enumerate(self._seeds)}
            self._names = list(self._batches)

    @property
    def period(self) -> int | None:
        """Batches of a period of a stream that can be asked for many at once; None if it cannot."""
        first = self._batches[self._names[0]]
        return len(first.sizes) if isinstance(first, ChunkedBatches) and not self.observes else None

    @property
    def every(self) -> int | None:
        """Steps between two times that the networks act; None of streams in which they do not."""
        first = self._batches[self._names[0]]
        return first.every if isinstance(first, ActingBatches) else None

    def act(self, actor: Actor, count: int) -> int:
        """Let the networks act if it is time; returns the steps, at most ``count``, before they do so again."""
        left = actor.act([self._batches[name] for name in self._names])
        return count if left is None else min(count, left)

    def step(self) -> list[tuple[Tensor, Tensor]]:
        """Return the next batch of each replica."""
        taken = {name: next(batches) for name, batches in self._batches.items()}
        return [taken[name] for name in self._names]

    def take(self, periods: int) -> Periods:
        """Return for each batch of a period stored inputs and targets of the next periods, of each replica."""
        taken = _take(self._batches, periods)
        return _by_place([taken[name] for name in self._names])

    def first(self) -> Period:
        """Return the batches of the first period of the task as `take` has them, ``(R, N, ...)`` each.

        The streams stay where they are.
        """
        anew = {name: self.tasks[self._names.index(name)].batches() for name in self._batches}
        taken = _take(anew, 1)
        places = _by_place([taken[name] for name in self._names])
        return [(torch.cat([*x]), torch.cat([*y])) for x, y in places]

    def observe(self, outputs: Tensor) -> Tensor | None:
        """Tell each stream what its network made of the last batch, ``(R, N, ...)``; returns targets to use, if any."""
        pairs = zip(self._names, outputs, strict=True)
        seen = [self._batches[name].observe(output) for name, output in pairs]
        targets = [each for each in seen if each is not None]
        if not targets:
            return None
        assert len(targets) == len(seen), "streams of one scenario all return targets, or none does"
        return torch.stack(targets)

    def state_dict(self) -> dict[str, Tensor]:
        """Return where the streams are, as named tensors."""
        found = {name: batches.state_dict() for name, batches in self._batches.items()}
        return {f"{name}/{key}": value for name, state in found.items() for key, value in state.items()}

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue the streams of the current task from what `state_dict` returned."""
        for name, batches in self._batches.items():
            batches.load_state_dict(part(tensors, name))


def _take(batches: Mapping[str, Batches], periods: int) -> dict[str, Sequence[tuple[Tensor, Tensor]]]:
    found = {}
    for name, each in batches.items():
        assert isinstance(each, ChunkedBatches)
        found[name] = each.take_stored(periods)
    return found


def _by_place(taken: Sequence[Sequence[tuple[Tensor, Tensor]]]) -> Periods:
    """Return what each replica has taken by its place in a period: inputs and targets, of each replica."""
    return [([x for x, _ in place], [y for _, y in place]) for place in zip(*taken, strict=True)]
