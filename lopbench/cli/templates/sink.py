"""MyThing: say here to what it tells the measurements of runs, and what that needs.

As written it appends them to a table of text, one file a run.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from lopbench import Register, Sink, SinkRun, SinkWriter, hookimpl

lopbench_api = 2  # the plugin API that this is written for


@dataclass(frozen=True, kw_only=True)
class MyThing(Sink):
    """Writes lines of step, task, name and value.

    Args:
        folder: Folder of the files, in the results folder.
    """

    # The fields below are options: `lopbench run --sink my-thing:folder=tables`.
    name: ClassVar[str] = "my-thing"
    folder: str = "my-thing"

    # Where it needs a package, `check(self)` raises UnsupportedError with what to install, before anything is run.

    def open(self, run: SinkRun) -> SinkWriter:
        """Return what takes the measurements of a run; a run that was killed goes on from `run.step`."""
        folder = run.results / self.folder
        folder.mkdir(parents=True, exist_ok=True)
        return Table(folder / f"{run.name}.{run.step}.txt")


class Table(SinkWriter):
    """The file of one run; what is told from its step on replaces what was told before."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w")

    def write(self, step: int, task: int, values: Mapping[str, float]) -> None:
        """Append what was measured at one time."""
        for name, value in values.items():
            self._file.write(f"{step} {task} {name} {value}\n")
        self._file.flush()

    def close(self, outcome: str) -> None:
        """Close the file."""
        self._file.close()


@hookimpl
def lopbench_sinks(register: Register) -> None:
    """Make the sink known."""
    register("my-thing", MyThing, "a table of text for each run")
