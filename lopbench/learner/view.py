"""What a method sees of the networks in training: one object made of tensors, in an eager step and in a program."""

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
    """Tensors by name, to be changed in place: none can be put in another's place."""

    def __setitem__(self, name: str, value: object) -> None:
        if self.get(name) is value:
            return  # Python puts what `tensors[name] *= 2` has changed in its own place
        raise InvalidInputError(
            f"{name!r} cannot be assigned: the network would go on with the old tensor; change it in place, as in "
            f"tensors[{name!r}].copy_(new)"
        )

    def _refuse(self, *args: object, **kwargs: object) -> None:
        raise InvalidInputError("tensors of the network can be changed in place, and neither added nor removed")

    __delitem__ = __ior__ = _refuse  # type: ignore[assignment]
    pop = popitem = clear = update = setdefault = _refuse  # type: ignore[assignment]


class Host(Protocol):
    """What only exists outside of a program: it makes networks, and knows the stream."""

    def fresh(self, state: State) -> Mapping[str, Tensor]:
        """Return the parameters ``(R, ...)`` of newly initialised networks."""

    def restart(self) -> None:
        """Become the protocol's fresh reference."""

    @property
    def age(self) -> int:
        """Steps of the stream on which the methods were to act before the learner was built."""

    def coming(self, steps: int | None) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches of the task that begins."""

    @property
    def groups(self) -> Sequence[UnitGroup]:
        """Where the units are that a method may reset."""

    @property
    def rows(self) -> Rows:
        """Where their fresh incoming weights come from."""


class View:
    """Implements the protocol ``Learner``.

    Args:
        network: The network.
        parameters: Parameters ``(R, ...)``.
        buffers: Buffers ``(R, ...)``.
        initial: Parameters as built, ``(R, ...)``.
        optimizer: The optimizer.
        host: What only exists outside of a program.
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
        """Steps of the stream on which the methods were to act before this learner was built."""
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
        """Whether what the networks make of a batch in training is random, as under dropout."""
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
        """Take up a task, of which ``classes`` ``(R, K)`` count, all outputs if None."""
        self._task, self.classes = task, classes

    def begin_step(self, inputs: Tensor, targets: Tensor) -> None:
        """Take up a batch ``(R, N, ...)``, and let go of what the last step left."""
        self._batch, self._pass = (inputs, targets), None

    @contextmanager
    def showing(self, inputs: Tensor, targets: Tensor | None) -> Iterator[None]:
        """Show a batch ``(R, N, ...)`` for the duration, which is not of a step."""
        before = self._batch, self._pass
        self._batch, self._pass = (inputs, targets), None
        try:
            yield
        finally:
            self._batch, self._pass = before

    def made(self, forward: ForwardPass, targets: Tensor | None = None) -> None:
        """Take note of what the network made of the batch, and of targets that came after it."""
        self._pass = forward
        if targets is not None:
            self._batch = self.inputs, targets

    def end_step(self) -> None:
        """Let go of the gradients."""
        self._gradients = Named()

    def inside(self, parameters: Mapping[str, Tensor] | None) -> None:
        """Enter autograd, where the parameters are ``parameters``, or leave it."""
        self._differentiable = parameters

    @property
    def differentiable(self) -> Mapping[str, Tensor]:
        """The parameters inside autograd."""
        if self._differentiable is None:
            raise UnsupportedError("learner.differentiable is for the hooks loss and penalty; read learner.parameters")
        return self._differentiable

    def descended(self, gradients: Callable[[], Named]) -> None:
        """Take note of the gradients, which are looked up when somebody asks for them."""
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
        """Its targets, ``(R, N, ...)``."""
        return self._of_step(self._of_step(self._batch)[1])

    @property
    def outputs(self) -> Tensor:
        """What the network made of the batch, ``(R, N, ...)``."""
        return self._of_step(self._pass).outputs

    @property
    def features(self) -> Tensor:
        """What its head read, ``(R, N, ...)``."""
        return self._of_step(self._pass).features

    @property
    def activations(self) -> Mapping[str, Tensor]:
        """Outputs of the probed layers, ``(R, N, ...)``."""
        return self._of_step(self._pass).activations

    def read(self, module: str) -> Tensor:
        """Return what ``module`` read in this step, ``(R, N, ...)``."""
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
        """Return the same of a forward pass, and the mean score ``(R,)``, in float64 and outside autograd."""
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
        """Return what ``function`` makes of each replica's outputs that count and its targets, ``(R,)`` each."""

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
        is_own = parameters is None and buffers is None and isinstance(self._differentiable, Derived)  # of the leaves
        if is_own and (made := self.network.beside(inputs)) is not None:
            return made
        current: Tensors = {**self.parameters, **(self._differentiable or {})}
        used = ({**current, **(parameters or {})}, {**self.buffers, **(buffers or {})})
        return self.network.aside(*used, inputs)

    def pass_to_score(self, inputs: Tensor, *, ahead: bool = False) -> ForwardPass:
        """Return what the networks make of ``inputs`` ``(R, N, ...)`` with all that is random off, likewise.

        Args:
            inputs: Inputs.
            ahead: Whether the pass of the step comes next.
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
        """Become the protocol's fresh reference."""
        self._host.restart()
