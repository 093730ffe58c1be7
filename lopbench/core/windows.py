"""Which tasks the score is made of."""

from __future__ import annotations

import math

from lopbench.core.errors import InvalidInputError

#: Most tasks of a stream: a spec can say that there are more than any memory holds a score of.
MOST_TASKS = 10**6


def late_window(tasks: int, late: int = 0) -> range:
    """Return the task indices that the score is made of: the last 20% of ``tasks``, at least 5, or all if fewer.

    Args:
        tasks: Number of tasks of the stream, at least 1.
        late: How many they are where a protocol says so itself; 0 where it does not.
    """
    if tasks < 1:
        raise InvalidInputError(f"a score needs at least one task, got {tasks}")
    return range(tasks - min(tasks, late or max(5, math.ceil(tasks / 5))), tasks)


def before_window(tasks: int, start: float) -> range:
    """Return the tasks that stand for the time before a method turns on: the late window of the tasks before that.

    Args:
        tasks: Number of tasks of the stream, at least 1.
        start: Fraction of the stream after which the method is on, in [0, 1].

    Returns:
        The last 20%, at least 5, of the tasks that are over when the method turns on, or all if they are fewer; empty
        if there are none, as for ``start = 0``.

    Raises:
        InvalidInputError: If an argument is out of range.
    """
    if tasks < 1 or not 0 <= start <= 1:
        raise InvalidInputError(f"a window needs a task and a start in [0, 1], got {tasks} tasks and start {start}")
    done = math.floor(tasks * start + 1e-9)  # 0.29 * 100 is a little less than 29
    return late_window(done) if done else range(0)


def first_tasks(tasks: int, share: float) -> int:
    """Return the number of tasks in the first ``share``, in (0, 1], of a stream: whole ones, at least one."""
    return max(1, math.ceil(tasks * share - 1e-9))  # 0.1 * 30 is a little more than 3


def scored_tasks(tasks: int, start: float = 0.0, late: int = 0) -> list[int]:
    """Return the tasks that fresh networks must cover, in order: those of `before_window` and of `late_window`."""
    return sorted({*before_window(tasks, start), *late_window(tasks, late)})


def reference_tasks(tasks: int, start: float = 0.0, late: int = 0) -> list[int]:
    """Return the tasks that the fresh reference covers, in order: `scored_tasks`, and others spread over the stream.

    The others, for the trend and the curve over the stream, are at even distances from the first task on, and no more
    than there are late ones.
    """
    window = late_window(tasks, late)
    spread = range(0, window.start, math.ceil(window.start / len(window)) or 1)
    return sorted({*spread, *scored_tasks(tasks, start, late)})
