"""Commands that start workers, for any batch system, or none."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from lopbench import Executor, Handle, UnsupportedError, Workers, threads_of


@dataclass(frozen=True, kw_only=True)
class Script(Executor):
    """Writes one line for each worker, a command of the shell, and starts nothing.

    A line may be run on any machine that sees this folder and the results, under any batch system. A worker saves what
    it is at and leaves when it gets SIGTERM, or SIGUSR2 when its time will soon be over; started again, it goes on.

    Args:
        output: File that the lines are written to; printed if empty.
    """

    name: ClassVar[str] = "script"
    positional: ClassVar[str | None] = "output"
    starts: ClassVar[bool] = False
    lasts: ClassVar[bool] = True
    output: str = ""

    def start(self, workers: Workers) -> Handle:
        """Write the lines, or print them."""
        if not self.output:
            print(self.script(workers), end="")
            return _Nothing()
        path = Path(self.output)
        try:
            path.write_text(self.script(workers))
            path.chmod(path.stat().st_mode | 0o111)
        except OSError as error:
            raise UnsupportedError(f"{path} cannot be written: {error.strerror or error}") from error
        return _Nothing()

    def script(self, workers: Workers) -> str:
        """Return the lines."""
        variables = {**workers.environment, **(threads_of(workers.threads) if workers.threads else {})}
        given = [f"{name}={shlex.quote(value)}" for name, value in variables.items()]
        start = f"cd {shlex.quote(str(Path.cwd()))} && {' '.join(['env', *given])} "
        return "".join(f"{start}{shlex.join(workers.command(slot))}\n" for slot in range(workers.jobs))


class _Nothing(Handle):
    def poll(self) -> bool:
        return False

    def stop(self) -> None:
        """Nothing has been started."""

    def kill(self) -> None:
        """Nothing has been started."""
