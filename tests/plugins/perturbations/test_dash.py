"""DASH: its running mean, cosines and factors, against NumPy."""

import numpy as np
import pytest
import torch
from method_lab import convolutional
from torch.func import functional_call

from lopbench.core import rng
from lopbench.core.errors import InvalidInputError
from lopbench_plugins.perturbations.dash import Dash, cosines

EPOCH = 4


@pytest.fixture
def crossing(runner, monkeypatch):
    """Return a function that takes a learner with a method over a boundary, beyond which the task has four batches."""

    def run(method, **options):
        trained = runner([method], dtype=torch.float64, **options).run(6)
        coming = [[task.batch(step) for task in trained.tasks] for step in range(100, 100 + EPOCH)]
        stacked = [tuple(torch.stack(part) for part in zip(*batch, strict=True)) for batch in coming]
        view = trained.learner.view
        monkeypatch.setattr(view, "coming", lambda steps=None: iter(stacked[:steps]))
        before = {name: value.clone() for part in (view.parameters, view.buffers) for name, value in part.items()}
        trained.learner.begin_task(1, trained.tasks, first=False, reset_optimizer=False, zero_head=False)
        return trained, before, stacked

    return run


@pytest.mark.parametrize("steps", [None, 2])
def test_rows_kernels_and_vectors_shrink_as_the_formula_says(steps, crossing):
    trained, before, coming = crossing(Dash(floor=0.3, share=0.4, steps=steps), seeds=(0, 1), build=convolutional)
    factors = []
    for replica, task in enumerate(trained.tasks):
        network = convolutional(rng.derive(0)).double()
        leaves = {n: before[n][replica].clone().requires_grad_() for n, _ in network.named_parameters()}
        means = {name: np.zeros(value.shape) for name, value in leaves.items()}
        for inputs, targets in coming[:steps]:
            loss = task.loss(functional_call(network, leaves, (inputs[replica],)), targets[replica])
            for name, gradient in zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True):
                means[name] = 0.6 * means[name] - 0.4 * gradient.numpy()
        del leaves["0.bias"]  # in front of batch normalisation its gradient is rounding
        for name, leaf in leaves.items():
            weight, mean = leaf.detach().numpy(), means[name]
            axes = {1: (0,), 2: (1,), 4: (2, 3)}[weight.ndim]
            norms = np.sqrt((weight**2).sum(axes, keepdims=True) * (mean**2).sum(axes, keepdims=True))
            cosine = (weight * mean).sum(axes, keepdims=True) / np.maximum(norms, 1e-30)
            factor = np.clip(cosine, 0.3, 1)
            factors += factor.flatten().tolist()
            found = trained.learner.view.parameters[name][replica].numpy()
            np.testing.assert_allclose(found, weight * factor, rtol=1e-6, atol=1e-12)
    assert min(factors) == 0.3 < max(factors) <= 1


def test_the_optimizer_is_cleared_and_statistics_of_normalisations_stay(crossing):
    trained, before, _ = crossing(Dash(), build=convolutional)
    assert not trained.learner.optimizer.state_dict()
    for name, value in trained.learner.view.buffers.items():
        assert torch.equal(value, before[name])


def test_a_weight_along_the_direction_stays_and_one_against_it_is_at_the_floor():
    weight = torch.tensor([[[3.0, 4.0], [3.0, 4.0], [4.0, -3.0]]])
    direction = torch.tensor([[[0.6, 0.8], [-6.0, -8.0], [0.3, 0.4]]])
    assert cosines(direction, weight).flatten().tolist() == pytest.approx([1.0, -1.0, 0.0])


@pytest.mark.parametrize("fields", [{"floor": 1.5}, {"share": 0.0}, {"steps": 0}])
def test_fields_out_of_range_are_refused(fields):
    with pytest.raises(InvalidInputError, match=f"{next(iter(fields))}.*got"):
        Dash(**fields)
