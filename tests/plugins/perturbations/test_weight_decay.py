"""Decoupled weight decay, against the optimizer that has it."""

import pytest
import torch
from method_lab import convolutional

from lopbench_plugins.optimizers.adam import Adam
from lopbench_plugins.optimizers.adamw import AdamW
from lopbench_plugins.optimizers.muon import Muon
from lopbench_plugins.optimizers.sgd import SGD
from lopbench_plugins.perturbations.weight_decay import WeightDecay


def test_under_adam_it_is_adamw(runner):
    ours = runner([WeightDecay(strength=0.7)], seeds=(0, 1), optimizer=Adam(lr=0.01), dtype=torch.float64).run(25)
    theirs = runner([], seeds=(0, 1), optimizer=AdamW(lr=0.01, weight_decay=0.7), dtype=torch.float64).run(25)
    for name, value in ours.learner.view.parameters.items():
        torch.testing.assert_close(value, theirs.learner.view.parameters[name], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("optimizer", [Adam(lr=0.02), SGD(lr=0.02, momentum=0.9), Muon(lr=0.02)])
def test_without_gradients_parameters_shrink_by_the_same_factor_at_each_step(optimizer, runner):
    trained = runner([WeightDecay(strength=0.5)], optimizer=optimizer, dtype=torch.float64)
    before = {name: value.clone() for name, value in trained.learner.view.parameters.items()}
    for task in trained.tasks:
        task.loss = lambda outputs, targets: 0 * outputs.sum()
    trained.run(10)
    for name, value in trained.learner.view.parameters.items():
        torch.testing.assert_close(value, before[name] * (1 - 0.02 * 0.5) ** 10)


def test_vectors_may_be_left_out(runner):
    ours, theirs = (
        runner(methods, build=convolutional, dtype=torch.float64).run(1).learner.view.parameters
        for methods in ([WeightDecay(strength=1.0, vectors=False)], [])
    )
    changed = {name for name, value in ours.items() if not torch.allclose(value, theirs[name], rtol=0, atol=1e-12)}
    assert changed == {"0.weight", "4.weight", "7.weight"}


def test_it_follows_the_scale_of_the_learning_rate(runner):
    trained = runner([WeightDecay(strength=0.5)], optimizer=SGD(lr=0.1), dtype=torch.float64)
    before = trained.learner.view.parameters["1.weight"].clone()
    for task in trained.tasks:
        task.loss = lambda outputs, targets: 0 * outputs.sum()
    trained.learner.optimizer.scale(0.25)
    trained.run(1)
    torch.testing.assert_close(trained.learner.view.parameters["1.weight"], before * (1 - 0.025 * 0.5))
