from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lopbench.results.pairs import (
    COLLAPSED,
    FEWEST_RANKED,
    Entrant,
    mass_below,
    pair_tests,
    table_seeds,
    unseen_collapse,
    why_left_out,
)
from lopbench.results.statistics import paired_test

YES, NO = np.array([True]), np.array([False])


def row(*values):
    return Entrant(dict(enumerate(values)))


def on(seeds):
    return Entrant(dict.fromkeys(seeds, 1.0))


def mass_by_hand(values):
    """Return the probability by the truncated powers, for distinct values: exact, in fractions."""
    x = [Fraction(value) for value in values]
    total = Fraction(0)
    for i, a in enumerate(x):
        if a > 0:
            term = a ** (len(x) - 1)
            for j, b in enumerate(x):
                term = term / (a - b) if i != j else term
            total += term
    return float(1 - total)


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=9, unique=True))
def test_mass_below_is_that_of_truncated_powers(values):
    expected = mass_by_hand(values) if len(values) > 1 else float(values[0] <= 0)
    assert mass_below(np.array([values], dtype=float))[0] == pytest.approx(expected, abs=1e-12)


def test_mass_below_with_ties_is_that_of_drawing():
    rng = np.random.default_rng(0)
    for values in ([0.25] * 5 + [-1.0], [1.0, 1.0, -1.0, -1.0, 0.0], [0.0, 0.0, 0.3, -0.1]):
        drawn = np.mean(rng.dirichlet(np.ones(len(values)), 200_000) @ values <= 0)
        assert mass_below(np.array([values]))[0] == pytest.approx(drawn, abs=0.005)


def test_mass_below_of_one_bad_value_among_equals():
    # u (1 - D) - v D <= 0 where D, of law Beta(1, n), is at least u / (u + v): (v / (u + v))^n
    assert mass_below(np.array([[0.25] * 5 + [-1.0]]))[0] == pytest.approx(0.8**5)
    assert mass_below(np.array([[0.25] * 14 + [-1.0]]))[0] == pytest.approx(0.8**14)


def test_mass_below_without_either_side():
    assert mass_below(np.array([[0.1, 0.2], [-0.1, -0.2], [0.0, 0.0], [0.1, 0.0]])).tolist() == [0.0, 1.0, 1.0, 0.0]


@given(st.lists(st.floats(-1, 1).map(lambda x: round(x, 4)), min_size=3, max_size=10))
def test_without_collapse_the_test_is_the_paired_t_test(differences):
    first = np.linspace(0.5, 1.0, len(differences))[None]
    outcome = pair_tests(first, first + np.array(differences), NO)
    exact = (first + np.array(differences) - first)[0].tolist()
    assert outcome.two_sided[0] == pytest.approx(paired_test(exact), rel=1e-6, abs=1e-9)


@given(st.integers(0, 2**32 - 1), st.integers(5, 20))
def test_with_collapse_the_test_is_that_of_the_bounded_mean(seed, seeds):
    rng = np.random.default_rng(seed)
    a, b = rng.uniform(-0.05, 1.4, (2, seeds))
    outcome = pair_tests(a[None], b[None], YES)
    low = min(a.min(), b.min(), 0.0)
    assert outcome.better[0] == pytest.approx(mass_by_hand([*(b - a), low - a.max()]), abs=1e-9)
    assert outcome.worse[0] == pytest.approx(mass_by_hand([*(a - b), low - b.max()]), abs=1e-9)


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_swapping_rows_swaps_better_and_worse(seed, collapse):
    a, b = np.random.default_rng(seed).uniform(0, 1.4, (2, 7, 6))
    where = np.full(7, collapse)
    there, back = pair_tests(a, b, where), pair_tests(b, a, where)
    np.testing.assert_allclose(there.better, back.worse, rtol=1e-9)
    np.testing.assert_allclose(there.worse, back.better, rtol=1e-9)


def test_rounding_is_no_difference():
    a = np.full((1, 5), 0.3)
    outcome = pair_tests(a, a * (1 + 1e-12), NO)
    assert outcome.two_sided.tolist() == [1.0]


def test_the_same_difference_in_all_seeds_is_certain_unless_seeds_collapse():
    a = np.full((1, 5), 1.0)
    assert pair_tests(a, a + 0.25, NO).two_sided[0] == 0.0
    assert pair_tests(a, a + 0.25, YES).two_sided[0] == pytest.approx(2 * 0.8**5)  # one more seed at 0 against 1


def test_a_margin_shifts_the_differences():
    a = np.array([[1.0, 1.01, 0.99, 1.02, 1.0]])
    b = a - np.array([[0.01, 0.012, 0.008, 0.011, 0.009]])
    assert pair_tests(a, b, NO, 0.02).better[0] < 1e-3 < 0.5 < pair_tests(a, b, NO).better[0]
    assert pair_tests(a, b, NO, 0.005).better[0] > 0.5
    assert pair_tests(a, b, YES, 0.02).better[0] == pytest.approx(mass_by_hand([*(b - a + 0.02)[0], -1.0]), abs=1e-9)


@pytest.mark.parametrize("seeds", [5, 10, 20])
@pytest.mark.parametrize("name", ["1.00, 1.25 20%", "1.00, 2.00 50%", ".86 30%, 1.20 50%", "both 1.25 20%"])
def test_where_seeds_collapse_chance_is_called_a_difference_in_at_most_6_percent(simulate, name, seeds):
    _, bounded, seen, both = simulate.rejections(np.random.default_rng(seeds), simulate.EQUAL_MEANS[name], seeds, 3000)
    assert bounded <= 0.06
    assert seen <= 0.06
    if seeds == 20:
        assert both <= 0.06


def test_without_a_collapse_to_be_seen_the_test_is_misled_as_often_as_documented(simulate):
    # Five seeds miss a collapse of one in five in .8^5 = .33 of tables.
    _, bounded, _, both = simulate.rejections(np.random.default_rng(0), simulate.EQUAL_MEANS["1.00, 1.25 20%"], 5, 3000)
    assert bounded <= 0.06 < 0.28 < both < 0.37


@pytest.mark.parametrize(("seeds", "least"), [(5, 0.0), (10, 0.88), (20, 0.99)])
def test_the_bounded_test_sees_a_collapse_of_the_baseline(simulate, seeds, least):
    _, bounded, _, _ = simulate.rejections(
        np.random.default_rng(0), simulate.UNEQUAL_MEANS["1.2 against .9 40%"], seeds, 1000
    )
    assert least <= bounded <= (0.1 if seeds == 5 else 1.0)  # five seeds show next to nothing


def test_unseen_collapse_is_what_would_be_missed_in_one_table_of_twenty():
    for seeds in (3, 5, 10, 20):
        assert (1 - unseen_collapse(seeds)) ** seeds == pytest.approx(0.05)
    assert unseen_collapse(5) == pytest.approx(0.451, abs=1e-3)


def test_collapsed_seeds_are_counted():
    assert row(0.1, -0.2, COLLAPSED, 0.9, 0.19999).collapsed == 3


def test_table_seeds_are_those_of_the_baseline():
    rows = [on(range(10)), on(range(10)), on(range(3))]
    assert table_seeds(on(range(5)), rows) == frozenset(range(5))
    assert table_seeds(on(range(4)), rows) == frozenset(range(10))
    assert table_seeds(None, rows) == frozenset(range(10))
    assert table_seeds(None, [*rows, on(range(20))]) == frozenset(range(10))
    assert table_seeds(None, [on(range(5)), on(range(10))]) == frozenset(range(10))
    assert table_seeds(None, [on(range(3))] * 9) == frozenset()


@settings(max_examples=50)
@given(st.lists(st.sampled_from([3, 5, 6, 10]), max_size=6), st.randoms(use_true_random=False))
def test_table_seeds_know_no_order_and_nothing_of_rows_of_few_seeds(counts, random):
    rows = [on(range(count)) for count in counts]
    found = table_seeds(None, rows)
    random.shuffle(rows)
    assert table_seeds(None, rows) == found
    assert table_seeds(None, [*rows, on([7, 8, 9])]) == found


def test_rows_say_why_they_are_left_out():
    seeds = frozenset(range(6))
    assert why_left_out(on(range(6)), seeds) is None
    assert why_left_out(on(range(20)), seeds) is None
    assert why_left_out(on(range(1)), seeds) == "unranked: 1 seed with a retention, ranks take 5"
    assert why_left_out(on(range(FEWEST_RANKED - 1)), seeds) == "unranked: 4 seeds with a retention, ranks take 5"
    assert why_left_out(on(range(5)), seeds) == "unranked: lacks 1 of the 6 seeds of the table"
    assert why_left_out(on(range(1, 20)), seeds) == "unranked: lacks 1 of the 6 seeds of the table"
