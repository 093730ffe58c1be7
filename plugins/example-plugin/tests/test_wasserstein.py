import pytest
import torch
from lopbench_wasserstein import Wasserstein, transport

from lopbench import InvalidInputError
from lopbench.testing import examples, parametrize_with_checks


@parametrize_with_checks(examples(Wasserstein))
def test_conformance(component, check):
    check(component)


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_permutation_of_the_initial_weights_is_not_pulled():
    initial = numbers(2, 30)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    assert not transport(initial[:, order].view(2, 5, 6), initial.sort(dim=1).values).any()


@pytest.mark.parametrize("seed", range(5))
def test_the_distance_is_at_most_that_of_l2_init(seed):
    initial, weights = numbers(3, 40), numbers(3, 40, seed=seed + 1)
    distance = transport(weights, initial.sort(dim=1).values).square().sum(dim=1)
    assert (distance <= (weights - initial).square().sum(dim=1) + 1e-12).all()


def test_the_pull_is_the_gradient_of_half_the_squared_distance():
    target, weights = numbers(2, 12).sort(dim=1).values, numbers(2, 3, 4, seed=1).requires_grad_()
    penalty = (weights.flatten(1).sort(dim=1).values - target).square().sum() / 2
    (gradient,) = torch.autograd.grad(penalty, weights)
    torch.testing.assert_close(transport(weights.detach(), target), gradient)


@pytest.mark.parametrize("strength", [-1.0, float("inf"), float("nan")])
def test_other_strengths_are_refused(strength):
    with pytest.raises(InvalidInputError, match="strength"):
        Wasserstein(strength=strength)
