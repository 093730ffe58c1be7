"""Runs that kill their worker: how often they did so without getting further."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from lopbench.core.errors import UnsupportedError
from lopbench.core.reading import read_regular
from lopbench.core.spec import RunSpec
from lopbench.runner.report import group_label
from lopbench.runner.unfinished import ATTEMPTS, PARTIAL, checkpoints, folder_of, unwritable

#: Deaths at one step after which runs are set aside.
MOST_DEATHS = 3

#: Most bytes of a file of attempts that are read.
_MOST_BYTES = 2**20


@contextmanager
def counted(results: Path, members: Sequence[RunSpec]) -> Iterator[None]:
    """Note that runs are begun, and, when they end or are stopped in order, that they did not kill their worker.

    The note stands beside their folder, for the folder of runs that have no checkpoint yet is made anew.

    Raises:
        UnsupportedError: If they have killed `MOST_DEATHS` workers without getting further.
        ResultsError: If the note cannot be written.
    """
    # These import torch.
    from lopbench.runner.checkpoint import steps_of
    from lopbench.runner.session import TakenOverError

    folder = folder_of(results, members)
    path = folder.with_suffix(ATTEMPTS)
    step = str(max(map(steps_of, checkpoints(folder)), default=0))
    if _earlier(path)[-MOST_DEATHS:] == [step] * MOST_DEATHS:
        raise UnsupportedError(
            f"{group_label(members)} killed {MOST_DEATHS} workers without getting further than step {int(step):,}, and "
            "is set aside; the same 'lopbench run' tries it again, and with --jobs 1 shows what it says"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(f"{step}\n")
    except OSError as error:
        raise unwritable(results, error) from error
    is_ours = True
    try:
        yield
    except TakenOverError:  # who has taken them over counts them now
        is_ours = False
        raise
    finally:
        if is_ours:
            with suppress(OSError):
                path.unlink(missing_ok=True)


def is_set_aside(folder: Path) -> bool:
    """Return whether the runs that keep in ``folder`` what they need have killed `MOST_DEATHS` workers at one step."""
    earlier = _earlier(folder.with_suffix(ATTEMPTS))
    return len(earlier) >= MOST_DEATHS and len(set(earlier[-MOST_DEATHS:])) == 1


def _earlier(path: Path) -> list[str]:
    """Return the steps at which the runs of a note were begun."""
    try:
        return read_regular(path, most=_MOST_BYTES).decode(errors="replace").split()
    except OSError:
        return []


def forget(results: Path) -> None:
    """Let runs that were set aside be tried again."""
    for path in (results / PARTIAL).glob(f"*{ATTEMPTS}"):
        with suppress(OSError):
            path.unlink(missing_ok=True)
