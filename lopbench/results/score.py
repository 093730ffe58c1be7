"""Plasticity retention and its companions: what the per-task scores of one seed come to.

A score is an accuracy or an error. Retentions and the late/early ratio are made so that above 1 is better in both.
All sums are correctly rounded (``math.fsum``), so that no score depends on the order of its tasks.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lopbench.core.errors import InvalidInputError
from lopbench.core.windows import late_window

#: What a learner is scored by.
Score = Literal["accuracy", "error"]

#: Why `retention` and `ceiling` are NaN, where they are.
NO_RETENTION = "fresh reference not above chance"

#: Share of the ceiling above which a row is marked: what is left says nothing about plasticity.
NEAR_CEILING = 0.95

#: Errors below this count as this in `error_late_early`, so that two perfect fits compare as equals.
ERROR_FLOOR = 1e-12


def at_floor(scores: Mapping[int, float], floor: Mapping[int, float], tasks: Sequence[int]) -> NDArray[np.float64]:
    """Return the scores of ``tasks``, ``(T,)``, with ``floor`` for each task that the run did not finish.

    This is how a diverged or failed run counts: what it finished stays, the rest is at chance, which adds nothing to
    the retention, or an infinite error.
    """
    return np.array([scores[task] if task in scores else floor[task] for task in tasks], dtype=np.float64)


def retention(learner: ArrayLike, fresh: ArrayLike, chance: ArrayLike, score: Score = "accuracy") -> float:
    """Return the plasticity retention of one seed: the sum of the learner above chance over that of fresh networks.

    For accuracies that is ``sum(S - c) / sum(F - c)``. For errors ``c`` is the error of the best constant, and what is
    above chance is ``c - E``, at least 0: a task on which the best constant does better counts as at chance. The scale
    is the same for both: 1 is as good as a fresh network, 0 is chance. The retention can exceed 1 (transfer); of
    accuracies it can fall below 0 (noise around chance).

    It is a ratio of sums, which hard tasks with a small denominator cannot blow up, unlike a mean of ratios. The
    precedent is the relative performance of L2Metrics (New et al. 2022, arXiv:2201.08278), the sum of a learner's curve
    over that of a single-task expert; here it is of what is above chance, on the late tasks, against a fresh network.

    With other scores in place of the learner's or of the reference's, the same formula splits the retention into two
    factors, whose product it is:
        ``fresh``: a fresh network of the learner's own recipe over the reference;
        ``self``: the learner over a fresh network of its own recipe.

    Args:
        learner: Scores of the learner on the late tasks, ``(T,)``, T at least 1; finite accuracies, or errors of at
            least 0, infinite where it did not finish.
        fresh: Scores of a fresh network on the same tasks, ``(T,)``, as above.
        chance: Scores at chance, ``(T,)`` or one number for all tasks, finite.
        score: What the scores are.

    Returns:
        The retention; NaN if and only if the reference is not above chance in sum, for then there is nothing to retain
        (`NO_RETENTION`).

    Raises:
        InvalidInputError: If shapes differ or a score is out of range.
    """
    s, f = _pair(learner, fresh)
    try:
        c = _spread(chance, s.shape)
    except ValueError:
        raise InvalidInputError(
            f"chance has shape {np.shape(chance)} for {s.size} tasks; give one or one each"
        ) from None
    return share(total_above_chance(s, c, score), total_above_chance(f, c, score))


def share(learner: float, fresh: float) -> float:
    """Return the `retention` of a learner with this `total_above_chance`, against fresh networks with that."""
    return learner / fresh if fresh > 0 else math.nan


def total_above_chance(scores: NDArray[np.float64], chance: NDArray[np.float64], score: Score = "accuracy") -> float:
    """Return the sum of `above_chance` over all tasks, correctly rounded: no difference is rounded first.

    Args:
        scores: As in `retention`, ``(T,)``.
        chance: Scores at chance, ``(T,)``.
        score: What the scores are.

    Raises:
        InvalidInputError: If a score is out of range.
    """
    if score == "accuracy":
        terms = scores.tolist() + (-chance).tolist()
    else:
        _check(scores, chance, score)
        better = scores < chance
        terms = chance[better].tolist() + (-scores[better]).tolist()
    try:
        total = math.fsum(terms)
    except (OverflowError, ValueError):  # a sum beyond all numbers, or infinities of both signs
        total = math.nan
    if not math.isfinite(total):
        _check(scores, chance, score)
        raise InvalidInputError("scores are too large to be added up")
    return total


def ceiling(fresh: ArrayLike, chance: ArrayLike, score: Score = "accuracy") -> float:
    """Return the largest `retention` that any learner could have: that of accuracy 1 or error 0 on every task.

    Args:
        fresh: As in `retention`.
        chance: As in `retention`.
        score: As in `retention`.

    Returns:
        The ceiling, at least 1; NaN if and only if the reference is not above chance in sum (`NO_RETENTION`).

    Raises:
        InvalidInputError: As in `retention`.
    """
    best = 1.0 if score == "accuracy" else 0.0
    return retention(np.full(np.shape(fresh), best), fresh, chance, score)


def at_ceiling(retentions: Sequence[float], ceilings: Sequence[float]) -> bool:
    """Return whether a row is so near the ceiling of its protocol that it tells nothing from a better one.

    Args:
        retentions: The `retention` of each seed, ``(S,)``, finite.
        ceilings: The `ceiling` of the same seeds.

    Returns:
        Whether the mean share of the ceiling is above `NEAR_CEILING`. The reference is in both numbers and cancels in
        the share, so that its noise marks no row. False without seeds.
    """
    shares = [value / top for value, top in zip(retentions, ceilings, strict=True)]
    return bool(shares) and math.fsum(shares) / len(shares) > NEAR_CEILING


def late_early(scores: ArrayLike, late: int = 0) -> float:
    """Return the mean score of the late tasks over that of as many first tasks.

    Below 1 the learner got worse, but harder late tasks or slow early learning show in it too: it stands beside the
    retention, never for it.

    Args:
        scores: Scores of all tasks in order, ``(T,)``, T at least 1.
        late: How many late tasks the protocol has; 0 for `late_window`'s own. Where they are more than half of all
            tasks the two windows share some, and all of up to 5 tasks.

    Returns:
        The ratio; NaN if the first tasks do not have a positive mean or a score is NaN.
    """
    s = _vector(scores)
    count = len(late_window(s.size, late))
    early = math.fsum(s[:count].tolist())
    return math.fsum(s[-count:].tolist()) / early if early > 0 else math.nan


def error_late_early(errors: ArrayLike, late: int = 0) -> float:
    """Return the mean error of the first tasks over that of as many late tasks, as `late_early` does for accuracies.

    The other way round, so that here too below 1 means that the learner got worse.

    Args:
        errors: Errors of all tasks in order, ``(T,)``, T at least 1, at least 0; infinite where it did not finish.
        late: As in `late_early`.

    Returns:
        The ratio, 0 where a late task was not finished.

    Raises:
        InvalidInputError: If an error is negative or NaN.
    """
    e = _vector(errors)
    if not (e >= 0).all():
        raise InvalidInputError("errors must be at least 0")
    count = len(late_window(e.size, late))
    first, last = (max(math.fsum(part.tolist()) / count, ERROR_FLOOR) for part in (e[:count], e[-count:]))
    return 0.0 if math.isinf(last) else first / last


def error_above(learner: ArrayLike, fresh: ArrayLike) -> float:
    """Return how far the mean error of a learner is above that of fresh networks on the same tasks, in its unit.

    A ratio of losses says little, for most of a loss may be one that no network can avoid.

    Args:
        learner: Errors of the learner, ``(T,)``, T at least 1, at least 0; infinite where it did not finish.
        fresh: Errors of fresh networks, ``(T,)``, finite.

    Returns:
        The difference, negative where the learner does better; infinite where a task was not finished.

    Raises:
        InvalidInputError: If shapes differ or an error is negative or NaN.
    """
    e, f = _pair(learner, fresh)
    for errors in (e, f):
        _check(errors, np.zeros(1), "error")
    return math.fsum(e.tolist() + (-f).tolist()) / e.size


def lifetime(scores: ArrayLike) -> float:
    """Return the mean over all tasks of ``scores``, ``(T,)`` with T at least 1."""
    s = _vector(scores)
    return math.fsum(s.tolist()) / s.size


def above_chance(scores: ArrayLike, chance: ArrayLike, score: Score = "accuracy") -> NDArray[np.float64]:
    """Return how far each of ``scores``, ``(T,)``, is above chance: ``S - c``, or ``c - E`` of an error, at least 0.

    Args:
        scores: As in `retention`.
        chance: Scores at chance, ``(T,)`` or one number for all tasks, finite.
        score: What the scores are.

    Raises:
        InvalidInputError: If a score is out of range.
    """
    s = _vector(scores)
    c = _spread(chance, s.shape)
    _check(s, c, score)
    return s - c if score == "accuracy" else np.maximum(c - s, 0.0)


def _check(s: NDArray[np.float64], c: NDArray[np.float64], score: Score) -> None:
    if not np.isfinite(c).all():
        raise InvalidInputError("chance must be finite")
    if score == "accuracy" and not np.isfinite(s).all():
        raise InvalidInputError("accuracies must be finite; a task that was not finished counts at chance")
    if score == "error" and not (s >= 0).all():
        raise InvalidInputError("errors must be at least 0; a task that was not finished has an infinite one")


def _spread(chance: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.float64]:
    c = np.asarray(chance, dtype=np.float64)
    return c if c.shape == shape else np.broadcast_to(c, shape)


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
