"""What a check of the conformance kit is, and running checks on components."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch

from lopbench.core.errors import LopbenchError
from lopbench.core.interfaces import Component
from lopbench.core.text import told

Status = Literal["passed", "failed", "exempt", "not applicable", "measured"]

#: What a check makes of a component: None or a measured value in words; it raises `Mismatch` or `NotApplicable`.
Function = Callable[[Component], str | None]


class Mismatch(Exception):  # noqa: N818 (it is a finding, and no error of the kit)
    """A property does not hold.

    Args:
        expected: What should have been, in words.
        found: What was.
    """

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(f"expected {expected}; found {found}")
        self.expected = expected
        self.found = found


class NotApplicable(Exception):  # noqa: N818
    """A property that means nothing for this component; the text says why."""


@dataclass(frozen=True)
class Outcome:
    """What one check made of one component.

    Args:
        check: The check.
        component: The component, in the setting that was run.
        status: How it went.
        detail: Why it is not applicable or exempt, or what was measured; empty where it passed.
        expected: What should have been; empty unless it failed.
        found: What was; empty unless it failed.
        seconds: Time it took.
    """

    check: Check
    component: Component
    status: Status
    detail: str = ""
    expected: str = ""
    found: str = ""
    seconds: float = 0.0

    @property
    def message(self) -> str:
        """What went wrong, over several lines, with where the field made this very mistake."""
        lines = [
            f"{self.check.name}: {self.check.claim}",
            f"  component: {self.component!r}",
            f"  expected:  {self.expected}",
            f"  found:     {self.found}",
        ]
        return "\n".join([*lines, *([f"  seen in:   {self.check.lesson}"] if self.check.lesson else [])])


@dataclass(frozen=True)
class Check:
    """A named property of the components of one kind.

    Args:
        name: Name, in words joined by hyphens.
        claim: What holds if it passes, one sentence.
        lesson: Where the field made the mistake that it finds; empty if nowhere that we know of.
        function: Does it.
    """

    name: str
    claim: str
    lesson: str
    function: Function

    def run(self, component: Component) -> Outcome:
        """Check ``component``; whatever it raises is a failure of its own.

        A check from which the class is exempt runs all the same: it fails if nothing fails in any setting.
        """
        outcome = self._tried(component)
        reason = component.exempt.get(self.name)
        if reason is None or outcome.status == "not applicable":
            return outcome
        if outcome.status == "failed" or any(self._tried(o).status == "failed" for o in _other_settings(component)):
            return Outcome(self, component, "exempt", reason, seconds=outcome.seconds)
        return Outcome(
            self,
            component,
            "failed",
            expected="the class to be exempt from what it fails alone",
            found=f"it passes, and yet `exempt` has it with the reason {reason!r}; take it out",
            seconds=outcome.seconds,
        )

    def _tried(self, component: Component) -> Outcome:
        """Return what the check makes of ``component``, exempt or not."""
        began = time.perf_counter()
        status: Status = "passed"
        detail = expected = found = ""
        try:
            with _alone():
                measured = self.function(component)
            if measured is not None:
                status, detail = "measured", measured
        except NotApplicable as reason_:
            status, detail = "not applicable", str(reason_)
        except Mismatch as mismatch:
            status, expected, found = "failed", mismatch.expected, mismatch.found
        except Exception as error:
            status, expected = "failed", "no error"
            found = f"{told(error)} ({_where(error, component)})"
        return Outcome(self, component, status, detail, expected, found, time.perf_counter() - began)

    def __call__(self, component: Component) -> None:
        """Check ``component`` inside a pytest test: fails, skips with the reason, or passes.

        Raises:
            AssertionError: If the property does not hold.
        """
        import pytest

        outcome = self.run(component)
        if outcome.status == "failed":
            raise AssertionError(outcome.message)
        if outcome.status in ("not applicable", "exempt"):
            pytest.skip(f"{outcome.status}: {outcome.detail}")


def _where(error: Exception, component: Component) -> str:
    """Return file and line of an error: the innermost of the component's own file, or else of all."""
    frames = traceback.extract_tb(error.__traceback__)
    own = sys.modules[type(component).__module__].__dict__.get("__file__")
    last = next((frame for frame in reversed(frames) if frame.filename == own), frames[-1])
    return f"{last.filename}:{last.lineno}"


def _other_settings(component: Component) -> list[Component]:
    """Return the settings in which the class is checked, without that of ``component``."""
    from lopbench.testing import examples

    try:
        return [other for other in examples(type(component)) if other != component]
    except LopbenchError:
        return []  # the class gives no settings


@contextmanager
def _alone() -> Iterator[None]:
    """Put back the global generator, from which a component under test may draw, and compute with one thread.

    Tensors here are tiny, and waking other threads for them takes longer than the work.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(threads)


def check(claim: str, *, lesson: str = "") -> Callable[[Function], Check]:
    """Make a check of a function, whose name with hyphens is the check's."""
    return lambda function: Check(function.__name__.replace("_", "-"), claim, lesson, function)


#: How much a status says, the most important first.
_ORDER: tuple[Status, ...] = ("failed", "measured", "passed", "exempt", "not applicable")


def run_checks(
    components: Sequence[Component],
    checks: Iterable[Check],
    *,
    started: Callable[[Check], None] = lambda check: None,
) -> list[Outcome]:
    """Return one outcome for each check: the worst over the settings of a component.

    Args:
        components: Settings of one component, at least one.
        checks: The checks.
        started: Is told of each check before it runs.
    """
    worst = []
    for each in checks:
        started(each)
        found = [each.run(component) for component in components]
        first = min(found, key=lambda outcome: _ORDER.index(outcome.status))
        seconds = sum(outcome.seconds for outcome in found)
        worst.append(Outcome(each, first.component, first.status, first.detail, first.expected, first.found, seconds))
    return worst
