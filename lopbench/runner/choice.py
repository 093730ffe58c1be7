"""How many workers do a study where nobody said: what is faster here, by a measurement."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

import torch

from lopbench.core.executor import usable_cores
from lopbench.core.interfaces import Samples
from lopbench.core.spec import RunSpec
from lopbench.runner.forecast import using_threads
from lopbench.runner.groups import groups
from lopbench.runner.pool import Staff
from lopbench.runner.study import Study
from lopbench.runner.survival import survives
from lopbench.runner.timing import seconds_per_step

#: Seconds of work below which starting workers would not pay.
LEAST_S = 60.0

#: How much faster several workers must be foretold to be: they share caches and memory, and each has to start.
_GAIN = 1.25

#: Memory of a worker, torch and data included.
_BYTES = 1.5 * 2**30

#: Seconds for which each way is timed.
_TIMED_S = 0.5


def choose(staff: Staff, studies: Sequence[Study], seconds: float | None) -> tuple[Staff, str]:
    """Return how a study is worked at, and why, in a line; empty if there was nothing to choose.

    On several GPUs each has a worker. On a CPU, one worker with all threads is compared with a worker of one thread for
    each core, where there is more than a minute of work and no number of threads was given.

    Args:
        staff: How it would be worked at by one worker of this machine.
        studies: The studies; some of their runs are pending.
        seconds: What the work would take, None if unknown.
    """
    (device,) = staff.devices
    together = [(group, study) for study in studies for group in _groups(study)]
    if device == "cuda" and torch.cuda.device_count() > 1:
        count = min(torch.cuda.device_count(), len(together))
        devices = tuple(f"cuda:{number}" for number in range(count))
        return replace(staff, jobs=count, devices=devices), f"{count} workers, one for each GPU (--jobs)"
    count = min(usable_cores(), len(together), _fitting())
    is_told = staff.threads is not None or "OMP_NUM_THREADS" in os.environ
    if device != "cpu" or is_told or count < 2 or seconds is None or seconds < LEAST_S:
        return staff, ""
    group, study = together[0]
    alone, single = (_speed(group, study.images, threads) for threads in (torch.get_num_threads(), 1))
    if alone is None or single is None:
        return staff, ""
    said = f"{alone:,.0f} steps/s with all threads, {single:,.0f} with one"
    if count * single < _GAIN * alone:
        return staff, f"one worker with all threads: {said} (--jobs)"
    return replace(staff, jobs=count), f"{count} workers with their share of the threads: {said} (--jobs)"


def _groups(study: Study) -> list[list[RunSpec]]:
    return groups(study.pending, data=study.images, device=torch.device(study.device)) if study.pending else []


def _speed(group: Sequence[RunSpec], data: Samples | None, threads: int) -> float | None:
    """Return the steps a second of a group with so many threads; None if it cannot even start."""
    if not survives(group, data=data, device=torch.device("cpu"), limit_s=2 * _TIMED_S):
        return None
    try:
        with using_threads(threads):
            return 1 / seconds_per_step(group, data=data, device=torch.device("cpu"), limit_s=_TIMED_S)[0]
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
