"""What methods may ask for outside of a program: networks built anew, data of the task that begins, units."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lopbench.core import rng
from lopbench.core.errors import UnsupportedError
from lopbench.core.interfaces import Perturbation, State, Task
from lopbench.learner.acting import Actor
from lopbench.learner.fresh import FreshPool
from lopbench.learner.groups import UnitGroup

if TYPE_CHECKING:
    from lopbench.learner.learner import StackLearner


class Boundary:
    """Implements the protocol ``Host`` for a learner.

    Args:
        learner: The learner.
    """

    def __init__(self, learner: StackLearner) -> None:
        self._learner = learner
        self._method: Perturbation | None = None
        self.task_index = 0
        self.tasks: Sequence[Task] = ()
        #: Samples of coming tasks that methods have looked at, of one replica.
        self.samples_ahead = 0
        #: Whether the learner has become the fresh reference, and so has its optimizer.
        self.restarted = False

    @contextmanager
    def crossing(self, method: Perturbation) -> Iterator[None]:
        """Let ``method`` act at the boundary for the duration."""
        self._method = method
        try:
            yield
        finally:
            self._method = None

    @property
    def groups(self) -> tuple[UnitGroup, ...]:
        """Where the units are that a method may reset.

        Raises:
            UnsupportedError: If the network has none.
        """
        return self._learner.nursery.groups(self._learner.network.module)

    @property
    def rows(self) -> FreshPool:
        """Where the incoming weights of units that are reset come from."""
        return self._learner.nursery.rows(self._learner.network.module)

    @property
    def age(self) -> int:
        """Steps of the stream on which the methods were to act before the learner was built."""
        return self._learner.age

    def fresh(self, state: State) -> Mapping[str, Tensor]:
        """Return the parameters ``(R, ...)`` of newly initialised networks, drawn from the method's own stream."""
        return self._learner.nursery.fresh(state)

    @torch.no_grad()
    def restart(self) -> None:
        """Become the protocol's fresh reference at this task: new network, new optimizer, its learning rate."""
        if self._method is None:
            raise UnsupportedError("learner.restart is for the hook on_task_start")
        learner = self._learner
        for replica, seed in enumerate(learner.seeds):
            module = learner.nursery.build(rng.derive(seed, "init", self.task_index))
            for name, parameter in module.named_parameters():
                learner.view.parameters[name][replica].copy_(parameter)
            for name, buffer in module.named_buffers():
                learner.view.buffers[name][replica].copy_(buffer)
        stream = rng.derive(learner.seeds[0], "layers", device=learner.device)
        learner.network.generator.set_state(stream.get_state())
        learner.optimizer.restart(learner.reference_optimizer)
        self.restarted = True

    def coming(self, steps: int | None) -> Iterator[tuple[Tensor, Tensor]]:
        """Return batches ``(R, N, ...)`` and targets of the task that begins, from a copy of its stream."""
        self._check_looking()
        count = self.tasks[0].epoch if steps is None else steps
        if count is None:
            raise UnsupportedError("the samples of this stream never repeat; say for how many steps to look ahead")
        return self._look_ahead(count)

    def _look_ahead(self, count: int) -> Iterator[tuple[Tensor, Tensor]]:
        streams, actor = [task.batches() for task in self.tasks], Actor(self._learner)
        for _ in range(count):
            self._check_looking()  # who kept the batches for later is not at the boundary any more
            actor.act(streams)
            inputs, targets = stacked_batch([next(stream) for stream in streams])
            self.samples_ahead += inputs.shape[1]
            yield self._learner.cast(inputs), targets

    def _check_looking(self) -> None:
        if self._method is None or not self._method.uses_data:
            raise UnsupportedError(
                "data of the coming task are for the hook on_task_start of a method that declares uses_data = True"
            )


def stacked_batch(batches: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Return inputs and targets of all replicas, ``(R, N, ...)``; those of one are views."""
    if len(batches) == 1:
        return batches[0][0].unsqueeze(0), batches[0][1].unsqueeze(0)
    inputs, targets = zip(*batches, strict=True)
    return torch.stack(inputs), torch.stack(targets)
