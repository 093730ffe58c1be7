"""How fast steps are taken where several processes take theirs at once.

Cores may be threads of one core, and all share the memory: how fast they are together is not to be computed from one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch

from lopbench.core.spec import RunSpec
from lopbench.runner.copies import start_copy
from lopbench.runner.timing import Timing

#: Seconds for which this process, then one of one thread, and then all take steps.
_TIMED_S = 0.3

#: Characters of a number on its way to this process.
_DIGITS = 24


@dataclass(frozen=True)
class SideBySide:
    """Steps a second of one process with all threads, and of others with one thread each.

    Args:
        whole: Steps a second of this process, with the threads that it has.
        alone: Steps a second of one of the others while the rest are still.
        together: Steps a second of all of the others while all take steps.
        count: Their number.
    """

    whole: float
    alone: float
    together: float
    count: int

    @property
    def crowding(self) -> float:
        """How many times as long a step takes while the others take theirs."""
        return max(1.0, self.count * self.alone / self.together)


def side_by_side(specs: Sequence[RunSpec], *, data: object, count: int, limit_s: float = _TIMED_S) -> SideBySide | None:
    """Return how fast ``count`` processes of one thread take the steps of ``specs`` on the CPU.

    They are copies of this process, made when all is ready for the first step, so that they need no start of their own:
    it takes about three times ``limit_s``, however many they are.

    Returns:
        None where it could not be measured: copies are made on Linux alone, and not all that was used before survives
        in one, such as gradients where there is a GPU.

    Raises:
        UnsupportedError: If a method cannot serve the architecture, or the architecture the scenario.
        DataError: If the data set cannot feed the scenario.
    """
    if sys.platform != "linux":
        return None
    with Timing.of(specs, data=data, device=torch.device("cpu")) as timing:

        def speed() -> float:
            torch.set_num_threads(1)
            return 1 / timing.seconds_per_step(limit_s)

        whole = 1 / timing.seconds_per_step(limit_s)
        alone, together = (_in_copies(speed, number) for number in (1, count))
    if len(alone) < 1 or len(together) < count:
        return None
    return SideBySide(whole, alone[0], sum(together), count)


def _in_copies(measure: Callable[[], float], count: int) -> list[float]:
    """Return what copies of this process measure, all at once; one that fails is left out."""
    waits, starts = os.pipe()
    reads, writes = os.pipe()
    copies: list[int] = []
    try:
        copies.extend(start_copy(lambda: _measured(measure, waits, starts, writes)) for _ in range(count))
    finally:
        for each in (waits, starts, writes):
            os.close(each)  # which lets them start
        with os.fdopen(reads, "rb") as file:
            told = file.read().split()
        for copy in copies:
            with suppress(ChildProcessError):
                os.waitpid(copy, 0)
    return [float(each) for each in told]


def _measured(measure: Callable[[], float], waits: int, starts: int, writes: int) -> None:
    """Measure in a copy, once all are there, and tell it."""
    os.close(starts)
    os.read(waits, 1)
    os.write(writes, f"{measure():.6e}".encode().rjust(_DIGITS))  # in one piece, as it is short
