"""Plasticity retention and its companions: what the per-task scores of one seed come to.

A score is an accuracy or an error. Retentions and the late/early ratio are made so that above 1 is better in both.
All sums are correctly rounded (``math.fsum``), so that no score depends on the order of its tasks.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lopbench.core.errors import InvalidInputError
from lopbench.core.windows import late_window

#: Errors below this count as this, so that two perfect fits compare as equals.
ERROR_FLOOR = 1e-12

#: What `error_retention` is cut off at: a near-zero error would otherwise outweigh all other seeds.
ERROR_RETENTION_CAP = 2.0


def at_floor(scores: Mapping[int, float], floor: Mapping[int, float], tasks: Sequence[int]) -> NDArray[np.float64]:
    """Return the scores of ``tasks``, ``(T,)``, with ``floor`` for each task that the run did not finish.

    This is how a diverged or failed run counts: what it finished stays, the rest is at chance, which adds nothing to
    the retention, or an infinite error.
    """
    return np.array([scores[task] if task in scores else floor[task] for task in tasks], dtype=np.float64)


def retention(learner: ArrayLike, fresh: ArrayLike, chance: ArrayLike) -> float:
    """Return the plasticity retention of one seed: the sum of ``learner - chance`` over that of ``fresh - chance``.

    A ratio of sums, which hard tasks with a small denominator cannot blow up, unlike a mean of ratios. 1 means as good
    as a fresh network, 0 at chance; it can exceed 1 (transfer) and fall below 0. With a reference of the same recipe in
    place of the common one it is the self-retention.

    Args:
        learner: Scores of the learner on the late tasks, ``(T,)``, T at least 1, finite.
        fresh: Scores of a fresh network on the same tasks, ``(T,)``, finite.
        chance: Chance scores, ``(T,)`` or one number for all tasks, finite.

    Returns:
        The retention; NaN where the reference is not above chance in sum, for then there is nothing to retain.

    Raises:
        InvalidInputError: If shapes differ or a score is not finite.
    """
    s, f = _pair(learner, fresh)
    try:
        c = np.broadcast_to(np.asarray(chance, dtype=np.float64), s.shape)
    except ValueError:
        raise InvalidInputError(
            f"chance has shape {np.shape(chance)} for {s.size} tasks; give one or one each"
        ) from None
    if not (np.isfinite(s).all() and np.isfinite(f).all() and np.isfinite(c).all()):
        raise InvalidInputError("retention needs finite scores; a task that was not finished counts at chance")
    learner_sum, fresh_sum = (math.fsum([*x, *-c]) for x in (s, f))  # one sum each: no difference is rounded first
    return learner_sum / fresh_sum if fresh_sum > 0 else math.nan


def error_retention(learner: ArrayLike, fresh: ArrayLike) -> float:
    """Return the retention where the score is an error: the geometric mean of ``fresh / learner``, capped at 2.

    Args:
        learner: Errors of the learner on the late tasks, ``(T,)``, at least 0; infinite where it did not finish.
        fresh: Errors of a fresh network on the same tasks, ``(T,)``, at least 0, finite.

    Raises:
        InvalidInputError: If shapes differ, an error is negative or NaN, or one of ``fresh`` is infinite.
    """
    s, f = _pair(learner, fresh)
    if not ((s >= 0).all() and (f >= 0).all() and np.isfinite(f).all()):
        raise InvalidInputError("error_retention needs errors of at least 0, the reference's finite")
    gain = np.log(np.maximum(f, ERROR_FLOOR)) - np.log(np.maximum(s, ERROR_FLOOR))  # (T,), -inf where s is infinite
    mean = math.fsum(gain) / gain.size
    return min(math.exp(min(mean, 1.0)), ERROR_RETENTION_CAP)  # e > cap: the inner min only keeps exp from overflowing


def late_early(scores: ArrayLike) -> float:
    """Return the mean score of the late tasks over that of as many first tasks.

    Below 1 the learner got worse, but harder late tasks or slow early learning show in it too: it stands beside the
    retention, never for it.

    Args:
        scores: Scores of all tasks in order, ``(T,)``, T at least 1; up to 5 tasks the two windows are the same.

    Returns:
        The ratio; NaN if the first tasks do not have a positive mean or a score is NaN.
    """
    s = _vector(scores)
    count = len(late_window(s.size))
    early = math.fsum(s[:count])
    return math.fsum(s[-count:]) / early if early > 0 else math.nan


def error_late_early(errors: ArrayLike) -> float:
    """Return the mean error of the first tasks over that of as many late tasks, as `late_early` does for accuracies.

    The other way round, so that here too below 1 means that the learner got worse.

    Args:
        errors: Errors of all tasks in order, ``(T,)``, T at least 1, at least 0; infinite where it did not finish.

    Returns:
        The ratio, 0 where a late task was not finished.

    Raises:
        InvalidInputError: If an error is negative or NaN.
    """
    e = _vector(errors)
    if not (e >= 0).all():
        raise InvalidInputError("errors must be at least 0")
    count = len(late_window(e.size))
    early, late = (max(math.fsum(part) / count, ERROR_FLOOR) for part in (e[:count], e[-count:]))
    return 0.0 if math.isinf(late) else early / late


def lifetime(scores: ArrayLike) -> float:
    """Return the mean over all tasks of ``scores``, ``(T,)`` with T at least 1."""
    s = _vector(scores)
    return math.fsum(s) / s.size


def _vector(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise InvalidInputError(f"scores must be one number for each of at least one task, got shape {array.shape}")
    return array


def _pair(learner: ArrayLike, fresh: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    s, f = _vector(learner), _vector(fresh)
    if s.shape != f.shape:
        raise InvalidInputError(f"learner and reference must cover the same tasks, got {s.size} and {f.size} scores")
    return s, f
