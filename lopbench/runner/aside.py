"""What a plugin spoils by itself before anything is trained: it is left out and told, and the rest goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from lopbench.core.errors import InvalidInputError, LopbenchError, PluginError, UnknownError, UsageError
from lopbench.core.manager import plugins

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
            except LopbenchError as error:
                reason = _reason(error)
                if reason is None:
                    raise
                self.told.append((label(one), reason))
                first = first or (PluginError(reason) if isinstance(error, UnknownError) else error)
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
        most: Of how many of each the reasons are told; None for all.

    Raises:
        LopbenchError: If something is.
    """
    parts = [f"{what} was left out: {reason}" for what, reason in aside[:most]]
    if refused:
        reasons = " ".join(dict.fromkeys(f"{what}: {reason}" for what, reason in refused[:most]))
        parts.append(f"{len(refused)} of {pending} runs could not be done: {reasons}")
    if parts:
        raise LopbenchError("; ".join(parts))


def _reason(error: LopbenchError) -> str | None:
    """Return why something could not be made; None if that is the user's mistake."""
    broken = [each for each in plugins().skipped if each.broken]
    if isinstance(error, UnknownError) and broken:
        last = broken[-1]  # files come after what is installed
        return f"nothing of this name is known, and {last.plugin} of {last.distribution} was skipped: {last.reason}"
    return None if isinstance(error, UsageError | InvalidInputError) else str(error)
