"""What methods may ask of a learner outside of a program: new networks, data of the coming task, units."""

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
        #: Number of samples of coming tasks that methods have looked at, per replica.
        self.samples_ahead = 0
        #: Whether `restart` was called, so that the learner has the optimizer of the fresh reference.
        self.restarted = False

    @contextmanager
    def crossing(self, method: Perturbation) -> Iterator[None]:
        """Allow ``method`` to call `restart` and `coming` for the duration, which is that of its hook on_task_start."""
        self._method = method
        try:
            yield
        finally:
            self._method = None

    @property
    def groups(self) -> tuple[UnitGroup, ...]:
        """The groups of units that a method may reset, in forward order.

        Raises:
            UnsupportedError: If the network has none.
        """
        return self._learner.nursery.groups(self._learner.network.module)

    @property
    def rows(self) -> FreshPool:
        """The source of incoming weights for units that are reset."""
        return self._learner.nursery.rows(self._learner.network.module)

    @property
    def age(self) -> int:
        """Steps of the stream between the turn-on of the methods and the first step of the learner, at least 0."""
        return self._learner.age

    def fresh(self, state: State) -> Mapping[str, Tensor]:
        """Return the parameters ``(R, ...)`` of newly initialised networks, drawn from the method's own stream."""
        return self._learner.nursery.fresh(state)

    @torch.no_grad()
    def restart(self) -> None:
        """Become the protocol's fresh reference of this task: new networks, and the reference's optimizer, also new.

        Raises:
            UnsupportedError: If no method is in its hook on_task_start.
        """
        if self._method is None:
            raise UnsupportedError("learner.restart may be called only in the hook on_task_start")
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
        """Return batches ``(R, N, ...)`` and targets of the task that begins, from a copy of its stream.

        Args:
            steps: Number of batches; None for one pass over the task's data.

        Raises:
            UnsupportedError: If the caller is not in the hook on_task_start of a method that declares ``uses_data``,
                or if None is given and the samples of the task never repeat.
        """
        self._check_looking()
        count = self.tasks[0].epoch if steps is None else steps
        if count is None:
            raise UnsupportedError(
                "the samples of this stream never repeat, so one pass over them has no end; give learner.coming a "
                "number of steps"
            )
        return self._look_ahead(count)

    def _look_ahead(self, count: int) -> Iterator[tuple[Tensor, Tensor]]:
        streams, actor = [task.batches() for task in self.tasks], Actor(self._learner)
        for _ in range(count):
            self._check_looking()  # again at each batch, since a method may keep the iterator for later
            actor.act(streams)
            inputs, targets = stacked_batch([next(stream) for stream in streams])
            self.samples_ahead += inputs.shape[1]
            yield self._learner.cast(inputs), targets

    def _check_looking(self) -> None:
        if self._method is None or not self._method.uses_data:
            raise UnsupportedError(
                "learner.coming may be called only in the hook on_task_start of a method that declares uses_data = True"
            )


def stacked_batch(batches: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Return inputs and targets of all replicas, ``(R, N, ...)`` each; with one replica they are views of its batch."""
    if len(batches) == 1:
        return batches[0][0].unsqueeze(0), batches[0][1].unsqueeze(0)
    inputs, targets = zip(*batches, strict=True)
    return torch.stack(inputs), torch.stack(targets)
