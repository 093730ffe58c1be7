"""Who is told how runs go, and what runs are called."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from lopbench.core.spec import RunSpec
from lopbench.core.text import counted
from lopbench.results.group import seed_ranges


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
    """Return what people call the run: "cbp, seed 0 (mlp)", "reference for seed 0 (mlp)".

    The optimizer is named where it is not the protocol's reference.
    """
    return f"{_of_seeds(spec, f'seed {spec.seed}')} ({_where(spec)})"


def recipe(spec: RunSpec) -> str:
    """Return what people call the methods of a run, and whether it is of fresh networks, or of a development seed."""
    if spec.kind == "continual":
        return spec.method_label
    if spec.kind == "development":
        return f"{spec.method_label}, tuning"
    return "reference" if spec == spec.reference() else f"{spec.method_label} on fresh networks"


def group_label(specs: Sequence[RunSpec]) -> str:
    """Return what people call runs that are trained together: "cbp, seeds 0-4 (mlp)" where they differ in seeds."""
    first = specs[0]
    if len(specs) == 1:
        return label(first)
    if all(spec.with_seed(first.seed) == first for spec in specs):
        return f"{_of_seeds(first, f'seeds {seed_ranges(spec.seed for spec in specs)}')} ({_where(first)})"
    return f"{label(first)} and {counted(len(specs) - 1, 'more run')}"


def _of_seeds(spec: RunSpec, seeds: str) -> str:
    text = recipe(spec)
    return f"{text} for {seeds}" if text == "reference" else f"{text}, {seeds}"


def _where(spec: RunSpec) -> str:
    """Return what a run trains, and by what if it is not by the reference's optimizer."""
    usual = spec.optimizer == spec.reference_optimizer
    return spec.architecture_label if usual else f"{spec.architecture_label}, {spec.optimizer_label}"
