"""Copies of this process, for what may end it, or has to happen several times at once."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable


def start_copy(work: Callable[[], object]) -> int:
    """Start a copy of this process that does some work and ends, whatever becomes of it; returns its process id."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads, whose locks are none that the copy takes
        copy = os.fork()
    if copy:
        return copy
    try:
        work()
    except BaseException:  # this process tells of it when its turn comes
        pass
    finally:
        os._exit(0)
