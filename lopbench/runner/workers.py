"""The workers of a results folder, as they told of themselves last."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lopbench.runner import heart
from lopbench.runner.worker import Report, reports
from lopbench.runner.worklist import is_over

#: States of a worker that will say nothing more.
_ENDED = ("done", "stopped")


@dataclass(frozen=True)
class WorkerStatus:
    """A worker and when it was heard of.

    Args:
        report: What it told last.
        age_s: Seconds since then.
        is_silent: Whether it should have told something since: it has died, or its machine is gone or stands still.
    """

    report: Report
    age_s: float
    is_silent: bool

    @property
    def place(self) -> str:
        """Where it works: host, slot, and the job of the batch system that it is part of."""
        job = f" ({self.report.job})" if self.report.job else ""
        return f"{self.report.host} slot {self.report.slot}{job}"

    @property
    def share(self) -> float | None:
        """The share of the steps of its runs that are taken; None between two."""
        return self.report.done / self.report.steps if self.report.steps else None

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values, but for the lines that it told."""
        value = asdict(self.report)
        del value["lines"], value["told"]
        return {**value, "age_s": self.age_s, "silent": self.is_silent}


def workers(results: Path) -> list[WorkerStatus]:
    """Return the workers of a results folder, by study and slot; nothing is changed."""
    found = list(_workers(results))
    return sorted(found, key=lambda each: (each.report.study, each.report.slot, each.report.time))


def _workers(results: Path) -> Iterator[WorkerStatus]:
    for path, report in reports(results):
        with suppress(OSError):  # just removed
            # The clocks of two machines need not agree; that of the file system is a second opinion.
            age = max(0.0, min(time.time() - max(report.time, path.stat().st_mtime), 1e9))
            silent = report.state not in _ENDED and (age >= heart.LEASE_S or is_over(report.name))
            yield WorkerStatus(report, age, silent)
