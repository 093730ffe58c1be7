"""Wasserstein regularisation: the theorems of optimal transport on a line."""

import pytest
import torch
from method_lab import pull

from lopbench_plugins.perturbations.wasserstein import Wasserstein, _order, _ranks, transport


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_permutation_of_the_initial_weights_is_not_pulled(runner):
    trained = runner([Wasserstein(strength=1.0)], seeds=(0, 1), dtype=torch.float64)
    for seed, value in enumerate(trained.learner.view.parameters.values()):
        order = torch.randperm(value[0].numel(), generator=torch.Generator().manual_seed(seed))
        value.copy_(value.flatten(1)[:, order].view_as(value))
    assert not any(value.any() for value in pull(trained).values())


@pytest.mark.parametrize("seed", range(5))
def test_the_distance_is_at_most_that_of_l2_init(seed):
    initial, weights = numbers(3, 40), numbers(3, 40, seed=seed + 1)
    distance = transport(weights, initial.sort(dim=1).values).square().sum(dim=1)
    assert (distance <= (weights - initial).square().sum(dim=1) + 1e-12).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_weights_keep_their_order(dtype):
    """As in torch's stable sort: zeros of both signs are equal, infinite ones lie at the ends, and NaN behind them."""
    rows = numbers(3, 200).to(dtype)
    rows[:, ::3] = rows[:, :1]
    rows[:, 1::7], rows[:, 2::14] = 0.0, -0.0
    rows[0, 5], rows[1, 6], rows[2, 7] = torch.inf, -torch.inf, torch.nan
    assert torch.equal(_order(rows), rows.argsort(dim=1, stable=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_few_numbers_have_the_ranks_of_a_stable_sort(dtype):
    rows = numbers(3, 128).to(dtype)
    rows[:, ::3] = rows[:, :1]
    rows[:, 1::7], rows[:, 2::14] = 0.0, -0.0
    rows[0, 5], rows[1, 6] = torch.inf, -torch.inf
    assert torch.equal(_ranks(rows), rows.argsort(dim=1, stable=True).argsort(dim=1))


def test_the_pull_is_the_gradient_of_half_the_squared_distance(runner):
    trained = runner([Wasserstein(strength=0.3)], seeds=(0, 1), dtype=torch.float64)
    view = trained.run(5).learner.view
    with torch.enable_grad():
        leaves = {name: value.clone().requires_grad_() for name, value in view.parameters.items()}
        ends = ((v.flatten(1).sort(dim=1), view.initial[n].flatten(1).sort(dim=1)) for n, v in leaves.items())
        penalty = sum((now.values - then.values).square().sum() for now, then in ends)
        expected = torch.autograd.grad(0.15 * penalty, list(leaves.values()))
    for found, wanted in zip(pull(trained).values(), expected, strict=True):
        torch.testing.assert_close(found, wanted)
