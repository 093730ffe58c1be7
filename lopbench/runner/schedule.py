"""Which tasks a run trains on, which of them it measures, and when its methods turn on."""

import math
from dataclasses import dataclass

from lopbench.core.interfaces import Scenario
from lopbench.core.spec import RunSpec
from lopbench.results.score import scored_tasks

#: Most steps of one call of a program: longer ones save little and take longer to compile.
MAX_UNROLL = 16


@dataclass(frozen=True)
class Place:
    """One task in the order in which a run comes to it.

    Args:
        task: Index of the task.
        new: Whether the learner is built anew before it.
        origin: The task at which that learner's life is scored: it starts from the stream ``("init", origin)``.
        measured: Whether the task is measured; otherwise it only leads a fresh learner in.
    """

    task: int
    new: bool
    origin: int
    measured: bool


def places(scenario: Scenario, spec: RunSpec) -> list[Place]:
    """Return the tasks of a run in order: all of a continual one, the scored ones with their leads of a fresh one.

    Where the learner is cloned, a fresh network is born at the cloning and lives to the end.
    """
    if spec.kind == "continual":
        return [Place(task, task == 0, 0, measured=True) for task in range(scenario.tasks)]
    born = scenario.clone_at
    if born is not None:
        return [Place(task, task == born, born, measured=True) for task in range(born, scenario.tasks)]
    found = []
    for origin in scored_tasks(scenario.tasks, spec.start):
        first = max(0, origin - scenario.reference_lead)
        found += [Place(t, t == first, origin, measured=t == origin) for t in range(first, origin + 1)]
    return found


def switch_step(scenario: Scenario, spec: RunSpec) -> int:
    """Return the step of the stream from which the methods act; where the learner is cloned, it is that step.

    Methods that act at task boundaries do so from the next one on: that at which they turn on is behind them.
    """
    if scenario.clone_at is not None:
        return scenario.clone_at * scenario.steps_per_task
    return math.floor(spec.start * scenario.tasks * scenario.steps_per_task + 1e-9)


def unroll(scenario: Scenario, spec: RunSpec) -> int:
    """Return the most steps, up to `MAX_UNROLL`, of which every stretch between two measurements is a multiple."""
    steps, switch = scenario.steps_per_task, switch_step(scenario, spec)
    common = math.gcd(steps, scenario.probe_every, switch % steps)
    return max(count for count in range(1, MAX_UNROLL + 1) if common % count == 0)
