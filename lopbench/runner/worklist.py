"""What the workers of a study are to do: a file that they all read, and that nobody changes.

It lies below the results folder, ``.partial/studies/<host>-<pid>.json`` after the process that wrote it, or, for
workers that go on when that has ended, ``<digest>.json`` after what it holds: the groups of runs as they train
together. If each worker grouped the runs that it finds undone, other replicas would train together than in one process,
and the last digits of their numbers would differ.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lopbench.core.errors import DataError, LopbenchError, PluginError, ResultsError, UsageError
from lopbench.core.interfaces import Samples, Scenario, Sink
from lopbench.core.manager import plugin_files, plugins
from lopbench.core.reading import read_regular
from lopbench.core.spec import ComponentSpec, RunSpec, digest
from lopbench.data import load_data
from lopbench.results.record import is_recorded
from lopbench.runner.heart import BESIDE, has_ended
from lopbench.runner.heart import WORKERS as WORKERS
from lopbench.runner.holder import Locks, agreed
from lopbench.runner.report import Reporter, label
from lopbench.runner.study import Study
from lopbench.runner.tuning import Candidates
from lopbench.runner.unfinished import PARTIAL, leave, unwritable

#: Name of the folder of such files.
STUDIES = "studies"

#: Most bytes of one: a hundred thousand runs.
_MOST_BYTES = 512 * 2**20

#: Seconds after which nobody waits for a word of a worker whose study is gone.
_LOST_S = 24 * 3600

_VERSION = 1

#: Names of lists that last.
_LASTING = re.compile(r"[0-9a-f]{16}\.json")


@dataclass(frozen=True)
class Part:
    """Groups of runs that read one data set.

    Args:
        data: Its name and content hash, None if the scenario generates its samples.
        groups: The groups.
        later: Entries that are tuned by some of these runs, and have more when that is done.
    """

    data: Mapping[str, str] | None
    groups: Sequence[Sequence[RunSpec]]
    later: Sequence[Candidates] = ()

    def known(self, results: Path) -> Iterator[RunSpec]:
        """Yield all runs that are known by now, those that records have chosen included."""
        for group in self.groups:
            yield from group
        for entry in self.later:
            with suppress(ResultsError):  # who does them tells
                yield from entry.followed(results) or ()

    @property
    def first(self) -> RunSpec:
        """One of the runs."""
        return self.groups[0][0] if self.groups else self.later[0].base


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
        plugins: Files with plugins that workers need, as ``--plugin`` takes them.
        is_given: Whether Python code gave the class of a component, which no worker knows then.
    """

    results: Path
    data_dir: Path | None
    checkpoint_s: float
    parts: Sequence[Part]
    sinks: Sequence[str] = ()
    locks: Locks = "flock"
    plugins: Sequence[str] = ()
    is_given: bool = False

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
        todo = [study for study in studies if study.pending or study.later]
        parts = [Part(study.specs[0].data, study.groups, study.later) for study in todo]
        given = _given(spec for study in todo for spec in study.pending)
        where = data_dir and data_dir.absolute()
        return cls(studies[0].results, where, checkpoint_s, parts, sinks, locks, plugin_files(), given is not None)

    def to_json(self) -> dict[str, Any]:
        """Return what the file holds."""
        return {
            "version": _VERSION,
            "data_dir": self.data_dir and str(self.data_dir),
            "checkpoint_s": self.checkpoint_s,
            "sinks": list(self.sinks),
            "locks": self.locks,
            "plugins": list(self.plugins),
            "given": self.is_given,
            "parts": [
                {
                    "data": part.data,
                    "groups": [[spec.to_json() for spec in group] for group in part.groups],
                    "later": [entry.to_json() for entry in part.later],
                }
                for part in self.parts
            ],
        }

    def path(self, *, lasts: bool = False) -> Path:
        """Return its place.

        Args:
            lasts: Whether it stays when this process ends: then `tidy` removes it once all of it is done.
        """
        name = digest(self.to_json(), 16) if lasts else here()
        return self.results / PARTIAL / STUDIES / f"{name}.json"

    def write(self, *, lasts: bool = False) -> Path:
        """Write it to its `path`, and return that.

        Raises:
            ResultsError: If it cannot be written.
        """
        path = self.path(lasts=lasts)
        partial = path.with_suffix(".new")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(self.to_json()))
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
                Part(
                    part["data"],
                    [[RunSpec.from_json(spec) for spec in group] for group in part["groups"]],
                    tuple(Candidates.from_json(entry) for entry in part.get("later", ())),
                )
                for part in value["parts"]
            ]
            where = value["data_dir"]
            folder = path.absolute().parents[2]
            data_dir = None if where is None else Path(where)
            sinks, files = tuple(map(str, value["sinks"])), tuple(map(str, value.get("plugins", ())))
            often, given = float(value["checkpoint_s"]), bool(value.get("given"))
            return cls(folder, data_dir, often, parts, sinks, value["locks"], files, given)
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
            PluginError: If the code of a component is another than that of the runs.
        """
        _check_origins(
            spec for part in self.parts for group in (*part.groups, [e.base for e in part.later]) for spec in group
        )
        for part in self.parts:
            yield part, None if part.data is None else self._load(part, part.data)

    def _load(self, part: Part, data: Mapping[str, str]) -> Samples:
        scenario = part.first.scenario.build()
        assert isinstance(scenario, Scenario)  # the registry checked
        name, wanted = data["name"], scenario.data
        found = load_data(name if name == wanted else "procedural", wanted=wanted, data_dir=self.data_dir)
        if found.content_hash != data["content_hash"]:
            raise DataError(f"{found.name} is not what it was when the study began; run the same command again.")
        return found


def work_here(
    studies: Sequence[Study], reporter: Reporter | None = None, *, data_dir: Path | None, sinks: Sequence[Sink] = ()
) -> list[tuple[str, str]]:
    """Do what is pending in studies of one results folder in this process, and keep a list of it meanwhile.

    If this process is killed, others see from the list what is left, and can go on; the list then stays until the next
    study in the results folder begins.

    Returns:
        What could not be run, each with the reason.

    Raises:
        ResultsError: If the results folder cannot be written to or is nearly full.
    """
    from lopbench.runner.study import execute_all

    path = None
    if any(study.pending for study in studies):
        known = [ComponentSpec.of("sinks", each).label() for each in sinks if _is_known(each)]
        path = Worklist.of(studies, data_dir=data_dir, sinks=known).write()
    refused = execute_all(studies, reporter, sinks=sinks)
    if path is not None:
        remove(path)
    return [(label(spec), reason) for spec, reason in refused]


def _is_known(sink: Sink) -> bool:
    """Return whether another process knows a sink, which may be an object of a class that no plugin registers."""
    registry = plugins().registry
    return sink.name in registry.names("sinks") and registry.get("sinks", sink.name).load() is type(sink)


def check_known(specs: Iterable[RunSpec]) -> None:
    """Refuse components that workers, which are other processes, would not know.

    Raises:
        UsageError: If there is one.
    """
    given = _given(specs)
    if given is not None:
        raise UsageError(
            f"{given!r} was given as an object of a class that no plugin registers, so workers do not "
            "know it: register it in a plugin file that plugins= names, or leave out jobs and executor"
        )


def _given(specs: Iterable[RunSpec]) -> str | None:
    """Return the name of a component of which Python code gave the class; None if there is none."""
    registry = plugins().registry
    names = (part.name for part in _components(specs) if registry.get(part.kind, part.name).is_given)
    return next(names, None)


def _components(specs: Iterable[RunSpec]) -> Iterable[ComponentSpec]:
    """Return each component of runs once."""
    return {(part.kind, part.name, part.origin): part for spec in specs for part in spec.components}.values()


def _check_origins(specs: Iterable[RunSpec]) -> None:
    """Refuse components of which this process has other code than the process that planned the runs.

    What is not here at all is told when its turn comes.

    Raises:
        PluginError: If there is one.
    """
    for part in _components(specs):
        try:
            found = ComponentSpec.of(part.kind, part.build()).origin
        except LopbenchError:
            continue
        if found != part.origin:
            raise PluginError(
                f"{part.name} is of {found} here, and was of {part.origin} when the study began; run the same command "
                "again, and give workers that are started by hand the --plugin of the study"
            )


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

    A list that lasts is removed, with what belongs to it, once all of its runs have a record. Files of a study that is
    gone are removed if they were not written to for a day, whatever machine they are from.
    """
    studies, workers = results / PARTIAL / STUDIES, results / PARTIAL / WORKERS
    for path in studies.glob("*"):
        if is_over(path.stem) or (_LASTING.fullmatch(path.name) and _is_done(results, path)):
            remove(path)
            for other in (*studies.glob(f"{path.stem}.*"), *workers.glob(f"{path.stem}-*")):
                remove(other)
    left = {path.stem for path in studies.glob("*.json")}
    lasting = {name for name in left if _LASTING.fullmatch(f"{name}.json")}
    for path in workers.glob("*"):
        told = path
        if path.suffix in BESIDE and path.with_suffix(".json").exists():
            told = path.with_suffix(".json")
        study = _study_of(told)
        is_ours = study is not None or path.suffix in BESIDE
        if (is_over(path.stem) and study not in lasting) or (is_ours and study not in left and _is_old(told)):
            remove(path)


def _is_done(results: Path, path: Path) -> bool:
    """Return whether all runs of a list of work have a record; one that cannot be read is left alone."""
    try:
        parts = Worklist.read(path).parts
    except ResultsError:
        return False
    if not all(is_recorded(results, spec) for part in parts for spec in part.known(results)):
        return False
    # Where the runs of a tuning have records that choose nothing, nothing more is to come.
    return all(is_recorded(results, spec) for part in parts for entry in part.later for spec in entry.runs)


def _study_of(path: Path) -> str | None:
    """Return which study a worker's report or log is of, None if it does not say."""
    if path.suffix == ".log":
        return path.stem.rpartition("-")[0]
    with suppress(OSError, ValueError, TypeError, LookupError, RecursionError):
        return str(json.loads(read_regular(path, most=_MOST_BYTES))["study"])
    return None


def _is_old(path: Path) -> bool:
    with suppress(OSError):
        return time.time() - path.stat().st_mtime > _LOST_S
    return False
