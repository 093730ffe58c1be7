"""The workers of a study: a list of work, what starts workers on it, and what they tell."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lopbench.core.errors import LopbenchError, PluginError, ResultsError, UsageError
from lopbench.core.executor import Executor, Handle, Workers, last_words, usable_cores
from lopbench.core.fields import types_of
from lopbench.core.guard import left_alone
from lopbench.core.interfaces import Scenario
from lopbench.core.manager import plugin_files, plugins
from lopbench.core.reading import read_regular
from lopbench.core.spec import RunSpec, format_value, make_given, split
from lopbench.core.text import counted, told
from lopbench.results.record import is_recorded
from lopbench.runner import unfinished
from lopbench.runner.heart import forget
from lopbench.runner.schedule import Schedule
from lopbench.runner.study import Study, device_of, prepare
from lopbench.runner.unfinished import PARTIAL, unwritable
from lopbench.runner.worker import Report, reports
from lopbench.runner.worklist import STUDIES, WORKERS, Worklist, check_known, remove, tidy

#: Variables that workers elsewhere need as they are here.
_VARIABLES = ("LOPBENCH_DATA", "LOPBENCH_CACHE", "LOPBENCH_PLUGINS")

#: Most bytes of a note on workers that go on by themselves.
_MOST_BYTES = 2**20


def executor_of(text: str, more: Mapping[str, Any] | None = None) -> Executor:
    """Return the executor that ``name`` or ``name:field=value,...`` means.

    Args:
        text: What the user wrote.
        more: Fields that the text does not give, as a study file has them.

    Raises:
        UsageError: If the name, a field or a value's type is wrong.
        GivenValueError: If a value is out of range.
        PluginError: If it cannot be imported.
    """
    entry = plugins().registry.get("executors", split(text.partition(",")[0], "_")[0])
    cls = entry.load()
    assert issubclass(cls, Executor)
    given = {key: format_value(value) for key, value in (more or {}).items()} | split(text, cls.positional)[1]
    if cls.others is None:
        found = make_given(cls, given)
    else:
        known = types_of(cls)
        others = tuple(f"{key}={value}" for key, value in given.items() if key not in known)
        found = make_given(cls, {**{key: value for key, value in given.items() if key in known}, cls.others: others})
    assert isinstance(found, Executor)
    return found


@dataclass(frozen=True)
class _Note:
    """What is kept of workers that go on by themselves, beside the list of work that they are at.

    Args:
        executor: Name of what started them.
        token: What it finds them by.
        jobs: Their number.
    """

    executor: str
    token: str
    jobs: int

    @staticmethod
    def path(worklist: Path) -> Path:
        return worklist.with_suffix(".workers")

    def write(self, worklist: Path) -> None:
        self.path(worklist).write_text(json.dumps({"executor": self.executor, "token": self.token, "jobs": self.jobs}))

    @classmethod
    def read(cls, worklist: Path) -> _Note | None:
        with suppress(OSError, ValueError, TypeError, KeyError):
            value = json.loads(read_regular(cls.path(worklist), most=_MOST_BYTES))
            return cls(str(value["executor"]), str(value["token"]), int(value["jobs"]))
        return None


class Pool:
    """Workers that work off one list of work.

    Args:
        worklist: The file.
        results: Results folder.
        executor: What starts them.
        jobs: Number of workers.
        devices: Where they train, one after the other.
        threads: CPU threads of each; the executor's choice if None.
    """

    def __init__(
        self,
        worklist: Path,
        results: Path,
        executor: Executor,
        *,
        jobs: int,
        devices: Sequence[str] = ("auto",),
        threads: int | None = None,
    ) -> None:
        self.worklist, self.executor = worklist, executor
        self._results, self._folder = results, results / PARTIAL / WORKERS
        program = [sys.executable, "-m", "lopbench", "work", str(worklist)]
        self.workers = Workers(
            study=worklist.stem,
            program=[*program, *(f"--plugin={file}" for file in plugin_files())],
            jobs=jobs,
            folder=self._folder,
            devices=devices,
            threads=threads,
            environment={name: os.environ[name] for name in _VARIABLES if os.environ.get(name)},
            begun=self._begun,
            left=self._left,
        )
        self._handle: Handle | None = None
        self._is_stopping = False
        self.is_joined = False  #: Whether another process started them.
        self.failures: list[str] = []  #: Why places of workers were given up, or why all left before the work was done.

    @property
    def token(self) -> str:
        """What the executor calls workers that go on by themselves; empty if they do not."""
        return "" if self._handle is None else self._handle.token

    @property
    def called(self) -> str:
        """Number of the workers, and what their executor calls them."""
        return f"{self.workers.jobs} workers of {self.executor.name} ({self.token})"

    @property
    def stop_command(self) -> str:
        """What the user stops workers with that go on by themselves; empty if they do not."""
        return "" if self._handle is None else self._handle.stop_command

    def join(self, token: str) -> bool:
        """Take hold of workers that another process started; returns whether some are at work."""
        self._handle = self.executor.join(self.workers, token)
        self.is_joined = True
        return self.poll()

    def start(self) -> None:
        """Start all, unless `join` found them.

        Raises:
            UnsupportedError: If the executor cannot.
            ResultsError: If the results folder cannot be written to.
        """
        if self._handle is not None:
            return
        with self._writing(code=not self._is_own):
            self._folder.mkdir(parents=True, exist_ok=True)
            self._handle = self.executor.start(self.workers)
            if self.token:
                _Note(self.executor.name, self.token, self.workers.jobs).write(self.worklist)

    def poll(self) -> bool:
        """Start again what has died; returns whether some are at work."""
        if self._handle is None:
            return False
        with self._writing():
            at_work = self._handle.poll()
        if not at_work and not self.failures:
            self.failures = [*self._handle.failures] or self._unfinished()
        return at_work

    def stop(self) -> None:
        """Ask all to save and leave."""
        self._is_stopping = True
        if self._handle is not None:
            self._handle.stop()

    def kill(self) -> None:
        """End all at once."""
        if self._handle is not None:
            self._handle.kill()

    @cached_property
    def specs(self) -> Sequence[RunSpec]:
        """The runs of the list of work that are known; none if it cannot be read, which is what workers then say."""
        with suppress(ResultsError):
            return [spec for part in Worklist.read(self.worklist).parts for spec in part.known(self._results)]
        return []

    @property
    def steps(self) -> int:
        """Steps of these runs."""
        return sum(map(_steps, self.specs))

    def reports(self) -> list[Report]:
        """Return what the workers tell, those that have ended included, by slot."""
        found = [report for _, report in reports(self._results) if report.study == self.workers.study]
        return sorted(found, key=lambda report: (report.slot, report.time))

    def tidy(self) -> None:
        """Remove what the workers told, their logs, and the list of their work."""
        for report in self.reports():
            forget(self._folder, report.name)
        for path in (self.workers.log(0), *self._folder.glob(f"{self.workers.study}-*")):
            remove(path)  # and the folder, where nothing has been written
        remove(_Note.path(self.worklist))
        remove(self.worklist)
        tidy(self._results)
        unfinished.tidy(self._results)  # claims of workers that were killed right after they published a run

    def _begun(self, slot: int) -> int:
        return sum(report.slot == slot and bool(report.ended or report.steps) for report in self.reports())

    def _left(self, slot: int) -> bool:
        last = [report.state for report in self.reports() if report.slot == slot]
        return bool(last) and last[-1] in ("done", "stopped")

    def _unfinished(self) -> list[str]:
        """Return why work is left although no worker is, if so it is."""
        if self._is_stopping or any(report.state == "done" for report in self.reports()):
            return []
        left = sum(not is_recorded(self._results, spec) for spec in self.specs)
        if not left:
            return []
        logs = sorted(self._folder.glob(f"{self.workers.study}-*.log"), key=lambda path: path.stat().st_mtime)
        words = next(filter(None, map(last_words, reversed(logs))), "they said nothing")
        return [f"all workers have left, and {left} runs are not done; the same command goes on: {words}"]

    @property
    def _is_own(self) -> bool:
        return type(self.executor).__module__.partition(".")[0] == "lopbench_plugins"

    @contextmanager
    def _writing(self, *, code: bool = False) -> Iterator[None]:
        """Tell what goes wrong in the executor, and put back what it changes here.

        Args:
            code: Whether to look for code that it replaces, too.

        Raises:
            ResultsError: If the results folder cannot be written to.
            PluginError: If the executor raises anything else that is no sentence.
        """
        try:
            with left_alone(f"executor {self.executor.name!r}: ", code=code):
                yield
        except OSError as error:
            raise unwritable(self._results, error) from error
        except (LopbenchError, KeyboardInterrupt):
            raise
        except BaseException as error:
            raise PluginError(f"executor {self.executor.name!r} failed: {told(error)}") from error


@dataclass(frozen=True)
class Staff:
    """How a study is worked at.

    Args:
        executor: What starts workers.
        jobs: Their number.
        devices: Where they train, one after the other.
        threads: CPU threads of each; the executor's choice if None.
        crowding: How many times as long a step takes while the others take theirs; 1 where it was not measured.
    """

    executor: Executor
    jobs: int
    devices: tuple[str, ...]
    threads: int | None = None
    crowding: float = 1.0

    @classmethod
    def of(cls, executor: Executor, *, jobs: int | None, device: str, threads: int | None = None) -> Staff:
        """Return how a study is worked at, given what the user said.

        Args:
            executor: What starts workers.
            jobs: Their number; one for each device if None.
            device: Where they train: one device, or several with commas between.
            threads: CPU threads of each.

        Raises:
            UsageError: If a device of this machine cannot be used, or there are more devices than workers.
        """
        devices = tuple(each.strip() for each in device.split(","))
        if executor.is_here:
            devices = tuple(map(device_of, devices))
        jobs = len(devices) if jobs is None else jobs
        if jobs < len(devices):
            raise UsageError(f"--device {device} names {len(devices)} devices for --jobs {jobs}; each needs a worker")
        return cls(executor, jobs, devices, threads)

    @property
    def is_one_process(self) -> bool:
        """Whether this process does it all."""
        return self.executor.is_here and self.jobs == 1

    @property
    def device(self) -> str:
        """The device for which runs are grouped; where workers train elsewhere it need not be here."""
        try:
            return device_of(self.devices[0])
        except UsageError:
            return "cpu"

    @property
    def share(self) -> int | None:
        """CPU threads of each worker; None if this process does it all as it is, or that is not known here."""
        if self.threads is not None or self.is_one_process or not self.executor.is_here:
            return self.threads
        return max(1, usable_cores() // self.jobs)

    def pool(self, studies: Sequence[Study], *, data_dir: Path | None, sinks: Sequence[str] = ()) -> Pool:
        """Return workers that do all that is pending: those that are at it already, or others, not started yet.

        Args:
            studies: Studies of one results folder; some of their runs are pending.
            data_dir: Where data are looked for first.
            sinks: What is told what is measured.

        Raises:
            ResultsError: If the results folder cannot be written to, or is nearly full.
            UnsupportedError: If the executor cannot say whether some are at it.
            UsageError: If workers would not know a component.
        """
        check_known(spec for study in studies for spec in study.pending)
        results = studies[0].results
        joined = self._joined(results, {spec.run_id for study in studies for spec in study.pending})
        if joined is not None:
            return joined
        prepare(results)
        work = self._work(studies, data_dir, sinks)
        return self._pool(work.write(lasts=self.executor.lasts), results, work)

    def script(self, studies: Sequence[Study], *, data_dir: Path | None, sinks: Sequence[str] = ()) -> str:
        """Return what would be given to a batch system; empty if nothing is."""
        if type(self.executor).script is Executor.script:
            return ""
        work = self._work(studies, data_dir, sinks)
        return self.executor.script(self._pool(work.path(lasts=self.executor.lasts), studies[0].results, work).workers)

    def _work(self, studies: Sequence[Study], data_dir: Path | None, sinks: Sequence[str]) -> Worklist:
        # Locks of a file system may not reach other machines.
        return Worklist.of(
            studies, data_dir=data_dir, sinks=sinks, locks="flock" if self.executor.is_here else "claims"
        )

    def _pool(self, path: Path, results: Path, work: Worklist) -> Pool:
        jobs = min(self.jobs, max(1, sum(len(part.groups) + len(part.later) for part in work.parts)))
        return Pool(path, results, self.executor, jobs=jobs, devices=self.devices, threads=self.threads)

    def _joined(self, results: Path, pending: set[str]) -> Pool | None:
        """Return workers that are at all that is pending; what is left of those that have ended is removed."""
        if not self.executor.lasts:
            return None
        for path in sorted((results / PARTIAL / STUDIES).glob("*.json")):
            note = _Note.read(path)
            if note is None or note.executor != self.executor.name:
                continue
            pool = Pool(path, results, self.executor, jobs=note.jobs, devices=self.devices)
            if not pool.join(note.token):
                pool.tidy()
            elif pending <= {spec.run_id for spec in pool.specs}:
                return pool
        return None


def _steps(spec: RunSpec) -> int:
    scenario = spec.scenario.build()
    assert isinstance(scenario, Scenario)  # the registry checked
    return Schedule.of(scenario, spec).steps


def check(failures: Sequence[str]) -> None:
    """Raise if workers could not work.

    Raises:
        ResultsError: With what the first of them said.
    """
    if failures:
        raise ResultsError(f"{counted(len(failures), 'worker')} had to give up: {failures[0]}")
