"""ReGraMa."""

import numpy as np
import pytest
import torch
from torch import nn

from lopbench.core import rng
from lopbench.core.errors import InvalidInputError
from lopbench_plugins.optimizers.adam import Adam
from lopbench_plugins.perturbations.l2 import L2
from lopbench_plugins.perturbations.regrama import ReGraMa


@pytest.mark.parametrize("program", [False, True])
@pytest.mark.parametrize("cap", [1.0, 0.4])
def test_steps_and_resets_are_those_of_the_formula(compared, reset_by_hand, program, cap):
    thresholds = [0.3, 0.6, 0.9]  # of the replicas
    method = ReGraMa(threshold=torch.tensor(thresholds, dtype=torch.float64), period=3, cap=cap)
    pair = compared(method, program=program, silent=(1, 4), lr=0.2)
    counts = [0, 0, 0]

    def rule(hand, replica):
        hand.descend()
        if hand.steps % 3:
            return
        score = np.abs(hand.g["w1"]).mean(axis=1)
        mask = score / (score.mean() + 1e-8) <= thresholds[replica]
        if cap < 1:  # two of six
            mask &= np.isin(np.arange(6), np.argsort(score, kind="stable")[:2])
        counts[replica] += mask.sum()
        reset_by_hand(hand, replica, mask)

    pair.run(12, rule)
    assert min(counts) >= 2  # the silent ones
    assert counts[0] < counts[2]
    assert pair.learner.methods[0].report(pair.learner.view, pair.learner.states[0])["resets"].tolist() == counts


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


def test_outgoing_weights_and_moments_of_reset_units_are_zero_and_of_no_others(runner):
    def build(generator):
        with rng.isolated(generator):
            layers = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))
        with torch.no_grad():
            layers[1].bias[2] = layers[1].bias[5] = -100.0
        return layers

    trained = runner([ReGraMa(threshold=0.0, period=6)], build=build, seeds=(0, 1), optimizer=Adam(lr=1e-3)).run(6)
    dead = torch.tensor([i in (2, 5) for i in range(8)])
    parameters = trained.learner.view.parameters
    assert torch.equal((parameters["3.weight"] == 0).all(dim=1), dead.expand(2, 8))
    entries = trained.learner.optimizer.stacked_state()
    for key in ("exp_avg", "exp_avg_sq"):
        assert torch.equal((entries["3.weight"][key] == 0).all(dim=1), dead.expand(2, 8))
        assert torch.equal((entries["1.weight"][key] == 0).all(dim=2), dead.expand(2, 8))
        assert torch.equal(entries["1.bias"][key] == 0, dead.expand(2, 8))


def test_what_another_method_adds_to_the_gradient_counts(compared):
    def resets(*others):
        pair = compared(*others, ReGraMa(threshold=0.0, period=1), silent=(1, 4), lr=1e-30, replicas=1)
        pair.learner.step(list(zip(*pair.draw(0), strict=True)))
        return pair.learner.states[-1]["resets"].tolist()

    assert resets() == [[2]]
    assert resets(L2(strength=0.1)) == [[0]]


@pytest.mark.parametrize("fields", [{"threshold": -0.1}, {"period": 0}, {"cap": 0.0}, {"cap": 1.1}])
def test_fields_out_of_range_are_refused(fields):
    with pytest.raises(InvalidInputError, match=f"{next(iter(fields))}.*got"):
        ReGraMa(**fields)
