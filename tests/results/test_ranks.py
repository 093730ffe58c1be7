import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lopbench.results.pairs import COLLAPSED, Entrant, mass_below
from lopbench.results.ranks import Range, rank_ranges
from lopbench.results.statistics import LEVEL, holm, paired_test


def entrant(*values, at_ceiling=False):
    return Entrant(dict(enumerate(values)), at_ceiling)


def texts(entrants, seeds=5):
    return [None if each is None else str(each) for each in rank_ranges(entrants, range(seeds))]


def ranges_by_hand(entrants, seeds):
    """Return the ranges by the definition, pair by pair."""
    fit = [i for i, each in enumerate(entrants) if len(each.scores) >= 5 and set(seeds) <= each.scores.keys()]
    pairs, p_values = [], []
    for i in fit:
        for j in fit:
            if i < j:
                a, b = ([entrants[k].scores[seed] for seed in seeds] for k in (i, j))
                d = [y - x for x, y in zip(a, b, strict=True)]
                if min(*entrants[i].scores.values(), *entrants[j].scores.values()) < COLLAPSED:
                    low = min(*a, *b, 0.0)
                    up = mass_below(np.array([[*d, low - max(a)]]))[0]
                    down = mass_below(np.array([[*(-x for x in d), low - max(b)]]))[0]
                    p_values.append(min(1.0, 2 * min(up, down)))
                else:
                    p_values.append(paired_test(d))
                pairs.append((i, j) if sum(d) > 0 else (j, i))
    found = zip(pairs, holm(p_values), strict=True)
    marked = [each.at_ceiling for each in entrants]
    above = {pair for pair, p in found if p <= LEVEL and not (marked[pair[0]] and marked[pair[1]])}
    while True:
        more = {(i, m) for i, j in above for k, m in above if j == k and not (marked[i] and marked[m])} - above
        if not more:
            break
        above |= more
    return [
        Range(1 + sum(i == worse for worse, _ in above), len(fit) - sum(i == better for _, better in above))
        if i in fit
        else None
        for i in range(len(entrants))
    ]


TABLES = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.5, 0.52, 0.9, 1.2]),  # mean
        st.sampled_from([4, 5, 6, 7]),  # seeds
        st.booleans(),
        st.integers(0, 2**32 - 1),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=100)
@given(TABLES, st.randoms(use_true_random=False))
def test_ranges_are_those_by_hand_in_any_order(rows, random):
    entrants = [
        Entrant(dict(enumerate(mean + 0.02 * np.random.default_rng(seed).standard_normal(seeds))), mark)
        for mean, seeds, mark, seed in rows
    ]
    found = rank_ranges(entrants, range(5))
    assert found == ranges_by_hand(entrants, range(5))
    for each in filter(None, found):
        assert 1 <= each.low <= each.high <= len(entrants)
    order = list(range(len(entrants)))
    random.shuffle(order)
    assert rank_ranges([entrants[k] for k in order], range(5)) == [found[k] for k in order]


A = entrant(1.00, 1.02, 0.99, 1.01, 1.00)
B = entrant(0.90, 0.91, 0.90, 0.92, 0.89)
C = entrant(0.50, 0.53, 0.51, 0.50, 0.52)


def test_what_is_clearly_apart_has_one_rank_each():
    assert texts([C, A, B]) == ["3", "1", "2"]


def test_what_the_seeds_cannot_tell_apart_shares_a_range():
    like_a = entrant(1.02, 0.99, 1.00, 1.00, 1.01)
    assert texts([A, like_a, C]) == ["1-2", "1-2", "3"]
    assert texts([A, A, A]) == ["1-3", "1-3", "1-3"]
    assert texts([A]) == ["1"]


def test_other_rows_change_nothing():
    few = entrant(9.0, 9.1, 9.2, 9.0)
    other_seeds = Entrant(dict.fromkeys(range(1, 9), 9.0))
    assert texts([few, C, A, other_seeds, B]) == [None, "3", "1", None, "2"]
    assert texts([few]) == [None]
    assert texts([]) == []


def test_more_seeds_than_the_table_change_nothing():
    more = Entrant({**A.scores, 5: 0.3, 6: 0.3})
    assert texts([C, more, B]) == ["3", "1", "2"]


def test_rows_at_the_ceiling_are_not_told_apart_from_each_other_only():
    a, b = (entrant(*each.scores.values(), at_ceiling=True) for each in (A, B))
    assert texts([a, b, C]) == ["1-2", "1-2", "3"]
    assert texts([a, B, C]) == ["1", "2", "3"]
    between = entrant(*(x - 0.05 for x in A.scores.values()))  # worse than a, better than b
    assert texts([a, b, between]) == ["1-2", "2-3", "2"]


def test_a_collapsed_seed_takes_the_certainty():
    assert texts([entrant(1.2, 1.21, 1.19, 1.2, 1.22), entrant(1.0, 1.01, 1.0, 1.0, 1.0)]) == ["1", "2"]
    assert texts([entrant(1.2, 1.21, 1.19, 1.2, 1.22), entrant(1.0, 1.01, 0.0, 1.0, 1.0)]) == ["1-2", "1-2"]
    # A seed that is not of the table shows it, too.
    unstable = Entrant({**entrant(1.2, 1.21, 1.19, 1.2, 1.22).scores, 5: 0.0})
    assert texts([unstable, entrant(1.0, 1.01, 1.0, 1.0, 1.0)]) == ["1-2", "1-2"]


@pytest.mark.parametrize("seeds", [5, 10])
@pytest.mark.parametrize("unequal", [False, True])
def test_ranges_of_equal_rows_are_seldom_too_narrow(seeds, unequal):
    rng = np.random.default_rng(seeds)
    deviation = np.geomspace(0.005, 0.1, 8) if unequal else np.full(8, 0.03)
    wrong = 0
    for table in 1 + deviation[:, None] * rng.standard_normal((500, 8, seeds)):
        found = rank_ranges([entrant(*values) for values in table.tolist()], range(seeds))
        wrong += any(each != Range(1, 8) for each in found)
    assert wrong / 500 <= 0.07


def test_correction_is_the_one_of_the_simulation(simulate):
    values = 1 + 0.03 * np.arange(7)[:, None] + 0.02 * np.random.default_rng(0).standard_normal((20, 7, 5))
    found, difference = simulate.corrections(values)
    for table, told, mean in zip(values.tolist(), found["Holm"], difference, strict=True):
        for each, worse, better in zip(
            rank_ranges([entrant(*row) for row in table], range(5)),
            (told & (mean < 0)).sum(axis=1),
            (told & (mean > 0)).sum(axis=1),
            strict=True,
        ):
            assert each.low >= 1 + better  # a chain of differences may add to those of the test
            assert each.high <= 7 - worse
