import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lopbench.results.ranks import ranks
from lopbench.results.statistics import FEWEST_SEEDS, LEVEL, holm, paired_test


def row(*values):
    return dict(enumerate(values))


def by_hand(rows):
    """Return the pairs (worse, better) that the test tells apart."""
    pairs, p_values = [], []
    for i, a in enumerate(rows):
        for j, b in enumerate(rows[:i]):
            shared = sorted(a.keys() & b.keys())
            if len(a) >= FEWEST_SEEDS and len(b) >= FEWEST_SEEDS and len(shared) >= FEWEST_SEEDS:
                differences = [b[seed] - a[seed] for seed in shared]
                pairs.append((i, j) if sum(differences) > 0 else (j, i))
                p_values.append(paired_test(differences))
    return {pair for pair, p in zip(pairs, holm(p_values), strict=True) if p <= LEVEL}


def test_what_is_clearly_apart_is_ranked_in_order():
    assert ranks([row(0.1, 0.11, 0.12), row(0.9, 0.91, 0.93), row(0.5, 0.52, 0.51)]) == [3, 1, 2]


def test_what_the_seeds_cannot_tell_apart_shares_a_rank():
    assert ranks([row(0.5, 0.7, 0.6), row(0.6, 0.5, 0.7)]) == [1, 1]
    assert ranks([row(0.5, 0.7, 0.6)] * 3) == [1, 1, 1]


def test_a_rank_counts_the_rows_above_and_not_the_ranks():
    good, other, bad = row(0.9, 1.0, 1.1, 1.0), row(1.0, 0.9, 1.0, 1.1), row(0.1, 0.12, 0.11, 0.1)
    assert ranks([bad, good, other]) == [3, 1, 1]


@pytest.mark.parametrize("seeds", range(FEWEST_SEEDS))
def test_too_few_seeds_have_no_rank_and_push_nobody_down(seeds):
    few = dict.fromkeys(range(seeds), 9.0)
    assert ranks([few, row(0.5, 0.6, 0.7)]) == [None, 1]


def test_rows_without_shared_seeds_cannot_be_told_apart():
    assert ranks([{0: 0.1, 1: 0.11, 2: 0.12}, {3: 0.9, 4: 0.91, 5: 0.92}]) == [1, 1]


def test_no_rows_have_no_ranks():
    assert ranks([]) == []


ROWS = st.lists(
    st.dictionaries(st.integers(0, 5), st.integers(0, 20).map(lambda n: n / 7), max_size=6), min_size=1, max_size=6
)


@settings(max_examples=200, deadline=None)
@given(rows=ROWS, order=st.randoms(use_true_random=False))
def test_ranks_are_those_of_the_test_by_hand(rows, order):
    found, above = ranks(rows), by_hand(rows)
    for index, rank in enumerate(found):
        assert (rank is None) == (len(rows[index]) < FEWEST_SEEDS)
        if rank is not None:
            assert 1 + sum(worse == index for worse, _ in above) <= rank <= len(rows)
    if all(seeds.keys() == rows[0].keys() for seeds in rows):  # then better is an order
        for worse, better in above:
            assert found[better] < found[worse]
    indices = list(range(len(rows)))
    order.shuffle(indices)
    assert ranks([rows[index] for index in indices]) == [found[index] for index in indices]


def test_noise_is_seldom_called_a_difference():
    # Eight equal methods over five seeds: 28 tests. Uncorrected, more than half of the tables would show a difference.
    draws = np.random.default_rng(0).normal(size=(400, 8, 5))
    apart = sum(max(ranks([dict(enumerate(scores)) for scores in table])) > 1 for table in draws.tolist())
    assert apart / 400 <= 0.06
