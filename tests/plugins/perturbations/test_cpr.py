"""Continuous partial resets."""

import numpy as np
import pytest
import torch

from lopbench.core.errors import InvalidInputError
from lopbench_plugins.optimizers.adam import Adam
from lopbench_plugins.perturbations.cpr import PartialResets


def row(replica, place):
    """Return the incoming weights of the ``place``-th unit that is redrawn in a replica."""
    return np.sin(1.0 + replica + 10.0 * place + np.arange(4))


@pytest.mark.parametrize("program", [False, True])
def test_steps_and_partial_resets_are_those_of_the_formula(compared, program):
    rates, decays, steepness = [0.0, 0.02, 0.5], [0.5, 0.9, 0.99], [16.0, 4.0, 16.0]  # of the replicas
    fields = {"rate": rates, "decay": decays, "steepness": steepness}
    method = PartialResets(period=3, **{name: torch.tensor(v, dtype=torch.float64) for name, v in fields.items()})
    pair = compared(method, program=program, silent=(1, 4), lr=0.2)

    def rule(hand, replica):
        hand.descend()
        size = np.abs(hand.g["w1"]).mean(axis=1)
        utility = hand.memory.setdefault("utility", np.ones(6))
        utility += (1 - decays[replica]) * (size / size.mean() - utility)
        if hand.steps % 3:
            return
        share = rates[replica] * np.minimum(2 / (1 + np.exp(steepness[replica] * (utility - 1))), 1)
        for unit in np.flatnonzero(share > 0):
            place = hand.memory["taken"] = hand.memory.get("taken", -1) + 1
            hand.p["w1"][unit] += share[unit] * (row(replica, place) - hand.p["w1"][unit])
            hand.p["w2"][:, unit] *= 1 - share[unit]

    pair.run(15, rule)
    assert [hand.memory.get("taken", -1) + 1 for hand in pair.hands] == [0, 30, 30]


def test_at_full_rate_a_dead_unit_becomes_a_new_one_without_outgoing_weights(compared):
    pair = compared(PartialResets(rate=1.0, period=1, decay=0.0), silent=(1, 4), lr=1e-30, replicas=1)
    pair.learner.step(list(zip(*pair.draw(0), strict=True)))
    parameters = pair.learner.view.parameters
    for unit in (1, 4):
        np.testing.assert_array_equal(parameters["0.weight"][0, unit].numpy(), row(0, unit))  # all units took one
        assert not parameters["2.weight"][0, :, unit].any()
        assert parameters["0.bias"][0, unit] == -100  # biases stay
    learning = pair.learner.states[0]["utility"][0] > 1.5
    assert learning.any()
    assert (parameters["2.weight"][0, :, learning] != 0).all()


def test_a_layer_without_any_gradient_is_moved_as_if_all_its_units_learned_alike(compared):
    pair = compared(PartialResets(rate=0.1, period=1, decay=0.5), lr=1e-30, replicas=1, loss=0.0)
    before = pair.learner.view.parameters["2.weight"].clone()
    pair.learner.step(list(zip(*pair.draw(0), strict=True)))
    assert (pair.learner.states[0]["utility"] == 1).all()
    torch.testing.assert_close(pair.learner.view.parameters["2.weight"], 0.9 * before)


def test_the_state_of_the_optimizer_is_kept(runner):
    ours = runner([PartialResets(rate=0.5, period=6)], seeds=(0, 1), optimizer=Adam(lr=1e-3)).run(6)
    theirs = runner([], seeds=(0, 1), optimizer=Adam(lr=1e-3)).run(6)
    assert not torch.equal(ours.learner.view.parameters["3.weight"], theirs.learner.view.parameters["3.weight"])
    ours, theirs = (each.snapshot() for each in (ours, theirs))
    kept = [name for name in theirs if name.startswith("optimizer/")]
    assert kept
    assert all(torch.equal(ours[name], theirs[name]) for name in kept)


@pytest.mark.parametrize("fields", [{"rate": 1.1}, {"period": 0}, {"decay": 1.0}, {"steepness": -1.0}])
def test_fields_out_of_range_are_refused(fields):
    with pytest.raises(InvalidInputError, match=f"{next(iter(fields))}.*got"):
        PartialResets(**fields)
