"""Workers on a Dask cluster, through its scheduler; so also where dask-jobqueue or Kubernetes make the cluster.

Dask only places them: one task each, which starts the worker as a process of its own, with a main thread for signals
and an environment that is set before torch is imported, and waits for it. No run and no result goes through Dask.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from lopbench import Executor, Handle, RestartingHandle, UnsupportedError, Workers, threads_of

if TYPE_CHECKING:
    import distributed

#: Seconds within which the scheduler has to answer.
_PATIENCE_S = 10

#: Seconds between two looks of a task at its worker.
_LOOK_S = 0.5

#: In place of the exit code of a worker that went with its Dask worker, and of one that was not started.
_LOST, _LEFT = -1, 130


@dataclass(frozen=True, kw_only=True)
class Dask(Executor):
    """Starts a worker in each of so many tasks of a Dask cluster, and starts again what dies.

    Its machines see the results folder under the same path, and have this Python. They save and leave when the command
    ends, or the scheduler or their own Dask worker does.

    Args:
        address: Address of the scheduler, as in ``tcp://host:8786``.
    """

    name: ClassVar[str] = "dask"
    positional: ClassVar[str | None] = "address"
    examples: ClassVar[tuple[Mapping[str, object], ...]] = ({"address": "tcp://127.0.0.1:1"},)
    address: str

    def start(self, workers: Workers) -> Handle:
        """Submit the tasks.

        Raises:
            UnsupportedError: If there is no Dask here, or no scheduler that answers.
        """
        handle = _Tasks(workers, _client(self.address))
        handle.start()
        return handle


def _client(address: str) -> distributed.Client:
    """Return a client of a scheduler.

    Raises:
        UnsupportedError: If there is none.
    """
    try:
        import distributed
    except ImportError:
        raise UnsupportedError("dask: it is not installed; install lopbench[dask]") from None
    try:
        return distributed.Client(address, timeout=_PATIENCE_S, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise UnsupportedError(
            f"dask: no scheduler has answered at {address} within {_PATIENCE_S} s; start one with 'dask scheduler', or "
            f"give its address, as in dask:tcp://host:8786 ({(str(error) or repr(error)).splitlines()[0]})"
        ) from None


class _Tasks(RestartingHandle):
    """Tasks of a cluster, each with a worker.

    Args:
        workers: The workers.
        client: The cluster.
    """

    def __init__(self, workers: Workers, client: distributed.Client) -> None:
        super().__init__(workers)
        import distributed

        self._client, self._killed = client, distributed.KilledWorker
        self._event = distributed.Event(f"lopbench-{workers.study}-{secrets.token_hex(4)}", client=client)
        self._tasks: dict[int, Any] = {}
        self._is_gone = False

    def launch(self, slot: int) -> None:
        workers = self.workers
        self._tasks[slot] = self._client.submit(
            work,
            workers.command(slot, follow=True),
            dict(workers.environment),
            workers.threads,
            str(workers.log(slot)),
            self._event.name,
            pure=False,
        )

    def code(self, slot: int) -> int | None:
        task = self._tasks[slot]
        if not task.done():
            return None
        if task.status == "finished":
            return int(task.result())
        if task.status == "cancelled" and not self.is_stopping:  # so are all when the scheduler is gone
            self.is_stopping = True
            self.failures.append("dask: the scheduler has gone, and the workers with it; the same command goes on")
        if task.status == "error" and not isinstance(task.exception(), self._killed):
            self.failures.append(f"dask: {task.exception()!r:.300}")
            return _LEFT  # it would say the same again
        return _LOST

    def stop(self) -> None:
        super().stop()
        with suppress(Exception):  # a scheduler that is gone has nobody to tell
            self._event.set()

    def kill(self) -> None:
        self.is_stopping = True
        if self._is_gone:
            return
        self._is_gone = True
        with suppress(Exception):
            self._event.set()
            for task in self._tasks.values():
                task.cancel(force=True)
        self._client.close(timeout=_PATIENCE_S)


def work(command: Sequence[str], variables: Mapping[str, str], threads: int | None, log: str, event: str) -> int:
    """Start a worker and return its exit code; this is the task, and runs in a thread of a Dask worker.

    Args:
        command: The worker's command, which stops when its standard input ends: it does so with the Dask worker, too.
        variables: What it needs in its environment.
        threads: CPU threads; those of the Dask worker if None.
        log: Where its stderr goes.
        event: Name of what is set when it is to stop.
    """
    import distributed

    mine = distributed.get_worker()
    key, told = mine.get_current_task(), distributed.Event(event)
    with open(log, "wb") as stderr:  # noqa: PTH123
        process = subprocess.Popen(
            command,
            env={**os.environ, **variables, **threads_of(threads or mine.state.nthreads)},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
        )
    try:
        # A task that nobody waits for any more, since the client has gone, is cancelled; its thread goes on.
        while process.poll() is None and mine.state.tasks[key].state == "executing" and not told.is_set():
            time.sleep(_LOOK_S)
    finally:
        assert process.stdin is not None
        process.stdin.close()
    return process.wait()
