"""How a process shows to others, on any machine that sees the results folder, that it is alive.

It has a file of its own, ``.partial/workers/<name>.json``, with a counter that it raises again and again. A process
that wants to know reads it twice, and looks at its own clock in between: no two clocks are compared.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

#: Name of the folder of such files.
WORKERS = "workers"

#: Endings of what a process keeps beside its file: how it writes that, its claims, and a claim that it is removing.
BESIDE = NEW, CLAIM, TAKEN = ".new", ".claim", ".taken"

#: Seconds between two beats, and those without one after which a process counts as dead.
BEAT_S, LEASE_S = 10.0, 60.0


def process_name() -> str:
    """Return a name for this process that no other has: host, process id, and a random part."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


@cache
def machine() -> str:
    """Return a name of this machine, or container, in which a process id means one process."""
    found = [socket.gethostname()]
    with suppress(OSError):
        found.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with suppress(OSError):
        found.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(found)


def has_ended(pid: int) -> bool:
    """Return whether there is no process ``pid`` on this machine, or one that has ended and was not waited for."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:
        return False
    with suppress(OSError, IndexError):  # only Linux tells
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("Z", "X")
    return False


def forget(folder: Path, name: str) -> None:
    """Remove what the process ``name``, which has ended, kept in the folder of workers: its word and its claims."""
    for ending in (".json", *BESIDE):
        with suppress(OSError):
            (folder / f"{name}{ending}").unlink(missing_ok=True)


class Heart:
    """Keeps the file of this process, and raises the counter in it from a thread of its own.

    Args:
        path: The file.
        content: Returns what else it tells, as JSON values.
    """

    def __init__(self, path: Path, content: Callable[[], Mapping[str, Any]]) -> None:
        self.path = path
        self._content = content
        self._beats = 0
        self._last: float | None = None
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def name(self) -> str:
        """Name of this process."""
        return self.path.stem

    @property
    def is_beating(self) -> bool:
        """Whether the last beat is so recent that nobody can take this process for dead."""
        return self._last is not None and time.monotonic() - self._last < LEASE_S

    def beat(self) -> bool:
        """Write the file; returns whether that could be done."""
        with self._lock:
            self._beats += 1
            partial = self.path.with_suffix(NEW)
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                partial.write_text(json.dumps({**self._content(), "beats": self._beats, "time": time.time()}))
                partial.replace(self.path)
            except OSError:
                return False
            self._last = time.monotonic()
            return True

    def __enter__(self) -> Self:
        """Begin to beat."""
        self.beat()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop; the file stays."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(BEAT_S):
            self.beat()
