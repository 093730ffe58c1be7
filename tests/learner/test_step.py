"""What a step computes, against plain loops over single networks, in every engine."""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import pytest
import torch
from learner_toys import (
    ADAM,
    BATCH_NORM,
    CLASSES,
    CLOSE,
    DROPOUT,
    ENGINES,
    MOMENTUM,
    SGD,
    SHAPE,
    SMALL,
    ToyTask,
    assert_close,
    batch,
    cross,
    equal,
    every_engine,
    make,
    method,
    network,
    snapshot,
    tasks_of,
    train,
    train_by_program,
)
from torch import Tensor, nn
from torch.nn import functional as F

from lopbench.core import rng
from lopbench.core.interfaces import Learner, Optimizer, Perturbation, State, TrainingMetric
from lopbench.learner.learner import StackLearner
from lopbench.learner.program import Program
from lopbench.learner.step import Taken
from lopbench_plugins.architectures.mlp import MLP
from lopbench_plugins.optimizers import adam, sgd

STEPS = range(4)


def run(engine: str, *methods: Perturbation, optimizer: Optimizer = SGD) -> tuple[StackLearner, list[Taken]]:
    """Take the steps on engine ``engine``; returns the learner and what is known of each step."""
    seeds, steps = ENGINES[engine]
    learner = make(SMALL, seeds, methods, optimizer, torch.float64)
    return learner, steps(learner, STEPS)


def by_hand(seed: int, step: Callable[[nn.Module, Tensor, Tensor], None]) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Let ``step`` move one network; returns its parameters, and loss and score of each batch of the stream."""
    module, task = SMALL.build(SHAPE, CLASSES, generator=rng.derive(seed, "init", 0)).double(), ToyTask(seed)
    told = []
    for index in STEPS:
        inputs, targets = task.batch(index)
        with torch.no_grad():
            outputs = module(inputs.double())
            told.append(torch.stack([task.loss(outputs, targets), task.score(outputs, targets).double().mean()]))
        module.zero_grad()
        step(module, inputs.double(), targets)
    return {name: value.detach() for name, value in module.named_parameters()}, told


def assert_is_by_hand(
    learner: StackLearner, taken: list[Taken], step: Callable[[nn.Module, Tensor, Tensor], None]
) -> None:
    for replica, seed in enumerate(learner.seeds):
        parameters, told = by_hand(seed, step)
        assert_close({name: value[replica] for name, value in learner.view.parameters.items()}, parameters)
        ours = torch.stack([torch.stack([t.losses[replica].double(), t.scores[replica]]) for t in taken])
        torch.testing.assert_close(ours, torch.stack(told), **CLOSE)


def descend(module: nn.Module, loss: Tensor, rate: float = SGD.lr) -> None:
    loss.backward()
    with torch.no_grad():
        for value in module.parameters():
            value.sub_(rate * value.grad)


# --- loss and score -------------------------------------------------------------------------------------------------


def test_step_tells_loss_and_score_before_the_update() -> None:
    learner = make(seeds=(0, 3))
    batches = [task.batch(0) for task in tasks_of(learner)]
    expected = []
    for replica, (inputs, targets) in enumerate(batches):
        module = copy.deepcopy(learner.network.module)
        module.load_state_dict({name: value[replica] for name, value in learner.view.parameters.items()})
        outputs = module(inputs)
        expected.append((F.cross_entropy(outputs, targets), (outputs.argmax(1) == targets).double().mean()))
    taken = learner.step(batches)
    torch.testing.assert_close(taken.losses, torch.stack([loss for loss, _ in expected]).detach())
    assert taken.scores.tolist() == [score.item() for _, score in expected]
    assert not taken.losses.requires_grad


@every_engine
def test_a_step_without_methods_is_plain_descent(engine: str) -> None:
    learner, taken = run(engine)
    assert_is_by_hand(learner, taken, lambda module, x, y: descend(module, F.cross_entropy(module(x), y)))
    assert not equal(learner.view.parameters, learner.view.initial)


def decay(self: Perturbation, learner: Learner, state: State) -> Tensor:
    return torch.stack([0.25 * value.flatten(1).square().sum(1) for value in learner.differentiable.values()]).sum(0)


@every_engine
def test_a_penalty_adds_its_gradient_and_is_left_out_of_the_loss(engine: str) -> None:
    ours, theirs = run(engine, method(penalty=decay)), run(engine, optimizer=sgd.SGD(lr=0.05, weight_decay=0.5))
    for mine, other in zip(ours[1], theirs[1], strict=True):
        torch.testing.assert_close(mine.losses, other.losses, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(mine.scores, other.scores, rtol=1e-12, atol=1e-12)
    assert_close(ours[0].view.parameters, theirs[0].view.parameters, rtol=1e-12, atol=1e-12)


# --- hooks that return something, composed left to right ------------------------------------------------------------


def doubles(self: Perturbation, learner: Learner, state: State, inputs: Tensor, targets: Tensor) -> Any:
    return 2 * inputs, targets.flip(1)


def shifts(self: Perturbation, learner: Learner, state: State, inputs: Tensor, targets: Tensor) -> Any:
    return torch.cat([inputs + 1, inputs], 1), torch.cat([targets, targets], 1)


@every_engine
def test_batches_are_changed_from_left_to_right_and_those_of_the_stream_are_scored(engine: str) -> None:
    learner, taken = run(engine, method(batch=doubles), method(batch=shifts, uses_replay=True))

    def step(module: nn.Module, x: Tensor, y: Tensor) -> None:
        made = torch.cat([2 * x + 1, 2 * x])
        descend(module, F.cross_entropy(module(made), torch.cat([y.flip(0), y.flip(0)])))

    assert_is_by_hand(learner, taken, step)


@every_engine
def test_hooks_see_the_batch_that_is_trained_on(engine: str) -> None:
    """A penalty of it: the mean output on the changed batch."""

    def mean(self: Perturbation, learner: Learner, state: State) -> Tensor:
        assert learner.inputs.shape[1] == learner.outputs.shape[1] == learner.targets.shape[1] == 24
        return learner.outputs.mean((1, 2)) * learner.inputs.mean((1, 2, 3, 4))

    learner, taken = run(engine, method(batch=shifts, penalty=mean, uses_replay=True))

    def step(module: nn.Module, x: Tensor, y: Tensor) -> None:
        made = torch.cat([x + 1, x])
        outputs = module(made)
        descend(module, F.cross_entropy(outputs, torch.cat([y, y])) + outputs.mean() * made.mean())

    assert_is_by_hand(learner, taken, step)


@every_engine
def test_losses_are_changed_from_left_to_right_before_penalties(engine: str) -> None:
    """Of a loss that is squared and tripled, 3 l^2 and not 9 l^2, and the penalty as it is."""
    squares = method(loss=lambda self, learner, state, loss: loss.square(), penalty=decay)
    triples = method(loss=lambda self, learner, state, loss: 3 * loss)
    learner, taken = run(engine, squares, triples)

    def step(module: nn.Module, x: Tensor, y: Tensor) -> None:
        penalty = sum(0.25 * value.square().sum() for value in module.parameters())
        descend(module, 3 * F.cross_entropy(module(x), y).square() + penalty)

    assert_is_by_hand(learner, taken, step)


@every_engine
def test_gradients_and_updates_are_changed_from_left_to_right(engine: str) -> None:
    def scaled(what: str) -> Callable[..., None]:
        def hook(self: Perturbation, learner: Learner, state: State) -> None:
            for value in getattr(learner, what).values():
                value.mul_(3)

        return hook

    def shifted(what: str) -> Callable[..., None]:
        def hook(self: Perturbation, learner: Learner, state: State) -> None:
            for value in getattr(learner, what).values():
                value.add_(1e-3)

        return hook

    scales = method(after_backward=scaled("gradients"), update=scaled("updates"))
    learner, taken = run(engine, scales, method(after_backward=shifted("gradients"), update=shifted("updates")))

    def step(module: nn.Module, x: Tensor, y: Tensor) -> None:
        F.cross_entropy(module(x), y).backward()
        with torch.no_grad():
            for value in module.parameters():
                value.add_(-3 * SGD.lr * (3 * value.grad + 1e-3) + 1e-3)

    assert_is_by_hand(learner, taken, step)


@every_engine
def test_what_the_update_adds_is_there_after_the_step(engine: str) -> None:
    """Parameters after the step are those before it and the update, to the bit."""

    def begin(self: Perturbation, learner: Learner, state: State) -> None:
        state["expected"] = learner.parameters["out.weight"].clone()
        state["wrong"] = torch.zeros(learner.replicas, dtype=torch.bool)

    def update(self: Perturbation, learner: Learner, state: State) -> None:
        state["expected"] = learner.parameters["out.weight"] + learner.updates["out.weight"]

    def after_step(self: Perturbation, learner: Learner, state: State) -> None:
        assert not learner.updates
        wrong = (learner.parameters["out.weight"] != state["expected"]).flatten(1).any(1)
        state["wrong"] = torch.logical_or(state["wrong"], wrong)

    learner, _ = run(engine, method(begin=begin, update=update, after_step=after_step))
    assert not learner.states[0]["wrong"].any()


# --- updates, bit for bit -------------------------------------------------------------------------------------------


def times(factor: float) -> Perturbation:
    def update(self: Perturbation, learner: Learner, state: State) -> None:
        for value in learner.updates.values():
            value.mul_(factor)

    return method(update=update)


@every_engine
@pytest.mark.parametrize(
    ("optimizer", "doubled"),
    [(SGD, sgd.SGD(lr=0.1)), (MOMENTUM, sgd.SGD(lr=0.1, momentum=0.9)), (ADAM, adam.Adam(lr=0.02))],
    ids=["sgd", "momentum", "adam"],
)
def test_a_factor_of_two_doubles_the_step_exactly(engine: str, optimizer: Optimizer, doubled: Optimizer) -> None:
    ours, _ = run(engine, times(2), optimizer=optimizer)
    theirs, _ = run(engine, times(1), optimizer=doubled)
    assert equal(ours.view.parameters, theirs.view.parameters)


@pytest.mark.parametrize("seeds", [(3,), (3, 0, 8)], ids=["one", "three"])
@pytest.mark.parametrize("optimizer", [SGD, MOMENTUM, ADAM], ids=["sgd", "momentum", "adam"])
def test_looking_at_updates_changes_no_bit(seeds: tuple[int, ...], optimizer: Optimizer) -> None:
    """Nor of a learner whose parameters have left the fused update, as all do that are held once.

    The fused update of SGD rounds once where it multiplies and adds.
    """
    for held in (False, True):
        ours, theirs = (make(SMALL, seeds, methods, optimizer) for methods in ([times(1)], []))
        for each in (ours, theirs) if held else ():
            each.optimizer.hold(*each.view.parameters)
            each.optimizer.release(*each.view.parameters)
        for each in (ours, theirs):
            train(each, STEPS)
        rounding = 0.0 if held or optimizer is ADAM else 1e-6
        assert_close(ours.view.parameters, theirs.view.parameters, rtol=rounding, atol=rounding)


# --- what the optimizer is told -------------------------------------------------------------------------------------


def schedule() -> Perturbation:
    """A method that makes the step ``t`` (from 0) with ``1 / (1 + t)`` of the learning rate."""

    def begin(self: Perturbation, learner: Learner, state: State) -> None:
        state["t"] = torch.zeros(learner.replicas, dtype=torch.float64)
        learner.optimizer.scale(1.0)

    def after_step(self: Perturbation, learner: Learner, state: State) -> None:
        state["t"] += 1
        learner.optimizer.scale(1 / (1 + state["t"]))

    return method(begin=begin, after_step=after_step)


def scheduled(module: nn.Module, x: Tensor, y: Tensor) -> None:
    module.steps = getattr(module, "steps", 0) + 1
    descend(module, F.cross_entropy(module(x), y), SGD.lr / module.steps)


@every_engine
def test_the_learning_rate_is_scaled_from_the_next_step_on(engine: str) -> None:
    learner, taken = run(engine, schedule())
    assert_is_by_hand(learner, taken, scheduled)
    torch.testing.assert_close(learner.optimizer.lr, torch.full((learner.replicas,), SGD.lr / 5, dtype=torch.float64))


@pytest.mark.parametrize("optimizer", [SGD, MOMENTUM, ADAM], ids=["sgd", "momentum", "adam"])
@pytest.mark.parametrize("seeds", [(3,), (3, 0, 8)], ids=["one", "three"])
def test_steps_one_by_one_go_on_with_the_scale_of_a_program(seeds: tuple[int, ...], optimizer: Optimizer) -> None:
    ours, theirs = (make(SMALL, seeds, [schedule()], optimizer, torch.float64) for _ in range(2))
    train_by_program(ours, range(4))
    train(ours, range(4, 7))
    train(theirs, range(7))
    assert_close(ours.view.parameters, theirs.view.parameters)
    torch.testing.assert_close(ours.optimizer.lr, theirs.optimizer.lr)


@every_engine
def test_the_scale_of_each_replica_is_saved(engine: str) -> None:
    seeds, steps = ENGINES[engine]
    factors = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)[: len(seeds)]

    def begin(self: Perturbation, learner: Learner, state: State) -> None:
        state["factors"] = factors
        learner.optimizer.scale(1.0)

    def after_step(self: Perturbation, learner: Learner, state: State) -> None:
        learner.optimizer.scale(state["factors"])

    learner, resumed = (make(SMALL, seeds, [method(begin=begin, after_step=after_step)]) for _ in range(2))
    steps(learner, range(2))
    resumed.load_state_dict(snapshot(learner.state_dict()))
    for each in (learner, resumed):
        assert torch.equal(each.optimizer.lr, ADAM.lr * factors)
        steps(each, range(2, 6))
    assert equal(learner.state_dict(), resumed.state_dict())


HELD = "layers.1.linear.weight"


def at_boundaries(*acts: Callable[[Learner], None]) -> Perturbation:
    """A method that does one thing at each boundary."""

    def on_task_start(self: Perturbation, learner: Learner, state: State) -> None:
        acts[state.host["crossed"]](learner)
        state.host["crossed"] += 1

    def begin(self: Perturbation, learner: Learner, state: State) -> None:
        state.host["crossed"] = 0

    return method(begin=begin, on_task_start=on_task_start)


@every_engine
@pytest.mark.parametrize("optimizer", [SGD, MOMENTUM, ADAM], ids=["sgd", "momentum", "adam"])
def test_a_parameter_is_held_and_released_at_boundaries(engine: str, optimizer: Optimizer) -> None:
    """What it remembers is kept: between hold and release it is as if there had been no steps."""
    seeds, steps = ENGINES[engine]
    methods = [at_boundaries(lambda learner: learner.optimizer.hold(HELD), lambda o: o.optimizer.release(HELD))]
    learner, other = (make(SMALL, seeds, methods, optimizer, torch.float64) for _ in range(2))
    for each in (learner, other):
        steps(each, range(2))
    before = learner.view.parameters[HELD].clone()
    state = copy.deepcopy(learner.optimizer.stacked_state()[HELD])
    cross(learner, 1)
    steps(learner, range(4), index=1)
    assert torch.equal(learner.view.parameters[HELD], before)
    after = learner.optimizer.stacked_state()[HELD]
    assert all(torch.equal(after[key].expand_as(value), value) for key, value in state.items())
    stayed = [
        name for name, value in other.view.parameters.items() if torch.equal(value, learner.view.parameters[name])
    ]
    assert stayed == [HELD]
    cross(learner, 2)
    steps(learner, range(2), index=2)
    assert not torch.equal(learner.view.parameters[HELD], before)


@every_engine
def test_a_parameter_that_is_held_for_the_time_of_a_step_stays(engine: str) -> None:
    def hold(self: Perturbation, learner: Learner, state: State) -> None:
        learner.optimizer.hold(HELD)

    def release(self: Perturbation, learner: Learner, state: State) -> None:
        learner.optimizer.release(HELD)
        learner.parameters[HELD].mul_(0.5)  # the method may move it itself

    learner, _ = run(engine, method(after_backward=hold, after_step=release))
    initial = learner.view.initial[HELD]
    assert torch.equal(learner.view.parameters[HELD], initial * 0.5 ** len(STEPS))
    assert not torch.equal(learner.view.parameters["out.weight"], learner.view.initial["out.weight"])


def test_a_restart_goes_on_under_the_schedule_of_another_method() -> None:
    """The reference's learning rate is scaled from then on, and a program takes the steps as before."""

    def restart(self: Perturbation, learner: Learner, state: State) -> None:
        learner.restart()

    ends = []
    for seeds, steps in ENGINES.values():
        learner = make(SMALL, seeds, [schedule(), method(on_task_start=restart)], SGD, torch.float64)
        steps(learner, range(2))
        cross(learner, 1)
        assert learner.optimizer.lr.tolist() == [0.002] * len(seeds)
        steps(learner, range(2), index=1)
        torch.testing.assert_close(learner.optimizer.lr, torch.full((len(seeds),), 0.002 / 5, dtype=torch.float64))
        ends.append({name: value[0] for name, value in learner.view.parameters.items()})
    for other in ends[1:]:
        assert_close(other, ends[0])


# --- who watches ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Fall(TrainingMetric):
    """By how much a step lowers the loss of its batch."""

    name: ClassVar[str] = "fall"

    def compute(self, before: Tensor, after: Tensor) -> Tensor:
        return before - after


def test_a_metric_of_steps_gets_the_loss_of_the_streams_batch_before_and_after() -> None:
    changes = method(batch=doubles)
    for methods in ([], [changes]):
        for seeds in ((3,), (3, 0)):
            learner, other = (make(SMALL, seeds, methods, SGD, torch.float64) for _ in range(2))
            inputs, targets = batch(learner, 0)
            taken = learner.step(list(zip(inputs, targets, strict=True)), metrics=[Fall()])
            train(other, range(1))
            after = other.view.loss(other.view.forward(inputs.double()).outputs, targets)
            torch.testing.assert_close(taken.measured[0], taken.losses - after, **CLOSE)
            again = make(SMALL, seeds, methods, SGD, torch.float64)
            made = Program(again, ToyTask(0), [(inputs, targets)], unroll=1, compiled=False, metrics=[Fall()])
            told = made.advance(again, [(inputs.unsqueeze(1), targets.unsqueeze(1))])
            torch.testing.assert_close(told.measured[0][0], taken.measured[0], **CLOSE)


@pytest.mark.parametrize("seeds", [(3,), (3, 0)], ids=["one", "two"])
@pytest.mark.parametrize("methods", [(), (method(batch=doubles),)], ids=["none", "batch"])
def test_who_observes_is_told_the_outputs_once_and_may_return_targets(
    seeds: tuple[int, ...], methods: tuple[Perturbation, ...]
) -> None:
    """The outputs are those of the stream's own batch, and targets are what is trained on and scored."""
    learner, other = (make(SMALL, seeds, methods, SGD, torch.float64) for _ in range(2))
    inputs, targets = batch(learner, 0)
    expected = learner.view.forward(inputs.double()).outputs
    told: list[Tensor] = []

    def observe(outputs: Tensor) -> Tensor:
        assert not outputs.requires_grad
        told.append(outputs.clone())
        return (targets + 1) % CLASSES

    given = list(zip(inputs, targets, strict=True))
    taken = learner.step(given, observe=observe)
    assert len(told) == 1
    torch.testing.assert_close(told[0], expected, **CLOSE)
    same = other.step([(x, (y + 1) % CLASSES) for x, y in given])
    torch.testing.assert_close(taken.losses, same.losses, **CLOSE)
    assert torch.equal(taken.scores, same.scores)
    assert_close(learner.view.parameters, other.view.parameters)


# --- networks in which something is random --------------------------------------------------------------------------

RANDOM = {
    "dropout": DROPOUT,
    "dropout and batch norm": MLP(width=8, depth=2, dropout=0.3, normalization="batch"),
}


def steady(learner: StackLearner) -> nn.Module:
    """Return a copy of the network of a learner with dropout off, and batch norm as in training."""
    module = copy.deepcopy(learner.network.module)
    for layer in module.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    return module.train()


@pytest.mark.parametrize("name", RANDOM)
@pytest.mark.parametrize("methods", [(), (method(batch=doubles),)], ids=["none", "batch"])
def test_scores_are_of_the_network_without_what_is_random(name: str, methods: tuple[Perturbation, ...]) -> None:
    learner = make(RANDOM[name], methods=methods)
    for index in range(3):
        inputs, targets = ToyTask(0).batch(index)
        outputs = steady(learner)(inputs)
        taken = learner.step([(inputs, targets)])
        torch.testing.assert_close(taken.losses[0], F.cross_entropy(outputs, targets).detach())
        assert taken.scores.item() == (outputs.argmax(1) == targets).double().mean().item()
    assert learner.network.module.training
    assert all(layer.training for layer in learner.network.module.modules())


@pytest.mark.parametrize("name", RANDOM)
def test_scoring_changes_nothing_that_is_trained(name: str) -> None:
    """A loop over the same network, of which no other pass is made, ends at the same bits."""
    learner = make(RANDOM[name], optimizer=SGD)
    module = copy.deepcopy(learner.network.module)
    optimizer = torch.optim.SGD(module.parameters(), lr=SGD.lr, fused=True)
    with rng.isolated(rng.derive(0, "layers")):
        for index in STEPS:
            inputs, targets = ToyTask(0).batch(index)
            F.cross_entropy(module(inputs), targets).backward()
            optimizer.step()
            optimizer.zero_grad()
    train(learner, STEPS)
    assert equal(dict(learner.network.module.state_dict()), dict(module.state_dict()))


def test_only_networks_in_which_something_is_random_are_run_once_more() -> None:
    for architecture, passes in ((SMALL, 1), (BATCH_NORM, 1), (DROPOUT, 2), (MLP(width=8, depth=2, dropout=0.0), 1)):
        learner = make(architecture)
        seen = []
        learner.network.module.register_forward_hook(lambda module, *_, seen=seen: seen.append(module.training))
        train(learner, range(1))
        assert seen == [False, True][-passes:]


class Drops(nn.Module):
    """Dropout that is told of evaluation as only `nn.Module.train` tells it."""

    def __init__(self) -> None:
        super().__init__()
        self.rate = 0.5

    def train(self, mode: bool = True) -> Self:
        self.rate = 0.5 if mode else 0.0
        return super().train(mode)

    def forward(self, values: Tensor) -> Tensor:
        return F.dropout(values, self.rate, training=True)


def test_a_module_that_does_something_of_its_own_in_evaluation_is_told() -> None:
    layers = (nn.Linear(math.prod(SHAPE), 8), nn.Linear(8, CLASSES))
    learner = network(lambda: nn.Sequential(nn.Flatten(), layers[0], Drops(), layers[1]))
    inputs, targets = ToyTask(0).batch(0)
    outputs = copy.deepcopy(learner.network.module).eval()(inputs)
    taken = learner.step([(inputs, targets)])
    torch.testing.assert_close(taken.losses[0], F.cross_entropy(outputs, targets).detach())
    assert learner.network.module.get_submodule("2").rate == 0.5


def test_a_network_with_batch_norm_is_scored_in_the_pass_that_trains_it() -> None:
    learner = make(BATCH_NORM)
    inputs, targets = ToyTask(0).batch(0)
    in_training = copy.deepcopy(learner.network.module)(inputs)
    taken = learner.step([(inputs, targets)])
    torch.testing.assert_close(taken.losses[0], F.cross_entropy(in_training, targets).detach())


def test_a_metric_of_steps_sees_no_noise() -> None:
    """Of a step that moves nothing the loss does not fall, whatever is dropped."""
    learner = make(DROPOUT, optimizer=sgd.SGD(lr=1e-30))
    assert learner.step([ToyTask(0).batch(0)], metrics=[Fall()]).measured[0].tolist() == [0.0]


def test_targets_that_come_of_the_outputs_are_scored_and_trained_on_where_something_is_random() -> None:
    learner, other = (make(DROPOUT, optimizer=SGD) for _ in range(2))
    inputs, targets = ToyTask(0).batch(0)
    expected = steady(learner)(inputs)
    told: list[Tensor] = []

    def observe(outputs: Tensor) -> Tensor:
        told.append(outputs.clone())
        return (targets.unsqueeze(0) + 1) % CLASSES

    taken = learner.step([(inputs, targets)], observe=observe)
    torch.testing.assert_close(torch.stack(told), expected.detach().expand(1, 1, *expected.shape))
    same = other.step([(inputs, (targets + 1) % CLASSES)])
    assert torch.equal(taken.losses, same.losses)
    assert torch.equal(taken.scores, same.scores)
    assert equal(learner.view.parameters, other.view.parameters)


# --- what is told of methods ----------------------------------------------------------------------------------------


@every_engine
def test_reports_are_numbers_of_each_replica_under_the_methods_name(engine: str) -> None:
    def begin(self: Perturbation, learner: Learner, state: State) -> None:
        state["sum"] = torch.zeros(learner.replicas, dtype=torch.float64)

    def after_step(self: Perturbation, learner: Learner, state: State) -> None:
        state["sum"] += learner.outputs.sum((1, 2))

    def report(self: Perturbation, learner: Learner, state: State) -> Mapping[str, Tensor]:
        assert not torch.is_grad_enabled()
        return {"sum": state["sum"], "lr": learner.optimizer.lr}

    learner, _ = run(engine, method(begin=begin, after_step=after_step, report=report))
    theirs = make(SMALL, learner.seeds, [method(begin=begin, after_step=after_step)], SGD, torch.float64)
    train(theirs, STEPS)
    told = learner.reports()
    assert told.keys() == {"method.sum", "method.lr"}
    torch.testing.assert_close(told["method.sum"], theirs.states[0]["sum"], **CLOSE)
    assert told["method.lr"].tolist() == [SGD.lr] * learner.replicas


@every_engine
def test_reports_of_two_methods_of_one_name_stand_beside_each_other(engine: str) -> None:
    """The number is the place in the composition: one at strength zero leaves a gap and no other in its place."""

    def telling(value: float, *, on: bool = True) -> Perturbation:
        def report(self: Perturbation, learner: Learner, state: State) -> Mapping[str, Tensor]:
            return {"value": torch.full((learner.replicas,), value)}

        return method(report=report, active=on)

    learner, _ = run(engine, telling(1.0), telling(2.0, on=False), telling(3.0), method(name="other"))
    told = {name: values.tolist() for name, values in learner.reports().items()}
    assert told == {"method.value": [1.0] * learner.replicas, "method#3.value": [3.0] * learner.replicas}
    alone, _ = run(engine, telling(1.0, on=False), telling(2.0))
    assert list(alone.reports()) == ["method#2.value"]
