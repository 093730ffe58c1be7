"""C-CHAIN: the churn of the last update, against NumPy."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call

from lopbench.core import rng
from lopbench.core.errors import UnsupportedError
from lopbench.learner.learner import StackLearner
from lopbench_plugins.optimizers.sgd import SGD
from lopbench_plugins.perturbations.c_chain import CChain, _counting
from lopbench_plugins.perturbations.input_norm import InputNorm


def network(generator):
    with rng.isolated(generator):
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 3))


def distances(new, old):
    """Return both distances of outputs ``(N, K)`` as NumPy has them."""
    soft = [np.exp(x - x.max(axis=1, keepdims=True)) for x in (old, new)]
    p, q = (x / x.sum(axis=1, keepdims=True) for x in soft)
    return {"squared": ((new - old) ** 2).mean(), "cross_entropy": -(p * np.log(q)).sum(axis=1).mean()}


@pytest.mark.parametrize("distance", ["squared", "cross_entropy"])
def test_the_penalty_is_the_change_by_the_last_update_on_the_batch_before_it(distance, runner, monkeypatch):
    method, penalties = CChain(strength=0.5, distance=distance), []
    penalty = CChain.penalty
    monkeypatch.setattr(CChain, "penalty", lambda *a: penalties.append(penalty(*a)) or penalties[-1])
    trained = runner([method], seeds=(0, 1), dtype=torch.float64, build=network)
    seen = []
    for step in range(5):
        seen.append({name: value.clone() for name, value in trained.learner.view.parameters.items()})
        trained.run(1)
        for replica, task in enumerate(trained.tasks if step else ()):
            images = task.batch(step - 1)[0].double()
            new, old = (
                functional_call(
                    network(rng.derive(0)).double(), {n: v[replica] for n, v in each.items()}, (images,)
                ).numpy()
                for each in (seen[step], seen[step - 1])
            )
            expected = 0.5 * distances(new, old)[distance]
            assert penalties[step][replica].item() == pytest.approx(expected, rel=1e-10)
            assert not np.allclose(new, old)


def test_the_coefficient_follows_loss_and_churn_over_a_window(runner, monkeypatch):
    """With ``ratio`` it is the ratio times mean loss over mean churn of the last three steps, from step 4 on."""
    method, seen = CChain(strength=2.0, ratio=0.5, window=3, warm_up=4), []
    churn, coefficient = CChain._churn, CChain._coefficient
    monkeypatch.setattr(CChain, "_churn", lambda *a: seen.append(churn(*a)) or seen[-1])
    coefficients = []
    monkeypatch.setattr(CChain, "_coefficient", lambda *a: coefficients.append(coefficient(*a)) or coefficients[-1])
    trained = runner([method], seeds=(0, 1), dtype=torch.float64, build=network)
    losses = []
    for _ in range(9):
        losses.append(trained.learner.step([task.batch(trained.step) for task in trained.tasks]).losses.numpy())
        trained.step += 1
    churns = [value.detach().numpy() for value in seen[::2]]  # each is asked for twice a step
    np.testing.assert_array_equal([value.detach().numpy() for value in seen[1::2]], churns)
    for step, found in enumerate(coefficients):
        last = slice(max(0, step - 3), step)
        expected = 0.5 * np.mean(losses[last], axis=0) / np.mean(churns[last], axis=0) if step >= 4 else [2.0, 2.0]
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-10)
    assert not np.allclose(coefficients[4].numpy(), coefficients[8].numpy())


def dropping(generator):
    with rng.isolated(generator):
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 3))


def standardising(generator):
    return InputNorm().configure(network(generator), example=torch.zeros(2, 1, 4, 4), generator=generator)


@pytest.mark.parametrize("build", [network, dropping, standardising])
def test_where_parameters_stay_there_is_no_churn(build, runner, monkeypatch):
    """Whatever is dropped at random, and wherever the statistics of the inputs move."""
    penalties, penalty = [], CChain.penalty
    monkeypatch.setattr(CChain, "penalty", lambda *a: penalties.append(penalty(*a)) or penalties[-1])
    runner([CChain(strength=1.0)], dtype=torch.float64, build=build, optimizer=SGD(lr=1e-300)).run(4)
    assert [value.item() for value in penalties] == [0.0] * 4


@pytest.mark.parametrize("distance", ["squared", "cross_entropy"])
def test_before_the_first_update_it_pulls_nowhere(distance, runner):
    ours, theirs = (
        runner(m, dtype=torch.float64, build=network).run(1).learner.view.parameters
        for m in ([CChain(strength=10.0, distance=distance)], [])
    )
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=1e-6, atol=1e-9)


def test_outputs_that_do_not_count_have_no_part():
    outputs = torch.arange(24.0).view(2, 3, 4)
    classes = torch.tensor([[0, 2], [3, 1]])
    assert torch.equal(_counting(outputs, classes), torch.stack([outputs[0][:, [0, 2]], outputs[1][:, [3, 1]]]))


def test_probabilities_of_one_output_are_refused(runner):
    with pytest.raises(UnsupportedError, match="c_chain:distance=squared"):
        StackLearner(
            build=lambda generator: nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 1)),
            seeds=(0,),
            methods=[CChain(distance="cross_entropy")],
            optimizer=SGD(lr=0.1),
            example=torch.zeros(2, 4),
            outputs=1,
            dtype=torch.float32,
        )
