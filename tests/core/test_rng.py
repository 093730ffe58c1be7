import contextlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lopbench.core import rng

seeds = st.integers(0, 2**63)
paths = st.lists(st.text(min_size=1, max_size=8).filter(lambda t: "\x1f" not in t), min_size=1, max_size=3)


def draw(generator: torch.Generator) -> list[float]:
    return torch.rand(4, generator=generator).tolist()


@given(seeds, paths)
def test_a_stream_depends_on_its_seed_and_names_alone(seed, path):
    torch.rand(3)  # what others draw does not matter
    assert draw(rng.derive(seed, *path)) == draw(rng.derive(seed, *path))


@given(seeds, paths, paths)
def test_streams_of_other_names_are_others(seed, path, other):
    assert (rng.derive_seed(seed, *path) == rng.derive_seed(seed, *other)) == (path == other)


def test_other_seeds_give_other_streams():
    assert len({rng.derive_seed(seed, "data") for seed in range(1000)}) == 1000


def test_derived_seeds_are_fixed_forever():
    # sha256("0\x1fdata"), first eight bytes, little endian, shifted right once
    assert rng.derive_seed(0, "data") == 3547684127435271545


@given(seeds)
def test_derived_seeds_are_what_torch_takes(seed):
    assert 0 <= rng.derive_seed(seed, "x") < 2**63


def test_isolated_draws_from_the_generator_and_leaves_the_global_state():
    generator, twin = rng.derive(0, "a"), rng.derive(0, "a")
    before = torch.get_rng_state()
    with rng.isolated(generator):
        first = torch.rand(5)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, torch.rand(5, generator=twin))


def test_isolated_advances_the_generator():
    generator, twin = rng.derive(0, "a"), rng.derive(0, "a")
    with rng.isolated(generator):
        torch.rand(5)
    torch.rand(5, generator=twin)
    assert draw(generator) == draw(twin)


def test_isolated_restores_the_global_state_after_an_error():
    before = torch.get_rng_state()
    generator = rng.derive(0, "a")
    with contextlib.suppress(ZeroDivisionError), rng.isolated(generator):
        torch.rand(5)
        _ = 1 / 0
    assert torch.equal(torch.get_rng_state(), before)
    assert draw(generator) != draw(rng.derive(0, "a"))


def test_noise_of_a_replica_does_not_depend_on_the_others():
    like = torch.zeros(3, 2, 5)
    together = rng.normal(like, [rng.derive(seed, "n") for seed in range(3)])
    for seed in range(3):
        alone = rng.normal(like[:1], [rng.derive(seed, "n")])
        assert torch.equal(together[seed], alone[0])


def test_noise_is_standard_normal_and_outside_autograd():
    like = torch.zeros(1, 20_000, requires_grad=True)
    noise = rng.normal(like, [rng.derive(0, "n")])
    assert not noise.requires_grad
    assert noise.shape == like.shape
    assert abs(noise.mean()) < 0.03
    assert abs(noise.std() - 1) < 0.03


def test_noise_needs_one_generator_per_replica():
    with pytest.raises(ValueError, match="shorter"):
        rng.normal(torch.zeros(2, 3), [rng.derive(0, "n")])
