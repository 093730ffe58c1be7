"""Duplicate units, in both countings."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lopbench.core.errors import InvalidInputError
from lopbench.core.probe import LayerProbe
from lopbench_plugins.metrics.duplicate_fraction import DuplicateFraction, DuplicateFractionFirst

BOTH, FIRST = DuplicateFraction(), DuplicateFractionFirst()


def columns(*values):
    return LayerProbe(torch.tensor(values, dtype=torch.float64).T)


def test_countings_of_a_group_of_three():
    probe = columns([1, 0, 1], [2, 0, 2], [0, 1, 0], [3, 0, 3])
    assert BOTH.compute(probe) == 3 / 4
    assert FIRST.compute(probe) == 2 / 4


def test_silent_units_have_no_duplicate():
    assert BOTH.compute(columns([0, 0], [0, 0], [1, 0])) == 0


def test_constant_units_of_one_sign_are_duplicates():
    assert BOTH.compute(columns([1, 1], [5, 5], [-1, -1], [0, 1])) == 0.5


def test_opposite_units_are_not_duplicates():
    assert BOTH.compute(columns([1, 2], [-1, -2])) == 0


@pytest.mark.parametrize(("threshold", "expected"), [(0.59, 1.0), (0.6, 0.0), (0.61, 0.0)])
def test_cosine_must_exceed_the_threshold(threshold, expected):
    assert DuplicateFraction(threshold=threshold).compute(columns([1, 0], [3, 4])) == expected


def test_cosine_is_not_centred():
    # Cosine 0.957, correlation -1.
    assert BOTH.compute(columns([10, 13], [13, 10])) == 1


def test_chain_is_counted_pair_by_pair():
    # Neighbours at 15 degrees (cosine 0.966) are duplicates, the ends at 30 degrees (0.866) are not.
    angles = torch.deg2rad(torch.tensor([0.0, 15.0, 30.0], dtype=torch.float64))
    probe = LayerProbe(torch.stack([angles.cos(), angles.sin()]))
    assert BOTH.compute(probe) == 1
    assert FIRST.compute(probe) == pytest.approx(2 / 3)


@given(st.integers(0, 2**32), st.integers(2, 4))
def test_clones_are_all_duplicates_and_first_of_pair_leaves_one_a_group(seed, factor):
    # Independent units of 400 rows: their cosines are of order 0.05.
    base = torch.randn(400, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    cloned = LayerProbe(base.repeat_interleave(factor, dim=1))
    assert BOTH.compute(LayerProbe(base)) == 0
    assert BOTH.compute(cloned) == 1
    assert FIRST.compute(cloned) == pytest.approx(1 - 1 / factor)


@given(st.integers(0, 2**32))
def test_first_of_pair_counts_no_more_units_and_none_only_where_there_are_none(seed):
    generator = torch.Generator().manual_seed(seed)
    probe = LayerProbe(torch.randint(0, 3, (3, 8), generator=generator).double())
    both, first = BOTH.compute(probe), FIRST.compute(probe)
    assert first <= min(both, 7 / 8)
    assert (first == 0) == (both == 0)


def test_star_is_counted_once_or_all_but_once_depending_on_the_order():
    # Leaves at 17 degrees around the hub (cosine 0.956), so at 29 degrees from each other (0.872) and no duplicates.
    hub = torch.tensor([[1.0], [0.0], [0.0]], dtype=torch.float64)
    angle, turn = torch.deg2rad(torch.tensor(17.0)), torch.deg2rad(torch.tensor([0.0, 120.0, 240.0]))
    leaves = torch.stack([angle.cos().expand(3), angle.sin() * turn.cos(), angle.sin() * turn.sin()]).double()
    assert FIRST.compute(LayerProbe(torch.cat([hub, leaves], dim=1))) == 1 / 4
    assert FIRST.compute(LayerProbe(torch.cat([leaves, hub], dim=1))) == 3 / 4
    assert BOTH.compute(LayerProbe(torch.cat([leaves, hub], dim=1))) == 1


def test_threshold_out_of_range_is_refused():
    for threshold in (-0.1, 1.0, float("nan")):
        with pytest.raises(InvalidInputError, match="threshold"):
            DuplicateFraction(threshold=threshold)
