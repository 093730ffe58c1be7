"""MyThing: say here whose data these are (authors, year), and where they are published.

A scenario streams it by its name, `data = "my-thing"`, and may stand in this file as well.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from lopbench import DataSet, Register, RemoteFile, hookimpl

lopbench_api = 2  # the plugin API that this is written for


@dataclass(frozen=True, kw_only=True)
class MyThing(DataSet):
    """A table of numbers: all columns but the last are inputs."""

    name: ClassVar[str] = "my-thing"
    title: ClassVar[str] = "MyThing"
    # Who holds the rights, and what is allowed: it is shown before anything is downloaded.
    terms: ClassVar[str] = "Say here who holds the rights."
    # `lopbench data get my-thing` downloads them. Give size and hash, so that a damaged copy is refused.
    files: ClassVar[tuple[RemoteFile, ...]] = (RemoteFile(url="https://example.org/table.csv"),)

    def read(self, path: Path) -> dict[str, np.ndarray]:
        """Return inputs ``(N, D)`` and targets ``(N,)``, which a scenario is given as ``data["inputs"]``.

        Arrays of numbers are hashed by their content, which is part of the protocol, and kept in the cache.
        """
        table = np.loadtxt(path / "table.csv", delimiter=",", dtype=np.float32, ndmin=2)
        return {"inputs": table[:, :-1], "targets": table[:, -1]}

    def example(self) -> dict[str, np.ndarray]:
        """Return made samples of the same form, on which the checks of scenarios run."""
        inputs = np.linspace(-1, 1, 200, dtype=np.float32).reshape(50, 4)
        return {"inputs": inputs, "targets": inputs.sum(axis=1)}


@hookimpl
def lopbench_data(register: Register) -> None:
    """Make the data set known."""
    register("my-thing", MyThing, "a table of numbers")
