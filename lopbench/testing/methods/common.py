"""What the checks of methods share: lengths of runs, and runs of two or more to be compared."""

from __future__ import annotations

from functools import lru_cache

from lopbench.core.interfaces import Component, Perturbation
from lopbench.testing.bench import Bench

#: Steps of an ordinary check.
RUN = 24


def method_of(component: Component) -> Perturbation:
    """Return the component, which is a method."""
    assert isinstance(component, Perturbation)
    return component


@lru_cache(maxsize=8)
def asks_for_units(method: Perturbation) -> bool:
    """Return whether the method asks the learner for units in an ordinary run."""
    return Bench(method).run(RUN).learner.nursery.has_groups
