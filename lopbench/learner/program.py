"""Many steps of all replicas in one program.

A step of a small network is mostly overhead: Python, dispatch, autograd. Here the steps of several batches in a row are
traced once into a single graph of tensor operations over the stack, and Inductor compiles the graph. A call advances
every replica by ``unroll`` steps, and nothing is read on the host in between. Without a compiler the graph itself runs.
That is slower and computes the same.

A replica computes the same beside others as alone, except for the order in which sums are rounded. In float32 the
difference is about 1e-6 of a weight after one step. It grows as far as training amplifies small differences.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Generator, Tensor

from lopbench.core.errors import InvalidInputError, UnsupportedError
from lopbench.core.interfaces import Task, TrainingMetric
from lopbench.learner.blocks import Blocks, Calls
from lopbench.learner.compiling import Compiled, compile_graph
from lopbench.learner.groups import UnitGroup
from lopbench.learner.learner import StackLearner
from lopbench.learner.network import Tensors
from lopbench.learner.saving import entries_of, sections
from lopbench.learner.step import Taken
from lopbench.learner.tracing import Steps, portion
from lopbench.learner.untraceable import reason_of

#: Most bytes of random numbers that are drawn ahead, and of fresh rows that are held for one group of units.
_NOISE_BYTES, _ROW_BYTES = 32 * 2**20, 64 * 2**20

#: Batches by their place in a period, after which the sizes of batches repeat: inputs of each place, as they are stored
#: (`ChunkedBatches.take_stored`), and targets.
#: Of one period ``(R, N, ...)``.
Period = Sequence[tuple[Tensor, Tensor]]
#: Of several periods one tensor ``(periods, N, ...)`` for each replica.
Periods = Sequence[tuple[Sequence[Tensor], Sequence[Tensor]]]


class Program:
    """Advances the replicas of a learner by whole calls of ``unroll`` steps.

    Args:
        learner: The stack of replicas. Other learners of the same structure can be advanced later.
        task: Presents inputs, and gives loss and score. All later tasks must have the same functions.
        batches: The batches of one period, stored inputs and targets ``(R, N, ...)``, for their shapes.
        unroll: Number of steps in a call, a whole number of periods.
        compiled: Whether to compile the graph; otherwise it runs as it is.
        announce: Called before the compiler, unless this process has compiled the same before.
        metrics: What to measure of each step.

    Raises:
        UnsupportedError: If the steps cannot be traced; the message says why.
    """

    def __init__(
        self,
        learner: StackLearner,
        task: Task,
        batches: Period,
        *,
        unroll: int,
        compiled: bool,
        announce: Callable[[], object] = lambda: None,
        metrics: Sequence[TrainingMetric] = (),
    ) -> None:
        self.unroll = unroll
        self._shapes = [(tuple(x.shape), tuple(y.shape)) for x, y in batches]
        self._steps = Steps(learner, task, period=len(batches), unroll=unroll, metrics=metrics)
        self._compiles, self._announce = compiled, announce
        self._prepare(learner, batches)

    def _prepare(self, learner: StackLearner, batches: Period) -> None:
        """Trace and compile the steps of ``learner`` as they are now."""
        self._steps.learner = learner
        self._rows: dict[str, Tensors] = {}
        self._rows_from: dict[str, list[int]] = {}
        self._asked = False
        # Most calls in a row before a check that the fresh rows have sufficed. It is halved when they have not.
        self._trusted = sys.maxsize
        with torch.no_grad(), reason_of(learner, self._steps.metrics):
            self._asked = self._steps.record(self._state(), self._constants(), batches)
            self._bind(learner)
            if self._asked:  # again, now with fresh rows, so that units are reset
                self._steps.record(self._state(), self._constants(), batches)
            self._traced_for = self._signature()
            self._blocks = self._choose_blocks()
            graph = self._trace(batches)
            self._compiled = Compiled(graph)
            if self._compiles:
                self._compiled = compile_graph(graph, self._arguments(batches), learner.device, self._announce)
            if self._compiled.error is not None and len(self._blocks) > 1:
                self._blocks = Blocks(learner.replicas, learner.replicas)  # one block: fewer operations
                self._compiled = replace(self._compiled, call=self._trace(batches))

    def _choose_blocks(self) -> Blocks:
        learner = self._steps.learner
        if self._compiles and learner.device.type == "cpu":
            return Blocks.of(learner.replicas, self._state())
        return Blocks(learner.replicas, learner.replicas)  # one block: an uncompiled graph waits for Python

    def _trace(self, batches: Period) -> torch.fx.GraphModule:
        """Return the graph of a call of a block of replicas."""
        state, constants = self._blocks.first(self._state()), self._blocks.first(self._constants())
        return self._steps.trace(state, constants, self._arguments(batches))

    def _signature(self) -> object:
        """Return what a graph depends on. A hook at a boundary may change it: hold parameters, or store new tensors."""
        tensors = {**self._state(), **self._constants()}
        learner = self._steps.learner
        methods = [type(each.method) for each in learner.hooks.acting]
        shapes = [(name, value.shape, value.dtype) for name, value in tensors.items()]
        return type(learner.optimizer.rule), methods, learner.optimizer.held, shapes

    @property
    def compile_s(self) -> float | None:
        """Seconds that compiling took; None if nothing was compiled."""
        return self._compiled.seconds

    @property
    def compile_error(self) -> str | None:
        """Why compiling failed; None if it succeeded or was not asked for."""
        return self._compiled.error

    # -- running

    @torch.no_grad()
    def advance(self, learner: StackLearner, batches: Periods) -> Taken:
        """Train ``learner`` on batches of whole calls. The steps are traced again if what they do has changed.

        Args:
            learner: The stack to train; its tensors are changed in place.
            batches: For each batch of a period, stored inputs and targets ``(periods, N, ...)`` of each replica.

        Returns:
            Loss and mean score ``(steps, R)`` of each batch before its update, and the values of the metrics.
        """
        if learner is not self._steps.learner or self._rows_from != self._pool_counts():
            self._bind(learner)
        shapes = [((len(x), *x[0].shape[1:]), (len(y), *y[0].shape[1:])) for x, y in batches]
        assert shapes == self._shapes, f"a program for batches of {self._shapes} was given {shapes}"
        if self._signature() != self._traced_for:
            self._prepare(learner, [(_first(x), _first(y)) for x, y in batches])
        parts = [part for batch in batches for part in batch]
        periods = self.unroll // len(batches)
        given = Calls([], [[each.unflatten(0, (-1, periods)) for each in part] for part in parts])
        made: list[Sequence[Tensor]] = []
        at_once = self._calls_at_once()
        for start in range(0, len(given), at_once):
            calls = given.part(start, start + at_once)
            calls = replace(calls, noise=self._draw(len(calls)))
            while len(calls):
                ahead = calls.part(0, self._trusted)
                tensors, results = self._blocks.run(self._compiled.call, self._state(), self._constants(), ahead)
                fits = _fits(self._rows, tensors)
                if not fits and len(ahead) > 1:
                    # More units were reset than there were fresh rows. Try fewer calls, after which rows are replaced.
                    self._trusted = len(ahead) // 2
                    continue
                if not fits:
                    tensors, results = self._run_alone(ahead.arguments(slice(None))[0])
                self._commit(tensors)
                if not fits:
                    self._bind(learner)  # `_run_alone` has left more rows than the graph takes
                calls = calls.part(len(ahead), len(calls))
                made += results
        losses, scores, *measured = (torch.cat(each) for each in zip(*made, strict=True))
        return Taken(losses, scores, tuple(measured))

    def _run_alone(self, call: Sequence[Tensor]) -> tuple[Tensors, list[Sequence[Tensor]]]:
        """Take the steps of one call without the graph, with as many fresh rows as they need."""
        networks = self.unroll  # more are needed if several methods reset the same units
        while True:
            self._rows = {group.name: self._rows_at_hand(group, networks * group.size) for group in self._groups()}
            state, constants = self._state(), self._constants()
            made = self._steps.call(list(state), list(constants), *state.values(), *constants.values(), *call)
            tensors = dict(zip(state, made, strict=False))
            if _fits(self._rows, tensors):
                return tensors, [made[len(state) :]]
            networks *= 2

    def _calls_at_once(self) -> int:
        itemsize = sum(portion(n, self.unroll) * dtype.itemsize for (_, _, dtype), n in self._steps.requests.items())
        return max(1, _NOISE_BYTES // max(1, itemsize * self._steps.learner.replicas))

    def _draw(self, calls: int) -> list[Tensor]:
        """Return the random numbers of the next calls, ``(calls, R, portion)`` for each method and kind."""
        drawn, learner = [], self._steps.learner
        for (index, kind, dtype), numel in self._steps.requests.items():
            generators = learner.hooks.acting[index].state.generators
            shape = (len(generators), calls * portion(numel, self.unroll))
            numbers = torch.empty(shape, dtype=dtype, device=learner.device)
            for row, generator in zip(numbers, generators, strict=True):
                _FILL[kind](row, generator)
            drawn.append(numbers.unflatten(1, (calls, -1)).transpose(0, 1).contiguous())
        return drawn

    # -- what goes in and comes out

    def _state(self) -> Tensors:
        """Return what a call changes, with no row counted as used."""
        learner = self._steps.learner
        counts = {
            group: torch.zeros(learner.replicas, dtype=torch.int64, device=learner.device) for group in self._rows
        }
        return self._steps.state(counts)

    def _constants(self) -> Tensors:
        return self._steps.constants(self._rows)

    def _arguments(self, batches: Period) -> list[Tensor]:
        """Return example arguments of a call of one block: state, constants, noise, and the batches of its periods."""
        periods, first = self.unroll // len(batches), self._blocks.first_of
        parts = [first(part).expand(periods, *first(part).shape).contiguous() for batch in batches for part in batch]
        values = [first(value).clone() for value in self._state().values()]
        rest = [*self._constants().values(), *self._steps.noise()]
        return [*values, *map(first, rest), *parts]

    def _commit(self, tensors: Tensors) -> None:
        """Make ``tensors`` the state of the learner."""
        learner, part = self._steps.learner, sections(tensors)
        for name, value in learner.view.parameters.items():
            value.copy_(part["parameter"][name])
        for name, value in learner.view.buffers.items():
            value.copy_(part["buffer"][name])
        states = entries_of(learner.view.parameters, part)
        learner.optimizer.adopt(states, part["scale"][""] if "scale" in part else None)
        for index, remembered in sections(part.get("method", {})).items():
            learner.hooks.acting[int(index)].state.tensors.update(remembered)
        for group in self._groups():
            self._refill(group, part["taken"][group.name].tolist())
        reset = any(bool(taken.any()) for taken in part.get("taken", {}).values())
        for place, acts in enumerate(self._steps.acts):
            if acts or (reset and place in self._steps.resetting):
                learner.hooks.acted[place] = True

    # -- fresh rows

    def _groups(self) -> Sequence[UnitGroup]:
        """Return the groups of units of which methods may reset some."""
        return self._steps.learner.boundary.groups if self._asked else ()

    def _bind(self, learner: StackLearner) -> None:
        """Take up ``learner`` and the fresh rows that come next in it."""
        self._steps.learner = learner
        self._rows = {}
        for group in self._groups():
            count = _row_count(learner.view.parameters[group.weight], group.size, self.unroll)
            self._rows[group.name] = self._rows_at_hand(group, count)
        self._rows_from = self._pool_counts()

    def _rows_at_hand(self, group: UnitGroup, count: int) -> Tensors:
        """Return the next rows: "weight" ``(R, count, ...)`` and "bias" ``(R, count)``; uses up none."""
        learner = self._steps.learner
        parts = [learner.boundary.rows.look_ahead(group, replica, 0, count) for replica in range(learner.replicas)]
        rows = {"weight": torch.stack([weight for weight, _ in parts]).to(learner.device)}
        biases = [bias for _, bias in parts if bias is not None]
        return {**rows, "bias": torch.stack(biases).to(learner.device)} if biases else rows

    def _pool_counts(self) -> dict[str, list[int]]:
        """Return how many rows each group has used up in each replica. Steps outside of the program count as well."""
        counts = self._steps.learner.boundary.rows.state_dict() if self._rows else {}
        return {name: taken.tolist() for name, taken in counts.items()}

    def _refill(self, group: UnitGroup, taken: Sequence[int]) -> None:
        """Replace the rows that were taken, ``taken[r]`` in replica ``r``, by as many new ones at the end."""
        pool = self._steps.learner.boundary.rows
        pool.consume(group, taken)
        if not any(taken):
            return
        rows = self._rows[group.name]
        count = rows["weight"].shape[1]
        for replica, used in enumerate(taken):
            if used:
                fresh = pool.look_ahead(group, replica, count - used, used)
                for key, new in zip(rows, fresh, strict=False):
                    assert new is not None  # the layer has a bias or has none
                    rows[key][replica] = torch.cat([rows[key][replica, used:], new.to(rows[key])])
        self._rows_from = self._pool_counts()


def _first(replicas: Sequence[Tensor]) -> Tensor:
    """Return the first of the batches ``(periods, N, ...)`` of each replica, ``(R, N, ...)``."""
    return torch.stack([each[0] for each in replicas])


def _row_count(weight: Tensor, units: int, unroll: int) -> int:
    """Return how many rows to hold: one for each unit in each step, or fewer where these take too much memory."""
    row = weight.nbytes // units  # of all replicas
    return max(units, min(unroll * units, _ROW_BYTES // row))


def _fits(rows: Mapping[str, Tensors], tensors: Tensors) -> bool:
    """Return whether there was a row for each unit that was reset."""
    return all(int(tensors[f"taken/{group}"].max()) <= each["weight"].shape[1] for group, each in rows.items())


def why_not(learner: StackLearner, task: Task, batches: Period, metrics: Sequence[TrainingMetric] = ()) -> str | None:
    """Return why the steps of ``learner`` cannot be a program, None if they can. This traces the steps of a period.

    Args:
        learner: The learner.
        task: Presents inputs, and gives loss and score.
        batches: The batches of one period, stored inputs and targets ``(R, N, ...)``.
        metrics: What to measure of each step.
    """
    try:
        Program(learner, task, batches, unroll=len(batches), compiled=False, metrics=metrics)
    except (UnsupportedError, InvalidInputError) as error:
        return str(error)
    return None


def _normal(row: Tensor, generator: Generator) -> None:
    row.normal_(generator=generator)


def _uniform(row: Tensor, generator: Generator) -> None:
    row.uniform_(generator=generator)


_FILL = {"normal": _normal, "uniform": _uniform}
