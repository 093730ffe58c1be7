"""Many steps of all replicas in one program.

A step of a small network is all overhead: Python, dispatch, autograd. Here the steps of several batches in a row, the
gradients, the optimizer and the methods' hooks are traced once into a single graph of tensor operations over the stack
and compiled by Inductor, so that a call advances every replica by ``unroll`` steps and nothing is read on the
host in between. Without a compiler the graph itself runs, which is slower, and right.

Random numbers and fresh rows for units that are reset come in from outside, from the same named streams as ever: each
replica's from its own, in portions that do not depend on how many replicas there are. What a replica computes beside
others therefore equals what it computes alone but for the order in which sums are rounded: about 1e-6 of a weight
after one step in float32, growing as the dynamics lets rounding grow.
"""

import copy
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from torch import Generator, Tensor, nn
from torch.func import functionalize, grad_and_value, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from lopbench.core.errors import UnsupportedError
from lopbench.core.interfaces import Perturbation, State, Task
from lopbench.learner.groups import Consumer, UnitGroup
from lopbench.learner.learner import StackLearner, sections
from lopbench.learner.optimizers import OptimizerStack
from lopbench.learner.units import StackUnits

Tensors = dict[str, Tensor]

#: Most bytes of random numbers that are drawn ahead.
_NOISE_BYTES = 32 * 2**20

#: Normal numbers are made sixteen at a time; portions of whole sixteens are the same however many are drawn at once.
_PORTION = 16

#: Compiled graphs of this process, by their text and the shapes of their inputs.
_compiled: dict[object, Callable[..., Sequence[Tensor]]] = {}


class Program:
    """Advances the replicas of a learner by whole calls of ``unroll`` steps.

    Args:
        learner: The stack of replicas, made with ``traced=True``; later ones of the same make can be advanced as well.
        task: Gives loss and score; those of the tasks to come must be the same functions.
        batch: Inputs ``(R, N, ...)`` and targets ``(R, N, ...)`` of one step, for their shapes.
        unroll: Steps of a call.
        compiled: Whether to compile; otherwise the graph runs as it is.
        announce: Called before the compiler is, which takes a while; not where the same was compiled before.

    Raises:
        UnsupportedError: If the network or a method cannot be traced.
    """

    def __init__(
        self,
        learner: StackLearner,
        task: Task,
        batch: tuple[Tensor, Tensor],
        *,
        unroll: int,
        compiled: bool,
        announce: Callable[[], object] = lambda: None,
    ) -> None:
        reason = learner.untraceable() or (task.classes is not None and "some outputs do not count")
        if reason:
            raise UnsupportedError(f"{reason}, so that its steps cannot be made into one program")
        self.unroll = unroll
        self._task = task
        self._learner = learner
        self._rows: dict[str, Tensors] = {}
        # A compiled function does not look at the shapes of what it is given.
        self._shapes = tuple(batch[0].shape), tuple(batch[1].shape)
        self._make: object = None
        self._bind(learner)
        # Calls in a row for which the rows at hand have sufficed.
        self._trusted = sys.maxsize
        with torch.no_grad():
            try:
                self._requests = self._record(batch)
                self._graph = self._trace(batch)
            except UnsupportedError:
                raise
            except Exception as error:
                methods = ", ".join(method.name for method, _ in learner.active) or "no method"
                raise UnsupportedError(
                    f"the steps of {type(learner.module).__name__} under {methods} cannot be traced "
                    f"({type(error).__name__}: {str(error).partition(chr(10))[0]}); a method that declares "
                    "traceable = True computes with tensors of fixed shapes and reads no value on the host"
                ) from error
        #: Seconds that compiling took; None if nothing was compiled yet.
        self.compile_s: float | None = None
        #: Why the graph runs as it is although it was to be compiled.
        self.compile_error: str | None = None
        self._call: Callable[..., Sequence[Tensor]] = self._graph
        if compiled:
            self._compile(batch, announce)

    # -- running

    @torch.no_grad()
    def advance(self, learner: StackLearner, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Train ``learner`` on ``steps`` batches for each replica, a multiple of ``unroll``.

        Args:
            learner: The stack to train; its tensors are changed in place.
            inputs: ``(steps, R, N, ...)``.
            targets: ``(steps, R, N, ...)``.

        Returns:
            Loss and mean score of each batch before its update, ``(steps, R)`` each.
        """
        if learner is not self._learner or self._rows_from != self._pool_counts():
            self._bind(learner)
        shapes = tuple(inputs.shape[1:]), tuple(targets.shape[1:])
        assert shapes == self._shapes, f"a program for batches of {self._shapes} was given {shapes}"
        # Contiguous, as everything that was compiled for.
        inputs = inputs.to(learner.dtype).contiguous().unflatten(0, (-1, self.unroll))
        targets = targets.contiguous().unflatten(0, (-1, self.unroll))
        losses, scores = [], []
        at_once = self._calls_at_once()
        for start in range(0, len(inputs), at_once):
            stop = min(start + at_once, len(inputs))
            noise = self._draw(stop - start)
            calls = list(zip(inputs[start:stop], targets[start:stop], *noise, strict=True))
            while calls:
                ahead = calls[: self._trusted]
                tensors, loss, score = self._run(ahead)
                if not self._fits(tensors):
                    # More units were reset than rows were at hand: again, with fresh rows after fewer calls.
                    assert len(ahead) > 1, "there are rows for all units in each step of a call"
                    self._trusted = len(ahead) // 2
                    continue
                self._commit(tensors)
                calls = calls[len(ahead) :]
                losses += loss
                scores += score
        return torch.cat(losses), torch.cat(scores)

    def _run(self, calls: Sequence[Sequence[Tensor]]) -> tuple[Tensors, list[Tensor], list[Tensor]]:
        state, constants = self._state(), list(self._constants().values())
        names, values = list(state), list(state.values())
        losses, scores = [], []
        for inputs, targets, *noise in calls:
            *values, loss, score = self._call(*values, *constants, *noise, inputs, targets)
            losses.append(loss)
            scores.append(score)
        return dict(zip(names, values, strict=True)), losses, scores

    def _calls_at_once(self) -> int:
        itemsize = sum(self._portion(numel) * dtype.itemsize for (_, _, dtype), numel in self._requests.items())
        return max(1, _NOISE_BYTES // max(1, itemsize * self._learner.replicas))

    def _portion(self, numel: int) -> int:
        """Return how many numbers are drawn for a call that uses ``numel`` a step."""
        return -(-numel * self.unroll // _PORTION) * _PORTION

    def _draw(self, calls: int) -> list[Tensor]:
        """Return the random numbers of the next calls, ``(calls, R, portion)`` for each method and kind."""
        drawn = []
        for (index, kind, dtype), numel in self._requests.items():
            generators = self._learner.active[index][1].generators
            shape = (len(generators), calls * self._portion(numel))
            numbers = torch.empty(shape, dtype=dtype, device=self._learner.device)
            for row, generator in zip(numbers, generators, strict=True):
                _FILL[kind](row, generator)
            drawn.append(numbers.unflatten(1, (calls, -1)).transpose(0, 1).contiguous())
        return drawn

    # -- what goes in and comes out

    def _state(self) -> Tensors:
        """Return all that a step changes, by name."""
        learner = self._learner
        tensors = {f"parameter/{name}": value for name, value in learner.parameters.items()}
        for name, entries in learner.optimizer.stacked_state().items():
            tensors.update({f"optimizer/{name}/{key}": value for key, value in entries.items()})
        for index, (_, state) in enumerate(learner.active):
            tensors.update({f"method/{index}/{key}": value for key, value in state.tensors.items()})
        for group in self._rows:
            tensors[f"taken/{group}"] = torch.zeros(learner.replicas, dtype=torch.int64, device=learner.device)
        return {name: value.contiguous() for name, value in tensors.items()}

    def _constants(self) -> Tensors:
        """Return all that a step reads only, by name."""
        learner = self._learner
        tensors = {"rates/": torch.tensor(learner.rates, dtype=learner.dtype, device=learner.device)}
        tensors.update({f"initial/{name}": value for name, value in learner.initial.items()})
        for index, (method, _) in enumerate(learner.active):
            values = {field: getattr(method, field) for field in method.swept}
            tensors.update(
                {f"swept/{index}/{f}": v.to(learner.device) for f, v in values.items() if isinstance(v, Tensor)}
            )
        for group, rows in self._rows.items():
            tensors.update({f"rows/{group}/{key}": value for key, value in rows.items()})
        return tensors

    def _commit(self, tensors: Tensors) -> None:
        """Make ``tensors`` the state of the learner."""
        learner, part = self._learner, sections(tensors)
        for name, value in learner.parameters.items():
            value.copy_(part["parameter"][name])
        states: dict[str, Tensors] = {name: {} for name in learner.parameters}
        for key, value in part.get("optimizer", {}).items():
            name, _, entry = key.rpartition("/")
            states[name][entry] = value
        learner.optimizer.adopt(states)
        for key, value in part.get("method", {}).items():
            index, _, name = key.partition("/")
            learner.active[int(index)][1][name] = value
        for group in learner.groups if self._rows else ():
            self._refill(group, part["taken"][group.name].tolist())

    # -- fresh rows

    def _bind(self, learner: StackLearner) -> None:
        """Turn to ``learner``, and to the rows that come next in it."""
        self._learner, self._rows = learner, {}
        for group in learner.groups if any(m.uses_activations for m, _ in learner.active) else ():
            # Every unit in every step of a call, so that no call can want more.
            count = self.unroll * group.size
            parts = [learner.pool.look_ahead(group, replica, 0, count) for replica in range(learner.replicas)]
            self._rows[group.name] = {"weight": torch.stack([weight for weight, _ in parts]).to(learner.device)}
            biases = [bias for _, bias in parts if bias is not None]
            if biases:
                self._rows[group.name]["bias"] = torch.stack(biases).to(learner.device)
        self._rows_from = self._pool_counts()
        make = [(name, value.shape, value.dtype) for name, value in self._state().items()]
        assert self._make in (None, make), "a program advances learners of one make"
        self._make = make

    def _pool_counts(self) -> dict[str, list[int]]:
        """Return how many rows each group has used up in each replica; others than we may have changed it."""
        counts = self._learner.pool.state_dict() if self._rows else {}
        return {name: taken.tolist() for name, taken in counts.items()}

    def _refill(self, group: UnitGroup, taken: Sequence[int]) -> None:
        """Let the rows that were not taken move up, and put new ones behind them."""
        pool, count = self._learner.pool, self.unroll * group.size
        pool.consume(group, taken)
        rows = self._rows[group.name]
        for replica, used in enumerate(taken):
            if used:
                fresh = pool.look_ahead(group, replica, count - used, used)
                for key, new in zip(rows, fresh, strict=False):
                    assert new is not None  # the layer has a bias or has none
                    rows[key][replica] = torch.cat([rows[key][replica, used:], new.to(rows[key])])
        self._rows_from = self._pool_counts()

    def _fits(self, tensors: Tensors) -> bool:
        """Return whether there was a row for each unit that was reset."""
        return all(
            int(tensors[f"taken/{group}"].max()) <= rows["weight"].shape[1] for group, rows in self._rows.items()
        )

    # -- tracing

    def _record(self, batch: tuple[Tensor, Tensor]) -> dict["_Request", int]:
        """Return how many random numbers of each kind the methods ask for in a step, from taking one."""
        noise = _Noise({}, [])
        state = {name: value.clone() for name, value in self._state().items()}
        self._step(state, self._constants(), (batch[0].to(self._learner.dtype), batch[1]), noise, 0)
        return noise.requests

    def _trace(self, batch: tuple[Tensor, Tensor]) -> torch.fx.GraphModule:
        """Return the graph of a call: of what `_arguments` returns it makes the new state, losses and scores."""
        names, constant_names = list(self._state()), list(self._constants())

        def steps(*tensors: Tensor) -> tuple[Tensor, ...]:
            # Copies, since hooks change tensors in place and a call must not change what it was given.
            state = {name: value.clone() for name, value in zip(names, tensors, strict=False)}
            fixed = dict(zip(constant_names, tensors[len(names) :], strict=False))
            *noise, inputs, targets = tensors[len(names) + len(constant_names) :]
            losses, scores = [], []
            for step in range(self.unroll):
                source = _Noise(self._requests, noise)
                loss, score = self._step(state, fixed, (inputs[step], targets[step]), source, step)
                losses.append(loss)
                scores.append(score)
            # Contiguous, as the next call wants them.
            return *(value.contiguous() for value in state.values()), torch.stack(losses), torch.stack(scores)

        graph = make_fx(functionalize(steps), tracing_mode="fake")(*self._arguments(batch))
        graph.graph.eliminate_dead_code()
        graph.recompile()
        return graph

    def _arguments(self, batch: tuple[Tensor, Tensor]) -> list[Tensor]:
        """Return tensors such as a call takes: state, constants, noise, inputs and targets."""
        inputs, targets = (value.expand(self.unroll, *value.shape).contiguous() for value in batch)
        noise = [
            torch.zeros(self._learner.replicas, self._portion(numel), dtype=dtype, device=self._learner.device)
            for (_, _, dtype), numel in self._requests.items()
        ]
        values = [value.clone() for value in self._state().values()]
        return [*values, *self._constants().values(), *noise, inputs.to(self._learner.dtype), targets]

    def _step(
        self, state: Tensors, constants: Tensors, batch: tuple[Tensor, Tensor], noise: "_Noise", step: int
    ) -> tuple[Tensor, Tensor]:
        """Take one step of all replicas: ``state`` is changed, loss and score ``(R,)`` are returned."""
        learner, task = self._learner, self._task
        parts, fixed = sections(state), sections(constants)
        parameters = parts["parameter"]

        def loss(values: Tensors, x: Tensor, y: Tensor) -> tuple[Tensor, tuple[Tensor, Tensors]]:
            outputs, captured = learner.call(values, {}, x)
            return task.loss(outputs, y), (task.score(outputs, y).mean(dtype=torch.float64), captured)

        gradients, (losses, (scores, captured)) = vmap(grad_and_value(loss, has_aux=True))(parameters, *batch)
        entries: dict[str, Tensors] = {name: {} for name in parameters}
        for key, value in parts.get("optimizer", {}).items():
            entries[key.rpartition("/")[0]][key.rpartition("/")[2]] = value
        outer = learner.optimizer
        traced = _TracedLearner(
            learner,
            parameters,
            gradients,
            fixed["initial"],
            OptimizerStack(outer.rule, parameters, entries, fixed["rates"][""], held=outer.held, hidden=outer.hidden),
        )
        traced.units = tuple(
            _TracedUnits(
                group,
                traced,
                captured[group.read].detach(),
                sections(fixed["rows"])[group.name],
                parts["taken"][group.name],
            )
            for group in (learner.groups if self._rows else ())
        )
        methods = []
        for index, (method, _) in enumerate(learner.active):
            values = {k.removeprefix(f"{index}/"): v for k, v in parts.get("method", {}).items() if _of(k, index)}
            swept = {k.removeprefix(f"{index}/"): v for k, v in fixed.get("swept", {}).items() if _of(k, index)}
            methods.append((_with_fields(method, swept), _TracedState(values, noise, index, step)))
        for method, memory in methods:
            method.after_backward(traced, memory)
        traced.optimizer.apply(traced.optimizer.updates(gradients))
        for method, memory in methods:
            method.after_step(traced, memory)
        for index, (_, memory) in enumerate(methods):
            state.update({f"method/{index}/{key}": value for key, value in memory.tensors.items()})
        return losses, scores

    # -- compiling

    def _compile(self, batch: tuple[Tensor, Tensor], announce: Callable[[], object]) -> None:
        arguments = self._arguments(batch)
        shapes = [(tuple(t.shape), t.dtype, t.device) for t in arguments]
        key = (self._graph.code, torch.get_num_threads(), *shapes)
        known = None if _has_constants(self._graph) else _compiled.get(key)
        if known is not None:
            self._call, self.compile_s = known, 0.0
            return
        announce()
        from torch import _inductor  # takes seconds, and nothing else needs it

        began = time.perf_counter()
        # The graph needs no tracing again, and its calls no guards: with these and a wrapper in Python, a call for one
        # replica takes two to three times as long.
        options = {"cpp_wrapper": self._learner.device.type == "cpu"}
        try:
            with torch.no_grad():
                function = _inductor.compile(copy.deepcopy(self._graph), [*arguments], options=options)
                function(*arguments)
        except Exception as error:
            # Compilers fail in many ways, and the graph computes the same without one.
            self.compile_error = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
            return
        self.compile_s = time.perf_counter() - began
        self._call = _compiled[key] = function


#: Index among the active methods, kind, type.
_Request = tuple[int, Literal["normal", "uniform"], torch.dtype]


def _normal(row: Tensor, generator: Generator) -> None:
    row.normal_(generator=generator)


def _uniform(row: Tensor, generator: Generator) -> None:
    row.uniform_(generator=generator)


_FILL = {"normal": _normal, "uniform": _uniform}


class _Noise:
    """Hands out the random numbers of a call, or, given none, counts what is asked for in a step.

    Args:
        requests: How many numbers a step uses, by who asks for what; empty to count.
        numbers: The numbers of the call, ``(R, portion)`` for each of ``requests``.
    """

    def __init__(self, requests: Mapping[_Request, int], numbers: Sequence[Tensor]) -> None:
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
        start = step * self._per_step[request] + used
        return self._numbers[request][:, start : start + like[0].numel()].reshape(like.shape)


class _TracedState:
    """A method's memory inside a traced step."""

    def __init__(self, tensors: Tensors, noise: _Noise, index: int, step: int) -> None:
        self.tensors = tensors
        self._noise, self._index, self._step = noise, index, step

    @property
    def generators(self) -> list[Generator]:
        raise UnsupportedError("a traced step has no generators; draw from state.normal and state.uniform")

    def normal(self, like: Tensor) -> Tensor:
        return self._noise.take(self._index, "normal", like, self._step)

    def uniform(self, like: Tensor) -> Tensor:
        return self._noise.take(self._index, "uniform", like, self._step)

    def __getitem__(self, key: str) -> Tensor:
        return self.tensors[key]

    def __setitem__(self, key: str, value: Tensor) -> None:
        if key not in self.tensors:
            raise UnsupportedError(f"state[{key!r}] is new in a step; a traceable method makes it in begin")
        self.tensors[key] = value

    def __contains__(self, key: object) -> bool:
        return key in self.tensors


class _TracedLearner:
    """What a method sees inside a traced step."""

    traced = True

    def __init__(
        self,
        learner: StackLearner,
        parameters: Tensors,
        gradients: Tensors,
        initial: Tensors,
        optimizer: OptimizerStack,
    ) -> None:
        self.replicas = learner.replicas
        self.module: nn.Module = learner.module
        self.head: Sequence[str] = learner.head
        self.parameters: Mapping[str, Tensor] = parameters
        self.gradients: Mapping[str, Tensor] = gradients
        self.initial: Mapping[str, Tensor] = initial
        self.optimizer = optimizer
        self.units: Sequence[StackUnits] = ()

    @property
    def differentiable(self) -> Mapping[str, Tensor]:
        raise UnsupportedError("penalties cannot be traced; add their gradient in after_backward")

    def fresh(self, state: State) -> Mapping[str, Tensor]:
        raise UnsupportedError("a traced step cannot build networks")

    def restart(self) -> None:
        raise UnsupportedError("a traced step cannot build networks")


class _TracedUnits(StackUnits):
    """The units of one group inside a traced step: masks in place of indices, rows that were drawn ahead."""

    def __init__(self, group: UnitGroup, learner: _TracedLearner, read: Tensor, rows: Tensors, taken: Tensor) -> None:
        self.group = group
        self.name = group.name
        self.size = group.size
        self._parameters = learner.parameters
        self._buffers = {}
        self._optimizer = learner.optimizer
        self._activation = lambda: read
        self._fresh = rows
        self._taken = taken

    def _is_empty(self, mask: Tensor) -> bool:
        return False

    def _redraw(self, mask: Tensor, bias: Literal["law", "zero"]) -> None:
        group, weight = self.group, self._parameters[self.group.weight]
        last = self._fresh["weight"].shape[1] - 1  # beyond it the call is done again
        place = (self._taken.unsqueeze(1) + mask.cumsum(dim=1) - 1).clamp(0, last)  # (R, D)
        flat = self._fresh["weight"].flatten(2)
        rows = flat.gather(1, place.unsqueeze(2).expand(-1, -1, flat.shape[2])).view(weight.shape)
        weight.copy_(torch.where(mask.view(*mask.shape, *[1] * (weight.ndim - 2)), rows, weight))
        if group.bias is not None:
            biases = self._parameters[group.bias]
            fresh = self._fresh["bias"].gather(1, place) if bias == "law" else torch.zeros_like(biases)
            biases.copy_(torch.where(mask, fresh, biases))
        self._taken.add_(mask.sum(dim=1))

    def _erase(self, mask: Tensor, consumer: Consumer) -> None:
        columns = self._columns(consumer)  # (R, O, D, expansion, *kernel)
        columns.masked_fill_(mask.unsqueeze(1).view(len(mask), 1, -1, *[1] * (columns.ndim - 3)), 0.0)


def _of(key: str, index: int) -> bool:
    return key.partition("/")[0] == str(index)


def _with_fields(method: Perturbation, values: Tensors) -> Perturbation:
    """Return ``method`` with the given fields, which it had as tensors already."""
    made = copy.copy(method)
    for field, value in values.items():
        object.__setattr__(made, field, value)
    return made


def _has_constants(graph: torch.fx.GraphModule) -> bool:
    return any(node.op == "get_attr" for node in graph.graph.nodes)


def cache_compiled(folder: str) -> None:
    """Let compiled programs be kept in ``folder`` from one process to the next, unless the user has chosen another."""
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    # What is imported on the way to tracing may have put torch's own choice there already.
    if os.environ.get("TORCHINDUCTOR_CACHE_DIR") in (None, default_cache_dir()):
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
