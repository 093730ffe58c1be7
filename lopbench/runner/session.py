"""One process at work on a run: its folder, its checkpoints, its log and its clock."""

from __future__ import annotations

import errno
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from torch import Tensor

from lopbench.core.spec import RunSpec
from lopbench.results.record import is_recorded
from lopbench.runner.checkpoint import (
    NEW,
    Checkpoint,
    DamagedError,
    load_checkpoint,
    save_checkpoint,
    steps_of,
)
from lopbench.runner.report import Reporter, group_label
from lopbench.runner.unfinished import (
    LOG,
    TRIES,
    checkpoint_name,
    checkpoints,
    folder_of,
    make_folder,
    remove_folder,
    unwritable,
)

#: How often, in seconds, a run reports progress, checks for divergence and considers a checkpoint. Results do not
#: depend on it.
LOOK_S = 0.25


class TakenOverError(Exception):
    """Another process has taken the runs over, or is further."""


class PublishedError(Exception):
    """Another process has recorded the runs meanwhile."""


@dataclass
class Clock:
    """Times of a run over all its sessions.

    Args:
        train_time_s: Seconds of training.
        wall_time_s: Seconds in all.
        sessions: Number of sessions, this one included.
        started_utc: When the first one began.
    """

    train_time_s: float = 0.0
    wall_time_s: float = 0.0
    sessions: int = 0
    started_utc: str = ""


class Session:
    """One process at work on a run, or on several that train together.

    It has a random name, under which it writes, and removes only what is its own or what it went on from. Two sessions
    that are at one run, because locks do not work across their machines, can therefore not damage each other: the one
    that is behind, or whose runs have been taken over, stops when it would save or publish, and one whose runs are
    recorded takes that for its end.

    Args:
        specs: What is run.
        results: Results folder.
        reporter: Is told of damage.
        checkpoint_s: Seconds between checkpoints.
        is_held: Whether no other process has taken the runs over.
    """

    def __init__(
        self,
        specs: Sequence[RunSpec],
        results: Path,
        *,
        reporter: Reporter,
        checkpoint_s: float,
        is_held: Callable[[], bool] = lambda: True,
    ) -> None:
        self.name = secrets.token_hex(4)
        self.clock = Clock()
        self._specs = tuple(specs)
        self._results = results
        self._reporter = reporter
        self._checkpoint_s = checkpoint_s
        self._is_held = is_held
        self._folder = folder_of(results, specs)
        self._began = self._saved = self._looked = time.perf_counter()
        self._earlier_s = 0.0  #: Wall time of earlier sessions.
        #: Checkpoints that a later one of this session replaces: those it went on from.
        self._superseded: list[Path] = []

    # -- begin and end

    def open(self) -> None:
        """Make the folder, and start the clock.

        Raises:
            ResultsError: If it cannot be written to.
        """
        make_folder(self._results, self._specs)
        self._began = self._saved = self._looked = time.perf_counter()

    def begin(self, where: str, clock: Clock) -> None:
        """Count this session, after the earlier ones that ``clock`` knows of, and log where it starts."""
        self.clock = clock
        self._earlier_s = clock.wall_time_s
        clock.sessions += 1
        clock.started_utc = clock.started_utc or _now()
        self.log(f"session {clock.sessions} starts at {where}")

    def close(self) -> None:
        """Remove what is not needed once the runs are recorded; another session's checkpoints stay."""
        for path in checkpoints(self._folder):
            if path in self._superseded or self.name in path.name:
                path.unlink(missing_ok=True)
        if not checkpoints(self._folder):
            remove_folder(self._folder)

    def check(self) -> None:
        """Stop if another process has taken the runs over.

        Raises:
            TakenOverError: If it has.
        """
        if not self._is_held():
            raise TakenOverError(f"{group_label(self._specs)}: another process has taken over")

    def abandon(self) -> None:
        """Remove the folder if there is nothing in it to go on from."""
        if not checkpoints(self._folder):
            remove_folder(self._folder)

    # -- log

    @property
    def log_file(self) -> Path:
        """The log."""
        return self._folder / LOG

    def log(self, message: str) -> None:
        """Append a line to the log.

        Raises:
            ResultsError: If it cannot be written.
        """
        line = f"{_now()} {message}\n".encode(errors="backslashreplace")

        def write() -> None:
            with self.log_file.open("ab") as file:
                file.write(line)

        try:
            self._in_folder(write)
        except OSError as error:
            raise unwritable(self._results, error) from error

    # -- clock

    @property
    def wall_time_s(self) -> float:
        """Seconds in all, those of earlier sessions included."""
        return self._earlier_s + time.perf_counter() - self._began

    @property
    def is_time_to_look(self) -> bool:
        """Whether it is time to report progress, and to see whether it goes well."""
        return time.perf_counter() - self._looked > LOOK_S

    @property
    def is_time_to_save(self) -> bool:
        """Whether it is time for a checkpoint."""
        return time.perf_counter() - self._saved > self._checkpoint_s

    def train(self) -> None:
        """Let training time run from now on."""
        self._looked = time.perf_counter()

    def trained(self) -> None:
        """Add the time since then to the time of training."""
        now = time.perf_counter()
        self.clock.train_time_s += now - self._looked
        self._looked = now

    # -- checkpoints

    def load(self) -> Checkpoint | None:
        """Return the checkpoint that is furthest, None if there is none that is whole.

        Damaged ones are set aside, and the reporter is told. What a kill left of the writing of one is removed.
        """
        for path in self._folder.glob(str(Path(checkpoint_name("*")).with_suffix(NEW))):
            path.unlink(missing_ok=True)
        whole = []
        for path in checkpoints(self._folder):
            try:
                whole.append(load_checkpoint(path))
            except DamagedError as error:
                self.set_aside(path, str(error))
            except FileNotFoundError:  # another session has just replaced it
                continue
        self._superseded = [each.path for each in whole]
        return max(whole, key=lambda each: each.steps, default=None)

    def set_aside(self, path: Path, reason: str) -> None:
        """Rename a checkpoint that cannot be used, and tell the reporter."""
        aside = path.with_name(f"{path.name}.damaged")
        with suppress(OSError):
            path.replace(aside)
        self._superseded = [each for each in self._superseded if each != path]
        self._reporter.note(
            f"{group_label(self._specs)}: the checkpoint {path} cannot be used ({reason}); it is kept as {aside.name}, "
            "and the run starts from its beginning."
        )

    def save(self, steps: int, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
        """Write a checkpoint, unless another session is further.

        Args:
            steps: Steps that the run has taken.
            tensors: Tensors by name.
            header: What is no tensor, as JSON values.

        Raises:
            PublishedError: If the runs are recorded by now.
            TakenOverError: If another process has taken the runs over, or is further.
            ResultsError: If it cannot be written.
        """
        if all(is_recorded(self._results, spec) for spec in self._specs):
            raise PublishedError
        self.check()
        for path in checkpoints(self._folder):
            if self.name not in path.name and steps_of(path) > steps:
                raise TakenOverError(
                    f"{group_label(self._specs)}: another process works on it and is further ({path.name}); this one "
                    "leaves it alone"
                )
        self.clock.wall_time_s = self.wall_time_s
        header = {**header, "clock": asdict(self.clock)}
        self._in_folder(lambda: save_checkpoint(self._folder, self.name, steps, tensors, header))
        for path in self._superseded:
            path.unlink(missing_ok=True)
        self._superseded = []
        self._saved = time.perf_counter()

    def _in_folder(self, write: Callable[[], object]) -> None:
        """Write into the folder, which another session that is done may remove at any moment: it is made again then."""
        for _ in range(TRIES):
            try:
                write()
                return
            except FileNotFoundError:
                make_folder(self._results, self._specs)
        raise unwritable(self._results, OSError(errno.EEXIST, f"a file of {self._folder} leads nowhere"))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
