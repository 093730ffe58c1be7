"""MyThing: say here what it starts workers with.

As written it starts them on this machine, and lets other processes go first.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from typing import ClassVar

from lopbench import Executor, Handle, Register, RestartingHandle, Workers, hookimpl, threads_of, whole

lopbench_api = 2


@dataclass(frozen=True, kw_only=True)
class MyThing(Executor):
    """Starts processes that give way to others.

    Args:
        by: How far they give way, from 0 to 19.
    """

    name: ClassVar[str] = "my-thing"
    is_here: ClassVar[bool] = True  # workers use the devices of this machine
    by: int = whole(10, least=0, most=19)

    def start(self, workers: Workers) -> Handle:
        """Start workers and return a hold on them; raise UnsupportedError where that cannot be done."""
        handle = _Hold(workers, self.by)
        handle.start()
        return handle


class _Hold(RestartingHandle):
    """Workers, each of which is launched again where it died. A `Handle` alone has poll, stop and kill."""

    def __init__(self, workers: Workers, by: int) -> None:
        super().__init__(workers)
        self.by = by
        self.processes: dict[int, subprocess.Popen[bytes]] = {}

    def launch(self, slot: int) -> None:
        """Start the worker of a slot."""
        with self.workers.log(slot).open("wb") as log:
            self.processes[slot] = subprocess.Popen(
                ["nice", "-n", str(self.by), *self.workers.command(slot)],
                env={**os.environ, **self.workers.environment, **threads_of(self.workers.threads or 1)},
                stdin=subprocess.DEVNULL,
                stderr=log,
            )

    def code(self, slot: int) -> int | None:
        """Return how a worker ended, None while it is at work."""
        return self.processes[slot].poll()

    def stop(self) -> None:
        """Ask all to save and leave."""
        super().stop()
        for process in self.processes.values():
            process.terminate()

    def kill(self) -> None:
        """End all at once."""
        self.is_stopping = True
        for process in self.processes.values():
            process.kill()
            process.wait()


@hookimpl
def lopbench_executors(register: Register) -> None:
    """Make the executor known."""
    register("my-thing", MyThing, "processes of this machine that give way to others")
