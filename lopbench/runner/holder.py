"""Which process is at a run: it holds a lock of the file system, or a claim.

All processes in a results folder do it in one way, which stands in ``.partial/locks`` for as long as there is something
unfinished: the first that comes writes down what it would choose, or claims where there are no locks, and the others
obey.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, get_args

import filelock

from lopbench.core.errors import ResultsError
from lopbench.core.reading import read_regular
from lopbench.core.spec import RunSpec
from lopbench.results.record import is_recorded
from lopbench.results.stored import reason
from lopbench.runner.claims import NO_LINKS, BusyError, Claims, no_links
from lopbench.runner.heart import WORKERS, Heart, machine, process_name
from lopbench.runner.unfinished import LOCK, LOCKS, PARTIAL, TRIES, leave, unfinished_ids, unwritable

#: How runs are held: "flock" is over the moment a process ends, and cannot be trusted between machines; "claims" can.
Locks = Literal["flock", "claims"]

#: What a system says where a file cannot be locked, which more room would not change.
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EIO, errno.EINVAL)

_MOST_BYTES = 100


def agreed(results: Path, wanted: Locks) -> Locks:
    """Return how runs are held in a results folder: as ``wanted``, unless another process was there first.

    If the first process wants locks that the file system does not give, it takes claims.

    Raises:
        ResultsError: If the folder cannot be written to, or a newer lopbench holds them in a way of its own.
    """
    path = results / PARTIAL / LOCKS
    try:
        for _ in range(TRIES):
            with suppress(FileNotFoundError):
                return _known(read_regular(path, most=_MOST_BYTES), path)
            # Others may put it there at the same time, or remove the folder, which they find empty.
            with suppress(FileNotFoundError, FileExistsError):
                _put(path, wanted)
        raise OSError(errno.EEXIST, f"{path} is no file")
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise unwritable(results, error) from error
        if wanted == "claims":
            raise no_links(results, error) from error
        return wanted  # nobody can have claims here


def _put(path: Path, wanted: Locks) -> None:
    """Write down what is wanted, or claims where there are no locks, in one step, unless something stands there."""
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        partial.write_text(wanted)
        if wanted == "flock" and not _has_locks(partial):
            partial.write_text("claims")
        os.link(partial, path)
    finally:
        with suppress(OSError):
            partial.unlink()


def _has_locks(path: Path) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno not in _NO_LOCKS
    return True


def _known(content: bytes, path: Path) -> Locks:
    for each in get_args(Locks):
        if content == each.encode():
            found: Locks = each
            return found
    raise ResultsError(
        f"{path} names a way to hold runs that this lopbench does not know ({content.decode(errors='replace')!r}); "
        "use the one that wrote it, or remove the file if nothing is at work in this folder"
    )


class Holder:
    """This process, as it holds runs against others that work in the same results folder.

    Args:
        results: Results folder.
        locks: How it holds them, if it is the first there.
        heart: Shows to others that this process is alive, where it does so already.
    """

    def __init__(self, results: Path, *, locks: Locks = "flock", heart: Heart | None = None) -> None:
        self._results = results
        self._wanted = locks
        self._heart = heart
        self._own = ExitStack()
        self.has_claims = False  #: Whether runs were held by claims the last time.

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove what it kept to hold runs."""
        self._own.close()

    @contextmanager
    def claimed(self, specs: Sequence[RunSpec]) -> Iterator[list[RunSpec]]:
        """Hold ``specs`` against other processes; yields those without a record.

        Raises:
            BusyError: If a process is at one of them.
            ResultsError: If the folder cannot be written to, or has no locks.
        """
        wanted = [spec for spec in specs if not is_recorded(self._results, spec)]
        if not wanted:
            yield []
            return
        with ExitStack() as stack:
            stack.callback(leave, self._results)
            locks = agreed(self._results, self._wanted)
            self.has_claims = locks == "claims"
            # In one order everywhere, so that two processes never wait for each other.
            for spec in sorted(wanted, key=lambda spec: spec.run_id):
                stack.enter_context(self._claimed(spec) if self.has_claims else self._locked(spec))
            if agreed(self._results, self._wanted) != locks:  # all had left, and another has come since
                raise BusyError
            if not self.has_claims:
                stack.callback(self._remove_locks, specs)
            yield [spec for spec in wanted if not is_recorded(self._results, spec)]

    @property
    def is_valid(self) -> bool:
        """Whether nobody has taken over what is claimed."""
        return not self.has_claims or self._claims.are_valid

    @cached_property
    def _claims(self) -> Claims:
        if self._heart is None:
            self._heart = self._own.enter_context(_plain_heart(self._results))
        claims = Claims(self._results, self._heart)
        self._own.callback(claims.close)
        return claims

    @contextmanager
    def _claimed(self, spec: RunSpec) -> Iterator[None]:
        with ExitStack() as stack:
            try:
                stack.enter_context(self._claims.held(spec.run_id))
            except OSError as error:
                raise unwritable(self._results, error) from error
            yield

    @contextmanager
    def _locked(self, spec: RunSpec) -> Iterator[None]:
        # A soft lock would stay behind where a process is killed.
        lock = filelock.FileLock(self._lock_path(spec), fallback_to_soft=False)
        try:
            _acquire(lock)
        except filelock.Timeout:
            raise BusyError from None
        except OSError as error:
            if error.errno in _NO_LOCKS:
                with suppress(OSError):  # nobody can hold it
                    self._lock_path(spec).unlink()
                raise ResultsError(
                    f"The file system of the results folder {self._results} gives no locks ({reason(error)}), without "
                    "which two processes could train one run; choose a folder on another file system with --results."
                ) from error
            raise unwritable(self._results, error) from error
        try:
            yield
        finally:
            lock.release()

    def _remove_locks(self, specs: Sequence[RunSpec]) -> None:
        """Remove, while they are held, the locks of what is over: no two processes can be at it again."""
        stopped = unfinished_ids(self._results, {spec.run_id for spec in specs})
        for spec in specs:
            if is_recorded(self._results, spec) or spec.run_id not in stopped:
                with suppress(OSError):
                    self._lock_path(spec).unlink(missing_ok=True)

    def _lock_path(self, spec: RunSpec) -> Path:
        return self._results / PARTIAL / f"{spec.run_id}{LOCK}"


def _acquire(lock: filelock.BaseFileLock) -> None:
    for _ in range(TRIES):
        Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(blocking=False)
        except FileNotFoundError:  # another process has just removed the empty folder
            continue
        return
    raise OSError(errno.EEXIST, f"{lock.lock_file} is no file")


@contextmanager
def _plain_heart(results: Path) -> Iterator[Heart]:
    """Let a process that is no worker beat, in a file like those of workers."""
    name = process_name()
    value = {"name": name, "slot": 0, "host": machine().partition(" ")[0], "pid": os.getpid(), "study": ""}
    heart = Heart(results / PARTIAL / WORKERS / f"{name}.json", lambda: {**value, "state": "running"})
    try:
        with heart:
            yield heart
    finally:
        with suppress(OSError):
            heart.path.unlink(missing_ok=True)
            heart.path.parent.rmdir()
        leave(results)
