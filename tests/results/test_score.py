import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lopbench.core.errors import InvalidInputError
from lopbench.results.score import (
    NEAR_CEILING,
    above_chance,
    at_ceiling,
    at_floor,
    ceiling,
    error_above,
    error_late_early,
    late_early,
    lifetime,
    retention,
)

scores = st.floats(0, 1, allow_subnormal=False)
above_chance_scores = st.lists(st.floats(0.3, 1), min_size=1, max_size=20)


@given(above_chance_scores)
def test_learner_equal_to_fresh_retains_exactly_one(fresh):
    assert retention(fresh, fresh, 0.2) == 1.0


@given(above_chance_scores, st.floats(0, 0.25))
def test_learner_at_chance_retains_exactly_nothing(fresh, chance):
    assert retention([chance] * len(fresh), fresh, chance) == 0.0


@given(st.lists(st.tuples(scores, st.floats(0.3, 1), st.floats(0, 0.25)), min_size=1, max_size=20), st.randoms())
def test_order_of_tasks_is_irrelevant(rows, random):
    shuffled = rows.copy()
    random.shuffle(shuffled)
    assert retention(*zip(*rows, strict=True)) == retention(*zip(*shuffled, strict=True))


@given(above_chance_scores, st.floats(0.1, 4))
def test_retention_scales_with_the_distance_from_chance(fresh, factor):
    learner = [0.2 + factor * (f - 0.2) for f in fresh]
    assert retention(learner, fresh, 0.2) == pytest.approx(factor, rel=1e-12)


@given(above_chance_scores, st.integers(0, 19), st.floats(0.01, 0.5))
def test_a_better_task_never_lowers_the_retention(fresh, task, gain):
    better = list(fresh)
    better[task % len(fresh)] += gain
    assert retention(better, fresh, 0.2) > retention(fresh, fresh, 0.2)


def test_golden_retention_to_the_last_digit():
    learner = [0.61, 0.43, 0.52, 0.37, 0.48]
    fresh = [0.83, 0.79, 0.81, 0.77, 0.84]
    chance = [0.2, 0.2, 0.25, 0.2, 0.2]
    # By hand: (.41 + .23 + .27 + .17 + .28) / (.63 + .59 + .56 + .57 + .64) = 1.36 / 2.99 = 0.45484949832775920; the
    # last digit is one lower, since these decimals are not binary fractions.
    assert retention(learner, fresh, chance) == 0.4548494983277591


@given(st.lists(st.tuples(scores, st.floats(0.3, 1), st.floats(0, 0.25)), min_size=1, max_size=20))
def test_both_sums_are_correctly_rounded(rows):
    learner, fresh, chance = zip(*rows, strict=True)
    exact = [float(sum(map(Fraction, x)) - sum(map(Fraction, chance))) for x in (learner, fresh)]
    assert retention(learner, fresh, chance) == exact[0] / exact[1]


def test_golden_late_early_and_lifetime_to_the_last_digit():
    log = [0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5, 0.45, 0.4]
    # late: 0.6 + 0.55 + 0.5 + 0.45 + 0.4 = 2.5; early: 0.9 + 0.85 + 0.8 + 0.75 + 0.7 = 4.0
    assert late_early(log) == 0.625
    assert lifetime(log) == 0.65  # 7.15 / 11


def test_ratio_of_sums_and_not_mean_of_ratios():
    # Ratios 0.5 and 3 have mean 1.75; the sums are 0.25 + 0.03 over 0.5 + 0.01.
    assert retention([0.45, 0.23], [0.7, 0.21], 0.2) == pytest.approx(0.28 / 0.51, rel=1e-12)


@pytest.mark.parametrize("fresh", [[0.2, 0.2], [0.1, 0.2]])
def test_reference_not_above_chance_has_no_retention(fresh):
    assert math.isnan(retention([0.5, 0.5], fresh, 0.2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.5], [0.5, 0.5], 0.2), "same tasks"),
        (([0.5, 0.5], [0.5, 0.5], [0.2, 0.2, 0.2]), "chance has shape"),
        (([0.5, math.nan], [0.5, 0.5], 0.2), "finite"),
        (([0.5], [0.5], math.nan), "finite"),
        (([], [], 0.2), "at least one task"),
        (([[0.5]], [[0.5]], 0.2), "at least one task"),
    ],
)
def test_retention_refuses_bad_input(arguments, message):
    with pytest.raises(InvalidInputError, match=message):
        retention(*arguments)


@pytest.mark.parametrize(
    ("learner", "fresh", "chance"),
    [([-0.1], [0.1], 0.2), ([math.nan], [0.1], 0.2), ([0.1], [-0.1], 0.2), ([0.1], [0.1], math.inf)],
)
def test_retention_of_errors_refuses_bad_input(learner, fresh, chance):
    with pytest.raises(InvalidInputError, match=r"errors must be at least 0|chance must be finite"):
        retention(learner, fresh, chance, "error")


SUMS = st.lists(st.tuples(st.floats(0, 2), st.floats(0, 0.4), st.floats(0.5, 1.5)), min_size=1, max_size=12)


@given(SUMS)
def test_retention_of_errors_by_hand(rows):
    learner, fresh, chance = zip(*rows, strict=True)
    gained = possible = 0.0
    for e, f, c in rows:
        gained += c - e if e < c else 0.0
        possible += c - f if f < c else 0.0
    assert retention(learner, fresh, chance, "error") == pytest.approx(gained / possible, rel=1e-12)
    np.testing.assert_allclose(above_chance(learner, chance, "error"), [max(c - e, 0) for e, _, c in rows])


@given(SUMS)
def test_scale_of_errors_is_that_of_accuracies(rows):
    learner, fresh, chance = zip(*rows, strict=True)
    assert retention(fresh, fresh, chance, "error") == 1.0
    assert retention(chance, fresh, chance, "error") == 0.0
    assert retention([math.inf] * len(rows), fresh, chance, "error") == 0.0
    worst = [min(e, c) for e, c in zip(learner, chance, strict=True)]  # below chance nothing gets worse
    mirrored = retention(*([1 - x for x in scores] for scores in (worst, fresh, chance)))
    assert retention(learner, fresh, chance, "error") == pytest.approx(mirrored, rel=1e-9, abs=1e-12)


def test_golden_retention_of_errors():
    # c - E: .5, 0 (worse than the best constant), .25, 0 (not finished); c - F: .75, .75, .5, .5
    assert retention([0.5, 1.5, 0.5, math.inf], [0.25, 0.25, 0.25, 0.25], [1.0, 1.0, 0.75, 0.75], "error") == 0.3


@pytest.mark.parametrize("score", ["accuracy", "error"])
def test_reference_at_chance_has_no_retention_of_either_kind(score):
    assert math.isnan(retention([0.1], [0.3], 0.3, score))
    assert math.isnan(ceiling([0.3], 0.3, score))


@given(above_chance_scores, st.lists(st.floats(0.3, 1), min_size=20, max_size=20))
def test_retention_is_fresh_times_self(own, common):
    common = common[: len(own)]
    learner = [0.2 + 0.7 * (x - 0.2) for x in own]
    product = retention(own, common, 0.2) * retention(learner, own, 0.2)
    assert retention(learner, common, 0.2) == pytest.approx(product, rel=1e-12)


@given(above_chance_scores)
def test_no_accuracy_beats_the_ceiling(fresh):
    top = ceiling(fresh, 0.2)
    assert top >= 1
    assert top == pytest.approx(0.8 / (sum(fresh) / len(fresh) - 0.2), rel=1e-9)
    assert retention(np.ones(len(fresh)), fresh, 0.2) == top


@given(SUMS)
def test_no_error_beats_the_ceiling(rows):
    learner, fresh, chance = zip(*rows, strict=True)
    assert ceiling(fresh, chance, "error") >= retention(learner, fresh, chance, "error")
    assert ceiling(fresh, chance, "error") == pytest.approx(sum(chance) / (sum(chance) - sum(fresh)), rel=1e-9)


def test_a_row_is_at_the_ceiling_by_its_mean_share():
    assert at_ceiling([1.30, 1.35], [1.36, 1.40])  # .956, .964
    assert not at_ceiling([1.30, 1.20], [1.36, 1.40])  # .956, .857
    assert not at_ceiling([NEAR_CEILING * 2], [2.0])
    assert not at_ceiling([], [])


def test_unfinished_tasks_stand_at_chance():
    found = at_floor({0: 0.9, 2: 0.7}, {0: 0.2, 1: 0.25, 2: 0.2, 3: 0.5}, range(4))
    np.testing.assert_array_equal(found, [0.9, 0.25, 0.7, 0.5])
    assert retention(at_floor({}, dict.fromkeys(range(3), 0.2), range(3)), [0.8] * 3, 0.2) == 0.0


@pytest.mark.parametrize("score", ["accuracy", "error"])
def test_scores_beyond_all_sums_are_refused(score):
    chance = 1.7e308 if score == "error" else -1.7e308
    with pytest.raises(InvalidInputError, match="too large to be added up"):
        retention([0.0, 0.0], [0.5, 0.5], [chance] * 2, score)


def test_late_early_compares_as_many_first_tasks():
    assert late_early([1.0] * 32 + [0.25] * 8) == 0.25
    assert late_early([0.3, 0.5]) == 1.0  # both windows are the whole run
    assert late_early([0.2] + [0.4] * 8 + [0.6], 9) == pytest.approx(3.8 / 3.4)
    assert math.isnan(late_early([0.0] * 5 + [1.0] * 5))


def test_error_late_early_is_early_over_late():
    assert error_late_early([0.25] * 8 + [0.5] * 24 + [1.0] * 8) == 0.25
    assert error_late_early([2.0] * 5 + [1.0] * 5) == 2.0
    assert error_late_early([2.0] + [1.0] * 8 + [0.5], 9) == pytest.approx(10 / 8.5)
    assert error_late_early([0.0] * 10) == 1.0


@pytest.mark.parametrize("finished", [0, 3, 9])
def test_error_late_early_of_an_unfinished_run_is_zero(finished):
    assert error_late_early([0.5] * finished + [math.inf] * (10 - finished)) == 0.0


def test_error_above_is_a_difference_of_means():
    assert error_above([0.5, 1.0, 3.0], [0.25, 0.5, 0.75]) == 1.0  # 4.5 / 3 - 1.5 / 3
    assert error_above([0.25, 0.25], [0.5, 1.0]) == -0.5
    assert error_above([0.25, math.inf], [0.5, 1.0]) == math.inf


@pytest.mark.parametrize("bad", [-0.5, math.nan])
def test_error_above_refuses_what_is_no_error(bad):
    with pytest.raises(InvalidInputError, match="errors must be at least 0"):
        error_above([bad, 1.0], [0.5, 0.5])
    with pytest.raises(InvalidInputError, match="errors must be at least 0"):
        error_above([0.5, 0.5], [bad, 1.0])


@given(st.lists(st.floats(1e-3, 1e3), min_size=10, max_size=30))
def test_error_and_accuracy_ratios_are_each_others_inverse(values):
    assert error_late_early(values) * late_early(values) == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("bad", [-0.1, math.nan])
def test_error_late_early_refuses_what_is_no_error(bad):
    with pytest.raises(InvalidInputError, match="at least 0"):
        error_late_early([bad, 1.0])
