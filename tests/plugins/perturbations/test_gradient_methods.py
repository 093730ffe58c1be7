"""L2, gradient noise, and shrink and perturb at each step."""

import pytest
import torch

from lopbench.core.errors import InvalidInputError
from lopbench.learner.view import Named
from lopbench_plugins.optimizers import adam, adamw, sgd
from lopbench_plugins.perturbations.l2 import L2
from lopbench_plugins.perturbations.noisy_sgd import NoisySGD
from lopbench_plugins.perturbations.shrink_and_perturb_step import ShrinkAndPerturbStep

KINDS = {"adam": adam.Adam, "adamw": adamw.AdamW, "sgd": sgd.SGD}
SGD = sgd.SGD(lr=1.0)


def gradients(trained):
    """Let the method see the gradients of its next batch, and return a copy."""
    images, targets = trained.tasks[0].batch(trained.step)
    leaves = trained.learner.leaves
    loss = trained.tasks[0].loss(trained.learner.network.module(images), targets)
    found = [each.unsqueeze(0).clone() for each in torch.autograd.grad(loss, list(leaves.values()))]
    trained.learner.view.descended(lambda: Named(zip(leaves, found, strict=True)))
    return {name: value.clone() for name, value in trained.learner.view.gradients.items()}


def act(learner):
    """Let the method change the gradients."""
    with torch.no_grad():
        learner.methods[0].after_backward(learner.view, learner.states[0])


def test_l2_adds_the_gradient_of_its_penalty(runner):
    trained = runner([L2(strength=0.3)], dtype=torch.float64)
    learner = trained.learner
    before = gradients(trained)
    act(learner)
    norm = sum(value.square().sum() for value in learner.leaves.values())
    penalty = torch.autograd.grad(0.5 * 0.3 * norm, list(learner.leaves.values()))
    for (name, value), added in zip(learner.view.gradients.items(), penalty, strict=True):
        torch.testing.assert_close(value[0] - before[name][0], added)


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_l2_equals_the_weight_decay_of_the_optimizer(kind, runner):
    ours = runner([L2(strength=0.05)], optimizer=KINDS[kind](lr=1e-2), dtype=torch.float64)
    theirs = runner([], optimizer=KINDS[kind](lr=1e-2, weight_decay=0.05), dtype=torch.float64)
    for name, value in ours.run(20).learner.view.parameters.items():
        if name == "1.weight":
            torch.testing.assert_close(value, theirs.run(20).learner.view.parameters[name], rtol=1e-9, atol=1e-12)


def test_gradient_noise_is_in_proportion_to_the_norm_of_its_tensor(runner):
    trained = runner([NoisySGD(scale=0.5)], dtype=torch.float64)
    learner = trained.learner
    clean = gradients(trained)
    draws = {name: [] for name in clean}
    for _ in range(400):
        for name, value in learner.view.gradients.items():
            value.copy_(clean[name])
        act(learner)
        for name, value in learner.view.gradients.items():
            draws[name].append((value - clean[name]) / clean[name].norm())
    for noise in (torch.stack(values) for values in draws.values()):
        # 1200 to 51200 draws: the standard deviation of their spread is at most 2% of it.
        assert abs(noise.std() / 0.5 - 1) < 0.1
        assert abs(noise.mean()) < 0.5 * 5 * noise.numel() ** -0.5


def test_gradient_noise_decays_from_step_to_step(runner):
    noises = {}
    for decay in (1.0, 0.5, 0.0):
        trained = runner([NoisySGD(scale=0.1, decay=decay)], dtype=torch.float64)
        learner = trained.learner
        clean = gradients(trained)
        for step in range(4):
            for name, value in learner.view.gradients.items():
                value.copy_(clean[name])
            act(learner)
            noises[decay, step] = learner.view.gradients["1.weight"] - clean["1.weight"]
    for step in range(4):
        torch.testing.assert_close(noises[0.5, step], 0.5**step * noises[1.0, step])
    torch.testing.assert_close(noises[0.0, 0], noises[1.0, 0])
    assert not any(noises[0.0, step].any() for step in (1, 2, 3))


def test_gradient_of_zero_stays_zero(runner):
    trained = runner([NoisySGD(scale=0.5)])
    learner = trained.learner
    gradients(trained)
    learner.view.gradients["1.weight"].zero_()
    act(learner)
    assert not learner.view.gradients["1.weight"].any()
    assert learner.view.gradients["3.weight"].any()


def test_gradient_noise_parts_clones(runner):
    def spread(methods):
        trained = runner(methods, optimizer=SGD)
        for name in ("1.weight", "1.bias"):
            trained.learner.view.parameters[name].copy_(trained.learner.view.parameters[name][:, :1].clone())
        trained.learner.view.parameters["3.weight"].copy_(trained.learner.view.parameters["3.weight"][..., :1].clone())
        trained.run(1)
        weight = trained.learner.view.parameters["1.weight"][0]
        return (weight - weight[0]).abs().max()

    assert spread([]) == 0
    assert spread([NoisySGD()]) > 1e-4


def test_step_perturbation_has_its_deviation_whatever_the_learning_rate(runner):
    for lr in (1e-30, 1e-20):
        trained = runner([ShrinkAndPerturbStep(weight_decay=0.0, std=0.1)], optimizer=sgd.SGD(lr=lr))
        before = {name: value.clone() for name, value in trained.learner.view.parameters.items()}
        trained.run(4)
        moved = torch.cat([(v - before[n]).flatten() for n, v in trained.learner.view.parameters.items()])
        # 223 sums of four draws: the standard deviation of their spread is 5% of it.
        assert abs(moved.std() / 0.2 - 1) < 0.2


def test_step_shrinking_is_the_weight_decay_of_the_optimizer(runner):
    ours = runner([ShrinkAndPerturbStep(weight_decay=0.05, std=0.0)], dtype=torch.float64)
    theirs = runner([L2(strength=0.05)], dtype=torch.float64).run(10)
    for name, value in ours.run(10).learner.view.parameters.items():
        assert torch.equal(value, theirs.learner.view.parameters[name])


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        (L2, {"strength": -1e-9}),
        (L2, {"strength": float("nan")}),
        (NoisySGD, {"scale": -0.1}),
        (NoisySGD, {"scale": float("inf")}),
        (NoisySGD, {"decay": -0.1}),
        (NoisySGD, {"decay": 1.1}),
        (ShrinkAndPerturbStep, {"weight_decay": -0.1}),
        (ShrinkAndPerturbStep, {"std": float("nan")}),
    ],
)
def test_fields_out_of_range_are_refused(method, fields):
    with pytest.raises(InvalidInputError, match=f"{next(iter(fields))}.*got"):
        method(**fields)
