"""ReGraMa."""

import torch

from lopbench_plugins.perturbations.l2 import L2
from lopbench_plugins.perturbations.regrama import ReGraMa


def test_a_dead_unit_has_no_gradient_and_its_reset_leaves_the_outputs_alone(compared):
    pair = compared(ReGraMa(threshold=0.0, period=1), silent=(1, 4), lr=1e-30, replicas=1)
    inputs, targets = pair.draw(0)
    module = pair.learner.network.module
    before = module(inputs[0]).detach()
    row = pair.learner.view.parameters["0.weight"][0, 1].clone()
    pair.learner.step([(inputs[0], targets[0])])
    assert not torch.equal(pair.learner.view.parameters["0.weight"][0, 1], row)
    assert pair.learner.states[0]["resets"].tolist() == [[2]]
    assert torch.equal(module(inputs[0]).detach(), before)


def test_a_unit_that_is_active_without_learning_is_reset_where_redo_would_keep_it(compared):
    # Its outgoing weights are zero, so that its activation is as large as ever and its gradient is zero.
    pair = compared(ReGraMa(threshold=0.0, period=1), lr=1e-30, replicas=1)
    parameters = pair.learner.view.parameters
    parameters["0.bias"][0, 2] = 5.0
    parameters["2.weight"][0, :, 2] = 0.0
    inputs, targets = pair.draw(0)
    pair.learner.step([(inputs[0], targets[0])])
    assert (pair.learner.view.units[0].activation[0, :, 2] > 0).any()
    assert parameters["0.bias"][0, 2] == 0


def test_what_another_method_adds_to_the_gradient_counts(compared):
    def resets(*others):
        pair = compared(*others, ReGraMa(threshold=0.0, period=1), silent=(1, 4), lr=1e-30, replicas=1)
        pair.learner.step(list(zip(*pair.draw(0), strict=True)))
        return pair.learner.states[-1]["resets"].tolist()

    assert resets() == [[2]]
    assert resets(L2(strength=0.1)) == [[0]]
