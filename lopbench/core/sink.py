"""What a sink is: a place to which the measurements of runs are told as they come, such as a dashboard."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lopbench.core.component import Component

#: How a run ended; "stopped" is one that has no record yet and goes on another time.
Ended = Literal["completed", "diverged", "failed", "stopped"]


@dataclass(frozen=True, kw_only=True)
class SinkRun:
    """The run that a sink is told of.

    A run that was killed goes on from a checkpoint. What was told of ``step`` and later steps before is void then: it
    is told again, to the number.

    Args:
        name: Name of the directory of its record, which no other run of the results folder has.
        run_id: Its id.
        label: What people call it.
        spec: What ``spec.json`` of its record will hold.
        results: The results folder, absolute.
        step: The step from which it is told, as measurements count steps; 0 at its beginning.
    """

    name: str
    run_id: str
    label: str
    spec: Mapping[str, Any]
    results: Path
    step: int


class SinkWriter(ABC):
    """Is told the measurements of one run."""

    @abstractmethod
    def write(self, step: int, task: int, values: Mapping[str, float]) -> None:
        """Take what was measured at one time.

        Args:
            step: Optimizer updates of the stream before it, from 0; it never falls.
            task: Index of the task, from 0.
            values: The numbers by name: that of the metric, and ``metric/layer`` of a layer's. NaN is what the record
                has null for.
        """

    @abstractmethod
    def close(self, outcome: Ended) -> None:
        """End: nothing more is told to this writer.

        Args:
            outcome: How the run ended: "completed", "diverged" or "failed", once its record is there, or "stopped".
        """


@dataclass(frozen=True, kw_only=True)
class Sink(Component, ABC):
    """Takes measurements of runs as they come; it is part of no spec, and can change neither records nor numbers.

    What it raises is told in a sentence, and the run goes on without it. Runs that train together are open at once,
    each with a writer of its own.
    """

    def check(self) -> None:
        """Raise if it cannot be used here, such as for a package that is missing; asked before anything is run.

        Raises:
            UnsupportedError: With what to do.
        """

    @abstractmethod
    def open(self, run: SinkRun) -> SinkWriter:
        """Return what is told the measurements of a run."""
