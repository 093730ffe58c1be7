import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lopbench.core.errors import InvalidInputError
from lopbench.results.statistics import (
    FEWEST_SEEDS,
    MOST_SEEDS,
    RESAMPLES,
    Sample,
    detectable,
    holm,
    interval,
    needed_seeds,
    paired_test,
    probability_of_improvement,
    t_interval,
    unpaired_test,
)

#: Laws of scores: how to draw some of a shape, and their mean.
LAWS = {
    "normal": (lambda rng, shape: rng.normal(0.6, 0.1, shape), 0.6),
    "log-normal": (lambda rng, shape: rng.lognormal(0.0, 0.5, shape), math.exp(0.125)),
    "uniform": (lambda rng, shape: rng.random(shape), 0.5),
    "three in ten collapse": (lambda rng, shape: 0.7 * (rng.random(shape) < 0.7) + rng.normal(0, 0.03, shape), 0.49),
    "coarse": (lambda rng, shape: rng.integers(0, 11, shape) / 10, 0.5),
    "skewed accuracy": (lambda rng, shape: rng.beta(8, 2, shape), 0.8),
}

some_differences = st.lists(st.floats(-1, 1).map(lambda x: round(x, 6)), min_size=3, max_size=12)


def test_one_seed_has_no_interval():
    assert all(map(math.isnan, interval([0.7])))


def test_identical_values_have_an_interval_of_no_width():
    assert interval([0.1 + 0.2] * 3) == (0.1 + 0.2, 0.1 + 0.2)


@pytest.mark.parametrize("seeds", [2, 3, 5, 10, 30])
def test_interval_is_scipys_with_the_same_resamples(seeds):
    values = np.random.default_rng(seeds).lognormal(size=seeds)
    tail = stats.norm.cdf(-math.sqrt(seeds / (seeds - 1)) * stats.t.ppf(0.975, seeds - 1))
    found = stats.bootstrap(
        (np.sort(values),),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=1 - 2 * tail,
        method="percentile",
        rng=np.random.default_rng(20_151_001),
    )
    assert interval(values.tolist()) == pytest.approx(tuple(found.confidence_interval), rel=1e-12)


def test_interval_agrees_with_scipy_at_the_expanded_level():
    values = [0.61, 0.66, 0.58, 0.71, 0.64]
    # n = 5: t(0.975, 4) = 2.776445105, z = sqrt(5/4) * t = 3.104160, Phi(-z) = 0.00095410
    tail = 0.00095410
    drawn = np.random.default_rng(1).choice(values, (200_000, 5)).mean(axis=1)
    assert interval(values) == pytest.approx(np.quantile(drawn, [tail, 1 - tail]), abs=0.003)
    assert 1 - 2 * stats.norm.cdf(-math.sqrt(5 / 4) * stats.t.ppf(0.975, 4)) == pytest.approx(1 - 2 * tail, abs=1e-7)


@settings(max_examples=20)
@given(st.lists(st.floats(0, 1.5), min_size=2, max_size=12), st.randoms())
def test_interval_is_reproducible_ordered_and_inside_the_data(values, random):
    low, high = interval(values)
    shuffled = values.copy()
    random.shuffle(shuffled)
    assert interval(shuffled) == (low, high)
    slack = 1e-12
    assert min(values) - slack <= low <= high <= max(values) + slack


@pytest.mark.parametrize("law", ["normal", "skewed accuracy"])
@pytest.mark.parametrize(("seeds", "low", "high"), [(3, 0.65, 0.8), (5, 0.88, 0.95), (10, 0.92, 0.97)])
def test_coverage_is_near_95_percent_at_ten_seeds_and_below_at_few(law, seeds, low, high):
    draw, mean = LAWS[law]
    rng = np.random.default_rng(0)
    trials = 800  # plain percentile and BCa have 89% at 10 seeds
    ends = [interval(draw(rng, seeds).tolist()) for _ in range(trials)]
    coverage = sum(a <= mean <= b for a, b in ends) / trials
    print(f"{law}, {seeds} seeds: {coverage:.3f}")
    assert low <= coverage <= high


@pytest.mark.parametrize("values", [[], [0.5, math.nan], [math.inf]])
def test_interval_refuses_what_is_not_finite(values):
    with pytest.raises(InvalidInputError, match="finite value"):
        interval(values)


@given(some_differences.filter(lambda values: np.std(values) > 1e-3))
def test_t_interval_is_scipys_and_excludes_zero_where_the_test_does(values):
    low, high = t_interval(values)
    assert (low, high) == pytest.approx(tuple(stats.ttest_1samp(values, 0).confidence_interval()), rel=1e-6, abs=1e-9)
    assert (low > 0 or high < 0) == (paired_test(values) < 0.05)


def test_t_interval_needs_three_seeds():
    assert all(map(math.isnan, t_interval([0.1, 0.2])))
    assert all(map(math.isnan, t_interval([0.1])))
    assert t_interval([0.5] * 3) == (0.5, 0.5)


def test_enough_resamples_for_the_tails():
    tail = stats.norm.cdf(-math.sqrt(5 / 4) * stats.t.ppf(0.975, 4))
    assert RESAMPLES * tail > 5


def test_paired_test_by_hand():
    # mean 2, sd 1, t = 2 sqrt(3); with 2 degrees of freedom p = 1 - t / sqrt(t^2 + 2) = 1 - sqrt(12 / 14)
    assert paired_test([1.0, 2.0, 3.0]) == pytest.approx(1 - math.sqrt(12 / 14), rel=1e-12)


@given(some_differences.filter(lambda values: np.std(values) > 1e-3))
def test_paired_test_is_scipys(values):
    assert paired_test(values) == pytest.approx(stats.ttest_1samp(values, 0).pvalue, rel=1e-6)


@given(some_differences, st.randoms(), st.sampled_from([-1.0, 0.5, -4.0]))
def test_paired_test_knows_no_order_side_or_unit(values, random, factor):
    changed = [factor * value for value in values]
    random.shuffle(changed)
    assert paired_test(changed) == pytest.approx(paired_test(values), rel=1e-6, abs=1e-9)


def test_no_test_below_three_seeds_and_none_without_spread():
    assert math.isnan(paired_test([0.5, 0.5]))
    assert paired_test([0.0] * 4) == 1.0
    assert paired_test([0.25] * 4) == 0.0


@pytest.mark.parametrize("values", [[], [0.1, math.nan, 0.2], [0.1, math.inf, 0.2]])
def test_paired_test_refuses_what_is_not_finite(values):
    with pytest.raises(InvalidInputError, match="finite value"):
        paired_test(values)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_paired_test_calls_noise_a_difference_in_at_most_6_percent(law, seeds):
    draw, _ = LAWS[law]
    rng = np.random.default_rng(seeds)
    differences = draw(rng, (10_000, seeds)) - draw(rng, (10_000, seeds))
    assert np.mean([paired_test(row) <= 0.05 for row in differences]) <= 0.06


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_paired_test_sees_what_the_noncentral_t_says_it_sees(seeds):
    differences = np.random.default_rng(0).normal(1.2, 1.0, (2000, seeds))
    power = stats.nct.sf(stats.t.ppf(0.975, seeds - 1), seeds - 1, 1.2 * math.sqrt(seeds))
    assert np.mean([paired_test(row) <= 0.05 for row in differences]) == pytest.approx(power, abs=0.03)


def test_holm_by_hand():
    # sorted: 3 x 0.01 = 0.03, 2 x 0.03 = 0.06, 1 x 0.04 = 0.04, raised to 0.06 so that the order stays
    corrected = holm([0.01, math.nan, 0.04, 0.03])
    assert corrected[0] == pytest.approx(0.03)
    assert math.isnan(corrected[1])
    assert corrected[2:] == pytest.approx([0.06, 0.06])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=10))
def test_holm_lies_between_no_correction_and_bonferronis_and_keeps_the_order(p_values):
    corrected = holm(p_values)
    for p, q in zip(p_values, corrected, strict=True):
        assert p <= q <= min(1.0, len(p_values) * p)
    assert [q for _, q in sorted(zip(p_values, corrected, strict=True))] == sorted(corrected)


def test_holm_keeps_the_false_alarms_of_a_whole_table_at_5_percent():
    rng = np.random.default_rng(0)
    assert np.mean([min(holm(row)) <= 0.05 for row in rng.random((4000, 8)).tolist()]) == pytest.approx(0.05, abs=0.01)


def test_probability_of_improvement_by_hand():
    # of six pairs three are better, two worse, one tied
    assert probability_of_improvement([[1, 1, 1], [2, 2, 2]], [[2, 2, 0], [2, 3, 1]]) == pytest.approx(3.5 / 6)
    assert probability_of_improvement([-math.inf, 0.1], [0.1, -math.inf]) == 0.5


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1))
def test_improvement_of_either_over_the_other_adds_up_to_one(pairs):
    a, b = zip(*pairs, strict=True)
    assert probability_of_improvement(a, b) + probability_of_improvement(b, a) == pytest.approx(1.0)


@pytest.mark.parametrize(("a", "b"), [([], []), ([1.0], [1.0, 2.0]), ([math.nan], [1.0])])
def test_improvement_needs_pairs(a, b):
    with pytest.raises(InvalidInputError, match="needs pairs"):
        probability_of_improvement(a, b)


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("level", [0.05, 0.01])
def test_detectable_is_where_the_test_begins_to_see(seeds, level):
    values = np.random.default_rng(0).normal(size=seeds)
    standard = (values - values.mean()) / values.std(ddof=1)
    times = detectable(seeds, level)
    assert paired_test(standard + times * 1.001) < level < paired_test(standard + times * 0.999)


@pytest.mark.parametrize("effect", [0.3, 0.5, 1.0, 2.0, 3.3])
@pytest.mark.parametrize("level", [0.05, 0.05 / 8])
def test_needed_seeds_are_the_fewest_with_80_percent_power(effect, level):
    def power(n):
        critical = stats.t.ppf(1 - level / 2, n - 1)
        return stats.nct.sf(critical, n - 1, effect * math.sqrt(n))

    seeds = needed_seeds(-effect, 1.0, level)
    assert power(seeds) >= 0.8
    assert seeds == FEWEST_SEEDS or power(seeds - 1) < 0.8


def test_needed_seeds_at_the_ends():
    assert needed_seeds(0.0, 1.0) is None
    assert needed_seeds(0.01, 1.0) is None  # would be above MOST_SEEDS
    assert needed_seeds(0.1, 1.0) <= MOST_SEEDS
    assert needed_seeds(0.1, 0.0) == FEWEST_SEEDS
    assert needed_seeds(1e6, 1.0) == FEWEST_SEEDS


def test_unpaired_test_is_welchs():
    a, b = [0.61, 0.66, 0.58, 0.71], [0.7, 0.9, 0.75, 0.66, 0.8]
    expected = stats.ttest_ind(b, a, equal_var=False)
    low, high, p_value = unpaired_test(Sample.of(a), Sample.of(b))
    assert p_value == pytest.approx(expected.pvalue, rel=1e-9)
    assert (low, high) == pytest.approx(tuple(expected.confidence_interval()), rel=1e-9)


def test_unpaired_test_without_spread_or_with_too_few_seeds():
    assert unpaired_test(Sample.of([1.0] * 3), Sample.of([1.0] * 3)) == (0.0, 0.0, 1.0)
    assert unpaired_test(Sample.of([1.0] * 3), Sample.of([1.5] * 3)) == (0.5, 0.5, 0.0)
    assert all(map(math.isnan, unpaired_test(Sample.of([1.0, 1.1]), Sample.of([1.0, 1.2, 1.1]))))
    assert math.isnan(Sample.from_interval(0.5, 0.4, 0.6, 4).standard_error)


def test_sample_from_an_interval_takes_the_longer_arm():
    # t(0.975, 4) = 2.776445105
    assert Sample.from_interval(0.5, 0.3, 0.6, 5).standard_error == pytest.approx(0.2 / 2.776445105, rel=1e-9)
    with pytest.raises(InvalidInputError, match="no mean with its interval"):
        Sample.from_interval(0.5, 0.6, 0.7, 5)


@pytest.mark.parametrize("law", sorted({*LAWS} - {"coarse"}))
@pytest.mark.parametrize("seeds", [5, 10])
def test_means_and_intervals_alone_call_noise_a_difference_in_at_most_6_percent(law, seeds):
    rng = np.random.default_rng(seeds)
    tail = stats.norm.cdf(-math.sqrt(seeds / (seeds - 1)) * stats.t.ppf(0.975, seeds - 1))
    resamples = rng.integers(0, seeds, (2000, seeds))  # the same for all, as in `interval`

    def samples():
        values = LAWS[law][0](rng, (2000, seeds))
        ends = np.quantile(values[:, resamples].mean(axis=2), [tail, 1 - tail], axis=1)
        return [Sample.from_interval(*row, seeds) for row in zip(values.mean(axis=1), *ends, strict=True)]

    p_values = [unpaired_test(a, b)[2] for a, b in zip(samples(), samples(), strict=True)]
    assert np.mean(np.array(p_values) <= 0.05) <= 0.06
