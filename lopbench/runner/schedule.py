"""Which networks a run trains, on which tasks, when it looks at them, and when its methods turn on."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

from lopbench.core.interfaces import Scenario
from lopbench.core.spec import RunSpec
from lopbench.core.windows import first_tasks, reference_tasks, scored_tasks

#: Most steps of one call of a program: longer ones save little and take longer to compile.
MAX_UNROLL = 16


@dataclass(frozen=True, kw_only=True)
class Place:
    """One task in the order in which a run comes to it.

    Args:
        task: Index of the task.
        first: The step of the stream with which it begins.
        steps: Number of its steps, at least 1.
        scored: Number of its steps that are scored, the first ones.
        origin: The task at which the learner's life is scored: it starts from the stream ``("init", origin)``.
        new: Whether the learner is built anew before it.
        last: Whether it is the last task of the learner's life.
        cloned: Whether the learner is the clone of a base that is trained beside it.
        cloning: Whether it becomes that before this task.
        measured: Whether the task is measured; otherwise it only leads a fresh learner in.
        factors: Steps of the task from which on the learning rate has another factor, in order, and that factor.
        validate_every: Steps between two validations, of which the last is at the end of the task; 0 for none.
    """

    task: int
    first: int
    steps: int
    scored: int
    origin: int
    new: bool
    last: bool
    cloned: bool = False
    cloning: bool = False
    measured: bool = True
    factors: tuple[tuple[int, float], ...] = ()
    validate_every: int = 0

    @property
    def end(self) -> int:
        """The step of the stream that comes after its last one."""
        return self.first + self.steps

    def factor(self, step: int) -> float:
        """Return what the protocol multiplies the learning rate by after ``step`` steps of the task."""
        return next((factor for begin, factor in reversed(self.factors) if begin <= step), 1.0)

    def validated(self, step: int) -> bool:
        """Return whether the networks are validated after ``step`` steps of the task, at least 1."""
        return bool(self.validate_every) and (step % self.validate_every == 0 or step == self.steps)


@dataclass(frozen=True)
class Schedule:
    """What a run does, step by step; it trains nothing.

    Args:
        places: The tasks in order.
        edges: The steps of the stream with which its tasks begin, and its length, ``(T + 1,)``.
        switch: The step of the stream from which the methods act.
        switches: Whether they turn on in the middle of the learner's life; otherwise a learner is built with them on
            or off.
        probe_every: Steps between diagnostics inside a task; 0 for none.
        one_problem: Whether all tasks are of one problem, so that a network is at a task's start what it was at the
            end of the last one.
        cuts: Steps, counted from the start of a task, at which a call of a program ends in some task.
    """

    places: tuple[Place, ...]
    edges: tuple[int, ...]
    switch: int
    switches: bool
    probe_every: int
    one_problem: bool
    cuts: frozenset[int] = frozenset()

    @classmethod
    def of(cls, scenario: Scenario, spec: RunSpec) -> Schedule:
        """Return the schedule of a run: all tasks of a continual one, of a fresh one those it covers with their leads.

        A development run ends with the last task that begins in its share of the stream.

        The reference covers `reference_tasks`, and fresh networks of another recipe `scored_tasks`.

        Where the learner is cloned, the fresh network is as wide as the clone, and lives as long as base and clone.
        """
        switch = switch_step(scenario, spec)
        return cls(
            places=tuple(_places(scenario, spec)),
            edges=tuple(edges(scenario)),
            switch=switch,
            switches=spec.kind != "fresh" and switch > 0,
            probe_every=scenario.probe_every,
            one_problem=scenario.growth is not None,
            cuts=frozenset(step for task in range(scenario.tasks) for step in _cuts(scenario, task)),
        )

    @cached_property
    def boundaries(self) -> int:
        """Number of task boundaries at which methods that are on may act."""
        return sum(place.first > self.switch and not place.new for place in self.places)

    @cached_property
    def looks(self) -> int:
        """Number of times that the networks are diagnosed."""
        count = 0
        for place in self.places:
            inside = (place.steps - 1) // self.probe_every if self.probe_every else 0
            count += self.probed(place, 0) + place.measured * (inside + 1)
        return count

    @cached_property
    def validations(self) -> int:
        """Number of times that the networks are validated."""
        return sum(-(-place.steps // place.validate_every) for place in self.places if place.validate_every)

    @cached_property
    def steps(self) -> int:
        """Steps in all."""
        return self.steps_before(len(self.places))

    def steps_before(self, index: int) -> int:
        """Return the steps that are taken before the place of this index."""
        return sum(place.steps for place in self.places[:index])

    def waits(self, place: Place) -> bool:
        """Return whether the methods of a learner that is built before ``place`` wait at first."""
        return self.edges[place.origin] < self.switch

    def turns_on(self, place: Place, step: int) -> bool:
        """Return whether the methods turn on after ``step`` steps of a task, before the next one of it."""
        return self.switches and place.first + step == self.switch and step < place.steps

    def is_on(self, place: Place, step: int) -> bool:
        """Return whether the methods have turned on by then."""
        passed = place.first + step
        return self.switches and (passed > self.switch or self.turns_on(place, step))

    def stretch(self, place: Place, step: int) -> int:
        """Return the steps of a task from ``step`` on to the next at which something is done but training."""
        stops = [place.steps, self.switch - place.first, *(begin for begin, _ in place.factors)]
        stops += [step + every - step % every for every in (self.probe_every, place.validate_every) if every]
        return min(stop for stop in stops if stop > step) - step

    def probed(self, place: Place, step: int) -> bool:
        """Return whether the networks are diagnosed after ``step`` steps of a task."""
        if not place.measured:
            return False
        if step == 0:
            return place.new or place.cloning or not self.one_problem
        return step == place.steps or bool(self.probe_every and step % self.probe_every == 0)

    def unroll(self, period: int = 1, every: int | None = None) -> int:
        """Return the most steps of a call of a program, up to `MAX_UNROLL`, of which every stretch is a multiple.

        Args:
            period: Batches of a period of the stream, of which it is a multiple in any case.
            every: Steps between two times that the networks act; None where they do not.
        """
        # A switch inside a task cuts it in two.
        switched = [self.switch - edge for edge in self.edges if edge <= self.switch][-1]
        lengths = (stop - start for start, stop in pairwise(self.edges))
        common = math.gcd(*lengths, *self.cuts, self.probe_every, switched, every or 0)
        fitting = [count for count in range(period, MAX_UNROLL + 1, period) if common % count == 0]
        return max(fitting, default=period)


def edges(scenario: Scenario) -> list[int]:
    """Return the steps of the stream with which its tasks begin, and its length, ``(T + 1,)``."""
    return list(accumulate(map(scenario.steps, range(scenario.tasks)), initial=0))


def switch_step(scenario: Scenario, spec: RunSpec) -> int:
    """Return the step of the stream from which the methods act; where the learner is cloned, it is that step.

    ``spec.start`` counts tasks: half a stream is over when half of its tasks are. Methods that act at task boundaries
    do so from the next one on: that at which they turn on is behind them.
    """
    begins = edges(scenario)
    if scenario.growth is not None:
        return begins[scenario.growth.task]
    place = spec.start * scenario.tasks
    task = math.floor(place + 1e-9)  # 0.29 * 100 is a little less than 29
    if task == scenario.tasks:
        return begins[-1]
    within = math.floor((place - task) * (begins[task + 1] - begins[task]) + 1e-6)
    return begins[task] + max(0, within)


def fresh_lives(scenario: Scenario, spec: RunSpec) -> list[range]:
    """Return the tasks of each fresh network of a run: its lead, and last the one on which it is measured."""
    covered = reference_tasks if spec == spec.reference() else scored_tasks
    lead = scenario.reference_lead(spec.optimizer.fields["lr"])
    return [range(max(0, origin - lead), origin + 1) for origin in covered(scenario.tasks, spec.start, scenario.late)]


def _cuts(scenario: Scenario, task: int) -> list[int]:
    """Return the steps of a task by which its schedule of rates and its validations cut it."""
    return [*(step for step, _ in scenario.rate_factors(task)), scenario.validate_every(task)]


def _places(scenario: Scenario, spec: RunSpec) -> Iterator[Place]:
    growth = scenario.growth
    if spec.kind != "fresh":
        stop = first_tasks(scenario.tasks, spec.stop)
        yield from _life(scenario, 0, stop, grows_at=None if growth is None else growth.task)
    elif growth is not None:
        yield from _life(scenario, 0, scenario.tasks)
    else:
        for life in fresh_lives(scenario, spec):
            yield from _life(scenario, life.start, life.stop, origin=life[-1])


def _life(
    scenario: Scenario, born: int, stop: int, *, origin: int | None = None, grows_at: int | None = None
) -> Iterator[Place]:
    """Yield the tasks of a learner from ``born`` to before ``stop``: all measured, or ``origin`` alone."""
    begins = edges(scenario)
    for task in range(born, stop):
        yield Place(
            task=task,
            first=begins[task],
            steps=begins[task + 1] - begins[task],
            scored=scenario.scored(task),
            origin=born if origin is None else origin,
            new=task == born,
            last=task == stop - 1,
            cloned=grows_at is not None and task >= grows_at,
            cloning=task == grows_at,
            measured=origin is None or task == origin,
            factors=tuple(scenario.rate_factors(task)),
            validate_every=scenario.validate_every(task),
        )
