"""Suites: study files that come with plugins, in the folder ``suites``, and are known by a name, as ``cpu``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lopbench.core.errors import UsageError
from lopbench.core.shipped import study_path
from lopbench.core.spec import split
from lopbench.runner.study_file import read_study

if TYPE_CHECKING:
    from lopbench.results.suite import Suite


def suite_of(name: str) -> Suite:
    """Return what tables need of a suite, or of any study file whose requests have one kind of tuning.

    Raises:
        UsageError: If there is no such suite, or it is none.
    """
    from lopbench.results.suite import Cell, Suite

    file = read_study(study_path(Path(name), "suites"))
    tunings = {"" if request.get("tune") is None else request["tune"].label for request in file.requests}
    if len(tunings) > 1:
        raise UsageError(
            f"{file.path} tunes its runs in several ways, and a suite in one: {', '.join(sorted(tunings))}"
        )
    cells = []
    for request in file.requests:
        if "scenario" not in request or "profile" not in request:
            raise UsageError(f"{file.path}: a suite names scenario and profile of each of its [[runs]]")
        scenario, fields = split(request["scenario"])
        profile = request["profile"] + ("+custom" if fields else "")
        cells.append(Cell(scenario, profile, frozenset(request.get("seeds", (0,)))))
    if len({cell.scenario for cell in cells}) < len(cells):
        raise UsageError(f"{file.path} has a scenario twice, and a suite has each once")
    return Suite(file.path.stem, tuple(cells), tunings.pop())
