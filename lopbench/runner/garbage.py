"""Frees the memory of networks as soon as they are no longer used.

A learner and what looks at it refer to each other, so Python frees them only at a collection of all objects. Such a
collection comes after a number of new objects, however large they are: after thirty runs a gigabyte was waiting for it.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

#: Bytes that may wait for a collection inside of a run. Programs leave hundreds of thousands of objects behind, and a
#: collection among them takes longer than many a life of a small network.
ENOUGH = 1 << 26

#: Whether collections are cheap. Asking `gc` counts a million objects, which takes longer than a collection then.
_are_cheap = ContextVar("_are_cheap", default=False)


@contextmanager
def cheap_collections() -> Iterator[None]:
    """Leave out of collections what is there at the start: a million objects, modules mostly, which take half a second.

    Inside of another one it does nothing.
    """
    theirs = bool(gc.get_freeze_count())
    if not theirs:
        gc.freeze()
    before = _are_cheap.set(True)
    try:
        yield
    finally:
        _are_cheap.reset(before)
        if not theirs:
            gc.unfreeze()


def collect() -> None:
    """Free what nobody refers to but itself; milliseconds inside of `cheap_collections`, outside of it nothing."""
    if _are_cheap.get():
        gc.collect()
