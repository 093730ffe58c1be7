"""Interrupts by the user that wait until the step in hand is finished and saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def put_off() -> Iterator[list[int]]:
    """Yield a list that fills when the user interrupts, so that the step in hand can be finished and saved.

    A second interrupt is not put off. Nothing changes outside the main thread, or where the program has its own way.
    """
    caught: list[int] = []
    usual = signal.default_int_handler
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is not usual:
        yield caught
        return

    def catch(number: int, frame: object) -> None:
        caught.append(number)
        signal.signal(signal.SIGINT, usual)

    # There `lopbench.core.guard` sees whose an interrupt is.
    catch.caught = caught  # type: ignore[attr-defined]
    signal.signal(signal.SIGINT, catch)
    try:
        yield caught
        if caught:  # after the last step: the run is done, those behind it are not
            raise KeyboardInterrupt
    finally:
        signal.signal(signal.SIGINT, usual)
