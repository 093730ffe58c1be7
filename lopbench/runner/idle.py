"""Which methods changed nothing in a run, and why."""

from __future__ import annotations

from lopbench.core.interfaces import Perturbation
from lopbench.learner.learner import StackLearner
from lopbench.results.idle import Idle
from lopbench.runner.schedule import Schedule

#: The hooks that are called in steps, or where the network is evaluated.
_ELSEWHERE = ("batch", "loss", "penalty", "after_backward", "update", "after_step", "evaluated")


def idle_methods(learner: StackLearner, schedule: Schedule) -> list[Idle | None]:
    """Return why each method changed nothing, None where it changed something in one of the replicas.

    Args:
        learner: The learner of a run that is over.
        schedule: What the run did.
    """
    return [_why(learner, place, schedule) for place in range(len(learner.methods))]


def _why(learner: StackLearner, place: int, schedule: Schedule) -> Idle | None:
    method, hooks = learner.methods[place], learner.hooks
    if not method.active:
        return "zero"
    if any(method is each for each in learner.nursery.built_in):
        return None
    acted = [acted for each, acted in zip(hooks.acting, hooks.acted, strict=True) if each.method is method]
    if not acted:
        return "off"
    if any(acted):
        return None
    return "boundary" if _acts_at_boundaries_alone(method) and not schedule.boundaries else "nothing"


def _acts_at_boundaries_alone(method: Perturbation) -> bool:
    return method.has("on_task_start") and not any(map(method.has, _ELSEWHERE))
