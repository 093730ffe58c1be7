"""The conformance kit: named checks for components, the same for built-ins and third parties.

In a plugin's tests::

    from lopbench.testing import parametrize_with_checks

    @parametrize_with_checks([MyMethod(strength=0.1)])
    def test_conformance(component, check):
        check(component)

On the command line ``lopbench plugins check NAME``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from lopbench.core.errors import UsageError
from lopbench.core.interfaces import KINDS, Component, Scenario
from lopbench.testing.check import Check, Mismatch, NotApplicable, Outcome, Status, check, run_checks

__all__ = [
    "Check",
    "Mismatch",
    "NotApplicable",
    "Outcome",
    "Status",
    "check",
    "checks",
    "examples",
    "parametrize_with_checks",
    "run_checks",
]


def checks(component: Component) -> tuple[Check, ...]:
    """Return the checks for components of the kind of ``component``."""
    import importlib

    kind = next(kind for kind, interface in KINDS.items() if isinstance(component, interface))
    found: tuple[Check, ...] = importlib.import_module(f"lopbench.testing.{kind}").CHECKS
    return found


def examples(cls: type[Component]) -> list[Component]:
    """Return the component in the settings that the class names as its ``examples``.

    A scenario that names none comes in an unranked profile, such as smoke, or in its default one.

    Raises:
        UsageError: If a field has no default and no example gives it.
        InvalidInputError: If the component refuses an example.
    """
    found = []
    given = cls.examples
    if issubclass(cls, Scenario) and given == ({},):  # the smallest protocol that it has
        profile = next(iter(sorted(cls.unranked & cls.profiles.keys())), cls.default_profile)
        given = ({**cls.profiles[profile], "profile": profile},)
    for fields in given:
        missing = [
            f.name
            for f in dataclasses.fields(cls)
            if f.init
            and f.default is dataclasses.MISSING
            and f.default_factory is dataclasses.MISSING
            and f.name not in fields
        ]
        if missing:
            raise UsageError(
                f"{cls.name} needs {', '.join(missing)}; write {cls.name}:{missing[0]}=..., "
                "or give the class `examples`"
            )
        found.append(cls(**fields))
    return found


def parametrize_with_checks(components: Sequence[Component]) -> Callable[[Any], Any]:
    """Parametrize a pytest test over components and their checks, as arguments ``component`` and ``check``.

    The test calls ``check(component)``, which fails, skips with the reason where a check is not applicable or declared
    exempt, or passes.

    Args:
        components: Components in settings in which they act within some 25 steps; `examples` gives those of a class.
    """
    import pytest

    pairs = [(component, each) for component in components for each in checks(component)]
    return pytest.mark.parametrize(
        ("component", "check"), pairs, ids=[f"{component!r}-{each.name}" for component, each in pairs]
    )
