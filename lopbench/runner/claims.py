"""Claims: how runs are held where the locks of a file system cannot be trusted to reach other machines.

A claim is the file ``.partial/<run id>.claim``, which names the process that is at the run. It is put there by a link,
of which every file system makes only one, and stands for as long as its process shows that it is `heart`-beating. A
process that is only asleep may find, when it wakes, that another has taken its runs over: it looks before it saves and
before it publishes. Two that are at one run nevertheless do no harm, see `session.Session`.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from lopbench.core.errors import ResultsError
from lopbench.core.reading import read_regular
from lopbench.results.stored import reason
from lopbench.runner import heart
from lopbench.runner.heart import CLAIM, TAKEN, WORKERS, Heart, has_ended, machine
from lopbench.runner.unfinished import PARTIAL, TRIES

#: What a system says where there are no links.
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)

#: Most bytes of a claim, and of what a process tells of itself.
_MOST_BYTES, _MOST_TOLD_BYTES = 2**12, 2**20


class BusyError(Exception):
    """Another process is at one of the runs."""


@dataclass(frozen=True)
class Claim:
    """What a claim says.

    Args:
        worker: Name of the process.
        machine: The machine, as `machine` names it.
        pid: The process there.
    """

    worker: str = ""
    machine: str = ""
    pid: int = 0

    @classmethod
    def read(cls, path: Path) -> Claim | None:
        """Return what a file says, None if there is none; what is no claim is that of nobody.

        Raises:
            OSError: If it cannot be read.
        """
        try:
            value = json.loads(read_regular(path, most=_MOST_BYTES))
            return cls(str(value["worker"]), str(value["machine"]), int(value["pid"]))
        except FileNotFoundError:
            return cls() if path.is_symlink() else None  # a link that leads nowhere stands there all the same
        except (ValueError, TypeError, LookupError, RecursionError):
            return cls()

    @property
    def is_over(self) -> bool:
        """Whether its process ran on this machine and has ended."""
        return self.machine == machine() and has_ended(self.pid)


class Claims:
    """The claims of this process in a results folder.

    Args:
        results: The folder.
        alive: Shows to others that this process is alive.
    """

    def __init__(self, results: Path, alive: Heart) -> None:
        self._folder = results / PARTIAL
        self._results = results
        self._heart = alive
        self._claim = Claim(alive.name, machine(), os.getpid())
        #: Each claim of this process is a link to this file.
        self._own = alive.path.with_suffix(CLAIM)
        self._held: list[Path] = []
        #: By process, the last counter that was seen of it and since when.
        self._seen: dict[str, tuple[int | None, float]] = {}

    @contextmanager
    def held(self, run_id: str) -> Iterator[None]:
        """Hold a run for the duration.

        Raises:
            BusyError: If another process is at it.
            ResultsError: If the file system has no links.
            OSError: If the folder cannot be written to.
        """
        path = self._folder / f"{run_id}{CLAIM}"
        if not self._take(path):
            raise BusyError
        self._held.append(path)
        try:
            yield
        finally:
            self._held.remove(path)
            with suppress(OSError):
                self._remove(path, self._claim)

    @property
    def are_valid(self) -> bool:
        """Whether no process has taken over the runs that are held.

        It looks only at the first claim: a process that takes over runs which train together begins there.
        """
        if not self._held:
            return True
        if not self._heart.is_beating and not self._heart.beat():
            return False
        try:
            return Claim.read(self._held[0]) == self._claim
        except OSError:  # as the others, who cannot know better
            return True

    def close(self) -> None:
        """Remove the file that claims were links to."""
        with suppress(OSError):
            self._own.unlink(missing_ok=True)

    def _take(self, path: Path) -> bool:
        """Claim a run; returns False if another process is at it."""
        try:
            other = Claim.read(path)
        except OSError as error:
            if error.errno == errno.ESTALE:  # it is being removed
                return False
            raise
        if other == self._claim:  # it could not be removed before
            return True
        if other is not None and not (self._is_dead(other) and self._remove(path, other)):
            return False
        return self._put(path)

    def _put(self, path: Path) -> bool:
        for _ in range(TRIES):
            try:
                os.link(self._own, path)
            except FileNotFoundError:  # not made yet, or another process has tidied up
                self._own.parent.mkdir(parents=True, exist_ok=True)
                self._own.write_text(json.dumps(asdict(self._claim)))
                continue
            except OSError as error:
                if Claim.read(path) == self._claim:  # it was made, and the answer got lost
                    return True
                if isinstance(error, FileExistsError):
                    return False
                if error.errno in NO_LINKS:
                    raise no_links(self._results, error) from error
                raise
            return True
        raise OSError(errno.EEXIST, f"{self._own} is no file")

    def _remove(self, path: Path, claim: Claim) -> bool:
        """Remove a claim if it is still ``claim``; returns whether this process did so, of several that try."""
        taken = self._own.with_suffix(TAKEN)
        try:
            path.rename(taken)
        except FileNotFoundError:
            if not taken.exists():  # else it was done, and the answer got lost
                return False
        is_it = Claim.read(taken) == claim
        if not is_it:
            with suppress(FileExistsError):
                os.link(taken, path)
        taken.unlink()
        return is_it

    def _is_dead(self, claim: Claim) -> bool:
        """Return whether the process of a claim has ended, or shown no sign of life for too long."""
        if claim.is_over:
            return True
        try:
            counter = self._counter(claim.worker)
        except OSError:  # what cannot be looked at may be alive
            return False
        now = time.monotonic()
        known, since = self._seen.get(claim.worker, (-1, now))
        if counter != known:
            self._seen[claim.worker] = counter, now
            return False
        return now - since >= heart.LEASE_S

    def _counter(self, worker: str) -> int | None:
        path = _told(self._folder, worker)
        try:
            return int(json.loads(read_regular(path, most=_MOST_TOLD_BYTES))["beats"])
        except (FileNotFoundError, ValueError, TypeError, LookupError, RecursionError):
            return None


def no_links(results: Path, error: OSError) -> ResultsError:
    """Return what to tell the user where there are no links."""
    return ResultsError(
        f"The file system of the results folder {results} has no links ({reason(error)}), by which workers on several "
        "machines tell each other what they are at; choose a folder on another file system with --results."
    )


def claimed_runs(results: Path) -> set[str]:
    """Return the ids of the runs that are claimed by processes which seem to be alive.

    Whether a process is alive is judged by the time of its file, which is known at once; others wait for a minute.
    """
    found = set()
    for path in (results / PARTIAL).glob(f"*{CLAIM}"):
        with suppress(OSError):
            claim = Claim.read(path)
            if claim is None or claim.is_over:
                continue
            if time.time() - _told(results / PARTIAL, claim.worker).stat().st_mtime < heart.LEASE_S:
                found.add(path.stem)
    return found


def _told(folder: Path, worker: str) -> Path:
    """Return the file in which a process tells of itself."""
    return folder / WORKERS / f"{Path(worker).name}.json"
