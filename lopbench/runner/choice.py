"""How many workers do a study where nobody said: what is faster here, by a measurement."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

import torch

from lopbench.core.executor import usable_cores
from lopbench.core.spec import RunSpec
from lopbench.core.text import counted
from lopbench.runner.pool import Staff
from lopbench.runner.side_by_side import SideBySide, side_by_side
from lopbench.runner.study import Study
from lopbench.runner.survival import survives

#: Seconds of work below which starting workers would not pay.
LEAST_S = 60.0

#: How much faster several workers must be than one: each has to start.
_GAIN = 1.25

#: Seconds of work below which it makes no difference how much workers are in each other's way.
_FORETOLD_S = 10.0

#: Memory of a worker, torch and data included.
_BYTES = 1.5 * 2**30


def choose(staff: Staff, studies: Sequence[Study], seconds: float | None) -> tuple[Staff, str]:
    """Return how a study is worked at, and why, in a line; empty if there was nothing to choose.

    On several GPUs each has a worker. On a CPU, one worker with all threads is compared with a worker of one thread for
    each core, all at once, where there is more than a minute of work and no number of threads was given.

    Args:
        staff: How it would be worked at by one worker of this machine.
        studies: The studies; some of their runs are pending.
        seconds: What the work would take, None if unknown.
    """
    (device,) = staff.devices
    together = [(group, study) for study in studies for group in study.groups]
    if device == "cuda" and torch.cuda.device_count() > 1:
        count = min(torch.cuda.device_count(), len(together))
        devices = tuple(f"cuda:{number}" for number in range(count))
        return replace(staff, jobs=count, devices=devices), f"{counted(count, 'worker')}, one for each GPU (--jobs)"
    count = min(usable_cores(), len(together), _fitting())
    is_told = staff.threads is not None or "OMP_NUM_THREADS" in os.environ
    if device != "cpu" or is_told or count < 2 or seconds is None or seconds < LEAST_S:
        return staff, ""
    found = _measured(*together[0], count)
    if found is None:
        return staff, ""
    said = (
        f"{found.whole:,.0f} steps/s of one with all threads, "
        f"{found.together:,.0f} of {count} with one thread each, side by side"
    )
    if found.together < _GAIN * found.whole:
        return staff, f"one worker with all threads: {said} (--jobs)"
    return (
        replace(staff, jobs=count, crowding=found.crowding),
        f"{count} workers with their share of the threads: {said} (--jobs)",
    )


def crowded(staff: Staff, studies: Sequence[Study], seconds: float | None) -> Staff:
    """Return workers whose number is given, with how much they are in each other's way on the CPU of this machine.

    Args:
        staff: The workers.
        studies: The studies; some of their runs are pending.
        seconds: What the work would take, None if unknown.
    """
    together = [(group, study) for study in studies for group in study.groups]
    count = min(staff.jobs, len(together))
    if not staff.executor.is_here or {*staff.devices} != {"cpu"} or count < 2 or (seconds or 0.0) < _FORETOLD_S:
        return staff
    found = _measured(*together[0], count)
    return staff if found is None else replace(staff, crowding=found.crowding)


def _measured(group: Sequence[RunSpec], study: Study, count: int) -> SideBySide | None:
    """Return how fast so many workers are at a group; None if it cannot even start."""
    if not survives(group, data=study.images, device=torch.device("cpu")):
        return None
    try:
        return side_by_side(group, data=study.images, count=count)
    except KeyboardInterrupt:
        raise
    except BaseException:  # whatever a plugin raises is told when its turn comes
        return None


def _fitting() -> int:
    """Return how many workers the free memory has room for."""
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 1
    return max(1, int(free / _BYTES))
