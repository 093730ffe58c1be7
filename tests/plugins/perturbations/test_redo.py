"""ReDo."""

import torch

from lopbench_plugins.perturbations.redo import ReDo


def test_resets_of_silent_units_leave_the_outputs_alone(compared):
    pair = compared(ReDo(threshold=0.0, period=1), silent=(1, 4), lr=1e-30, replicas=1)
    inputs, targets = pair.draw(0)
    module = pair.learner.network.module
    before = module(inputs[0]).detach()
    row = pair.learner.view.parameters["0.weight"][0, 1].clone()
    pair.learner.step([(inputs[0], targets[0])])
    assert not torch.equal(pair.learner.view.parameters["0.weight"][0, 1], row)
    assert pair.learner.states[0]["resets"].tolist() == [[2]]
    assert torch.equal(module(inputs[0]).detach(), before)
