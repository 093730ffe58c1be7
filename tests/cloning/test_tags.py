"""Matching: which entries of a tensor are clones of which."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lopbench.cloning.tags import deviation, expand, leaves, match
from lopbench.core.profile import Partition


def tags(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(st.data())
def test_match_finds_every_layout_along_every_axis(data):
    shape = [data.draw(st.integers(1, 4)) for _ in range(3)]
    base = tags(*shape, seed=data.draw(st.integers(0, 99)))
    axes = []
    for size in shape:
        extra = data.draw(st.lists(st.integers(0, size - 1), max_size=4))
        # The first entry is a clone of the first in every layout.
        axes.append(Partition((0, *data.draw(st.permutations([*range(1, size), *extra])))) if extra else None)
    found = match(base, expand(base, axes))
    assert found is not None
    assert torch.equal(expand(base, found), expand(base, axes))


def test_what_is_not_made_of_clones_does_not_match():
    base = tags(2, 3)
    wide = base.repeat_interleave(2, dim=1)
    assert match(base, wide)[1] == Partition((0, 0, 1, 1, 2, 2))
    spoilt = wide.clone()
    spoilt[0, 5] += 1e-6
    assert match(base, spoilt) is None
    assert match(base, wide[:, :4]) is None  # a channel without a clone
    assert match(base, wide[None]) is None
    assert match(base, base.flip(1)) is None  # the same width, another order


def test_equal_channels_share_their_clones_in_order():
    base = tags(2, 1).expand(2, 2)
    assert match(base, base.repeat(1, 2))[1].sizes == (2, 2)


def test_leaves_are_what_a_tensor_was_computed_from():
    a, b, c = (tags(2, seed=seed).requires_grad_() for seed in range(3))
    assert {id(leaf) for leaf in leaves((a * b).sum())} == {id(a), id(b)}
    assert leaves(c) == [c]
    assert leaves(c.detach()) == []


@pytest.mark.parametrize(
    ("actual", "expected"),
    [([2.0, 4.0], 0.0), ([2.0, 5.0], 0.25), ([2.0], float("inf")), ([2.0, float("nan")], float("inf"))],
)
def test_deviation_is_relative_and_infinite_where_nothing_compares(actual, expected):
    assert deviation(torch.tensor([2.0, 4.0]), torch.tensor(actual)) == expected
