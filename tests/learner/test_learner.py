from collections.abc import Iterator
from typing import Any

import pytest
import torch
from learner_toys import (
    ADAM,
    BATCH_NORM,
    CLASSES,
    DROPOUT,
    LAYER_NORM,
    MOMENTUM,
    SGD,
    SHAPE,
    SMALL,
    Noise,
    Recycler,
    ToyTask,
    equal,
    make,
    network,
    snapshot,
    tasks_of,
    train,
)
from torch import nn
from torch.nn import functional as F

from lopbench.core import rng
from lopbench.core.interfaces import Optimizer, Perturbation
from lopbench_plugins.architectures.cnn import CNN
from lopbench_plugins.optimizers import adam, sgd

#: A bias in front of batch normalisation has gradient zero, and the default eps of 1e-8 would show how it is rounded.
BLUNT_ADAM = adam.Adam(lr=0.01, eps=1e-4)


# --- one replica ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", [BATCH_NORM, CNN(channels=(4,), hidden=6)], ids=["mlp", "cnn"])
def test_one_replica_is_the_module_itself(architecture: Any) -> None:
    learner = make(architecture)
    view, module = learner.view, learner.network.module
    parameters, buffers = dict(module.named_parameters()), dict(module.named_buffers())
    assert parameters.keys() == view.parameters.keys()
    for name, parameter in parameters.items():
        assert view.parameters[name].shape == (1, *parameter.shape)
        assert view.parameters[name].data_ptr() == parameter.data_ptr()
        assert not view.parameters[name].requires_grad
    for name, buffer in buffers.items():
        assert view.buffers[name].shape == (1, *buffer.shape)
        assert view.buffers[name].data_ptr() == buffer.data_ptr()


@pytest.mark.parametrize("architecture", [SMALL, BATCH_NORM, CNN(channels=(4,), hidden=6)], ids=["mlp", "bn", "cnn"])
@pytest.mark.parametrize("optimizer", [MOMENTUM, ADAM], ids=["sgd", "adam"])
def test_one_replica_equals_a_plain_training_loop_bit_for_bit(architecture: Any, optimizer: Optimizer) -> None:
    learner = make(architecture, seeds=[3], optimizer=optimizer)
    module = architecture.build(SHAPE, CLASSES, generator=rng.derive(3, "init", 0))
    plain: torch.optim.Optimizer
    if isinstance(optimizer, sgd.SGD):
        plain = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9, fused=True)
    else:
        plain = torch.optim.Adam(module.parameters(), lr=0.01, fused=True)
    task = ToyTask(3)
    for step in range(8):
        inputs, targets = task.batch(step)
        plain.zero_grad()
        outputs = module(inputs)
        loss = F.cross_entropy(outputs, targets)
        loss.backward()
        plain.step()
        taken = learner.step([(inputs, targets)])
        assert torch.equal(taken.losses, loss.detach().view(1))
        assert torch.equal(taken.scores, (outputs.argmax(1) == targets).double().mean().view(1))
    assert equal(learner.network.module.state_dict(), module.state_dict())


def test_gradients_are_dropped_after_a_step() -> None:
    for seeds in ((0,), (0, 1)):
        for methods in ((), (Noise(),)):
            learner = make(seeds=seeds, methods=methods)
            train(learner, range(1))
            assert not learner.view.gradients
            assert all(leaf.grad is None for leaf in learner.leaves.values())


# --- several replicas -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("methods", [(), (Recycler(), Noise())], ids=["none", "resets"])
@pytest.mark.parametrize("optimizer", [SGD, MOMENTUM, BLUNT_ADAM], ids=["sgd", "momentum", "adam"])
@pytest.mark.parametrize("architecture", [SMALL, BATCH_NORM, LAYER_NORM], ids=["none", "batch", "layer"])
def test_three_replicas_together_equal_three_alone(
    architecture: Any, optimizer: Optimizer, methods: tuple[Perturbation, ...]
) -> None:
    seeds = (4, 0, 9)
    together = make(architecture, seeds, methods, optimizer, torch.float64)
    apart = [make(architecture, (seed,), methods, optimizer, torch.float64) for seed in seeds]
    curve = train(together, range(12))
    curves = [train(learner, range(12)) for learner in apart]
    for step, taken in enumerate(curve):
        losses = torch.cat([each[step].losses for each in curves])
        torch.testing.assert_close(taken.losses, losses, rtol=1e-10, atol=1e-10)
        assert torch.equal(taken.scores, torch.cat([each[step].scores for each in curves]))
    for replica, learner in enumerate(apart):
        for stack, row in (
            (together.view.parameters, learner.view.parameters),
            (together.view.buffers, learner.view.buffers),
            (together.view.initial, learner.view.initial),
        ):
            assert stack.keys() == row.keys()
            for name in row:
                torch.testing.assert_close(stack[name][replica], row[name][0], rtol=1e-10, atol=1e-10)
        task = ToyTask(seeds[replica])
        assert together.evaluate(replica, task) == learner.evaluate(0, task)
        ours, theirs = together.probe(replica, task), learner.probe(0, task)
        assert [layer.name for layer in ours.layers] == [layer.name for layer in theirs.layers]
        for a, b in zip(ours.layers, theirs.layers, strict=True):
            torch.testing.assert_close(a.activation, b.activation, rtol=1e-9, atol=1e-10)
            torch.testing.assert_close(a.gradient, b.gradient, rtol=1e-9, atol=1e-10)
        for name in theirs.gradients:
            torch.testing.assert_close(ours.gradients[name], theirs.gradients[name], rtol=1e-9, atol=1e-10)


def test_running_statistics_of_replicas_move_and_differ() -> None:
    learner = make(BATCH_NORM, seeds=(0, 1))
    train(learner, range(3))
    mean = learner.view.buffers["layers.0.norm.running_mean"]
    assert not torch.equal(mean[0], mean[1])
    assert learner.view.buffers["layers.0.norm.num_batches_tracked"].tolist() == [3, 3]


def test_frozen_parameters_stay_frozen_in_a_stack() -> None:
    def build() -> nn.Module:
        module = nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.ReLU(), nn.Linear(8, CLASSES))
        next(module.parameters()).requires_grad_(False)
        return module

    for seeds in ((0,), (0, 1)):
        learner = network(build, seeds=seeds)
        train(learner, range(2))
        parameters, initial = learner.view.parameters, learner.view.initial
        kept = [name for name, value in parameters.items() if torch.equal(value, initial[name])]
        assert kept == list(parameters)[:1]


@pytest.mark.parametrize("rates", [(0.2,), (0.2, 0.2), (0.2, 0.1)], ids=str)
def test_replicas_have_the_learning_rates_that_they_are_given(rates: tuple[float, ...]) -> None:
    learner = make(seeds=range(len(rates)), optimizer=SGD, rates=rates)
    assert learner.optimizer.lr.tolist() == list(rates)
    train(learner, range(3))
    for replica, rate in enumerate(rates):
        alone = make(seeds=(replica,), optimizer=sgd.SGD(lr=rate))
        train(alone, range(3))
        for name, value in alone.view.parameters.items():
            torch.testing.assert_close(learner.view.parameters[name][replica], value[0])


# --- named streams --------------------------------------------------------------------------------------------------


def test_initialisation_depends_on_the_seed_alone() -> None:
    alone, beside = make(seeds=(7,)), make(seeds=(5, 7, 2))
    noisy = make(seeds=(7,), methods=[Noise(), Recycler()])
    for name, row in alone.view.parameters.items():
        assert torch.equal(row[0], beside.view.parameters[name][1])
        assert torch.equal(row, noisy.view.parameters[name])
        assert not torch.equal(row[0], beside.view.parameters[name][0])


def test_initialisation_of_a_later_task_is_another_network() -> None:
    first, later = make(seeds=(7,)), make(seeds=(7,), init_index=3)
    assert not torch.equal(first.view.parameters["out.weight"], later.view.parameters["out.weight"])
    built = SMALL.build(SHAPE, CLASSES, generator=rng.derive(7, "init", 3))
    assert equal(dict(later.network.module.state_dict()), dict(built.state_dict()))


@pytest.fixture
def global_state() -> Iterator[None]:
    before = torch.get_rng_state()
    yield
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.usefixtures("global_state")
def test_building_and_training_leave_the_global_random_state() -> None:
    learner = make(DROPOUT, methods=[Noise()])
    train(learner, range(3))
    learner.evaluate(0, ToyTask(0))
    learner.probe(0, ToyTask(0))
    learner.view.forward(torch.zeros(1, 2, *SHAPE))
    learner.view.fresh(learner.states[0])
    learner.begin_task(1, tasks_of(learner, 1), first=False, reset_optimizer=True, zero_head=True)


# --- methods that wait ----------------------------------------------------------------------------------------------


def test_methods_that_wait_have_only_built_the_network() -> None:
    waiting, plain = make(methods=[Recycler(), Noise()], waiting=True), make()
    for learner in (waiting, plain):
        train(learner, range(4))
    assert equal(waiting.view.parameters, plain.view.parameters)
    before = snapshot(waiting.view.parameters)
    waiting.turn_on()
    train(waiting, range(4, 5))
    train(plain, range(4, 5))
    assert not equal(waiting.view.parameters, before)
    assert not equal(waiting.view.parameters, plain.view.parameters)
