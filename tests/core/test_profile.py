"""Profiles: partitions, projections onto the manifolds of clones, and clones of clones."""

import json
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lopbench.core.errors import InvalidInputError
from lopbench.core.profile import Partition, Profile


@st.composite
def partitions(draw, most=6):
    count = draw(st.integers(1, 4))
    rest = draw(st.lists(st.integers(0, count - 1), max_size=most - count if most > count else 0))
    return Partition(tuple(draw(st.permutations([*range(count), *rest]))))


@st.composite
def profiled(draw):
    """Return a profile of one matrix with a kernel axis, and a random tensor of its shape."""
    rows, columns = draw(partitions()), draw(partitions())
    seed = draw(st.integers(0, 2**32))
    tensor = torch.randn(len(rows), len(columns), 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return Profile({"": columns}, {"": rows}, {"w": (rows, columns, None)}), tensor


@settings(deadline=None)  # the first operator that torch runs takes long
@given(profiled())
def test_project_is_the_orthogonal_projection(drawn):
    profile, tensor = drawn
    projected = profile.project({"w": tensor})["w"]
    torch.testing.assert_close(profile.project({"w": projected})["w"], projected, rtol=1e-13, atol=1e-13)
    residual = profile.residual({"w": tensor})["w"]
    assert abs((residual * projected).sum()) < 1e-12
    torch.testing.assert_close(residual + projected, tensor, rtol=1e-13, atol=1e-13)


@given(profiled())
def test_projected_values_are_constant_on_product_blocks_and_their_means(drawn):
    profile, tensor = drawn
    rows, columns, _ = profile.parameters["w"]
    projected = profile.project({"w": tensor})["w"]
    for r in range(rows.count):
        for c in range(columns.count):
            block = tensor[rows.index() == r][:, columns.index() == c]
            mine = projected[rows.index() == r][:, columns.index() == c]
            torch.testing.assert_close(mine, block.mean((0, 1), keepdim=True).expand_as(mine), rtol=1e-12, atol=1e-12)


@given(profiled())
def test_equitable_residual_is_zero_exactly_where_row_and_column_sums_of_blocks_agree(drawn):
    profile, tensor = drawn
    rows, columns, _ = profile.parameters["w"]
    equitable = tensor - profile.equitable_residual({"w": tensor})["w"]
    for r in range(rows.count):
        for c in range(columns.count):
            block = equitable[rows.index() == r][:, columns.index() == c]
            for axis in (0, 1):
                sums = block.sum(axis)
                torch.testing.assert_close(sums, sums[:1].expand_as(sums), rtol=1e-11, atol=1e-11)
    # And what satisfies them already is left alone.
    assert profile.equitable_residual({"w": equitable})["w"].abs().max() < 1e-12


def test_redistribution_inside_a_block_is_normal_to_the_constant_manifold_but_equitable():
    two = Partition((0, 0))
    profile = Profile({}, {}, {"w": (two, two)})
    weight = {"w": torch.tensor([[3.0, -1.0], [-1.0, 3.0]])}
    assert profile.residual(weight)["w"].tolist() == [[2, -2], [-2, 2]]
    assert profile.equitable_residual(weight)["w"].tolist() == [[0, 0], [0, 0]]


def test_layouts_of_clones():
    assert Partition.clones(4, 2).blocks == (0, 0, 1, 1, 2, 2, 3, 3)
    assert Partition.clones(4, 2, 2).blocks == (0, 1, 0, 1, 2, 3, 2, 3)
    assert Partition.clones(4, 2, 4).blocks == (0, 1, 2, 3, 0, 1, 2, 3)
    assert Partition.identity(3).trivial
    assert Partition.clones(3, 1) == Partition.identity(3)


@given(partitions(), st.integers(1, 3))
def test_means_of_expanded_values_are_the_values(partition, dim):
    values = torch.arange(2.0 * 3 * 5 * 7 * partition.count).reshape(2, 3, 5, 7, partition.count).movedim(-1, dim)
    assert torch.equal(partition.means(partition.expand(values, dim), dim), values)


def test_blocks_of_unequal_size_are_averaged_each_over_its_own():
    partition = Partition((0, 1, 1, 1))
    assert partition.sizes == (1, 3)
    assert partition.means(torch.tensor([8.0, 1, 2, 6]), 0).tolist() == [8, 3]


@given(partitions(), st.integers(1, 3))
def test_a_clone_of_a_clone_has_the_blocks_of_the_first_base(first, factor):
    second = Partition.clones(len(first), factor)
    values = torch.rand(first.count)
    twice = second.compose(first)
    assert torch.equal(twice.expand(values, 0), second.expand(first.expand(values, 0), 0))


def test_profiles_compose_axis_by_axis():
    two, four = Partition.clones(1, 2), Partition.clones(2, 2)
    first = Profile({"a": two}, {"a": two}, {"w": (two, None), "b": (None,)})
    second = Profile({"a": four}, {"a": four}, {"w": (four, None), "b": (None,)})
    both = second.compose(first)
    assert both.outputs["a"].blocks == (0, 0, 0, 0)
    assert both.parameters == {"w": (Partition((0, 0, 0, 0)), None), "b": (None,)}
    with pytest.raises(InvalidInputError, match="cloned twice"):
        second.compose(Profile({}, {}, {}))


def test_leading_axes_such_as_replicas_are_left_alone():
    profile = Profile({}, {}, {"b": (Partition((0, 0)),)})
    stack = torch.tensor([[1.0, 3.0], [5.0, 5.0]])
    assert profile.project({"b": stack})["b"].tolist() == [[2, 2], [5, 5]]


@given(profiled())
def test_json_and_back_is_the_same_profile(drawn):
    profile, _ = drawn
    assert Profile.from_json(json.loads(json.dumps(profile.to_json()))) == profile


@pytest.mark.parametrize("blocks", [(), (1,), (0, 2), (0, -1)])
def test_blocks_with_gaps_are_refused(blocks):
    with pytest.raises(InvalidInputError, match="without gaps"):
        Partition(blocks)


@pytest.mark.parametrize("arguments", [(0, 2), (2, 0), (4, 2, 3)])
def test_impossible_layouts_are_refused(arguments):
    with pytest.raises(InvalidInputError, match="chunk"):
        Partition.clones(*arguments)


def test_parameters_of_another_network_are_refused_by_name():
    profile = Profile({}, {}, {"b": (Partition((0, 0)),)})
    with pytest.raises(InvalidInputError, match="no parameter 'c'"):
        profile.project({"c": torch.zeros(2)})
    with pytest.raises(InvalidInputError, match=r"b with axes of \[2\]"):
        profile.project({"b": torch.zeros(3)})
    with pytest.raises(InvalidInputError, match="2 channels"):
        Partition((0, 0)).means(torch.zeros(3), 0)


def test_importing_profiles_imports_no_torch():
    code = "import sys, lopbench.core.profile; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
