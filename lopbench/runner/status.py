"""How the runs of a results folder stand: done, at work, or left behind."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from lopbench.core.errors import LopbenchError, ResultsError
from lopbench.core.reading import open_regular
from lopbench.core.spec import RunSpec
from lopbench.core.text import line
from lopbench.results.record import Record, scan_records
from lopbench.results.schema import problem
from lopbench.runner.claims import claimed_runs
from lopbench.runner.report import label
from lopbench.runner.unfinished import LOCK, LOG, MEMBERS, PARTIAL, checkpoints, members_of

State = Literal["completed", "running", "stale", "diverged", "failed", "damaged"]
STATES: tuple[State, ...] = ("completed", "running", "stale", "diverged", "failed", "damaged")


#: Bytes at the end of a log in which its last line is looked for.
_TAIL_BYTES = 2**16


@dataclass(frozen=True)
class RunStatus:
    """How one run stands.

    Args:
        state: "completed", "diverged" or "failed", of a run with a record; "running", while a process holds it;
            "stale", where a process was stopped before it was done; "damaged", of a record that cannot be used.
        run: What people call it.
        reason: Why it did not complete, how far it is, or what to do; empty for a completed run.
        run_id: Its id; empty where that is not known.
        protocol_id: Its protocol's; empty where that is not known.
        path: Its directory.
    """

    state: State
    run: str
    reason: str
    run_id: str
    protocol_id: str
    path: str

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
    found += [RunStatus("damaged", "?", line(str(problem)), "", "", str(results / "runs")) for problem in problems]
    return [*found, *_unfinished(results / PARTIAL, {record.run_id for record in records})]


def _recorded(record: Record) -> RunStatus:
    reason = ""
    if record.outcome != "completed":
        reason = line(record.status["error"] or "no reason recorded")
        if record.outcome == "failed":
            reason += f"; more in {record.path / LOG}"
    return RunStatus(record.outcome, label(record.spec), reason, record.run_id, record.protocol_id, str(record.path))


def _unfinished(folder: Path, recorded: set[str]) -> Iterator[RunStatus]:
    """Yield the runs without a record that somebody is at or has been at."""
    held = {path.stem for path in sorted(folder.glob(f"*{LOCK}")) if _is_held(path)} | claimed_runs(folder.parent)
    told: set[str] = set()
    for place in sorted(folder.glob(f"*/{MEMBERS}")):
        for spec in _members(place):
            if spec.run_id in recorded or spec.run_id in told:
                continue
            told.add(spec.run_id)
            state: State = "running" if spec.run_id in held else "stale"
            reason = _progress(place.parent)
            if state == "stale":
                kept = "resumes" if checkpoints(place.parent) else "begins"
                reason += f"; nobody is at it, and 'lopbench run' {kept} it"
            yield RunStatus(state, label(spec), reason, spec.run_id, spec.protocol_id, str(place.parent))
    for run_id in sorted(held - told - recorded):
        yield RunStatus("running", "?", "about to begin, or waiting for another run", run_id, "", str(folder))


def _members(path: Path) -> list[RunSpec]:
    # Another process may remove it at this moment, and a newer lopbench may have written it.
    with suppress(OSError, LopbenchError):
        return [spec for spec in members_of(path) if problem("spec", spec.to_json()) is None]
    return []


def _progress(folder: Path) -> str:
    """Return the last line of a log and when it was written."""
    log = folder / LOG
    try:
        with open_regular(log) as file:
            file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            lines = file.read(_TAIL_BYTES).decode(errors="replace").splitlines()
        since = datetime.now(UTC).timestamp() - log.stat().st_mtime
    except OSError:
        return "nothing logged yet"
    last = lines[-1].partition(" ")[2] if lines else "nothing logged yet"  # behind the time
    return f"{line(last)}, {max(0, round(since / 60))} min ago"


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
