import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lopbench.core.errors import InvalidInputError
from lopbench.results.statistics import RESAMPLES, interval


def test_one_seed_has_no_interval():
    assert all(map(math.isnan, interval([0.7])))


def test_identical_values_have_an_interval_of_no_width():
    assert interval([0.1 + 0.2] * 3) == (0.1 + 0.2, 0.1 + 0.2)


def test_interval_agrees_with_scipy_at_the_expanded_level():
    values = [0.61, 0.66, 0.58, 0.71, 0.64]
    # n = 5: t(0.975, 4) = 2.776445105, z = sqrt(5/4) * t = 3.104160, Phi(-z) = 0.00095410
    tail = 0.00095410
    drawn = np.random.default_rng(1).choice(values, (200_000, 5)).mean(axis=1)
    assert interval(values) == pytest.approx(np.quantile(drawn, [tail, 1 - tail]), abs=0.003)
    assert 1 - 2 * stats.norm.cdf(-math.sqrt(5 / 4) * stats.t.ppf(0.975, 4)) == pytest.approx(1 - 2 * tail, abs=1e-7)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.floats(0, 1.5), min_size=2, max_size=12), st.randoms())
def test_interval_is_reproducible_ordered_and_inside_the_data(values, random):
    low, high = interval(values)
    shuffled = values.copy()
    random.shuffle(shuffled)
    assert interval(shuffled) == (low, high)
    slack = 1e-12
    assert min(values) - slack <= low <= high <= max(values) + slack


def test_coverage_at_ten_seeds_is_near_95_percent():
    rng = np.random.default_rng(0)
    trials = 1000
    hits = 0
    for _ in range(trials):
        low, high = interval(rng.normal(0.6, 0.1, 10).tolist())
        hits += low <= 0.6 <= high
    assert 0.92 <= hits / trials <= 0.97  # plain percentile and BCa have 89%


@pytest.mark.parametrize("values", [[], [0.5, math.nan], [math.inf]])
def test_interval_refuses_what_is_not_finite(values):
    with pytest.raises(InvalidInputError, match="finite value"):
        interval(values)


def test_enough_resamples_for_the_tails():
    tail = stats.norm.cdf(-math.sqrt(5 / 4) * stats.t.ppf(0.975, 4))
    assert RESAMPLES * tail > 5
