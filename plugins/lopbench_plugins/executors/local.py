"""Workers as processes of this machine."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar

from lopbench import Executor, Handle, RestartingHandle, Workers, threads_of, usable_cores


@dataclass(frozen=True, kw_only=True)
class Local(Executor):
    """Starts processes on this machine, and starts again what dies.

    They end when the process that started them does, however that happens, since they read from a pipe that it holds.
    Each has its share of the cores that may be used, unless it is told how many threads to take.
    """

    name: ClassVar[str] = "local"
    is_here: ClassVar[bool] = True

    def start(self, workers: Workers) -> Handle:
        """Start them."""
        handle = _Processes(workers)
        handle.start()
        return handle


class _Processes(RestartingHandle):
    def __init__(self, workers: Workers) -> None:
        super().__init__(workers)
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def launch(self, slot: int) -> None:
        workers = self.workers
        threads = workers.threads or max(1, usable_cores() // workers.jobs)
        with workers.log(slot).open("wb") as log:
            self._processes[slot] = subprocess.Popen(
                workers.command(slot, follow=True),
                env={**os.environ, **workers.environment, **threads_of(threads)},
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,  # an interrupt from the terminal is this process' to pass on
            )

    def code(self, slot: int) -> int | None:
        code = self._processes[slot].poll()
        if code is not None:
            _close(self._processes[slot])
        return code

    def stop(self) -> None:
        super().stop()
        for process in self._processes.values():
            _close(process)

    def kill(self) -> None:
        self.is_stopping = True
        for process in self._processes.values():
            if process.poll() is None:
                process.kill()
                process.wait()
            _close(process)


def _close(process: subprocess.Popen[bytes]) -> None:
    """Close the pipe that a worker reads from."""
    if process.stdin is not None:
        with suppress(OSError):
            process.stdin.close()
