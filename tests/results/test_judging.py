"""Whether seeds show that a number lies where a claim says: against textbook tests, by properties, by simulation."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lopbench.results.judging import COLLAPSE_NOTE, Finding, find, rank_correlation, unstable, verdict
from lopbench.results.statistics import LEVEL

VALUES = st.lists(st.floats(-5, 5).map(lambda value: round(value, 3)), min_size=3, max_size=12).filter(
    lambda values: len(set(values)) > 2
)
BOUNDS = st.floats(-5, 5).map(lambda value: round(value, 3))


@pytest.fixture(scope="module")
def simulate():
    path = Path(__file__).with_name("simulate_claims.py")
    spec = importlib.util.spec_from_file_location("simulate_claims", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@given(VALUES, BOUNDS)
def test_a_bound_is_tested_by_a_one_sided_t_test_at_half_the_level(values, bound):
    found = find(values, bound, math.inf)
    above = stats.ttest_1samp(values, bound, alternative="greater").pvalue
    below = stats.ttest_1samp(values, bound, alternative="less").pvalue
    assert found.p_inside == pytest.approx(min(1, 2 * above), abs=1e-9)
    assert found.p_outside == pytest.approx(min(1, 2 * below), abs=1e-9)
    mirrored = find([-value for value in values], -math.inf, -bound)
    assert (mirrored.p_inside, mirrored.p_outside) == pytest.approx((found.p_inside, found.p_outside), abs=1e-9)


@given(VALUES, BOUNDS, st.floats(0, 3))
def test_a_range_holds_if_both_of_its_ends_do_and_fails_if_one_does(values, low, width):
    high = low + width
    ends = find(values, low, math.inf), find(values, -math.inf, high)
    found = find(values, low, high)
    assert found.p_inside == pytest.approx(max(end.p_inside for end in ends))
    assert found.p_outside == pytest.approx(min(end.p_outside for end in ends))
    assert not (found.p_inside <= LEVEL and found.p_outside <= LEVEL)


@given(VALUES, BOUNDS)
def test_a_difference_is_a_paired_test(values, bound):
    other = [0.1 * index for index in range(len(values))]
    first = [value + base for value, base in zip(values, other, strict=True)]
    found, alone = find(first, bound, math.inf, base=other), find(values, bound, math.inf)
    assert found.p_inside == pytest.approx(alone.p_inside, abs=1e-6)
    assert found.value == pytest.approx(np.mean(values))


@pytest.mark.parametrize(
    ("low", "high"), [(1.0, math.inf), (-math.inf, 1.0), (1.0, 1.0), (0.9, 1.0), (0.1 + 0.2 + 0.7, 2.0)]
)
def test_a_number_that_is_a_bound_in_all_seeds_is_in_the_range(low, high):
    found = find([1.0] * 5, low, high)
    assert (found.p_inside, found.p_outside) == (0.0, 1.0)
    assert verdict([found]) == "agrees"


def test_a_difference_of_nothing_is_not_shown_to_be_at_least_0():
    assert verdict([find([0.7, 0.8, 0.9], 0.0, math.inf, base=[0.7, 0.8, 0.9])]) == "cannot tell"


def test_rounding_shows_nothing():
    found = find([1.0] * 5, 0.1, math.inf, base=[0.9] * 5)  # of which the difference is .09999999999999998
    assert verdict([found]) == "cannot tell"


def test_an_interval_inside_the_range_agrees_and_one_outside_disagrees():
    values = [0.9, 1.0, 1.1, 1.0, 0.95]
    low, high = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    assert verdict([find(values, low - 0.001, high + 0.001)]) == "agrees"
    assert verdict([find(values, low + 0.001, high + 0.001)]) == "cannot tell"
    assert verdict([find(values, high + 0.001, 9)]) == "disagrees"
    assert verdict([find(values, -9, low - 0.001)]) == "disagrees"
    assert verdict([find(values, -9, low + 0.001)]) == "cannot tell"


def finding(p_inside, p_outside):
    return Finding(0.0, 5, p_inside, p_outside, None, "")


def test_all_numbers_have_to_hold_and_one_that_fails_is_enough_after_holms_correction():
    holds, open_, fails = finding(0.04, 1.0), finding(0.4, 0.6), finding(1.0, 0.04)
    assert verdict([holds, holds]) == "agrees"
    assert verdict([holds, open_]) == "cannot tell"
    assert verdict([fails]) == "disagrees"
    assert verdict([fails, holds]) == "cannot tell"  # .04 * 2 is more than .05
    assert verdict([finding(1.0, 0.024), holds]) == "disagrees"
    assert verdict([finding(math.nan, math.nan), holds]) == "cannot tell"


def test_few_seeds_tell_nothing_and_say_how_many_would():
    found = find([1.0, 1.1], 0.0, math.inf)
    assert math.isnan(found.p_inside)
    assert (found.needed_seeds, found.note) == (3, "a test needs at least 3 seeds")
    assert verdict([found]) == "cannot tell"
    assert math.isnan(find([], 0.0, 1.0).value)
    collapsed = find([1.0, 0.0, 1.1, 1.0], 0.5, math.inf, collapse=True)
    assert collapsed.note == f"{COLLAPSE_NOTE}; a test needs at least 5 seeds"


def test_seeds_that_would_tell_are_those_with_which_the_test_finds_it_in_four_of_five_studies():
    values = [0.0, 0.1, -0.1, 0.2, 0.05]
    found = find(values, 0.0, math.inf)
    assert verdict([found]) == "cannot tell"
    rng = np.random.default_rng(0)
    studies = np.mean(values) + np.std(values, ddof=1) * rng.standard_normal((2000, found.needed_seeds))
    told = np.mean([find(study, 0.0, math.inf).p_inside <= LEVEL for study in studies])
    assert told == pytest.approx(0.8, abs=0.04)
    assert find([1.0, 1.1, 1.0], 0.0, math.inf).needed_seeds is None  # told already
    assert "more than 1000 seeds" in find([1.0, -1.0, 0.001], 0.0, math.inf).note


def test_rows_at_the_ceiling_are_not_told_apart_but_may_be_as_good():
    first, second = [1.0, 1.01, 1.02, 1.0], [0.9, 0.91, 0.93, 0.9]
    assert verdict([find(first, 0, math.inf, base=second)]) == "agrees"
    assert verdict([find(first, 0, math.inf, base=second, at_ceiling=True)]) == "cannot tell"
    assert verdict([find(second, 0, math.inf, base=first, at_ceiling=True)]) == "cannot tell"
    assert verdict([find(first, -0.02, math.inf, base=second, at_ceiling=True)]) == "agrees"  # no worse
    assert verdict([find(second, -0.02, math.inf, base=first, at_ceiling=True)]) == "cannot tell"


def test_where_seeds_collapse_five_that_do_not_show_little():
    values = [1.0, 1.02, 0.98, 1.01, 0.0]
    assert verdict([find(values, 0.5, math.inf, collapse=True)]) == "cannot tell"
    assert find(values, 0.5, math.inf, collapse=True).needed_seeds is None
    assert verdict([find([0.0, 0.1, 0.0, 0.05, 0.1], 0.98, math.inf, collapse=True)]) == "disagrees"
    assert unstable([{0: 1.0, 1: 0.19}])
    assert not unstable([{0: 1.0, 1: 0.2}])


def test_a_rank_correlation_is_spearmans():
    assert rank_correlation([1, 2, 3], [5, 7, 6]) == pytest.approx(0.5)
    assert math.isnan(rank_correlation([1, 1, 1], [1, 2, 3]))


@pytest.mark.parametrize("name", ["normal, sd .1", "40% collapse"])
def test_no_more_than_one_study_in_twenty_agrees_with_what_does_not_hold(simulate, name):
    rng, law, studies = np.random.default_rng(1), simulate.LAWS[name], 400
    # Five seeds do not always show a collapse, ten nearly always do.
    for seeds in (10,) if "collapse" in name else (5, 10):
        assert max(simulate.shares(rng, law, seeds, studies)) <= 0.05
        agrees, disagrees = simulate.order(rng, law, seeds, studies)
        assert agrees <= 0.01
        assert disagrees <= 0.06
