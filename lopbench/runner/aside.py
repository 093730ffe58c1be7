"""Leaves out what a plugin spoils before anything is trained, and says so; the rest goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from traceback import walk_tb
from typing import TypeVar

from lopbench.core.errors import InvalidInputError, LopbenchError, PluginError, UnknownError, UsageError
from lopbench.core.interfaces import KINDS
from lopbench.core.manager import plugins
from lopbench.core.registry import OWN, Registration
from lopbench.core.text import told

Given = TypeVar("Given")
Made = TypeVar("Made")


class Aside:
    """What was left out of a request, and why."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []  #: What the user called it, and the reason.

    def each(
        self, given: Iterable[Given], make: Callable[[Given], Made], label: Callable[[Given], str] = str
    ) -> list[Made]:
        """Return what is made of each; what a plugin cannot make is left out, unless nothing else is there.

        Args:
            given: What the user gave.
            make: Makes something of it.
            label: What the user called it.

        Raises:
            UsageError: If the user gave what there is not.
            InvalidInputError: If the user gave a value that is out of range.
            LopbenchError: What went wrong first, if nothing could be made.
        """
        found, first = [], None
        for one in given:
            try:
                found.append(make(one))
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                reason = _reason(error) if isinstance(error, LopbenchError) else _raised_by_plugin(error)
                if reason is None:
                    raise
                self.told.append((label(one), reason))
                is_told = isinstance(error, LopbenchError) and not isinstance(error, UnknownError)
                first = first or (error if is_told else PluginError(reason))
        if first is not None and not found:
            raise first
        return found

    def needed(self, given: Given, make: Callable[[Given], Made]) -> Made:
        """Return what is made of something without which nothing can be run.

        Args:
            given: What the user gave.
            make: Makes something of it.

        Raises:
            LopbenchError: As `each`.
        """
        (found,) = self.each([given], make)
        return found


def check_complete(
    refused: Sequence[tuple[str, str]], pending: int, aside: Sequence[tuple[str, str]], *, most: int | None = None
) -> None:
    """Raise if something of a study is missing.

    Args:
        refused: Runs that could not be done, each with the reason.
        pending: Number of runs that were to be done.
        aside: What was left out before, each with the reason.
        most: How many reasons of each kind are told; None for all.

    Raises:
        LopbenchError: If something is.
    """
    parts = [f"{what} was left out: {reason}" for what, reason in aside[:most]]
    if refused:
        reasons = " ".join(dict.fromkeys(f"{what}: {reason}" for what, reason in refused[:most]))
        parts.append(f"{len(refused)} of {pending} runs could not be done: {reasons}")
    if parts:
        raise LopbenchError("; ".join(parts))


def _raised_by_plugin(error: BaseException) -> str | None:
    """Return what the code of a plugin raised where nothing guarded it, as a property of a class does; None if ours."""
    registry = plugins().registry
    others = {_module(each) for kind in KINDS for each in registry.entries(kind) if each.distribution.name != OWN}
    passed = [frame.f_globals.get("__name__") for frame, _ in walk_tb(error.__traceback__)]
    culprit = next((module for module in reversed(passed) if module in others), None)
    return None if culprit is None else f"{culprit} raises {told(error)}"


def _module(entry: Registration) -> str:
    """Return the name of the module in which the class of a component stands."""
    return entry.target.partition(":")[0] if isinstance(entry.target, str) else entry.target.__module__


def _reason(error: LopbenchError) -> str | None:
    """Return why something could not be made; None if that is the user's mistake."""
    if isinstance(error, UnknownError) and plugins().last_broken:
        return f"nothing of this name is known, and {plugins().last_broken}"
    return None if isinstance(error, UsageError | InvalidInputError) else str(error)
