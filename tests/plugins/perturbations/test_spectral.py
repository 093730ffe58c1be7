"""Spectral regularisation: its gradient, and what it leaves alone."""

import pytest
import torch
from method_lab import convolutional, pull, rectified
from torch import nn

from lopbench.core.errors import UnsupportedError
from lopbench_plugins.perturbations.spectral import Spectral

CLOSE = {"rtol": 1e-7, "atol": 1e-9}


def penalty(parameters, *, power, norms=True):
    """Return the penalty of one replica of the convolutional network, by singular value decomposition."""
    total = 0.0
    for name, value in parameters.items():
        if name in ("1.weight", "5.weight"):
            total = total + norms * ((value**power - 1) ** 2).sum()
        elif name in ("1.bias", "5.bias"):
            total = total + norms * value.norm() ** (2 * power)
        elif name.endswith("bias"):
            total = total + value.norm() ** (2 * power)
        else:
            total = total + (torch.linalg.svdvals(value.flatten(1))[0] ** power - 1) ** 2
    return total


def settled(trained):
    """Return the pull once the vectors are those of the largest singular values."""
    for _ in range(300):
        found = pull(trained)
    return found


@pytest.mark.parametrize("power", [1, 2, 3])
@pytest.mark.parametrize("norms", [True, False])
def test_pull_is_the_gradient_of_the_penalty(power, norms, runner):
    method = Spectral(strength=0.3, power=power, norms=norms)
    trained = runner([method], dtype=torch.float64, seeds=(0, 1), build=convolutional)
    pulls = settled(trained).values()
    for replica in (0, 1):
        with torch.enable_grad():
            leaves = {n: v[replica].clone().requires_grad_() for n, v in trained.learner.view.parameters.items()}
            expected = torch.autograd.grad(
                0.3 * penalty(leaves, power=power, norms=norms), list(leaves.values()), materialize_grads=True
            )
        for found, wanted in zip(pulls, expected, strict=True):
            torch.testing.assert_close(found[replica], wanted, **CLOSE)


def test_orthogonal_weights_without_biases_are_not_pulled(runner):
    trained = runner([Spectral(strength=1.0)], dtype=torch.float64, build=convolutional)
    for name, value in trained.learner.view.parameters.items():
        if name.endswith("bias"):
            value.zero_()
        elif value.ndim == 2:
            value.fill_(1.0)
        else:
            nn.init.orthogonal_(value[0])
    pull(trained)  # any vector is as good as another
    for name, value in pull(trained).items():
        torch.testing.assert_close(value, torch.zeros_like(value), rtol=0, atol=1e-12, msg=name)


def test_spectral_norms_come_to_one_without_a_loss(runner):
    trained = runner([Spectral(strength=1.0)], dtype=torch.float64, build=rectified)
    view = trained.learner.view
    for name, value in view.parameters.items():
        value.mul_(1.5 if name.endswith("weight") else 1.0)
    for _ in range(400):
        for name, value in pull(trained).items():
            view.parameters[name].sub_(0.05 * value)
    for name, value in view.parameters.items():
        if name.endswith("weight"):
            assert torch.linalg.svdvals(value)[0, 0].item() == pytest.approx(1, abs=1e-6)
        else:
            assert value.norm() < 0.15  # the fourth power is flat at zero


def test_head_that_was_zeroed_is_pulled_again_once_it_grows(runner):
    trained = runner([Spectral(strength=0.3)], dtype=torch.float64, build=rectified)
    head = trained.learner.view.parameters["5.weight"]
    grown = 3 * head.clone()
    head.zero_()
    for _ in range(3):
        assert not pull(trained)["5.weight"].any()
    head.copy_(grown)
    norm = torch.linalg.svdvals(grown)[0, 0]
    expected = 0.3 * 2 * (norm**2 - 1) * 2 * norm
    assert settled(trained)["5.weight"].norm().item() == pytest.approx(expected.abs().item())


def test_a_weight_that_is_computed_from_others_is_refused(runner):
    def build(generator):
        layer = nn.utils.parametrizations.weight_norm(nn.Linear(16, 4))
        return nn.Sequential(nn.Flatten(), layer, nn.ReLU(), nn.Linear(4, 3))

    with pytest.raises(UnsupportedError, match="layer '1' is computed from other parameters"):
        runner([Spectral()], build=build)
