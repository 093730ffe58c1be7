"""The checks of executors: they start commands that do nothing but tell that they were started."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lopbench.core.errors import UnsupportedError
from lopbench.core.executor import Handle, Workers
from lopbench.core.interfaces import Component, Executor
from lopbench.testing.check import Check, Mismatch, NotApplicable, check
from lopbench.testing.comparing import listed
from lopbench.testing.shared import SHARED

#: Number of workers.
_JOBS = 2

#: Seconds within which workers are started, and have left.
_PATIENCE_S = 60.0

#: A worker: it writes its slot, the means by which it is stopped, and how it ended, as files into a folder.
_WORKER = """
import os, pathlib, signal, sys, threading, time
folder, waits = pathlib.Path(sys.argv[1]), sys.argv[2] == "waits"
slot = next(each for each in sys.argv if each.startswith("--slot=")).partition("=")[2].replace("/", "-of-")
def leave(*_):
    (folder / f"{slot}.stopped").touch()
    os._exit(130)
signal.signal(signal.SIGTERM, leave)
if "--follow" in sys.argv:
    threading.Thread(target=lambda: (sys.stdin.read(), leave()), daemon=True).start()
(folder / f"{slot}.new").write_text(str(os.getpid()))
(folder / f"{slot}.new").rename(folder / f"{slot}.started")
while waits:
    time.sleep(0.05)
os._exit(0)
"""


def _executor(component: Component) -> Executor:
    assert isinstance(component, Executor)
    if not component.starts:
        raise NotApplicable("it starts no workers, and says how to")
    return component


def _workers(folder: Path, kind: str) -> Workers:
    return Workers("conformance", [sys.executable, "-c", _WORKER, str(folder), kind], _JOBS, folder, threads=1)


@contextmanager
def _started(component: Component, kind: str) -> Iterator[tuple[Handle, Path]]:
    """Start workers and yield the hold on them, and the folder where they tell; in the end none is left."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        try:
            handle = _executor(component).start(_workers(folder, kind))
        except UnsupportedError as error:
            raise NotApplicable(f"it cannot start workers here: {error}") from None
        try:
            yield handle, folder
        finally:
            handle.kill()


def _told(folder: Path, what: str) -> set[str]:
    return {path.stem for path in folder.glob(f"*.{what}")}


def _wait(wanted: Callable[[], bool], expected: str, found: Callable[[], object]) -> None:
    """Wait until something is so.

    Raises:
        Mismatch: If it is not in time.
    """
    end = time.monotonic() + _PATIENCE_S
    while not wanted():
        if time.monotonic() > end:
            raise Mismatch(f"{expected} within {_PATIENCE_S:.0f} s", str(found()))
        time.sleep(0.05)


def _all_started(handle: Handle, folder: Path) -> None:
    wanted = {f"{slot}-of-{_JOBS}" for slot in range(_JOBS)}

    def are_there() -> bool:
        handle.poll()
        return _told(folder, "started") >= wanted

    _wait(are_there, f"workers {listed(sorted(wanted))}", lambda: listed(sorted(_told(folder, "started"))) or "none")


@check("It starts as many workers as asked for, each with its slot, and sees when they are done.")
def starts_workers(component: Component) -> None:
    """Start workers that end at once."""
    with _started(component, "ends") as (handle, folder):
        _all_started(handle, folder)
        _wait(lambda: not handle.poll(), "poll() to be False when all are done", lambda: "True")
        if handle.failures:
            raise Mismatch("no failures", listed(handle.failures))


@check(
    "Workers that are asked to stop can save what they are at, and are seen to have left.",
    lesson="submitit ignores SIGTERM, so that a cancelled job loses all since its last checkpoint",
)
def stops_workers(component: Component) -> None:
    """Start workers that wait, and stop them."""
    with _started(component, "waits") as (handle, folder):
        _all_started(handle, folder)
        if not handle.poll():
            raise Mismatch("poll() to be True while workers are at work", "False")
        handle.stop()
        _wait(lambda: not handle.poll(), "poll() to be False when all have left", lambda: "True")
        kept = _told(folder, "stopped")
        if len(kept) != _JOBS:
            raise Mismatch("SIGTERM, or the end of their input where they follow it, for all", listed(sorted(kept)))
        if handle.failures:
            raise Mismatch("no failures, for they left in order", listed(handle.failures))


@check("Killed workers are gone and are not started again, and killing them twice is no error.")
def kills_workers(component: Component) -> None:
    """Start workers that wait, and kill them."""
    with _started(component, "waits") as (handle, folder):
        _all_started(handle, folder)
        handle.kill()
        _wait(lambda: not handle.poll(), "poll() to be False when all are killed", lambda: "True")
        handle.kill()
        pids = [int(path.read_text()) for path in folder.glob("*.started")]
        _wait(lambda: not any(map(_is_alive, pids)), "no process left", lambda: listed([*map(str, pids)]))


@check("Workers that outlive the command that started them are found again by their token.")
def joins_workers(component: Component) -> None:
    """Start workers that wait, and take hold of them a second time."""
    if not _executor(component).lasts:
        raise NotApplicable("its workers end with the process that started them")
    with _started(component, "waits") as (handle, folder):
        _all_started(handle, folder)
        if not handle.token:
            raise Mismatch("a token", "an empty text")
        again = _executor(component).join(_workers(folder, "waits"), handle.token)
        if not again.poll():
            raise Mismatch("poll() to be True of workers that another handle started", "False")
        again.stop()
        _wait(lambda: not handle.poll(), "the first handle to see that they have left", lambda: "poll() is True")


@check("Showing what would be submitted starts and writes nothing.")
def shows_without_doing(component: Component) -> None:
    """Ask for the script."""
    assert isinstance(component, Executor)
    with tempfile.TemporaryDirectory() as name:
        text = component.script(_workers(Path(name), "ends"))
        if any(Path(name).iterdir()):
            raise Mismatch("an empty folder", listed([path.name for path in Path(name).iterdir()]))
    if text and sys.executable not in text:
        raise Mismatch("the command of the workers in the script", text)


def _is_alive(pid: int) -> bool:
    with suppress(OSError):
        os.kill(pid, 0)
        return True
    return False


CHECKS: tuple[Check, ...] = (
    *SHARED,
    starts_workers,
    stops_workers,
    kills_workers,
    joins_workers,
    shows_without_doing,
)
