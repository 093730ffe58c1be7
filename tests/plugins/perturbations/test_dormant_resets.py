"""What ReDo and ReGraMa share: which units are dormant, and how they are reset."""

import numpy as np
import pytest
import torch
from torch import nn

from lopbench.core import rng
from lopbench.core.errors import InvalidInputError
from lopbench_plugins.optimizers.adam import Adam
from lopbench_plugins.perturbations._units import dormant
from lopbench_plugins.perturbations.redo import ReDo
from lopbench_plugins.perturbations.regrama import ReGraMa

BOTH = pytest.mark.parametrize("method", [ReDo, ReGraMa])

#: The activity of units in a network written in NumPy, and what the authors' codes add to its mean.
SCORES = {ReDo: lambda hand: np.abs(hand.h).mean(axis=0), ReGraMa: lambda hand: np.abs(hand.g["w1"]).mean(axis=1)}
EPSILON = {ReDo: 1e-9, ReGraMa: 1e-8}


@BOTH
@pytest.mark.parametrize("program", [False, True])
@pytest.mark.parametrize("cap", [1.0, 0.4])
def test_steps_and_resets_are_those_of_the_formula(compared, reset_by_hand, method, program, cap):
    thresholds = [0.3, 0.6, 0.9]  # of the replicas
    made = method(threshold=torch.tensor(thresholds, dtype=torch.float64), period=3, cap=cap)
    pair = compared(made, program=program, silent=(1, 4), lr=0.2)
    counts = [0, 0, 0]

    def rule(hand, replica):
        hand.descend()
        if hand.steps % 3:
            return
        score = SCORES[method](hand)
        mask = score / (score.mean() + EPSILON[method]) <= thresholds[replica]
        if cap < 1:  # two of six
            mask &= np.isin(np.arange(6), np.argsort(score, kind="stable")[:2])
        counts[replica] += mask.sum()
        reset_by_hand(hand, replica, mask)

    pair.run(12, rule)
    assert min(counts) >= 2  # the silent ones
    assert counts[0] < counts[2]
    assert pair.learner.methods[0].report(pair.learner.view, pair.learner.states[0])["resets"].tolist() == counts


@BOTH
def test_outgoing_weights_and_moments_of_reset_units_are_zero_and_of_no_others(runner, method):
    # FIRE's ReDo zeroes the result of indexing, a copy: neither columns nor moments change.
    def build(generator):
        with rng.isolated(generator):
            layers = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))
        with torch.no_grad():
            layers[1].bias[2] = layers[1].bias[5] = -100.0
        return layers

    trained = runner([method(threshold=0.0, period=6)], build=build, seeds=(0, 1), optimizer=Adam(lr=1e-3)).run(6)
    dead = torch.tensor([i in (2, 5) for i in range(8)])
    parameters = trained.learner.view.parameters
    assert torch.equal((parameters["3.weight"] == 0).all(dim=1), dead.expand(2, 8))
    assert torch.equal(parameters["1.bias"] == 0, dead.expand(2, 8))
    entries = trained.learner.optimizer.stacked_state()
    for key in ("exp_avg", "exp_avg_sq"):
        assert torch.equal((entries["3.weight"][key] == 0).all(dim=1), dead.expand(2, 8))
        assert torch.equal((entries["1.weight"][key] == 0).all(dim=2), dead.expand(2, 8))
        assert torch.equal(entries["1.bias"][key] == 0, dead.expand(2, 8))
        assert (entries["3.bias"][key] != 0).all()


def test_mean_score_is_one_so_that_a_threshold_of_the_width_takes_all():
    activity = torch.rand(4, 9, generator=rng.derive(0, "activity"), dtype=torch.float64)
    assert dormant(activity, 9.0, 1.0).all()
    assert (dormant(activity, 1.0, 1.0).sum(dim=1) < 9).all()
    assert not dormant(activity, 0.0, 1.0).any()


@pytest.mark.parametrize(("cap", "most"), [(0.01, 1), (0.3, 2), (0.5, 4), (0.99, 8)])
def test_cap_is_kept_and_takes_the_least_active(cap, most):
    activity = torch.arange(9.0).flip(0).expand(2, 9)
    assert dormant(activity, 9.0, cap).tolist() == [[unit >= 9 - most for unit in range(9)]] * 2


def test_a_layer_that_is_all_silent_is_reset_whole():
    assert dormant(torch.zeros(1, 5), 0.0, 1.0).all()


@BOTH
@pytest.mark.parametrize("fields", [{"threshold": -0.1}, {"period": 0}, {"cap": 0.0}, {"cap": 1.1}])
def test_fields_out_of_range_are_refused(method, fields):
    with pytest.raises(InvalidInputError, match=f"{next(iter(fields))}.*got"):
        method(**fields)
