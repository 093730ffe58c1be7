"""Who is told how runs go, and what runs are called."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from lopbench.core.spec import RunSpec


class Reporter(Protocol):
    """Is told how runs go."""

    def started(self, label: str, steps: int, done: int, runs: int = 1, score: str = "accuracy") -> None:
        """Say that ``runs`` runs of ``steps`` steps in all start, or resume after ``done`` of them.

        Their score is called ``score``.
        """

    def advanced(self, steps: int, task: int, tasks: int, score: float) -> None:
        """Say that ``steps`` more were taken; ``score`` is the online score of the current task so far."""

    def finished(self, label: str, status: str, path: Path) -> None:
        """Say that the runs that started last ended, and where their records are."""

    def waits(self, label: str) -> None:
        """Say that nothing is left but what other processes are at, such as the runs ``label``."""

    def note(self, message: str) -> None:
        """Pass on a message."""


class Quiet:
    """A reporter that says nothing."""

    def started(self, label: str, steps: int, done: int, runs: int = 1, score: str = "accuracy") -> None:
        """Say nothing."""

    def advanced(self, steps: int, task: int, tasks: int, score: float) -> None:
        """Say nothing."""

    def finished(self, label: str, status: str, path: Path) -> None:
        """Say nothing."""

    def waits(self, label: str) -> None:
        """Say nothing."""

    def note(self, message: str) -> None:
        """Say nothing."""


def label(spec: RunSpec) -> str:
    """Return what people call the run."""
    text = f"{spec.method_label}, {spec.architecture_label}, seed {spec.seed}"
    if spec.kind == "continual":
        return text
    if spec.kind == "development":
        return f"development run of {text}, {spec.optimizer_label}"
    return f"fresh reference of {text}" if spec == spec.reference() else f"from fresh: {text}"


def recipe(spec: RunSpec) -> str:
    """Return what people call the methods of a run, and whether it is of fresh networks, or of a development seed."""
    if spec.kind == "continual":
        return spec.method_label
    if spec.kind == "development":
        return f"{spec.method_label}, tuning"
    return "fresh reference" if spec == spec.reference() else f"{spec.method_label}, from fresh"


def group_label(specs: Sequence[RunSpec]) -> str:
    """Return what people call runs that are trained together."""
    if len(specs) == 1:
        return label(specs[0])
    return f"{label(specs[0])} and {len(specs) - 1} more"
