"""How the runs of a results folder stand: done, at work, left behind, or still to do."""

import fcntl
import os
import re
import shlex
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from lopbench.core.errors import LopbenchError, ResultsError
from lopbench.core.reading import open_regular
from lopbench.core.spec import RunSpec
from lopbench.core.text import line
from lopbench.results.record import Record, is_recorded, scan_records
from lopbench.results.schema import problem
from lopbench.runner.attempts import is_set_aside
from lopbench.runner.claims import claimed_runs
from lopbench.runner.report import label, recipe
from lopbench.runner.unfinished import ATTEMPTS, LOCK, LOG, MEMBERS, PARTIAL, checkpoints, folder_of, members_of
from lopbench.runner.worklist import STUDIES, Worklist

State = Literal["completed", "running", "to do", "stopped", "set aside", "diverged", "failed", "damaged"]
STATES: tuple[State, ...] = ("completed", "running", "to do", "stopped", "set aside", "diverged", "failed", "damaged")

#: Bytes at the end of a log in which its last lines are looked for.
_TAIL_BYTES = 2**16

#: What a line of a log says of the task: that a session starts in it, or that it is done.
_TASK = re.compile(r"task (\d+) of (\d+)(:|, step)")

_ABOUT_TO = "about to begin, or waiting for another run"
_SAME = "the same 'lopbench run' as before"
_SAME_CALL = "the same call of lopbench.run as before"
_KILLED = "it killed its workers without getting further, and 'lopbench run' tries it again"


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """How one run stands.

    Args:
        state: "completed", "diverged" or "failed", of a run with a record; "running", while a process holds it;
            "to do", of a study that is at work or was stopped; "stopped", where the process that was at it was
            stopped; "set aside", where it killed workers again and again; "damaged", of a record that cannot be used.
        run: What people call it.
        reason: Why it did not complete, how far it is, or what to do; empty for a completed run and for one to do.
        run_id: Its id; empty where that is not known.
        protocol_id: Its protocol's; empty where that is not known.
        path: Its directory.
        scenario: Name of its scenario; empty where that is not known, as all that follows.
        profile: The scenario's profile.
        method: Its methods; of a fresh network, that it is one.
        optimizer: Its optimizer.
        seed: Its seed.
        task: The task that it is at, from 1.
        tasks: Number of tasks.
        age_s: Seconds since it began, or, where it is not done, since it was heard of.
    """

    state: State
    run: str
    reason: str
    run_id: str
    protocol_id: str
    path: str
    scenario: str = ""
    profile: str = ""
    method: str = ""
    optimizer: str = ""
    seed: int | None = None
    task: int | None = None
    tasks: int | None = None
    age_s: float | None = None

    @property
    def progress(self) -> str:
        """How far it is: "task 12 of 40"."""
        return "" if self.task is None else f"task {self.task} of {self.tasks}"

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return asdict(self)


def status(results: str | os.PathLike[str]) -> list[RunStatus]:
    """Return how the runs of the results folder ``results`` stand: those with a record, then those without.

    Nothing is changed, and no run is disturbed.

    Raises:
        ResultsError: If there is no such folder.
    """
    results = Path(results)
    records, problems = scan_records(results)
    found = [_recorded(record) for record in records]
    found += [
        RunStatus(
            state="damaged",
            run="?",
            reason=line(str(problem)),
            run_id="",
            protocol_id="",
            path=str(results / "runs"),
        )
        for problem in problems
    ]
    folder, recorded = results / PARTIAL, {record.run_id for record in records}
    held = {path.stem for path in sorted(folder.glob(f"*{LOCK}")) if _is_held(path)} | claimed_runs(results)
    held -= recorded
    found += _begun_runs(folder, recorded, held)
    found += _to_do(results, recorded | {each.run_id for each in found}, held)
    for run_id in sorted(held - {each.run_id for each in found}):
        found.append(
            RunStatus(state="running", run="?", reason=_ABOUT_TO, run_id=run_id, protocol_id="", path=str(folder))
        )
    return found


def goes_on(results: Path, runs: Iterable[RunStatus], *, is_silent: bool = False) -> str | None:
    """Return the command that does the runs which no process works on; None if there are none.

    Args:
        results: The results folder.
        runs: How its runs stand.
        is_silent: Whether a worker is silent, which may be at one of them.
    """
    states = {each.state for each in runs}
    if "stopped" in states or is_silent or ("to do" in states and "running" not in states):
        for path in _studies(results):
            with suppress(LopbenchError):  # just removed, or another version's
                found = Worklist.read(path)
                if found.is_given:
                    return _SAME_CALL
                options = [f"--plugin={file}" for file in found.plugins]
                return shlex.join(["lopbench", "work", str(path), *options])
        return _SAME
    return _SAME if "set aside" in states else None


def untuned(results: Path) -> int:
    """Return how many entries of studies, at work or stopped, are still to be tuned; their runs are unknown."""
    found = 0
    for path in _studies(results):
        with suppress(LopbenchError):  # just removed, or another version's
            entries = [entry for part in Worklist.read(path).parts for entry in part.later]
            found += sum(not all(is_recorded(results, spec) for spec in entry.runs) for entry in entries)
    return found


def _studies(results: Path) -> list[Path]:
    return sorted((results / PARTIAL / STUDIES).glob("*.json"))


def _to_do(results: Path, seen: set[str], held: set[str]) -> Iterator[RunStatus]:
    """Yield the runs of the studies that have no folder; ``seen`` are the ids of all others, ``held`` have a lock."""
    aside = {path.stem for path in (results / PARTIAL).glob(f"*{ATTEMPTS}") if is_set_aside(path.with_suffix(""))}
    told = set(seen)
    for path in _studies(results):
        with suppress(LopbenchError):  # just removed, or another version's
            parts = Worklist.read(path).parts
            follow = [[spec] for part in parts for spec in part.known(results)]
            for group in (*(group for part in parts for group in part.groups), *follow):
                is_aside = bool(aside) and folder_of(results, group).name in aside
                for spec in group:
                    if spec.run_id in told:
                        continue
                    told.add(spec.run_id)
                    if spec.run_id in held:
                        yield _of(spec, "running", _ABOUT_TO, path)
                    else:
                        yield _of(spec, "set aside", _KILLED, path) if is_aside else _of(spec, "to do", "", path)


def _of(spec: RunSpec, state: State, reason: str, path: Path, **more: Any) -> RunStatus:
    return RunStatus(
        state=state,
        run=label(spec),
        reason=reason,
        run_id=spec.run_id,
        protocol_id=spec.protocol_id,
        path=str(path),
        scenario=spec.scenario.name,
        profile=spec.profile,
        method=recipe(spec),
        optimizer=spec.optimizer_label,
        seed=spec.seed,
        **more,
    )


def _recorded(record: Record) -> RunStatus:
    reason = ""
    if record.outcome != "completed":
        reason = line(record.status["error"] or "no reason recorded")
        if record.outcome == "failed":
            reason += f"; more in {record.path / LOG}"
    age = None
    with suppress(TypeError, ValueError):
        age = (datetime.now(UTC) - datetime.fromisoformat(record.status["started_utc"])).total_seconds()
    return _of(record.spec, record.outcome, reason, record.path, age_s=age)


def _begun_runs(folder: Path, recorded: set[str], held: set[str]) -> Iterator[RunStatus]:
    """Yield the runs without a record that somebody is at or has been at."""
    told: set[str] = set()
    for place in sorted(folder.glob(f"*/{MEMBERS}")):
        for spec in _members(place):
            if spec.run_id not in recorded and spec.run_id not in told:
                told.add(spec.run_id)
                yield _begun(spec, place.parent, is_held=spec.run_id in held)


def _begun(spec: RunSpec, folder: Path, *, is_held: bool) -> RunStatus:
    """Return how a run stands that has a folder and no record."""
    last, age, at = _progress(folder)
    task, tasks = at or (None, None)
    more = {"age_s": age, "task": task, "tasks": tasks}
    if is_held:
        return _of(spec, "running", last, folder, **more)
    if is_set_aside(folder):
        return _of(spec, "set aside", f"{last}; {_KILLED}", folder, **more)
    kept = "resumes" if checkpoints(folder) else "begins"
    return _of(spec, "stopped", f"{last}; no process works on it, and 'lopbench run' {kept} it", folder, **more)


def _members(path: Path) -> list[RunSpec]:
    # Another process may remove it at this moment, and a newer lopbench may have written it.
    with suppress(OSError, LopbenchError):
        return [spec for spec in members_of(path) if problem("spec", spec.to_json()) is None]
    return []


def _progress(folder: Path) -> tuple[str, float | None, tuple[int, int] | None]:
    """Return the last line of a log, the seconds since it was written, and the task, from 1, of how many."""
    log = folder / LOG
    try:
        with open_regular(log) as file:
            file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            lines = file.read(_TAIL_BYTES).decode(errors="replace").splitlines()
        age = max(0.0, datetime.now(UTC).timestamp() - log.stat().st_mtime)
    except OSError:
        return "nothing logged yet", None, None
    last = line(lines[-1].partition(" ")[2]) if lines else "nothing logged yet"  # behind the time
    found = next(filter(None, map(_TASK.search, reversed(lines))), None)
    if found is None:
        return last, age, None
    task, tasks = int(found[1]), int(found[2])
    return last, age, (min(task + (2 if found[3] == ":" else 1), tasks), tasks)  # counted from 1 on


def _is_held(path: Path) -> bool:
    """Return whether a process holds a lock file.

    Asking for a shared lock needs no right to write, is over at once, and the runner waits for it if need be.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:  # gone, or not ours to read
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        raise ResultsError(f"{path}: this file system has no locks to look at ({error.strerror}).") from error
    finally:
        os.close(descriptor)
    return False
