"""Effective-rank regularisation: the rank, and the steps that raise it."""

import pytest
import torch
from method_lab import convolutional, rectified
from torch import nn

from lopbench.core import rng
from lopbench.core.errors import UnsupportedError
from lopbench_plugins.optimizers.sgd import SGD
from lopbench_plugins.perturbations.effective_rank_penalty import EffectiveRankPenalty, effective_rank, mean_rank

STILL = SGD(lr=1e-30)


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=rng.derive(seed, "numbers"), dtype=torch.float64)


def test_rank_of_equal_orthogonal_rows_is_their_number_and_of_one_direction_one():
    orthogonal = 3 * torch.linalg.qr(numbers(2, 7, 4))[0].mT
    torch.testing.assert_close(effective_rank(orthogonal), torch.full((2,), 4.0, dtype=torch.float64))
    one = numbers(2, 5, 1) @ numbers(2, 1, 6, seed=1)
    torch.testing.assert_close(effective_rank(one), torch.ones(2, dtype=torch.float64))
    # By hand: singular values 3 and 1, shares 3/4 and 1/4, entropy .562335, rank 1.754765.
    assert effective_rank(torch.diag(torch.tensor([3.0, 1.0]))).item() == pytest.approx(1.754765, abs=1e-6)


@pytest.mark.parametrize("values", [torch.zeros(3, 4), torch.ones(3, 4)])
def test_rank_and_slope_are_finite_where_singular_values_are_zero(values):
    leaf = values.clone().requires_grad_()
    rank = effective_rank(leaf)
    assert rank.item() == pytest.approx(1, abs=1e-5)
    (slope,) = torch.autograd.grad(rank, leaf)
    assert slope.isfinite().all()


def test_mean_over_layers_is_that_of_each_whatever_their_shapes():
    layers = [numbers(2, 6, 5), numbers(2, 6, 5, seed=1), numbers(2, 6, 3, 2, 2, seed=2)]
    expected = sum(effective_rank(layer.flatten(2)) for layer in layers) / 3
    torch.testing.assert_close(mean_rank(layers), expected)


def rank(trained, step):
    inputs = torch.stack([task.batch(step)[0] for task in trained.tasks])
    with torch.no_grad():
        return mean_rank(trained.learner.view.forward(inputs).activations.values())


@pytest.mark.parametrize("build", [rectified, convolutional])
def test_a_step_raises_the_rank_by_what_its_slope_promises(build, runner):
    """The rank rises by the step's size times the square of its slope, to first order."""
    strength = 1e-6 / STILL.lr
    method = EffectiveRankPenalty(strength=strength, every=1)
    trained = runner([method], seeds=(0, 1), dtype=torch.float64, build=build, optimizer=STILL).run(1)
    view = trained.learner.view
    before = {name: value.clone() for name, value in view.parameters.items()}
    was = rank(trained, 0)
    method.after_step(view, trained.learner.states[0])
    moved = {name: value - before[name] for name, value in view.parameters.items()}
    promised = sum(value.flatten(1).square().sum(dim=1) for value in moved.values()) / 1e-6
    assert (promised > 0).all()
    torch.testing.assert_close(rank(trained, 0) - was, promised, rtol=1e-3, atol=0)


def test_it_acts_once_in_so_many_steps(runner):
    trained = runner([EffectiveRankPenalty(strength=1e27, every=5)], dtype=torch.float64, optimizer=STILL)
    acted = []
    for step in range(12):
        before = trained.learner.view.parameters["1.weight"].clone()
        trained.run(1)
        if (trained.learner.view.parameters["1.weight"] - before).abs().max() > 1e-9:
            acted.append(step)
    assert acted == [4, 9]


def test_the_head_is_left_alone(runner):
    trained = runner([EffectiveRankPenalty(strength=1e27, every=1)], dtype=torch.float64, optimizer=STILL).run(1)
    view = trained.learner.view
    for name, value in view.parameters.items():
        assert ((value - view.initial[name]).abs().max() > 1e-9) == (not name.startswith("5.")), name


def test_networks_without_hidden_layers_are_refused(runner):
    with pytest.raises(UnsupportedError, match="no hidden layers"):
        runner([EffectiveRankPenalty()], build=lambda generator: nn.Sequential(nn.Flatten(), nn.Linear(16, 3)))
