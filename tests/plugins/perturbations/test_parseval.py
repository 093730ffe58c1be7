"""Parseval regularisation: its gradient, and what it leaves alone."""

import pytest
import torch
from method_lab import convolutional, pull
from torch import nn

from lopbench.core.errors import UnsupportedError
from lopbench_plugins.perturbations.parseval import Parseval, add_pull, excess

HIDDEN = ("0.weight", "4.weight")


@pytest.mark.parametrize("shape", [(5, 9), (9, 5), (6, 6), (70, 150), (150, 70), (64, 128)])
def test_pull_is_the_gradient_of_the_penalty_whichever_gram_matrix_is_smaller(shape):
    weight = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    gram = weight @ weight.mT - 2.5 * torch.eye(shape[0], dtype=torch.float64)
    (expected,) = torch.autograd.grad((64 / shape[0]) ** 2 * gram.square().sum(), weight)
    torch.testing.assert_close(slope(weight.detach(), 2.5), expected, rtol=1e-11, atol=1e-11)


def slope(weight, scale):
    gradient = torch.zeros_like(weight)
    add_pull(gradient, weight, excess(weight, scale))
    return gradient


def test_the_pull_adds_to_gradients_of_any_order_in_memory():
    weight = torch.randn(2, 6, 3, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    turned = torch.ones(2, 6, 2, 2, 3, dtype=torch.float64).movedim(-1, 2)
    add_pull(turned, weight, excess(weight.flatten(2), 2.0))
    torch.testing.assert_close(turned, 1 + slope(weight.flatten(2), 2.0).view_as(weight))


def test_orthogonal_weights_of_the_right_length_are_not_pulled(runner):
    trained = runner([Parseval(strength=1.0, scale=3.0)], dtype=torch.float64, build=convolutional)
    parameters = trained.learner.view.parameters
    assert pull(trained)["0.weight"].abs().max() > 1
    for name in HIDDEN:
        nn.init.orthogonal_(parameters[name][0], gain=3**0.5)
    for name, value in pull(trained).items():
        torch.testing.assert_close(value, torch.zeros_like(value), rtol=0, atol=1e-10, msg=name)


def test_head_biases_and_gains_are_left_alone(runner):
    for name, value in pull(runner([Parseval()], build=convolutional)).items():
        assert bool(value.any()) == (name in HIDDEN), name


def test_layers_of_one_shape_are_pulled_as_each_alone(runner):
    def build(generator):
        hidden = [part for _ in range(3) for part in (nn.Linear(16, 16), nn.ReLU())]
        return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(16, 3))

    trained = runner([Parseval(strength=0.5)], dtype=torch.float64, build=build, seeds=(0, 1))
    for name, value in pull(trained).items():
        weight = trained.learner.view.parameters[name]
        alone = 0.5 * slope(weight, 2.0) if value.ndim == 3 and value.shape[1] == 16 else torch.zeros_like(value)
        torch.testing.assert_close(value, alone)


def test_network_without_hidden_layers_is_refused(runner):
    with pytest.raises(UnsupportedError, match="no layer before its head"):
        runner([Parseval()], build=lambda generator: nn.Sequential(nn.Flatten(), nn.Linear(16, 3)))
