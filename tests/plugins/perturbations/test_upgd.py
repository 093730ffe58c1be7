"""UPGD."""

import numpy as np
import pytest
import torch

from lopbench.core.errors import InvalidInputError
from lopbench.learner.memory import Generators
from lopbench_plugins.optimizers.adam import Adam
from lopbench_plugins.optimizers.sgd import SGD
from lopbench_plugins.perturbations.upgd import UPGD, _largest


def draw(shape, replica):
    """Return the noise of a replica for a tensor."""
    return np.cos(5.0 * replica + np.arange(np.prod(shape)).reshape(shape))


@pytest.mark.parametrize(("program", "noises"), [(False, [0.0, 0.1, 1.0]), (True, [0.0, 0.0, 0.0])])
def test_steps_are_those_of_the_formula(compared, monkeypatch, program, noises):
    def normal(self, like):
        return torch.from_numpy(np.stack([draw(tuple(like.shape[1:]), replica) for replica in range(len(like))]))

    monkeypatch.setattr(Generators, "normal", normal)
    decays, weight_decays = [0.0, 0.9, 0.999], [0.0, 0.01, 0.5]  # of the replicas
    fields = {"decay": decays, "noise": noises, "weight_decay": weight_decays}
    method = UPGD(**{name: torch.tensor(values, dtype=torch.float64) for name, values in fields.items()})
    pair = compared(method, program=program, lr=0.2)

    def rule(hand, replica):
        beta, sigma = decays[replica], noises[replica]
        utility = hand.memory.setdefault("utility", {name: np.zeros_like(value) for name, value in hand.p.items()})
        for name, gradient in hand.g.items():
            utility[name] = beta * utility[name] - (1 - beta) * gradient * hand.p[name]
        correction = 1 - beta**hand.steps
        largest = max((value / correction).max() for value in utility.values())
        for name, gradient in hand.g.items():
            gate = 1 - 1 / (1 + np.exp(-utility[name] / correction / largest))
            noisy = gradient + sigma * draw(gradient.shape, replica)
            hand.p[name][...] = (1 - 0.2 * weight_decays[replica]) * hand.p[name] - 0.2 * noisy * gate

    pair.run(12, rule)


def gates(runner, method, optimizer, steps=8):
    """Yield the share of the optimizer's update that is left of every parameter, in each step."""
    trained = runner([method], optimizer=optimizer, dtype=torch.float64)
    hook, found = type(method).update, []

    def update(self, learner, state):
        before = {name: value.clone() for name, value in learner.updates.items()}
        hook(self, learner, state)
        found.append({name: value / before[name] for name, value in learner.updates.items()})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(method), "update", update)
        trained.run(steps)
    return found


@pytest.mark.parametrize("optimizer", [SGD(lr=0.05), Adam(lr=0.01)])
def test_no_step_is_shorter_than_that_of_the_most_useful_weight(runner, optimizer):
    # sigmoid(1) = 0.7311, from the first step on.
    for step in gates(runner, UPGD(decay=0.99, noise=0.0, weight_decay=0.0), optimizer):
        shares = torch.cat([each.flatten() for each in step.values()])
        shares = shares[shares.isfinite()]  # a step of zero has none
        assert abs(shares.min() - 0.2689414) < 1e-6
        assert shares.max() <= 1


def test_without_utility_and_noise_half_a_step_of_gradient_descent_is_taken(compared):
    pair = compared(UPGD(noise=0.0, weight_decay=0.0), lr=0.2)
    for value in pair.learner.view.parameters.values():
        value.zero_()  # a weight of zero has no utility
    for hand in pair.hands:
        for value in hand.p.values():
            value[...] = 0.0

    def rule(hand, replica):
        hand.lr = 0.1
        hand.descend()

    pair.run(1, rule)


def test_where_no_weight_is_useful_what_hinders_moves_in_full_and_no_sign_turns():
    largest = _largest([torch.tensor([[-0.5, -2.0], [3.0, 1.0]]), torch.tensor([[-1.0], [4.0]])])
    assert (largest > 0).all()
    assert largest[1] == 4
    assert torch.sigmoid(0.5 / largest[0]) == 1
    assert (1 / _largest([torch.zeros(1, 2)])).isfinite().all()


@pytest.mark.parametrize("fields", [{"decay": 1.0}, {"noise": -0.1}, {"weight_decay": -0.1}])
def test_fields_out_of_range_are_refused(fields):
    with pytest.raises(InvalidInputError, match=f"{next(iter(fields))}.*got"):
        UPGD(**fields)
