"""The steps of all replicas as one function of tensors, which can be traced into a graph.

What a step changes goes in and comes out as named tensors. Random numbers, and fresh rows for units that are reset, go
in as tensors too. They come from the same named streams as in single steps.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any, Literal, NoReturn

import torch
from torch import Generator, Tensor
from torch.overrides import TorchFunctionMode

from lopbench.core import fields
from lopbench.core.errors import UnsupportedError
from lopbench.core.interfaces import Perturbation, State, Task, TrainingMetric
from lopbench.learner.compiling import trace_graph
from lopbench.learner.engines import Traced
from lopbench.learner.groups import UnitGroup
from lopbench.learner.hooks import Acting, Hooks
from lopbench.learner.layout import turn_thin, untranspose
from lopbench.learner.learner import StackLearner
from lopbench.learner.memory import MethodState
from lopbench.learner.network import Tensors
from lopbench.learner.optimizers import Caller, OptimizerStack
from lopbench.learner.saving import entries_of, sections
from lopbench.learner.step import Taken, take_step
from lopbench.learner.trial import states_on_host
from lopbench.learner.view import View

#: What a method asks for: its index among the active methods, the kind and the type of the random numbers.
Request = tuple[int, Literal["normal", "uniform"], torch.dtype]

#: Torch makes normal numbers in groups of sixteen. With portions of whole groups, the numbers do not depend on how many
#: portions are drawn at once.
_PORTION = 16


class UntraceableError(UnsupportedError):
    """The steps of a learner cannot be traced into a program."""


class ReadOnHostError(RuntimeError):
    """A step reads the values of a tensor on the host, which it does not have while it is traced."""


def portion(numel: int, unroll: int) -> int:
    """Return how many numbers to draw for a call of ``unroll`` steps with ``numel`` numbers each."""
    return -(-numel * unroll // _PORTION) * _PORTION


class Steps:
    """The steps of one call, as a function of tensors.

    Args:
        learner: The stack to train. It may be replaced by another one of the same structure.
        task: Presents inputs, and gives loss and score. All later tasks must have the same functions.
        period: Number of batches after which their sizes repeat.
        unroll: Number of steps in a call, a whole number of periods.
        metrics: What to measure of each step.
    """

    def __init__(
        self,
        learner: StackLearner,
        task: Task,
        *,
        period: int,
        unroll: int,
        metrics: Sequence[TrainingMetric] = (),
    ) -> None:
        self.learner = learner
        self.task = task
        self.period = period
        self.unroll = unroll
        self.metrics = tuple(metrics)
        #: How many random numbers methods ask for in a step, by request.
        self.requests: dict[Request, int] = {}
        self._asked = False
        #: Shapes of the optimizer's entries after a step, which may have expanded them to clear some.
        self._shapes: dict[str, torch.Size] = {}
        #: Whether `record` is taking a step on real tensors, to find out what it does.
        self._trying = False
        #: Whether each active method changes something in a step, resets of units apart.
        self.acts: list[bool] = []
        #: Indices of the active methods that may reset units in a step.
        self.resetting: set[int] = set()

    # -- what goes in and comes out

    def state(self, taken: Tensors) -> Tensors:
        """Return all tensors that a step changes, by name; ``taken`` counts used rows, ``(R,)`` by group."""
        view, optimizer = self.learner.view, self.learner.optimizer
        tensors = {f"parameter/{name}": value for name, value in view.parameters.items()}
        tensors.update({f"buffer/{name}": value for name, value in view.buffers.items()})
        for name, entries in optimizer.stacked_state().items():
            for key, value in sorted(entries.items()):
                full = f"optimizer/{name}/{key}"
                tensors[full] = value.expand(tuple(map(max, value.shape, self._shapes.get(full, value.shape))))
        if optimizer.factor is not None:
            tensors["scale/"] = optimizer.factor
        for index, (_, state) in enumerate(self.learner.hooks.acting):
            tensors.update({f"method/{index}/{key}": value for key, value in sorted(state.tensors.items())})
        tensors.update({f"taken/{group}": value for group, value in taken.items()})
        return {name: value.contiguous() for name, value in tensors.items()}

    def constants(self, rows: Mapping[str, Tensors]) -> Tensors:
        """Return all tensors that a step only reads, by name; ``rows`` has the fresh rows, by group."""
        learner = self.learner
        tensors = {"rates/": learner.optimizer.base_rates}
        tensors.update({f"initial/{name}": value for name, value in learner.view.initial.items()})
        if learner.view.classes is not None:
            tensors["classes/"] = learner.view.classes
        for index, (method, _) in enumerate(learner.hooks.acting):
            values = {field: getattr(method, field) for field in fields.swept(type(method))}
            tensors.update(
                {f"swept/{index}/{f}": v.to(learner.device) for f, v in values.items() if isinstance(v, Tensor)}
            )
        for group, parts in rows.items():
            tensors.update({f"rows/{group}/{key}": value for key, value in parts.items()})
        return tensors

    def noise(self) -> list[Tensor]:
        """Return tensors of the shapes of a call's random numbers, one for each request."""
        learner = self.learner
        return [
            torch.zeros(learner.replicas, portion(numel, self.unroll), dtype=dtype, device=learner.device)
            for (_, _, dtype), numel in self.requests.items()
        ]

    # -- the function

    def record(self, state: Tensors, constants: Tensors, batches: Sequence[tuple[Tensor, Tensor]]) -> bool:
        """Take a step on copies, to find out what methods ask for. Return whether they ask for units."""
        noise = _Noise({}, [])
        copies = {name: value.clone() for name, value in state.items()}
        self._trying = True
        self.step(copies, constants, self._presented(*batches[0]), noise, 0)
        self._trying = False
        self.requests = noise.requests
        self._shapes = {name: value.shape for name, value in copies.items() if name.startswith("optimizer/")}
        return self._asked

    def call(self, names: Sequence[str], constant_names: Sequence[str], *tensors: Tensor) -> tuple[Tensor, ...]:
        """Take the steps of a call.

        Args:
            names: Names of the tensors that change.
            constant_names: Names of the tensors that are only read.
            tensors: The tensors that change, those that are only read, the noise, and for each batch of a period stored
                inputs and targets ``(periods, R, N, ...)``.

        Returns:
            The new values of the tensors that change; then losses, scores and each metric, ``(unroll, R)`` each.
        """
        # Copies, since hooks change tensors in place and a call must not change what it was given.
        state = {name: value.clone() for name, value in zip(names, tensors, strict=False)}
        fixed = dict(zip(constant_names, tensors[len(names) :], strict=False))
        rest = tensors[len(names) + len(constant_names) :]
        noise, batches = rest[: len(self.requests)], rest[len(self.requests) :]
        taken = []
        for step in range(self.unroll):
            turn, place = divmod(step, self.period)
            batch = self._presented(batches[2 * place][turn], batches[2 * place + 1][turn])
            taken.append(self.step(state, fixed, batch, _Noise(self.requests, noise), step))
        losses, scores = (torch.stack([getattr(each, part) for each in taken]) for part in ("losses", "scores"))
        measured = (torch.stack(values) for values in zip(*(each.measured for each in taken), strict=True))
        # Contiguous, as the next call wants them.
        return *(value.contiguous() for value in state.values()), losses, scores, *measured

    def _presented(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return a batch as the networks are given it; its inputs are as the stream stores them."""
        shown = self.learner.cast(self.task.presented(inputs))
        if shown is not inputs:
            # The compiler keeps what is taken by strides. Else each kernel that reads inputs would present them anew.
            shown = shown.as_strided(shown.shape, shown.stride())
        return shown, targets

    def step(self, state: Tensors, constants: Tensors, batch: tuple[Tensor, Tensor], noise: _Noise, step: int) -> Taken:
        """Take one step of all replicas. Changes ``state`` and its tensors."""
        learner, parts, fixed = self.learner, sections(state), sections(constants)
        entries = entries_of(parts["parameter"], parts)
        optimizer = OptimizerStack(
            learner.optimizer.rule,
            parts["parameter"],
            entries,
            fixed["rates"][""],
            scale=parts["scale"][""] if "scale" in parts else None,
            held=learner.optimizer.held,
            hidden=learner.optimizer.hidden,
        )
        rows = _RowBuffer(
            sections(fixed.get("rows", {})), parts.get("taken", {}), on_draw=lambda: self._note_reset(optimizer.caller)
        )
        view = View(
            learner.network,
            parameters=parts["parameter"],
            buffers=parts.get("buffer", {}),
            initial=fixed["initial"],
            optimizer=optimizer,
            host=_TraceHost(learner, rows),
        )
        view.turn_to(self.task, fixed["classes"][""] if "classes" in fixed else None)
        remembered = sections(parts.get("method", {}))
        hooks = self._hooks(remembered, sections(fixed.get("swept", {})), noise, step)
        trained = tuple(name for name, leaf in learner.leaves.items() if leaf.requires_grad)
        taken = take_step(view, hooks, Traced(trained), batch, metrics=self.metrics)
        self._asked = rows.asked
        if optimizer.held != learner.optimizer.held:
            raise UntraceableError("a method holds or releases parameters in a step")
        if self._trying and rows.nothing:  # with fresh rows a reset writes tensors even if no unit is to be reset
            self.acts = hooks.acted
        for name, each in entries.items():
            state.update({f"optimizer/{name}/{key}": value for key, value in each.items()})
        if "scale" in parts:
            assert optimizer.factor is not None
            state["scale/"] = optimizer.factor
        elif optimizer.factor is not None:
            raise UntraceableError("a method scales the learning rate in a step, and none did in 'begin'")
        for index, (method, memory) in enumerate(hooks.acting):
            before = remembered.get(str(index), {}).keys()
            if memory.tensors.keys() != before:
                new = ", ".join(f"state[{key!r}]" for key in sorted(memory.tensors.keys() ^ before))
                raise UntraceableError(f"method {method.name!r} makes {new} in a step, and not in 'begin'")
            state.update({f"method/{index}/{key}": value for key, value in memory.tensors.items()})
        return taken

    def _note_reset(self, caller: Caller | None) -> None:
        """Note that a method may reset units."""
        if caller is not None:
            self.resetting.add(caller.place)

    def _hooks(
        self, remembered: Mapping[str, Tensors], swept: Mapping[str, Tensors], noise: _Noise, step: int
    ) -> Hooks:
        """Return the hooks of a step, with new memories that hold the step's tensors.

        Args:
            remembered: What methods remember, by index of the method and name.
            swept: Fields ``(R,)`` that differ between replicas, likewise.
            noise: The random numbers of the call.
            step: Index of the step in the call.
        """
        made = []
        for index, (method, _) in enumerate(self.learner.hooks.acting):
            tensors, values = (dict(each.get(str(index), {})) for each in (remembered, swept))
            memory = MethodState(_TracedNoise(noise, index, step), tensors, _NoHost())
            made.append(Acting(_with_fields(method, values), memory))
        hooks = Hooks(made)
        if not self._trying:
            hooks.acted = [True] * len(made)  # so that nothing is watched for changes while it is traced
        return hooks

    def trace(self, state: Tensors, constants: Tensors, arguments: Sequence[Tensor]) -> torch.fx.GraphModule:
        """Return the graph of a call, traced with ``arguments`` as an example.

        Raises:
            UntraceableError: If a step reads a value on the host, or does something else that a graph cannot.
        """
        names, constant_names = list(state), list(constants)

        def steps(*tensors: Tensor) -> tuple[Tensor, ...]:
            return self.call(names, constant_names, *tensors)

        before = states_on_host()
        with _NoNumpy():
            graph = trace_graph(steps, *arguments)
        if states_on_host() != before:
            raise UntraceableError("a step draws from the global generator of Python or numpy")
        for node in graph.graph.nodes:
            if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
                raise UntraceableError(f"a step draws from torch's global generator ({node.target})")
        untranspose(graph)
        turn_thin(graph)
        graph.graph.eliminate_dead_code()
        graph.recompile()
        return graph


class _NoNumpy(TorchFunctionMode):
    """Refuses functions that hand values of tensors to numpy or Python: there are none while steps are traced."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _TO_NUMPY:
            raise ReadOnHostError(f"it calls {func.__name__}")
        return func(*args, **(kwargs or {}))


_TO_NUMPY = (Tensor.numpy, Tensor.__array__, Tensor.tolist)


class _Noise:
    """Hands out the random numbers of a call. Without any, counts how many a step asks for.

    Args:
        requests: How many numbers a step uses, by request; empty to count.
        numbers: The numbers of the call, ``(R, portion)`` for each of ``requests``.
    """

    def __init__(self, requests: Mapping[Request, int], numbers: Sequence[Tensor]) -> None:
        self.requests = dict.fromkeys(requests, 0)
        self._numbers = dict(zip(requests, numbers, strict=True))
        self._per_step = requests
        self._counting = not requests

    def take(self, index: int, kind: Literal["normal", "uniform"], like: Tensor, step: int) -> Tensor:
        """Return numbers of the shape of ``like``, ``(R, ...)``, for method ``index`` in step ``step`` of the call."""
        request = (index, kind, like.dtype)
        used = self.requests.get(request, 0)
        self.requests[request] = used + like[0].numel()
        if self._counting:
            return torch.zeros_like(like)
        if request not in self._numbers:
            raise UntraceableError("a method draws random numbers in some steps only")
        start = step * self._per_step[request] + used
        return self._numbers[request][:, start : start + like[0].numel()].reshape(like.shape)


class _TracedNoise:
    """The random numbers of one method inside a traced step."""

    def __init__(self, noise: _Noise, index: int, step: int) -> None:
        self._noise, self._index, self._step = noise, index, step

    @property
    def generators(self) -> list[Generator]:
        raise UntraceableError("it draws from state.generators, and not by state.normal and state.uniform")

    def normal(self, like: Tensor) -> Tensor:
        return self._noise.take(self._index, "normal", like, self._step)

    def uniform(self, like: Tensor) -> Tensor:
        return self._noise.take(self._index, "uniform", like, self._step)


class _NoHost(MutableMapping[str, "int | float"]):
    """Stands in for ``state.host``, which a program cannot use."""

    def _refuse(self, *args: object) -> NoReturn:
        raise UntraceableError("it uses state.host")

    __getitem__ = __setitem__ = __delitem__ = __iter__ = __len__ = _refuse


class _TraceHost:
    """Gives traced steps the groups of units and fresh rows, and refuses what only single steps can have."""

    def __init__(self, learner: StackLearner, rows: _RowBuffer) -> None:
        self._learner = learner
        self.rows = rows

    @property
    def groups(self) -> Sequence[UnitGroup]:
        groups = self._learner.boundary.groups
        self.rows.asked = True
        return groups

    @property
    def age(self) -> int:
        raise UntraceableError("it asks for the age of the learner in a step")

    def fresh(self, state: State) -> Mapping[str, Tensor]:
        raise UntraceableError("it builds networks in a step")

    def restart(self) -> None:
        raise UntraceableError("it restarts the learner in a step")

    def coming(self, steps: int | None) -> Iterator[tuple[Tensor, Tensor]]:
        raise UntraceableError("it asks for data in a step")


class _RowBuffer:
    """Hands out fresh rows inside a traced step, as tensors. It knows a number of rows ahead.

    Args:
        rows: The rows that come next, by group: "weight" ``(R, M, ...)`` and "bias" ``(R, M)``.
        taken: How many of them were taken so far, int64 ``(R,)``, by group; changed in place.
        on_draw: Called when units may be reset.
    """

    def __init__(self, rows: Mapping[str, Tensors], taken: Tensors, on_draw: Callable[[], None]) -> None:
        self._fresh = rows
        self._taken = taken
        self._on_draw = on_draw
        self.asked = False

    @property
    def nothing(self) -> bool:
        """Whether there are no rows, so that nothing is reset. So it is when `Steps.record` first takes a step."""
        return not self._fresh

    def is_empty(self, mask: Tensor) -> bool:
        """Return False if there are rows, since a program cannot read ``mask`` on the host."""
        return self.nothing

    def draw(self, group: UnitGroup, mask: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return fresh incoming weights ``(R, D, ...)`` and biases ``(R, D)`` for the units in ``mask``."""
        self._on_draw()
        rows, taken = self._fresh[group.name], self._taken[group.name]
        last = rows["weight"].shape[1] - 1  # if more rows are taken, `Program` repeats the call
        place = (taken.unsqueeze(1) + mask.cumsum(dim=1) - 1).clamp(0, last)  # (R, D)
        flat = rows["weight"].flatten(2)
        weights = flat.gather(1, place.unsqueeze(2).expand(-1, -1, flat.shape[2]))
        taken.add_(mask.sum(dim=1))
        biases = rows["bias"].gather(1, place) if "bias" in rows else None
        return weights.view(*mask.shape, *rows["weight"].shape[2:]), biases


def _with_fields(method: Perturbation, values: Tensors) -> Perturbation:
    """Return a copy of ``method`` with other values of fields that are tensors."""
    made = copy.copy(method)
    for field, value in values.items():
        object.__setattr__(made, field, value)
    return made
