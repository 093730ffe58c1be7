"""Weight clipping."""

import numpy as np
import pytest
import torch
from torch import nn

from lopbench.core import rng
from lopbench.core.errors import InvalidInputError, UnsupportedError
from lopbench_plugins.optimizers.sgd import SGD
from lopbench_plugins.perturbations.weight_clipping import WeightClipping


def mixed(generator):
    """Return layers of every kind, with parameters that have no fan-in."""
    with rng.isolated(generator):
        return nn.Sequential(
            nn.Conv2d(1, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(16, 6),
            nn.LayerNorm(6),
            nn.ReLU(),
            nn.Linear(6, 3),
        )


@pytest.mark.parametrize("program", [False, True])
@pytest.mark.parametrize("clip_head", [False, True])
def test_steps_are_those_of_the_formula(compared, program, clip_head):
    kappas = [0.3, 0.9, 1.1]  # of the replicas
    method = WeightClipping(kappa=torch.tensor(kappas, dtype=torch.float64), clip_head=clip_head)
    pair = compared(method, program=program, lr=0.3)

    def rule(hand, replica):
        hand.descend()
        bounds = {"w1": 4**-0.5, "b1": 4**-0.5, **({"w2": 6**-0.5, "b2": 6**-0.5} if clip_head else {})}
        for name, bound in bounds.items():
            np.clip(hand.p[name], -kappas[replica] * bound, kappas[replica] * bound, out=hand.p[name])

    pair.run(10, rule)


def test_no_weight_is_beyond_its_bound_and_normalisations_are_left_alone(runner):
    trained = runner([WeightClipping(kappa=0.7)], build=mixed, seeds=(0, 1), optimizer=SGD(lr=2.0)).run(15)
    parameters = trained.learner.view.parameters
    for name, fan_in in {"0": 9, "4": 16, "7": 6}.items():
        for part in ("weight", "bias"):
            largest = parameters[f"{name}.{part}"].flatten(1).abs().amax(dim=1)
            assert (largest <= 0.7 * fan_in**-0.5 * (1 + 1e-6)).all(), (name, part)
            assert part == "bias" or (largest >= 0.7 * fan_in**-0.5 * (1 - 1e-6)).all()  # it did reach it
    # Authors' code: a vector gets a bound of no layer. The scales start at 1, far beyond the bounds of all layers here.
    assert parameters["1.weight"].abs().amax() > 1
    assert parameters["5.weight"].abs().amax() > 1


def test_the_report_tells_what_is_clipped_and_how_much_is_left_out(runner):
    learner = runner([WeightClipping(kappa=1e-6)], build=mixed, seeds=(0, 1)).run(1).learner
    report = learner.methods[0].report(learner.view, learner.states[0])
    assert report["left_out"].tolist() == [2 * 4 + 2 * 6] * 2
    torch.testing.assert_close(report["clipped"], torch.ones(2))
    learner = runner([WeightClipping(kappa=1e6, clip_head=False)], build=mixed).run(1).learner
    report = learner.methods[0].report(learner.view, learner.states[0])
    assert report["left_out"].tolist() == [2 * 4 + 2 * 6 + 6 * 3 + 3]
    assert report["clipped"].tolist() == [0]


def test_kappa_of_one_leaves_the_layers_of_torch_as_they_are_built(runner):
    learner = runner([WeightClipping(kappa=1.0)], build=mixed, seeds=range(20), dtype=torch.float64).learner
    before = {name: value.clone() for name, value in learner.view.parameters.items()}
    with torch.no_grad():
        learner.methods[0].after_step(learner.view, learner.states[0])
    assert all(torch.equal(value, before[name]) for name, value in learner.view.parameters.items())


def test_attention_is_clipped_by_its_fan_in_and_tables_are_not(runner):
    class Attending(nn.Module):
        def __init__(self):
            super().__init__()
            self.place = nn.Parameter(torch.ones(4, 4))
            self.attention = nn.MultiheadAttention(4, 1, batch_first=True)
            self.out = nn.Linear(16, 3)

        def forward(self, x):
            x = x.flatten(1, 2) + self.place
            return self.out(self.attention(x, x, x, need_weights=False)[0].flatten(1))

    def build(generator):
        with rng.isolated(generator):
            return Attending()

    parameters = runner([WeightClipping(kappa=0.1)], build=build).run(2).learner.view.parameters
    assert parameters["attention.in_proj_weight"].abs().amax() <= 0.1 * 0.5 * (1 + 1e-6)
    assert parameters["attention.in_proj_bias"].abs().amax() <= 0.1 * 0.5 * (1 + 1e-6)
    assert parameters["attention.out_proj.weight"].abs().amax() <= 0.1 * 0.5 * (1 + 1e-6)
    assert parameters["place"].abs().amin() > 0.9


def test_what_has_nothing_to_clip_is_refused(runner):
    with pytest.raises(UnsupportedError, match="no layer of Sequential has a weight matrix or kernel to clip"):
        runner([WeightClipping(clip_head=False)], build=lambda _: nn.Sequential(nn.Flatten(), nn.Linear(16, 3))).run(1)


def test_a_bound_of_zero_is_refused():
    with pytest.raises(InvalidInputError, match="kappa must be above 0"):
        WeightClipping(kappa=0.0)
