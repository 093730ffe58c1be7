"""What the workers of a study are to do: a file that they all read, and that nobody changes.

It lies below the results folder, ``.partial/studies/<host>-<pid>.json`` after the process that wrote it, and holds the
groups of runs as they train together: were each worker to group what it finds undone, replicas would be others than
those of one process, and the last digits of their numbers with them.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lopbench.core.errors import DataError, ResultsError
from lopbench.core.interfaces import Samples, Scenario
from lopbench.core.reading import read_regular
from lopbench.core.spec import RunSpec
from lopbench.data import load_data
from lopbench.runner.heart import WORKERS as WORKERS
from lopbench.runner.heart import has_ended
from lopbench.runner.holder import Locks, agreed
from lopbench.runner.study import Study
from lopbench.runner.unfinished import PARTIAL, leave, unwritable

#: Name of the folder of such files.
STUDIES = "studies"

#: Most bytes of one: a hundred thousand runs.
_MOST_BYTES = 512 * 2**20

#: Seconds after which nobody waits for a word of a worker whose study is gone.
_LOST_S = 24 * 3600

_VERSION = 1


@dataclass(frozen=True)
class Part:
    """Groups of runs that read one data set.

    Args:
        data: Its name and content hash, None if the scenario generates its samples.
        groups: The groups.
    """

    data: Mapping[str, str] | None
    groups: Sequence[Sequence[RunSpec]]


@dataclass(frozen=True)
class Worklist:
    """What is to be done in a results folder.

    Args:
        results: The folder.
        data_dir: Where data are looked for first.
        checkpoint_s: Seconds between checkpoints.
        parts: The groups of runs, by data set.
        sinks: What is told what is measured, as on the command line.
        locks: How workers hold runs against each other, where no other process chose before.
    """

    results: Path
    data_dir: Path | None
    checkpoint_s: float
    parts: Sequence[Part]
    sinks: Sequence[str] = ()
    locks: Locks = "flock"

    @classmethod
    def of(
        cls,
        studies: Sequence[Study],
        *,
        data_dir: Path | None,
        checkpoint_s: float = 10.0,
        sinks: Sequence[str] = (),
        locks: Locks = "flock",
    ) -> Worklist:
        """Return what is pending in studies of one results folder."""
        import torch

        from lopbench.runner.groups import groups

        parts = [
            Part(study.specs[0].data, groups(study.pending, data=study.images, device=torch.device(study.device)))
            for study in studies
            if study.pending
        ]
        return cls(studies[0].results, data_dir and data_dir.absolute(), checkpoint_s, parts, sinks, locks)

    def write(self) -> Path:
        """Write it to its place, and return that.

        Raises:
            ResultsError: If it cannot be written.
        """
        value = {
            "version": _VERSION,
            "data_dir": self.data_dir and str(self.data_dir),
            "checkpoint_s": self.checkpoint_s,
            "sinks": list(self.sinks),
            "locks": self.locks,
            "parts": [
                {"data": part.data, "groups": [[spec.to_json() for spec in group] for group in part.groups]}
                for part in self.parts
            ],
        }
        path = self.results / PARTIAL / STUDIES / f"{here()}.json"
        partial = path.with_suffix(".new")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(value))
            partial.replace(path)
        except OSError as error:
            raise unwritable(self.results, error) from error
        agreed(self.results, self.locks)
        return path

    @classmethod
    def read(cls, path: Path) -> Worklist:
        """Return what a file holds; its place says in which results folder.

        Raises:
            ResultsError: If it cannot be read, or was written by another version.
        """
        try:
            value: Any = json.loads(read_regular(path, most=_MOST_BYTES))
            if value["version"] != _VERSION:
                raise ValueError(f"version {value['version']}, not {_VERSION}")
            parts = [
                Part(part["data"], [[RunSpec.from_json(spec) for spec in group] for group in part["groups"]])
                for part in value["parts"]
            ]
            where = value["data_dir"]
            folder = path.absolute().parents[2]
            data_dir = None if where is None else Path(where)
            sinks = tuple(map(str, value["sinks"]))
            return cls(folder, data_dir, float(value["checkpoint_s"]), parts, sinks, value["locks"])
        except OSError as error:
            raise ResultsError(f"The work {path} cannot be read: {error.strerror or error}.") from error
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            raise ResultsError(
                f"The work {path} cannot be read: {error}; begin it anew with 'lopbench run'."
            ) from error

    def loaded(self) -> Iterator[tuple[Part, Samples | None]]:
        """Yield the parts with their data.

        Raises:
            DataError: If they are not found, or are others than those that the runs are to be done on.
        """
        for part in self.parts:
            yield part, None if part.data is None else self._load(part, part.data)

    def _load(self, part: Part, data: Mapping[str, str]) -> Samples:
        scenario = part.groups[0][0].scenario.build()
        assert isinstance(scenario, Scenario)  # the registry checked
        name, wanted = data["name"], scenario.data
        found = load_data(name if name == wanted else "procedural", wanted=wanted, data_dir=self.data_dir)
        if found.content_hash != data["content_hash"]:
            raise DataError(f"{found.name} is not what it was when the study began; run the same command again.")
        return found


def remove(path: Path) -> None:
    """Remove a file of work that is done, and the folders that are empty then."""
    with suppress(OSError):
        path.unlink(missing_ok=True)
        path.parent.rmdir()
    leave(path.parents[2])


def here() -> str:
    """Return a name of this process, which no other that is alive has: host and process id."""
    return f"{socket.gethostname()}-{os.getpid()}"


def is_over(name: str) -> bool:
    """Return whether a name that begins with what `here` returned is of a process that has ended on this machine."""
    host, _, rest = name.removeprefix(socket.gethostname()).partition("-")
    pid = rest.partition("-")[0]
    if host or not pid.isdecimal():
        return False
    return has_ended(int(pid))


def tidy(results: Path) -> None:
    """Remove what workers and studies that were killed on this machine left behind: reports, logs and lists of work.

    Of other machines, what belongs to a study that is gone and was not written to for a day.
    """
    for name in (STUDIES, WORKERS):
        folder = results / PARTIAL / name
        for path in folder.glob("*"):
            if is_over(path.stem):
                remove(path)
    for path in (results / PARTIAL / WORKERS).glob("*"):
        if _is_lost(results, path):
            remove(path)


def _is_lost(results: Path, path: Path) -> bool:
    """Return whether a worker, of whatever machine, told nothing for a day, and its study is gone."""
    try:
        is_old = time.time() - path.stat().st_mtime > _LOST_S
        study = json.loads(read_regular(path, most=_MOST_BYTES))["study"] if path.suffix == ".json" else None
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return False
    study = study or path.stem.rpartition("-")[0]  # of a log, which is called after its study and slot
    return is_old and not (results / PARTIAL / STUDIES / f"{study}.json").exists()
