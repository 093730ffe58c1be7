"""The fresh networks that runs are measured against."""

from __future__ import annotations

from collections.abc import Sequence

from lopbench.core.errors import UnsupportedError
from lopbench.core.interfaces import Architecture, Growth, Scenario
from lopbench.core.spec import RunSpec


def with_references(specs: Sequence[RunSpec], *, shared: bool = True) -> list[RunSpec]:
    """Return runs of one scenario with those of the fresh networks that they are measured against, each once.

    A seed's references follow its runs: the number asked for comes first, and several methods share one reference.

    Args:
        specs: The runs.
        shared: Whether the protocol's reference is among them, which all methods share, or their own recipe's alone.
    """
    if not specs:
        return []
    has_shared = shared and has_reference(specs[0])
    has_own = _growth(specs[0]) is None  # a clone is measured against its base
    runs = []
    for spec in specs:
        runs.append(spec)
        runs += [spec.reference()] if has_shared else []
        runs += [spec.own_reference()] if has_own else []
    return list({run.run_id: run for run in runs}.values())


def has_reference(spec: RunSpec) -> bool:
    """Return whether the protocol's reference stands beside a run.

    That beside a clone is as wide as it, which only an architecture that says how its wider networks start can be.
    """
    growth = _growth(spec)
    if growth is None:
        return True
    architecture = spec.architecture.build()
    assert isinstance(architecture, Architecture)
    try:
        architecture.widened(growth.factor)
    except UnsupportedError:
        return False
    return True


def _growth(spec: RunSpec) -> Growth | None:
    scenario = spec.scenario.build()
    assert isinstance(scenario, Scenario)  # the registry checked
    return scenario.growth
