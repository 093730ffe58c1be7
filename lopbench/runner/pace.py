"""How fast work goes, and how long the rest of it will take, as it is shown to people."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable

#: Seconds over which a speed is averaged.
SPEED_S = 60.0

#: Seconds of work before which nothing is foretold, and over which what is foretold follows what is measured.
_FIRST_S, _FOLLOW_S = 3.0, 45.0


class Speed:
    """Steps a second over the last minute.

    Args:
        clock: Gives seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, int]] = deque()

    def add(self, taken: int) -> float | None:
        """Note how many steps have been taken in all; returns how many a second, None if that is not known yet."""
        now = self._clock()
        if not taken:
            self._seen.clear()  # programs are being compiled
        self._seen.append((now, taken))
        while self._seen[0][0] < now - SPEED_S and len(self._seen) > 2:
            self._seen.popleft()
        began, before = self._seen[0]
        return None if taken == before or now == began else (taken - before) / (now - began)


class TimeLeft:
    """Seconds until all steps are taken, foretold so that the number does not jump.

    Groups of runs differ a thousandfold in how fast they take their steps, and what was measured last says little of
    those to come. What is shown runs down with the clock, and goes over to what is measured now within a minute or so,
    by equal factors in equal times.

    Args:
        clock: Gives seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._speed = Speed(clock)
        self._began = self._seen = clock()  #: When the first steps were noted, and when the last.
        self._left: float | None = None
        self.speed: float | None = None  #: Steps a second over the last minute.

    def rest(self) -> None:
        """Forget how fast it went: from here on time passes in which nothing is trained, as when programs are made."""
        self._speed = Speed(self._clock)

    def add(self, taken: int, left: int) -> float | None:
        """Note how many steps have been taken in all, and how many are left; returns the seconds, None if unknown."""
        now = self._clock()
        speed = self._speed.add(taken)
        if speed is None:
            self._seen = now
            if self._left is None:
                self._began = now
            return self._left if left else 0.0
        self.speed = speed
        measured = left / self.speed
        if not left:
            self._left = 0.0
        elif self._left is None:
            if now - self._began < _FIRST_S:
                return None
            self._left = measured
        else:
            passed = now - self._seen
            share = -math.expm1(-passed / min(_FOLLOW_S, max(now - self._began, _FIRST_S)))
            expected = max(self._left - passed, 1.0)
            self._left = expected ** (1 - share) * max(measured, 1.0) ** share
        self._seen = now
        return self._left
