"""Tries out in a child process whether a plugin lets the process live, before this one calls its hooks.

A run that ends its process ends a worker, which is started again. The process that starts the workers has no such help,
and yet it looks at runs first: which train together, and how long a step takes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

import torch

from lopbench.core.interfaces import Component
from lopbench.core.registry import OWN
from lopbench.core.spec import RunSpec
from lopbench.runner.copies import start_copy
from lopbench.runner.timing import seconds_per_step


def is_own(spec: RunSpec, *others: Component) -> bool:
    """Return whether a run is made of our own components alone, ``others`` that take part in it included.

    These are known to end no process and to replace no code.
    """
    packages = {type(each).__module__.partition(".")[0] for each in others}
    return packages <= {"lopbench_plugins"} and all(
        part.origin == OWN for part in (*spec.components, spec.reference_optimizer)
    )


def survives(specs: Sequence[RunSpec], *, data: object, device: torch.device, limit_s: float = 0.01) -> bool:
    """Return whether a process that takes steps of runs for ``limit_s`` seconds, or as far as they go, lives on.

    Our own components are known to let it live. On a GPU, which a child process could not use, it is taken for granted.
    """
    if device.type != "cpu" or is_own(specs[0]):
        return True
    return outlives(lambda: seconds_per_step(specs, data=data, device=device, limit_s=limit_s))


def outlives(work: Callable[[], object]) -> bool:
    """Return whether a child process that does some work on the CPU, or as much of it as goes, lives on.

    On systems other than Linux it is taken for granted, since a child cannot go on there with what this process began.
    """
    if sys.platform != "linux":
        return True
    reading, writing = os.pipe()

    def live() -> None:
        try:
            _silence()
            torch.set_num_threads(1)  # the threads of the parent are not here
            work()
        finally:
            os.write(writing, b"1")

    child = start_copy(live)
    os.close(writing)
    try:
        return os.read(reading, 1) == b"1"
    finally:
        os.close(reading)
        os.waitpid(child, 0)


def _silence() -> None:
    """Let nothing more come out of this process."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
