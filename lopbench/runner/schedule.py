"""Which tasks a run trains on, which of them it measures, and when its methods turn on."""

import math
from dataclasses import dataclass
from itertools import accumulate

from lopbench.core.interfaces import Scenario
from lopbench.core.spec import RunSpec
from lopbench.core.windows import scored_tasks

#: Most steps of one call of a program: longer ones save little and take longer to compile.
MAX_UNROLL = 16


@dataclass(frozen=True)
class Place:
    """One task in the order in which a run comes to it.

    Args:
        task: Index of the task.
        first: The step of the stream with which it begins.
        steps: Number of its steps, at least 1.
        new: Whether the learner is built anew before it.
        origin: The task at which that learner's life is scored: it starts from the stream ``("init", origin)``.
        measured: Whether the task is measured; otherwise it only leads a fresh learner in.
    """

    task: int
    first: int
    steps: int
    new: bool
    origin: int
    measured: bool

    @property
    def end(self) -> int:
        """The step of the stream that comes after its last one."""
        return self.first + self.steps


def edges(scenario: Scenario) -> list[int]:
    """Return the steps of the stream with which its tasks begin, and its length, ``(T + 1,)``."""
    return list(accumulate(map(scenario.steps, range(scenario.tasks)), initial=0))


def places(scenario: Scenario, spec: RunSpec) -> list[Place]:
    """Return the tasks of a run in order: all of a continual one, the scored ones with their leads of a fresh one.

    Where the learner is cloned, a fresh network is born at the cloning and lives to the end.
    """
    growth, begins, found = scenario.growth, edges(scenario), []

    def live(first: int, origin: int, stop: int, *, lead: bool) -> None:
        """Add a learner that is built before task ``first`` and measured from there on, or after a lead."""
        for task in range(first, stop):
            steps = begins[task + 1] - begins[task]
            found.append(Place(task, begins[task], steps, task == first, origin, not lead or task == origin))

    if spec.kind == "continual":
        live(0, 0, scenario.tasks, lead=False)
    elif growth is not None:
        live(growth.task, growth.task, scenario.tasks, lead=False)
    else:
        for origin in scored_tasks(scenario.tasks, spec.start):
            live(max(0, origin - scenario.reference_lead), origin, origin + 1, lead=True)
    return found


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


def unroll(scenario: Scenario, spec: RunSpec) -> int:
    """Return the most steps, up to `MAX_UNROLL`, of which every stretch between two measurements is a multiple."""
    switch = switch_step(scenario, spec)
    # A switch inside a task cuts it in two.
    switched = [switch - begin for begin in edges(scenario) if begin <= switch][-1]
    common = math.gcd(*map(scenario.steps, range(scenario.tasks)), scenario.probe_every, switched)
    return max(count for count in range(1, MAX_UNROLL + 1) if common % count == 0)
