"""A new optimizer at each task."""

import pytest
import torch

from lopbench_plugins.optimizers.adam import Adam
from lopbench_plugins.optimizers.sgd import SGD
from lopbench_plugins.perturbations.optimizer_reset import OptimizerReset


def cross(trained):
    trained.learner.begin_task(1, trained.tasks, first=False, reset_optimizer=False, zero_head=False)


@pytest.mark.parametrize("optimizer", [Adam(lr=1e-2), SGD(lr=1e-2, momentum=0.9)])
def test_learning_goes_on_as_if_it_began_at_these_weights(optimizer, runner):
    ours = runner([OptimizerReset()], seeds=(0, 1), optimizer=optimizer).run(7)
    begun = runner([], seeds=(0, 1), optimizer=optimizer)
    for name, value in begun.learner.view.parameters.items():
        value.copy_(ours.learner.view.parameters[name])
    begun.step = ours.step
    cross(ours)
    begun.run(7)
    for name, value in ours.run(7).learner.view.parameters.items():
        assert torch.equal(value, begun.learner.view.parameters[name]), name


def test_no_weight_moves(runner):
    trained = runner([OptimizerReset()]).run(7)
    before = {name: value.clone() for name, value in trained.learner.view.parameters.items()}
    cross(trained)
    assert all(torch.equal(value, before[name]) for name, value in trained.learner.view.parameters.items())
    assert not trained.learner.optimizer.state_dict()
