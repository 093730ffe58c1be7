"""What a method sees of the networks in training. The same class serves single steps and programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from lopbench.core.errors import InvalidInputError, UnsupportedError
from lopbench.core.interfaces import State, Task
from lopbench.learner.groups import UnitGroup
from lopbench.learner.network import Derived, ForwardPass, Network, Tensors
from lopbench.learner.optimizers import OptimizerStack
from lopbench.learner.units import Rows, StackUnits

T = TypeVar("T")


class Named(dict[str, Tensor]):
    """Tensors by name, which can be changed in place, but not assigned, added or removed."""

    def __setitem__(self, name: str, value: object) -> None:
        if self.get(name) is value:
            return  # Python assigns the same tensor again after `tensors[name] *= 2`
        raise InvalidInputError(
            f"{name!r} cannot be assigned: the network would go on with the old tensor; change it in place, as in "
            f"tensors[{name!r}].copy_(new)"
        )

    def _refuse(self, *args: object, **kwargs: object) -> None:
        raise InvalidInputError("tensors of the network can be changed in place, and neither added nor removed")

    __delitem__ = __ior__ = _refuse  # type: ignore[assignment]
    pop = popitem = clear = update = setdefault = _refuse  # type: ignore[assignment]


class Host(Protocol):
    """What a view asks the learner for. Most of it exists in single steps only, and a program refuses it."""

    def fresh(self, state: State) -> Mapping[str, Tensor]:
        """Return the parameters ``(R, ...)`` of newly initialised networks, by name."""

    def restart(self) -> None:
        """Become the protocol's fresh reference."""

    @property
    def age(self) -> int:
        """Steps of the stream between the turn-on of the methods and the first step of the learner, at least 0."""

    def coming(self, steps: int | None) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches ``(R, N, ...)`` and targets of the task that begins; None is one pass over its data."""

    @property
    def groups(self) -> Sequence[UnitGroup]:
        """The groups of units that a method may reset."""

    @property
    def rows(self) -> Rows:
        """The source of incoming weights for units that are reset."""


class View:
    """Implements the protocol ``Learner``.

    Args:
        network: The network.
        parameters: Parameters ``(R, ...)`` by name, outside autograd.
        buffers: Buffers ``(R, ...)`` by name.
        initial: Parameters as built, ``(R, ...)`` by name.
        optimizer: The optimizer.
        host: What the view asks for new networks, data and units.
    """

    def __init__(
        self,
        network: Network,
        *,
        parameters: Mapping[str, Tensor],
        buffers: Mapping[str, Tensor],
        initial: Mapping[str, Tensor],
        optimizer: OptimizerStack,
        host: Host,
    ) -> None:
        self.network = network
        self.parameters = Named(parameters)
        self.buffers = Named(buffers)
        self.initial = Named(initial)
        self.optimizer = optimizer
        self.classes: Tensor | None = None
        self._gradients: Named | Callable[[], Named] = Named()
        self.updates = Named()
        self._host = host
        self._task: Task | None = None
        self._units: tuple[StackUnits, ...] = ()
        self._batch: tuple[Tensor, Tensor | None] | None = None
        self._pass: ForwardPass | None = None
        self._differentiable: Mapping[str, Tensor] | None = None

    # -- the network

    @property
    def age(self) -> int:
        """Steps of the stream between the turn-on of the methods and the first step of this learner, at least 0."""
        return self._host.age

    @property
    def replicas(self) -> int:
        """R, the number of replicas."""
        return len(next(iter(self.parameters.values())))

    @property
    def device(self) -> torch.device:
        """Where all tensors are."""
        return next(iter(self.parameters.values())).device

    @property
    def module(self) -> nn.Module:
        """The network, for its structure."""
        return self.network.module

    @property
    def is_random(self) -> bool:
        """Whether the output of the networks in training mode is random, as under dropout."""
        return self.network.stochastic

    @property
    def head(self) -> Sequence[str]:
        """Names of the parameters of the head."""
        return tuple(name for name in self.parameters if name.rpartition(".")[0] == self.network.head)

    @property
    def units(self) -> Sequence[StackUnits]:
        """The groups of units that a method may reset, in forward order.

        Raises:
            UnsupportedError: If the network has none.
        """
        if not self._units:
            self._units = tuple(StackUnits(group, self, self._host.rows) for group in self._host.groups)
        return self._units

    # -- the step

    def turn_to(self, task: Task, classes: Tensor | None) -> None:
        """Take up a task in which the outputs ``classes``, ``(R, K)``, count; with None all outputs count."""
        self._task, self.classes = task, classes

    def begin_step(self, inputs: Tensor, targets: Tensor) -> None:
        """Take up a batch ``(R, N, ...)``, and forget the pass of the last step."""
        self._batch, self._pass = (inputs, targets), None

    @contextmanager
    def showing(self, inputs: Tensor, targets: Tensor | None) -> Iterator[None]:
        """For the duration, show a batch ``(R, N, ...)`` outside of steps, as in the hook ``begin``."""
        before = self._batch, self._pass
        self._batch, self._pass = (inputs, targets), None
        try:
            yield
        finally:
            self._batch, self._pass = before

    def made(self, forward: ForwardPass, targets: Tensor | None = None) -> None:
        """Take up the pass over the batch, and other targets if there are some."""
        self._pass = forward
        if targets is not None:
            self._batch = self.inputs, targets

    def end_step(self) -> None:
        """Forget the gradients."""
        self._gradients = Named()

    def inside(self, parameters: Mapping[str, Tensor] | None) -> None:
        """Enter autograd, with ``parameters`` as the differentiable ones; leave it with None."""
        self._differentiable = parameters

    @property
    def differentiable(self) -> Mapping[str, Tensor]:
        """The parameters inside autograd, by name.

        Raises:
            UnsupportedError: Outside of the hooks ``loss`` and ``penalty``.
        """
        if self._differentiable is None:
            raise UnsupportedError(
                "learner.differentiable exists only in the hooks loss and penalty; read learner.parameters"
            )
        return self._differentiable

    def descended(self, gradients: Callable[[], Named]) -> None:
        """Take up a function that returns the gradients; it is called when they are first read."""
        self._gradients = gradients

    @property
    def gradients(self) -> Mapping[str, Tensor]:
        """The gradients ``(R, ...)`` of this step."""
        if not isinstance(self._gradients, Named):
            self._gradients = self._gradients()
        return self._gradients

    @property
    def inputs(self) -> Tensor:
        """The batch that is trained on, ``(R, N, ...)``."""
        return self._of_step(self._batch)[0]

    @property
    def targets(self) -> Tensor:
        """The targets of the batch, ``(R, N, ...)``."""
        return self._of_step(self._of_step(self._batch)[1])

    @property
    def outputs(self) -> Tensor:
        """Outputs of the networks on the batch, ``(R, N, ...)``."""
        return self._of_step(self._pass).outputs

    @property
    def features(self) -> Tensor:
        """Input of the head in the pass over the batch, ``(R, N, ...)``."""
        return self._of_step(self._pass).features

    @property
    def activations(self) -> Mapping[str, Tensor]:
        """Outputs of the probed layers, ``(R, N, ...)`` by name."""
        return self._of_step(self._pass).activations

    def read(self, module: str) -> Tensor:
        """Return the input of ``module`` in this step, ``(R, N, ...)``."""
        return self._of_step(self._pass).read[module]

    def _of_step(self, value: T | None) -> T:
        if value is None:
            raise UnsupportedError("there is no batch yet: batch, outputs and activations are for the hooks of a step")
        return value

    # -- calls

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the task's own loss ``(R,)`` of outputs ``(R, N, ...)``, of which only those of `classes` count."""
        return self._each(lambda counting, y: (self._of_step(self._task).loss(counting, y),), outputs, targets)[0]

    def loss_and_score(self, forward: ForwardPass, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the task's loss ``(R,)`` of a pass, and the mean score ``(R,)`` in float64, outside autograd."""
        task = self._of_step(self._task)

        def both(counting: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
            score = task.score(counting.detach(), targets).mean(dtype=torch.float64)
            return task.loss(counting, targets), score

        loss, score = self._each(both, forward.outputs, targets, forward.alone)
        return loss, score

    def _each(
        self,
        function: Callable[[Tensor, Tensor], tuple[Tensor, ...]],
        outputs: Tensor,
        targets: Tensor,
        alone: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Return the results ``(R,)`` of ``function`` on each replica's targets and those of its outputs that count."""

        def counting(outputs: Tensor, targets: Tensor, classes: Tensor | None = None) -> tuple[Tensor, ...]:
            return function(outputs if classes is None else outputs[..., classes], targets)

        rest = (targets,) if self.classes is None else (targets, self.classes)
        if self.replicas == 1:
            first = outputs.squeeze(0) if alone is None else alone
            return tuple(made.unsqueeze(0) for made in counting(first, *(part.squeeze(0) for part in rest)))
        made: tuple[Tensor, ...] = torch.vmap(counting)(outputs, *rest)
        return made

    def forward(
        self,
        inputs: Tensor,
        parameters: Mapping[str, Tensor] | None = None,
        buffers: Mapping[str, Tensor] | None = None,
    ) -> ForwardPass:
        """Run the networks on ``inputs`` ``(R, N, ...)`` in training mode, without side effects."""
        is_own = parameters is None and buffers is None and isinstance(self._differentiable, Derived)  # of `Eager`
        if is_own and (made := self.network.beside(inputs)) is not None:
            return made
        current: Tensors = {**self.parameters, **(self._differentiable or {})}
        used = ({**current, **(parameters or {})}, {**self.buffers, **(buffers or {})})
        return self.network.aside(*used, inputs)

    def pass_to_score(self, inputs: Tensor, *, ahead: bool = False) -> ForwardPass:
        """Run the networks on ``inputs`` ``(R, N, ...)`` with all randomness off, without side effects.

        Args:
            inputs: Inputs.
            ahead: Whether the training pass on the same inputs comes next.
        """
        if self.network.stochastic:  # one network, and no program: its own tensors are those in training
            return self.network.steadily(inputs, ahead=ahead)
        return self.forward(inputs)

    def coming(self, steps: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches ``(R, N, ...)`` and targets of the task that begins, from a copy of its stream."""
        return self._host.coming(steps)

    def fresh(self, state: State) -> Mapping[str, Tensor]:
        """Return the parameters ``(R, ...)`` of newly initialised networks, drawn from the method's own stream."""
        return self._host.fresh(state)

    def restart(self) -> None:
        """Become the protocol's fresh reference: new networks, and the reference's optimizer, also new."""
        self._host.restart()
