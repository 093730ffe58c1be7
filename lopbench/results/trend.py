"""Trend: whether a learner is losing ground to fresh networks as the stream goes on.

The retention is one number for the late tasks. Above 1, transfer outweighs what was lost, and the loss may go on: the
trend tells.
"""

import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lopbench.core.errors import InvalidInputError
from lopbench.results.score import Score, above_chance

#: Share of the stream that is left out at its beginning, where learners warm up: all gain there, for a while.
WARM_UP = 0.2

#: Least share of the stream that the tasks with a reference must reach over: a line through less is not of the stream.
REACH = 0.5

#: Fewest tasks with a reference after the warm-up.
FEWEST_TASKS = 3

#: Change per tenth of the stream that counts as none: over a whole stream, a tenth of a fresh network.
FLAT = 0.01

Word = Literal["losing", "level", "gaining", "unclear"]


def trend(
    learner: ArrayLike, fresh: ArrayLike, chance: ArrayLike, position: ArrayLike, score: Score = "accuracy"
) -> float:
    """Return the trend of one seed: the change of S/F, learner over fresh network, per tenth of the stream.

    ``S_t`` and ``F_t`` are what learner and fresh network have above chance on task t (`above_chance`), and ``x_t`` is
    where in the stream the middle of the task lies. Tasks in the first fifth of the stream (`WARM_UP`) are left out.
    The trend is the slope of the line ``a + b x`` for which ``S_t - F_t (a + b x_t)`` and its product with ``x_t`` have
    weighted sums of zero, as the retention is the constant for which the plain sum is zero:

        b = sum w_t (x_t - m) S_t / sum w_t (x_t - m)^2 F_t,    m = sum w_t x_t F_t / sum w_t F_t.

    The weight ``w_t`` is the share of the stream that is nearer to ``x_t`` than to the middle of any other task with a
    reference. So the trend is that of the stream, whichever tasks have a reference, and however long tasks are.

    No ``F_t`` is divided by alone. Simulated with S/F = 1.1 all along, noise of sd .02 in both, and references on all
    tasks of 40, or on every fourth and the late ones (``tests/results/simulate_statistics.py``), the sd of b is:

    | F, mean above chance | this | slope of single ratios | least squares of S on F | bias of the last |
    |---|---|---|---|---|
    | .6 | .004, .006 | .004, .005 | .004, .005 | .000 |
    | from .3 to .6 | .005, .008 | .005, .007 | .005, .007 | .000 |
    | .08 | .029, .047 | 3.6, 3.7 | .026, .038 | -.001 |
    | from .2 to .05 | .024, .034 | 3.5, 1.0 | .021, .029 | -.009, -.011 |

    The slope of single ratios blows up near chance. Least squares, ``sum (S_t - F_t (a + b x_t))^2``, is steadiest, but
    noise in ``F_t`` shrinks it, the more the nearer to chance, which looks like a loss where tasks get harder.

    Args:
        learner: Scores of the learner on the tasks that have a reference, ``(T,)``, as in `retention`.
        fresh: Scores of a fresh network on the same tasks, ``(T,)``.
        chance: Scores at chance, ``(T,)`` or one number for all tasks.
        position: Where the middle of each task lies, ``(T,)``, as a fraction of the stream in [0, 1]; no two the same,
            in any order.
        score: What the scores are.

    Returns:
        The change per tenth of the stream; NaN if and only if `why_no_trend` has a reason.

    Raises:
        InvalidInputError: If shapes differ, a score is out of range, or positions are not distinct and in [0, 1].
    """
    x, w, f, order = _references(fresh, chance, position, score)
    s = above_chance(learner, chance, score)
    if s.size != np.size(position):
        raise InvalidInputError(f"{s.size} scores of the learner for {np.size(position)} positions")
    if _flaw(x, w, f) is not None:
        return math.nan
    middle, spread = _moments(x, w * f)
    total = math.fsum(w * f)
    # Without the part that does not change, whose product with x - m is zero: a learner like the fresh network has 0.
    changing = s[order] - f * (math.fsum(w * s[order]) / total)
    slope = math.fsum(w * (x - middle) * changing) / (spread * total)
    return slope / 10


def why_no_trend(fresh: ArrayLike, chance: ArrayLike, position: ArrayLike, score: Score = "accuracy") -> str | None:
    """Return why there is no `trend` over these references, in words; None if there is one.

    There is none with fewer than three references after the first fifth of the stream, or if these reach over less
    than half of the stream. There is none either where the reference is too near chance: if the sum of the weights
    ``w_t F_t`` is not above 0, or if they leave less than half of the variance that ``x_t`` has under ``w_t``, which
    happens if the sum over some part of the stream is about zero or negative.

    Args:
        fresh: As in `trend`.
        chance: As in `trend`.
        position: As in `trend`.
        score: As in `trend`.

    Raises:
        InvalidInputError: As in `trend`.
    """
    x, w, f, _ = _references(fresh, chance, position, score)
    return _flaw(x, w, f)


def trend_word(low: float, high: float) -> Word:
    """Return in a word what the interval of a trend shows.

    The interval is `t_interval` over seeds of their `trend`. For a learner whose S/F does not change, "losing" and
    "gaining" together are said in 4 to 6% of cases at 3, 5 and 10 seeds, with references .03 to .6 above chance on all
    tasks or a few (simulated as in `trend`). Each row is judged for itself: of twenty rows without a trend, one is
    called so.

    Args:
        low: Low end of the 95% interval, NaN where there is none.
        high: High end.

    Returns:
        "losing" or "gaining" if the interval is below or above 0. If it holds 0, "level" where it also lies within
        `FLAT` of it, so that no larger change is left possible, and else "unclear", as without an interval.
    """
    if high < 0:
        return "losing"
    if low > 0:
        return "gaining"
    return "level" if low >= -FLAT and high <= FLAT else "unclear"


def _references(
    fresh: ArrayLike, chance: ArrayLike, position: ArrayLike, score: Score
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.intp]]:
    """Return positions, weights and heights above chance of what comes after the warm-up, and their indices."""
    x = np.asarray(position, dtype=np.float64)
    order = np.argsort(x, axis=0)
    if x.ndim != 1 or not ((x >= 0) & (x <= 1)).all() or not (np.diff(x[order]) > 0).all():
        raise InvalidInputError("positions must be distinct fractions of the stream, in [0, 1]")
    f = above_chance(fresh, chance, score)
    if f.shape != x.shape:
        raise InvalidInputError(f"{f.size} scores of the reference for {x.size} positions")
    order = order[x[order] >= WARM_UP]
    x, f = x[order], f[order]
    w = np.diff([WARM_UP, *(x[1:] + x[:-1]) / 2, 1.0]) if x.size else x
    return x, w, f, order


def _flaw(x: NDArray[np.float64], w: NDArray[np.float64], f: NDArray[np.float64]) -> str | None:
    if x.size < FEWEST_TASKS or x[-1] - x[0] < REACH:
        return (
            f"no trend: it takes fresh references on {FEWEST_TASKS} tasks after the first {WARM_UP:.0%} of the stream, "
            f"over {REACH:.0%} of it"
        )
    if not (math.fsum(w * f) > 0 and _moments(x, w * f)[1] >= _moments(x, w)[1] / 2):
        return "no trend: fresh reference too near chance"
    return None


def _moments(x: NDArray[np.float64], w: NDArray[np.float64]) -> tuple[float, float]:
    """Return mean and variance of ``x`` under weights of a positive sum."""
    total = math.fsum(w)
    mean = math.fsum(w * x) / total
    return mean, math.fsum(w * (x - mean) ** 2) / total
