import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor, nn

from lopbench.core.errors import InvalidInputError
from lopbench.core.rng import derive, isolated
from lopbench.learner.discovery import discover
from lopbench.learner.fresh import FreshPool
from lopbench.learner.groups import UnitGroup

WIDE, NARROW = 5, 2


def network(generator: Generator) -> nn.Module:
    with isolated(generator):
        return nn.Sequential(
            nn.Linear(3, WIDE), nn.ReLU(), nn.Linear(WIDE, NARROW, bias=False), nn.ReLU(), nn.Linear(NARROW, 1)
        )


GROUPS = discover(network(derive(0)), torch.zeros(2, 3)).groups


class Counting:
    """A pool for ``seeds``, one a replica, with the list of networks it built."""

    def __init__(self, seeds: tuple[int, ...] = (0, 1)) -> None:
        self.built: list[tuple[int, int]] = []

        def generator_for(replica: int, k: int) -> Generator:
            self.built.append((replica, k))
            return derive(seeds[replica], "fresh", k)

        self.pool = FreshPool(lambda g: dict(network(g).named_parameters()), generator_for, GROUPS, len(seeds))


def some(counts: list[int], size: int) -> Tensor:
    """A mask with the given number of units in each replica."""
    return torch.arange(size) < torch.tensor(counts).unsqueeze(1)


def take(pool: FreshPool, group: UnitGroup, mask: Tensor) -> tuple[Tensor, Tensor | None]:
    """The rows for the units in ``mask``, replica by replica."""
    weights, biases = pool.draw(group, mask)
    assert weights.shape[:2] == mask.shape
    return weights[mask], None if biases is None else biases[mask]


def test_rows_are_those_of_the_networks_in_turn() -> None:
    pool = Counting().pool
    weights, biases = zip(*(take(pool, GROUPS[0], some([0, 3], WIDE)) for _ in range(4)), strict=True)
    first = [network(derive(1, "fresh", k))[0] for k in range(3)]
    assert torch.equal(torch.cat(weights), torch.cat([layer.weight for layer in first])[:12])
    assert torch.equal(torch.cat(biases), torch.cat([layer.bias for layer in first])[:12])
    weight, bias = take(pool, GROUPS[1], some([2, 0], NARROW))
    assert torch.equal(weight, network(derive(0, "fresh", 0))[2].weight)
    assert bias is None


steps = st.lists(
    st.tuples(st.sampled_from([0, 1]), st.integers(0, 5), st.integers(0, 5)).filter(lambda s: s[1] + s[2] > 0),
    min_size=1,
    max_size=20,
)


def play(pool: FreshPool, taken: list[tuple[int, int, int]]) -> list[Tensor]:
    rows = []
    for index, *counts in taken:
        group = GROUPS[index]
        weight, bias = take(pool, group, some([max(1, min(c, group.size)) for c in counts], group.size))
        rows.append(weight if bias is None else torch.cat([weight, bias.unsqueeze(1)], 1))
    return rows


@settings(max_examples=40)
@given(before=steps, after=steps)
def test_a_reloaded_pool_continues_bit_for_bit(before: list[tuple[int, int, int]], after: list[tuple[int, int, int]]):
    straight = Counting().pool
    expected = play(straight, before + after)[len(before) :]
    saved = Counting().pool
    play(saved, before)
    state = {name: value.clone() for name, value in saved.state_dict().items()}
    play(saved, after)
    resumed = Counting().pool
    resumed.load_state_dict(state)
    for row, wanted in zip(play(resumed, after), expected, strict=True):
        assert torch.equal(row, wanted)


def test_a_replica_gets_the_same_rows_whatever_runs_beside_it() -> None:
    alone, beside = Counting(seeds=(7,)).pool, Counting(seeds=(3, 7, 4)).pool
    for count in (2, 4, 1, 5):
        mask = some([count], WIDE)
        busy = some([5 - count % 3, count, 1], WIDE)
        rows = take(alone, GROUPS[0], mask)[0]
        assert torch.equal(take(beside, GROUPS[0], busy)[0][busy.nonzero()[:, 0] == 1], rows)


def test_a_network_is_built_once_for_all_its_rows() -> None:
    counting = Counting(seeds=(0,))
    for _ in range(2 * WIDE):
        take(counting.pool, GROUPS[0], some([1], WIDE))
    assert counting.built == [(0, 0), (0, 1)]
    counting = Counting(seeds=(0,))
    for _ in range(3):  # groups that advance together share their networks
        for group in GROUPS:
            take(counting.pool, group, some([group.size], group.size))
    assert counting.built == [(0, 0), (0, 1), (0, 2)]


def test_a_slow_group_keeps_its_network_while_a_fast_one_moves_on() -> None:
    counting = Counting(seeds=(0,))
    slow = [take(counting.pool, GROUPS[0], some([1], WIDE))[0]]
    for _ in range(4):
        take(counting.pool, GROUPS[1], some([NARROW], NARROW))
    slow += [take(counting.pool, GROUPS[0], some([1], WIDE))[0] for _ in range(WIDE - 1)]
    assert counting.built == [(0, 0), (0, 1), (0, 2), (0, 3)]
    assert torch.equal(torch.cat(slow), network(derive(0, "fresh", 0))[0].weight)


@pytest.mark.parametrize(
    "state",
    [{}, {"0": torch.zeros(2)}, {"0": torch.zeros(3), "2": torch.zeros(3)}, {"0": torch.zeros(2), "9": torch.zeros(2)}],
)
def test_counts_of_another_network_are_refused(state: dict[str, Tensor]) -> None:
    with pytest.raises(InvalidInputError, match="resume with the network"):
        Counting().pool.load_state_dict(state)
