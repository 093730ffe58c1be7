"""Selective weight reinitialisation."""

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp

from lopbench.core.errors import InvalidInputError
from lopbench.learner.memory import Generators, MethodState
from lopbench.learner.nursery import Nursery
from lopbench_plugins.optimizers.adam import Adam
from lopbench_plugins.perturbations.swr import SelectiveWeightReinitialisation as Redraw

SIZES = {"w1": (6, 4), "b1": (6,), "w2": (2, 6), "b2": (2,)}
LONG = {"w1": "0.weight", "b1": "0.bias", "w2": "2.weight", "b2": "2.bias"}


def fresh_value(call, replica, short):
    """Return what the ``call``-th new network of a replica has in a tensor."""
    shape = SIZES[short]
    return np.sin(call + 3.0 * replica + np.arange(np.prod(shape)).reshape(shape))


@pytest.mark.parametrize("utility", ["gradient", "magnitude"])
@pytest.mark.parametrize("selection", ["proportional", "threshold"])
def test_steps_and_redrawn_weights_are_those_of_the_formula(compared, monkeypatch, utility, selection):
    shares = [0.0, 0.5, 1.0]  # of the replicas; half of every tensor here is a whole number
    calls = []

    def fresh(self, state):
        calls.append(0)
        values = {long: [fresh_value(len(calls), r, short) for r in range(3)] for short, long in LONG.items()}
        return {name: torch.from_numpy(np.stack(each)) for name, each in values.items()}

    monkeypatch.setattr(Nursery, "fresh", fresh)
    share = torch.tensor(shares, dtype=torch.float64)
    pair = compared(Redraw(share=share, period=3, utility=utility, selection=selection), lr=0.2)
    redrawn = [0, 0, 0]

    def rule(hand, replica):
        hand.descend()
        if hand.steps % 3:
            return
        for short, weight in hand.p.items():
            value = np.abs(weight * hand.g[short] if utility == "gradient" else weight).ravel()
            if selection == "proportional":
                mask = np.zeros(value.size, dtype=bool)
                mask[np.argsort(value, kind="stable")[: int(value.size * shares[replica])]] = True
            else:
                mask = value <= shares[replica] * value.mean()
            redrawn[replica] += mask.sum()
            weight[...] = np.where(mask.reshape(weight.shape), fresh_value(len(calls), replica, short), weight)

    pair.run(10, rule)
    assert len(calls) == 3
    assert redrawn[1] > 20
    report = pair.learner.methods[0].report(pair.learner.view, pair.learner.states[0])
    assert report["redrawn"].tolist() == redrawn


def test_a_fraction_of_a_weight_is_the_probability_of_one():
    method = Redraw(share=0.35)
    state = MethodState(Generators([torch.Generator().manual_seed(seed) for seed in (0, 1)]))
    state["redrawn"] = torch.zeros(2, dtype=torch.float64)
    utility = torch.rand(2, 5)
    counts = torch.stack([method._chosen(utility, state).sum(dim=1) for _ in range(2000)])  # 1.75 are due
    assert set(counts.flatten().tolist()) == {1, 2}
    assert not torch.equal(counts[:, 0], counts[:, 1])
    # Standard deviation of the mean of 2000 draws of probability 3/4: 0.0097.
    assert (counts.double().mean(dim=0) - 1.75).abs().amax() < 0.05


def test_all_else_is_left_alone_and_new_weights_follow_the_law_of_the_layer(runner):
    ours = runner([Redraw(share=0.25, period=5)], seeds=range(8), optimizer=Adam(lr=1e-3)).run(5)
    theirs = runner([], seeds=range(8), optimizer=Adam(lr=1e-3)).run(5)
    drawn = {}
    for name, value in ours.learner.view.parameters.items():
        changed = value != theirs.learner.view.parameters[name]
        count = 0.25 * value[0].numel()
        assert ((changed.flatten(1).sum(dim=1) - count).abs() < 1).all(), name
        drawn[name] = value[changed]
    bound = 16**-0.5
    law = torch.linspace(-bound, bound, 2000)
    assert ks_2samp(drawn["1.weight"].numpy(), law.numpy()).pvalue > 1e-4  # 256 draws
    kept = [name for name in theirs.snapshot() if name.startswith("optimizer/")]
    assert kept
    assert all(torch.equal(ours.snapshot()[name], theirs.snapshot()[name]) for name in kept)


@pytest.mark.parametrize(
    "fields", [{"share": -0.1}, {"share": 1.1}, {"period": 0}, {"utility": "x"}, {"selection": "x"}]
)
def test_fields_out_of_range_are_refused(fields):
    with pytest.raises(InvalidInputError, match=f"{next(iter(fields))}.*got"):
        Redraw(**fields)
