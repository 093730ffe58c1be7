"""Suites: study files that plugins bring in their folder ``suites``, each known by a name, as ``cpu``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lopbench.core.errors import UsageError
from lopbench.core.shipped import study_path
from lopbench.core.spec import parse_scenario
from lopbench.runner.study_file import read_study

if TYPE_CHECKING:
    from lopbench.results.suite import Suite


def suite_of(name: str) -> Suite:
    """Return a suite, by its name or as a study file whose requests are all tuned in one way.

    Raises:
        UsageError: If there is no such suite, the study is none, or a scenario or profile is unknown.
    """
    from lopbench.results.suite import Cell, Suite

    file = read_study(study_path(Path(name), "suites"))
    tunings = {"" if request.get("tune") is None else request["tune"].label for request in file.requests}
    if len(tunings) > 1:
        raise UsageError(
            f"{file.path} is no suite: its runs are tuned in several ways, "
            f"{', '.join(each or 'not at all' for each in sorted(tunings))}"
        )
    cells = []
    for request in file.requests:
        if "scenario" not in request or "profile" not in request:
            raise UsageError(f"{file.path} is no suite: each of its [[runs]] has to name a scenario and a profile")
        scenario = parse_scenario(request["scenario"], request["profile"])
        cells.append(Cell(scenario.name, scenario.fields["profile"], frozenset(request.get("seeds", (0,)))))
    if len({cell.scenario for cell in cells}) < len(cells):
        raise UsageError(f"{file.path} is no suite: two of its [[runs]] have one scenario")
    return Suite(file.path.stem, tuple(cells), tunings.pop(), name)
