import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lopbench.results.pairs import Entrant, mass_below
from lopbench.results.statistics import LEVEL, holm, paired_test, t_interval
from lopbench.results.verdicts import BASELINE_COLLAPSE_NOTE, COLLAPSE_NOTE, not_worse, verdicts


def entrant(*values, at_ceiling=False):
    return Entrant(dict(enumerate(values)), at_ceiling)


NONE = entrant(0.90, 0.91, 0.90, 0.92, 0.89)
BETTER = entrant(1.00, 1.02, 0.99, 1.01, 1.00)
WORSE = entrant(0.50, 0.53, 0.51, 0.50, 0.52)
LIKE = entrant(0.91, 0.90, 0.90, 0.91, 0.90)


def words(baseline, entrants, seeds=5):
    return [None if each is None else each.word for each in verdicts(baseline, entrants, range(seeds))]


def test_rows_are_judged_against_the_baseline():
    assert words(NONE, [WORSE, BETTER, LIKE, NONE]) == ["worse", "better", "not shown", "not shown"]
    assert words(NONE, []) == []


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=6))
def test_p_values_are_corrected_for_the_verdicts_alone(seeds):
    rows = [0.9 + 0.05 * np.random.default_rng(seed).random(5) for seed in seeds]
    base = np.array(list(NONE.scores.values()))
    expected = holm([paired_test(row - base) for row in rows])
    found = verdicts(NONE, [entrant(*row) for row in rows], range(5))
    assert [each.p_holm for each in found] == pytest.approx(expected, rel=1e-6)
    for each, row in zip(found, rows, strict=True):
        sign = "better" if row.mean() > base.mean() else "worse"
        assert each.word == (sign if each.p_holm <= LEVEL else "not shown")


def test_rows_of_too_few_or_other_seeds_change_nothing():
    few, other = entrant(9.0, 9.1, 9.2, 9.3), Entrant(dict.fromkeys(range(1, 9), 9.0))
    alone = verdicts(NONE, [BETTER, LIKE], range(5))
    assert verdicts(NONE, [few, BETTER, other, LIKE], range(5)) == [None, alone[0], None, alone[1]]


def test_a_baseline_of_too_few_seeds_judges_nobody():
    assert words(entrant(0.9, 0.91, 0.9, 0.92), [BETTER, WORSE], 4) == [None, None]
    assert words(NONE, [entrant(*[1.0] * 6)], 6) == [None]


def test_added_entries_do_not_erase_what_is_shown_against_the_baseline():
    rng = np.random.default_rng(0)
    others = [entrant(*(0.9 + 0.01 * rng.standard_normal(5))) for _ in range(20)]
    assert words(NONE, [BETTER, *others])[0] == "better"
    # .05 / n is always enough
    assert paired_test([0.1, 0.11, 0.09, 0.09, 0.11]) < 0.05 / 21


def test_where_seeds_collapse_the_verdict_says_so_and_rests_on_the_bounded_test():
    unstable = entrant(0.90, 0.91, 0.0, 0.92, 0.89)
    found = verdicts(unstable, [BETTER, LIKE, unstable], range(5))
    assert [each.note for each in found] == [BASELINE_COLLAPSE_NOTE, BASELINE_COLLAPSE_NOTE, COLLAPSE_NOTE]
    assert [each.word for each in found] == ["not shown"] * 3
    assert verdicts(NONE, [unstable, BETTER], range(5))[0].note == COLLAPSE_NOTE
    differences = [BETTER.scores[seed] - unstable.scores[seed] for seed in range(5)]
    p = 2 * mass_below(np.array([[*differences, -0.92]]))[0]
    assert verdicts(unstable, [BETTER], range(5))[0].p_holm == pytest.approx(min(1.0, p))
    assert verdicts(NONE, [BETTER], range(5))[0].note == ""


def test_a_baseline_that_collapses_altogether_is_beaten_even_at_five_seeds():
    [found] = verdicts(entrant(0.1, 0.0, 0.05, 0.1, 0.12), [BETTER], range(5))
    assert (found.word, found.note) == ("better", BASELINE_COLLAPSE_NOTE)


def test_nothing_is_shown_between_rows_at_the_ceiling():
    top, other = (entrant(*each.scores.values(), at_ceiling=True) for each in (BETTER, NONE))
    [found] = verdicts(other, [top], range(5))
    assert (found.word, found.note) == ("not shown", "both at the ceiling")
    assert words(NONE, [top]) == ["better"]


@pytest.mark.parametrize("seeds", [5, 10])
def test_verdicts_on_equal_rows_are_seldom_wrong(seeds):
    rng = np.random.default_rng(seeds)
    wrong = 0
    for table in 1 + 0.03 * rng.standard_normal((600, 7, seeds)):
        first, *others = (entrant(*row) for row in table)
        wrong += any(word != "not shown" for word in words(first, others, seeds))
    assert wrong / 600 <= 0.07


# -- not worse


@given(st.integers(0, 2**32 - 1), st.integers(3, 10))
def test_not_worse_is_shown_where_the_interval_lies_above_the_margin(seed, seeds):
    rng = np.random.default_rng(seed)
    a, b = 1 + 0.02 * rng.standard_normal((2, seeds))
    low, _ = t_interval(b - a)
    assert (not_worse(entrant(*a), entrant(*b)) < 0.05) == (low > -0.02)


def test_not_worse_is_no_difference_and_much_data():
    assert not_worse(NONE, LIKE) < 0.05
    assert not_worse(NONE, BETTER) < 0.001
    assert not_worse(NONE, WORSE) == 1.0
    noisy = entrant(0.8, 1.0, 0.95, 0.82, 0.93)
    assert words(NONE, [noisy]) == ["not shown"]
    assert not_worse(NONE, noisy) > 0.05  # no evidence of a difference is none of its absence


def test_not_worse_takes_shared_seeds_and_three_of_them():
    assert math.isnan(not_worse(entrant(0.9, 0.9), entrant(0.9, 0.9)))
    assert math.isnan(not_worse(entrant(0.9, 0.9, 0.1), entrant(0.9, 0.9, 0.9)))
    assert not_worse(NONE, Entrant({**LIKE.scores, 9: 0.3})) == pytest.approx(not_worse(NONE, LIKE))


def test_not_worse_shows_nothing_at_five_seeds_of_which_one_collapsed():
    assert not_worse(entrant(0.9, 0.9, 0.0, 0.9, 0.9), entrant(0.9, 0.9, 0.01, 0.9, 0.9)) > 0.05


@pytest.mark.parametrize("seeds", [5, 10])
def test_worse_by_the_margin_is_seldom_called_not_worse(seeds):
    rng = np.random.default_rng(seeds)
    a, b = 1 + 0.02 * rng.standard_normal((2, 3000, seeds))
    shown = [not_worse(entrant(*x), entrant(*y)) <= 0.05 for x, y in zip(a, b - 0.02, strict=True)]
    assert np.mean(shown) <= 0.035  # one side of 5%
