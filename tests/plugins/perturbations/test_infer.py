"""InFeR: its penalty against NumPy."""

import numpy as np
import pytest
import torch
from torch import nn

from lopbench.core import rng
from lopbench.core.errors import UnsupportedError
from lopbench_plugins.perturbations.infer import InFeR


def build(generator):
    with rng.isolated(generator):
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 3))


def functions(parameters, images):
    """Return the auxiliary functions of one replica at images, as NumPy has them."""
    values = {name: value.numpy() for name, value in parameters.items()}
    features = np.tanh(images.numpy().reshape(len(images), -1) @ values["1.weight"].T + values["1.bias"])
    return features @ values["infer_weight"].T + values["infer_bias"]


@pytest.fixture
def penalties(monkeypatch):
    found, penalty = [], InFeR.penalty
    monkeypatch.setattr(InFeR, "penalty", lambda *a: found.append(penalty(*a)) or found[-1])
    return found


def test_the_penalty_is_the_mean_over_functions_of_their_squared_distance(penalties, runner):
    trained = runner([InFeR(strength=0.02, scale=7.0, heads=4)], seeds=(0, 1), dtype=torch.float64, build=build)
    view = trained.learner.view
    for step in range(5):
        now = [{name: value[replica].clone() for name, value in view.parameters.items()} for replica in (0, 1)]
        trained.run(1)
        for replica, task in enumerate(trained.tasks):
            images = task.batch(step)[0].double()
            start = {name: value[replica] for name, value in view.initial.items()}
            squares = (functions(now[replica], images) - 7.0 * functions(start, images)) ** 2
            assert squares.shape == (6, 4)
            assert penalties[step][replica].item() == pytest.approx(0.02 * squares.mean(), rel=1e-10)
    assert not torch.equal(view.parameters["infer_weight"], view.initial["infer_weight"])


def test_at_the_start_it_is_the_square_of_the_multiple_less_one(penalties, runner):
    trained = runner([InFeR(strength=1.0, scale=10.0)], dtype=torch.float64, build=build)
    parameters = {name: value[0].clone() for name, value in trained.learner.view.parameters.items()}
    trained.run(1)
    made = functions(parameters, trained.tasks[0].batch(0)[0].double())
    assert made.shape == (6, 10)
    assert penalties[0].item() == pytest.approx(81 * (made**2).mean(), rel=1e-10)


def test_the_multiple_one_pulls_nowhere_at_the_start(runner):
    ours, theirs = (
        runner(m, dtype=torch.float64, build=build).run(1).learner.view.parameters
        for m in ([InFeR(strength=10.0, scale=1.0)], [])
    )
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value)
    assert ours["infer_weight"].shape == (1, 10, 8)


def test_a_head_that_is_no_linear_layer_is_refused(runner):
    class Bilinear(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden, self.out = nn.Linear(16, 8), nn.Bilinear(8, 8, 3)

        def forward(self, x):
            x = self.hidden(x.flatten(1))
            return self.out(x, x)

    with pytest.raises(UnsupportedError, match="no linear layer"):
        runner([InFeR()], build=lambda generator: Bilinear())
