import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from lopbench.core import rng
from lopbench.core.errors import UnsupportedError
from lopbench.core.interfaces import Learner, Perturbation, State
from lopbench.core.optimizer import Optimizer
from lopbench.learner.learner import StackLearner, activation_layers
from lopbench_plugins.architectures.cnn import CNN
from lopbench_plugins.architectures.mlp import MLP
from lopbench_plugins.optimizers import adam, sgd

SHAPE = (3, 4, 4)
CLASSES = 4
SGD = sgd.SGD(lr=0.05)
MOMENTUM = sgd.SGD(lr=0.05, momentum=0.9)
ADAM = adam.Adam(lr=0.01)
#: A bias in front of batch normalisation has gradient zero, and the default eps of 1e-8 would show how it is rounded.
BLUNT_ADAM = adam.Adam(lr=0.01, eps=1e-4)
REFERENCE = adam.Adam(lr=0.002)
SMALL = MLP(width=8, depth=2)
BATCH_NORM = MLP(width=8, depth=2, normalization="batch")
LAYER_NORM = MLP(width=8, depth=2, normalization="layer")
DROPOUT = MLP(width=8, depth=2, dropout=0.3)


@dataclass(frozen=True)
class ToyTask:
    """Random images and labels, drawn from the seed of a replica."""

    seed: int
    index: int = 0
    chance: float = 1 / CLASSES
    classes: None = None

    def batch(self, step: int, size: int = 12) -> tuple[Tensor, Tensor]:
        generator = rng.derive(self.seed, "toy", self.index, step)
        inputs = torch.randn(size, *SHAPE, generator=generator, dtype=torch.float64).float()
        return inputs, torch.randint(CLASSES, (size,), generator=generator)

    def batches(self) -> Any:
        raise NotImplementedError

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets)

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.argmax(1) == targets

    def held_out(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield self.batch(-1, 10)
        yield self.batch(-2, 3)

    def probe(self) -> tuple[Tensor, Tensor]:
        return self.batch(-3, 9)

    def held_out_scores(self, outputs: Tensor, targets: Tensor) -> Mapping[str, Tensor]:
        return {"heldout_wrong": outputs.argmax(1) != targets}


@dataclass(frozen=True, kw_only=True)
class Recycler(Perturbation):
    """Resets the least active unit of each group at every third step."""

    name: ClassVar[str] = "recycler"
    uses_activations: ClassVar[bool] = True

    def after_step(self, learner: Learner, state: State) -> None:
        if "host_step" not in state:
            state["host_step"] = torch.zeros((), dtype=torch.int64)
        state["host_step"] += 1
        if int(state["host_step"]) % 3:
            return
        for group in learner.units:
            activity = group.activation.abs().mean(1)  # (R, D)
            group.reset(activity == activity.amin(1, keepdim=True))


@dataclass(frozen=True, kw_only=True)
class Noise(Perturbation):
    """Adds a little noise of its own to the weights, after drawing something while the network is built."""

    name: ClassVar[str] = "noise"

    def configure(self, module: nn.Module, *, example: Tensor, generator: Generator) -> nn.Module:
        torch.randn(7, generator=generator)
        return module

    def after_step(self, learner: Learner, state: State) -> None:
        for parameter in learner.parameters.values():
            parameter.add_(rng.normal(parameter, state.generators), alpha=0.01)


@dataclass(frozen=True, kw_only=True)
class Recorder(Perturbation):
    """Writes down which of its hooks is called."""

    name: ClassVar[str] = "recorder"
    log: list[str] = field(default_factory=list)
    label: str = "a"
    on: bool = True

    @property
    def active(self) -> bool:
        return self.on

    def configure(self, module: nn.Module, *, example: Tensor, generator: Generator) -> nn.Module:
        self.log.append(f"{self.label} configure {tuple(example.shape)}")
        return module

    def on_task_start(self, learner: Learner, state: State) -> None:
        self.log.append(f"{self.label} on_task_start")

    def penalty(self, learner: Learner, state: State) -> Tensor:
        assert torch.is_grad_enabled()
        self.log.append(f"{self.label} penalty")
        return torch.zeros(learner.replicas)

    def after_backward(self, learner: Learner, state: State) -> None:
        assert not torch.is_grad_enabled()
        assert set(learner.gradients) == set(learner.parameters)
        self.log.append(f"{self.label} after_backward")

    def after_step(self, learner: Learner, state: State) -> None:
        self.log.append(f"{self.label} after_step")

    def evaluated(self, learner: Learner, state: State) -> Mapping[str, Tensor]:
        self.log.append(f"{self.label} evaluated")
        return {}


@dataclass(frozen=True, kw_only=True)
class BoundaryRecorder(Recorder):
    """A recorder that declares what it acts at."""

    name: ClassVar[str] = "boundary_recorder"
    uses_boundaries: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class Restart(Perturbation):
    """Restarts at every boundary."""

    name: ClassVar[str] = "restart"
    uses_boundaries: ClassVar[bool] = True

    def on_task_start(self, learner: Learner, state: State) -> None:
        learner.restart()


def make(
    architecture: Any = SMALL,
    seeds: Sequence[int] = (0,),
    methods: Sequence[Perturbation] = (),
    optimizer: Optimizer = ADAM,
    dtype: torch.dtype = torch.float32,
    **others: Any,
) -> StackLearner:
    return StackLearner(
        build=lambda generator: architecture.build(SHAPE, CLASSES, generator=generator),
        seeds=seeds,
        methods=methods,
        optimizer=optimizer,
        reference_optimizer=REFERENCE,
        input_shape=SHAPE,
        outputs=CLASSES,
        layers=architecture.layers,
        dtype=dtype,
        **others,
    )


def network(build: Callable[[], nn.Module], outputs: int = CLASSES, **others: Any) -> StackLearner:
    return StackLearner(
        build=lambda generator: build(), seeds=[0], optimizer=SGD, input_shape=SHAPE, outputs=outputs, **others
    )


def train(learner: StackLearner, steps: range, index: int = 0) -> list[tuple[Tensor, Tensor]]:
    tasks = [ToyTask(seed, index) for seed in learner.seeds]
    return [learner.step([task.batch(step) for task in tasks], tasks) for step in steps]


def snapshot(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def equal(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


# --- one replica ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", [BATCH_NORM, CNN(channels=(4,), hidden=6)], ids=["mlp", "cnn"])
def test_one_replica_is_the_module_itself(architecture: Any) -> None:
    learner = make(architecture)
    parameters, buffers = dict(learner.module.named_parameters()), dict(learner.module.named_buffers())
    assert parameters.keys() == learner.parameters.keys()
    for name, parameter in parameters.items():
        assert learner.parameters[name].shape == (1, *parameter.shape)
        assert learner.parameters[name].data_ptr() == parameter.data_ptr()
        assert not learner.parameters[name].requires_grad
        assert learner.differentiable[name].requires_grad
    for name, buffer in buffers.items():
        assert learner.buffers[name].shape == (1, *buffer.shape)
        assert learner.buffers[name].data_ptr() == buffer.data_ptr()


def test_gradients_are_views_of_those_that_the_optimizer_uses() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Zero(Perturbation):
        name: ClassVar[str] = "zero"

        def after_backward(self, learner: Learner, state: State) -> None:
            for gradient in learner.gradients.values():
                assert gradient.shape[0] == learner.replicas
                gradient.zero_()

    for seeds in ((0,), (0, 1)):
        learner = make(seeds=seeds, methods=[Zero()], optimizer=SGD)
        before = snapshot(learner.parameters)
        train(learner, range(2))
        assert equal(learner.parameters, before)


@pytest.mark.parametrize("architecture", [SMALL, BATCH_NORM, CNN(channels=(4,), hidden=6)], ids=["mlp", "bn", "cnn"])
@pytest.mark.parametrize("optimizer", [MOMENTUM, ADAM], ids=["sgd", "adam"])
def test_one_replica_equals_a_plain_training_loop_bit_for_bit(architecture: Any, optimizer: Optimizer) -> None:
    learner = make(architecture, seeds=[3], optimizer=optimizer)
    module = architecture.build(SHAPE, CLASSES, generator=rng.derive(3, "init", 0))
    plain: torch.optim.Optimizer
    if optimizer.kind == "sgd":
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
        losses, scores = learner.step([(inputs, targets)], [task])
        assert torch.equal(losses, loss.detach().view(1))
        assert torch.equal(scores, (outputs.argmax(1) == targets).double().mean().view(1))
    assert equal(learner.module.state_dict(), module.state_dict())


def test_gradients_are_dropped_after_a_step() -> None:
    learner = make()
    train(learner, range(1))
    assert not learner.gradients


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
    for step, (losses, scores) in enumerate(curve):
        torch.testing.assert_close(losses, torch.cat([c[step][0] for c in curves]), rtol=1e-10, atol=1e-10)
        assert torch.equal(scores, torch.cat([c[step][1] for c in curves]))
    for replica, learner in enumerate(apart):
        for stack, row in (
            (together.parameters, learner.parameters),
            (together.buffers, learner.buffers),
            (together.initial, learner.initial),
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
    mean = learner.buffers["layers.0.norm.running_mean"]
    assert not torch.equal(mean[0], mean[1])
    assert learner.buffers["layers.0.norm.num_batches_tracked"].tolist() == [3, 3]


def test_boundaries_act_on_every_replica_alike() -> None:
    together = make(seeds=(4, 9), methods=[Restart()])
    apart = [make(seeds=(seed,), methods=[Restart()]) for seed in (4, 9)]
    for learner in (together, *apart):
        train(learner, range(3))
        learner.begin_task(1, first=False, reset_optimizer=False, zero_head=True)
    for replica, learner in enumerate(apart):
        for name in learner.parameters:
            assert torch.equal(together.parameters[name][replica], learner.parameters[name][0])


def test_frozen_parameters_stay_frozen_in_a_stack() -> None:
    def build(generator: Generator) -> nn.Module:
        module = SMALL.build(SHAPE, CLASSES, generator=generator)
        next(module.parameters()).requires_grad_(False)
        return module

    for seeds in ((0,), (0, 1)):
        learner = StackLearner(build=build, seeds=seeds, optimizer=SGD, input_shape=SHAPE, outputs=CLASSES)
        train(learner, range(2))
        kept = [name for name, value in learner.parameters.items() if torch.equal(value, learner.initial[name])]
        assert kept == list(learner.parameters)[:1]


def test_dropout_is_refused_beside_other_replicas() -> None:
    with pytest.raises(UnsupportedError, match="one after another"):
        make(DROPOUT, seeds=(0, 1))


# --- named streams --------------------------------------------------------------------------------------------------


def test_initialisation_depends_on_the_seed_alone() -> None:
    alone, beside = make(seeds=(7,)), make(seeds=(5, 7, 2))
    noisy = make(seeds=(7,), methods=[Noise(), Recycler()])
    for name, row in alone.parameters.items():
        assert torch.equal(row[0], beside.parameters[name][1])
        assert torch.equal(row, noisy.parameters[name])
        assert not torch.equal(row[0], beside.parameters[name][0])


def test_initialisation_of_a_later_task_is_another_network() -> None:
    first, later = make(seeds=(7,)), make(seeds=(7,), init_index=3)
    assert not torch.equal(first.parameters["out.weight"], later.parameters["out.weight"])
    built = SMALL.build(SHAPE, CLASSES, generator=rng.derive(7, "init", 3))
    assert equal(dict(later.module.state_dict()), dict(built.state_dict()))


def test_methods_draw_from_streams_of_their_own() -> None:
    alone, beside = make(seeds=(7,), methods=[Noise()]), make(seeds=(5, 7), methods=[Noise(), Noise()])

    def draw(generator: Generator) -> float:
        return torch.rand((), generator=generator).item()

    assert draw(alone.states[0].generators[0]) == draw(beside.states[0].generators[1])
    draws = {draw(generator) for state in beside.states for generator in state.generators}
    assert len(draws) == 4


def test_building_and_training_leave_the_global_random_state() -> None:
    before = torch.get_rng_state()
    learner = make(DROPOUT, methods=[Noise()])
    train(learner, range(3))
    learner.evaluate(0, ToyTask(0))
    learner.probe(0, ToyTask(0))
    learner.restart()
    assert torch.equal(torch.get_rng_state(), before)


def test_dropout_draws_from_the_stream_of_the_seed() -> None:
    first = make(DROPOUT)
    train(first, range(3))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(123)
        second = make(DROPOUT)
        train(second, range(3))
    assert equal(first.parameters, second.parameters)
    # Every step drops other units: the same batch gives another loss.
    frozen = make(DROPOUT, optimizer=sgd.SGD(lr=1e-30))
    task = ToyTask(0)
    losses = {float(frozen.step([task.batch(0)], [task])[0]) for _ in range(4)}
    assert len(losses) == 4


def test_fresh_networks_come_from_the_methods_own_stream() -> None:
    learner = make(seeds=(5, 7), methods=[Noise(), Noise()])
    alone = make(seeds=(7,), methods=[Noise(), Noise()])
    first, second = (snapshot(learner.fresh(learner.states[0])) for _ in range(2))
    other = learner.fresh(learner.states[1])
    row = alone.fresh(alone.states[0])
    for name, values in first.items():
        assert values.shape == learner.parameters[name].shape
        assert not torch.equal(values, second[name])
        assert not torch.equal(values, other[name])
        assert not torch.equal(values, learner.initial[name])
        assert torch.equal(values[1], row[name][0])
    assert first["layers.0.linear.weight"].abs().max() <= (3 * 4 * 4) ** -0.5  # the law of torch's linear layer


# --- the step -------------------------------------------------------------------------------------------------------


def test_step_tells_loss_and_score_before_the_update() -> None:
    learner = make(seeds=(0, 3))
    tasks = [ToyTask(0), ToyTask(3)]
    batches = [task.batch(0) for task in tasks]
    expected = []
    for replica, (inputs, targets) in enumerate(batches):
        module = copy.deepcopy(learner.module)
        module.load_state_dict({name: value[replica] for name, value in learner.parameters.items()})
        outputs = module(inputs)
        expected.append((F.cross_entropy(outputs, targets), (outputs.argmax(1) == targets).double().mean()))
    losses, scores = learner.step(batches, tasks)
    torch.testing.assert_close(losses, torch.stack([loss for loss, _ in expected]).detach())
    assert scores.tolist() == [score.item() for _, score in expected]
    assert not losses.requires_grad


def test_a_penalty_adds_its_gradient_and_is_left_out_of_the_loss() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Decay(Perturbation):
        name: ClassVar[str] = "decay"

        def penalty(self, learner: Learner, state: State) -> Tensor:
            values = learner.differentiable.values()
            return torch.stack([0.25 * value.flatten(1).square().sum(1) for value in values]).sum(0)

    decay = sgd.SGD(lr=0.05, weight_decay=0.5)
    ours = make(seeds=(0, 3), methods=[Decay()], optimizer=SGD, dtype=torch.float64)
    theirs = make(seeds=(0, 3), optimizer=decay, dtype=torch.float64)
    for mine, other in zip(train(ours, range(5)), train(theirs, range(5)), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-12)
    for name in ours.parameters:
        torch.testing.assert_close(ours.parameters[name], theirs.parameters[name], rtol=1e-12, atol=1e-12)


def test_hooks_act_in_their_order_left_to_right() -> None:
    log: list[str] = []
    methods = [BoundaryRecorder(log=log, label="a"), BoundaryRecorder(log=log, label="b")]
    learner = make(methods=methods)
    configured = f"configure {(2, *SHAPE)}"
    assert log == [f"a {configured}", f"b {configured}"]
    log.clear()
    learner.begin_task(1, first=False, reset_optimizer=False, zero_head=True)
    train(learner, range(1))
    learner.evaluate(0, ToyTask(0))
    hooks = ["on_task_start", "penalty", "after_backward", "after_step", "evaluated"]
    assert log == [f"{label} {hook}" for hook in hooks for label in "ab"]


def test_a_method_at_strength_zero_is_never_called() -> None:
    log: list[str] = []
    learner = make(methods=[BoundaryRecorder(log=log, on=False)])
    plain = make()
    log.clear()
    for each in (learner, plain):
        train(each, range(2))
        each.begin_task(1, first=False, reset_optimizer=False, zero_head=True)
        train(each, range(2), index=1)
    assert learner.evaluate(0, ToyTask(0)) == plain.evaluate(0, ToyTask(0))
    assert log == []
    assert equal(learner.parameters, plain.parameters)


# --- boundaries -----------------------------------------------------------------------------------------------------


def test_only_a_method_that_declares_boundaries_is_told_of_one() -> None:
    silent: list[str] = []
    told: list[str] = []
    learner = make(methods=[Recorder(log=silent), BoundaryRecorder(log=told)])
    learner.begin_task(0, first=True, reset_optimizer=False, zero_head=True)
    assert "a on_task_start" not in told
    for index in (1, 2):
        learner.begin_task(index, first=False, reset_optimizer=False, zero_head=True)
    assert told.count("a on_task_start") == 2
    assert "a on_task_start" not in silent


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_a_boundary_zeroes_the_head_and_keeps_all_else(seeds: tuple[int, ...], first: bool) -> None:
    learner = make(BATCH_NORM, seeds)
    train(learner, range(3))
    before = snapshot(learner.state_dict())
    learner.begin_task(1, first=first, reset_optimizer=False, zero_head=True)
    assert learner.head == ("out.weight", "out.bias")
    after = learner.state_dict()
    assert before["optimizer/out.weight/exp_avg"].any()
    for name, value in before.items():
        if name in ("parameter/out.weight", "parameter/out.bias"):
            assert not after[name].any()
        else:
            assert torch.equal(after[name], value)


def test_the_head_is_kept_where_the_protocol_keeps_it() -> None:
    learner = make()
    before = snapshot(learner.state_dict())
    learner.begin_task(1, first=False, reset_optimizer=False, zero_head=False)
    assert equal(learner.state_dict(), before)


def test_the_reset_policy_clears_the_optimizer_at_later_tasks() -> None:
    learner = make()
    train(learner, range(3))
    learner.begin_task(0, first=True, reset_optimizer=True, zero_head=False)
    assert learner.optimizer.state_dict()
    learner.begin_task(1, first=False, reset_optimizer=True, zero_head=False)
    assert not learner.optimizer.state_dict()


@pytest.mark.parametrize("methods", [(Restart(),), (Recycler(), Restart())], ids=["plain", "resets"])
@pytest.mark.parametrize("architecture", [SMALL, BATCH_NORM, DROPOUT], ids=["none", "batch", "dropout"])
def test_a_restart_is_the_fresh_reference_bit_for_bit(architecture: Any, methods: tuple[Perturbation, ...]) -> None:
    learner = make(architecture, seeds=(3,), methods=methods, optimizer=MOMENTUM)
    train(learner, range(3))
    learner.begin_task(5, first=False, reset_optimizer=False, zero_head=True)
    fresh = make(architecture, seeds=(3,), optimizer=REFERENCE, init_index=5)
    fresh.begin_task(5, first=True, reset_optimizer=False, zero_head=True)
    assert learner.optimizer.lr == REFERENCE.lr
    steps = range(2)  # fewer than the recycler waits for
    for ours, theirs in zip(train(learner, steps, index=5), train(fresh, steps, index=5), strict=True):
        assert torch.equal(ours[0], theirs[0])
    assert equal(learner.parameters, fresh.parameters)
    assert equal(learner.buffers, fresh.buffers)
    assert equal(learner.optimizer.state_dict(), fresh.optimizer.state_dict())


# --- evaluation and probe -------------------------------------------------------------------------------------------


def test_evaluation_is_the_mean_over_samples_in_evaluation_mode() -> None:
    architecture = MLP(width=8, depth=2, normalization="batch", dropout=0.5)
    learner = make(architecture)
    train(learner, range(3))
    task = ToyTask(0)
    before = snapshot(learner.state_dict())
    found = learner.evaluate(0, task)
    module = copy.deepcopy(learner.module).eval()
    right = torch.cat([module(inputs).argmax(1) == targets for inputs, targets in task.held_out()])
    assert len(right) == 13
    assert found == {"heldout_score": right.double().mean().item(), "heldout_wrong": (~right).double().mean().item()}
    assert equal(learner.state_dict(), before)
    assert all(each.training for each in learner.module.modules())


def test_evaluation_and_probe_use_the_parameters_that_a_method_names() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Silent(Perturbation):
        name: ClassVar[str] = "silent"

        def evaluated(self, learner: Learner, state: State) -> Mapping[str, Tensor]:
            return {name: torch.zeros_like(learner.parameters[name]) for name in learner.head}

    learner = make(methods=[Silent()])
    before = snapshot(learner.parameters)
    probe = learner.probe(0, ToyTask(0))
    assert probe.outputs is not None
    assert not probe.outputs.any()
    targets = torch.cat([targets for _, targets in ToyTask(0).held_out()])
    assert learner.evaluate(0, ToyTask(0))["heldout_score"] == (targets == 0).double().mean().item()
    assert equal(learner.parameters, before)


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_the_probe_leaves_the_learner_as_it_was(seeds: tuple[int, ...]) -> None:
    learner = make(BATCH_NORM, seeds, methods=[Noise()])
    train(learner, range(2))
    for leaf in learner.leaves.values():
        leaf.grad = torch.ones_like(leaf)
    gradients = {name: leaf.grad for name, leaf in learner.leaves.items()}
    before, state = snapshot(learner.state_dict()), torch.get_rng_state()
    learner.probe(len(seeds) - 1, ToyTask(0))
    assert equal(learner.state_dict(), before)
    assert torch.equal(torch.get_rng_state(), state)
    for name, leaf in learner.leaves.items():
        assert leaf.grad is gradients[name]
        assert torch.equal(leaf.grad, torch.ones_like(leaf))
    assert all(each.training for each in learner.module.modules())
    assert not any(each._forward_hooks for each in learner.module.modules())


def test_the_probe_equals_a_computation_by_hand() -> None:
    learner = make(MLP(width=5, depth=1), dtype=torch.float64)
    train(learner, range(2))
    inputs, targets = ToyTask(0).probe()
    w1, b1, w2, b2 = (
        learner.parameters[name][0]
        for name in ("layers.0.linear.weight", "layers.0.linear.bias", "out.weight", "out.bias")
    )
    x = inputs.double().flatten(1)
    z = x @ w1.T + b1
    h = z * (z > 0)
    outputs = h @ w2.T + b2
    exponentials = (outputs - outputs.amax(1, keepdim=True)).exp()
    softmax = exponentials / exponentials.sum(1, keepdim=True)
    d_outputs = (softmax - F.one_hot(targets, CLASSES)) / len(x)
    d_h = d_outputs @ w2
    d_z = d_h * (z > 0)
    probe = learner.probe(0, ToyTask(0))
    (layer,) = probe.layers
    assert layer.name == "layers.0.activation"
    close = {"rtol": 1e-12, "atol": 1e-14}
    torch.testing.assert_close(layer.activation, h, **close)
    torch.testing.assert_close(layer.gradient, d_h, **close)
    torch.testing.assert_close(probe.outputs, outputs, **close)
    torch.testing.assert_close(probe.gradients["layers.0.linear.weight"], d_z.T @ x, **close)
    torch.testing.assert_close(probe.gradients["layers.0.linear.bias"], d_z.sum(0), **close)
    torch.testing.assert_close(probe.gradients["out.weight"], d_outputs.T @ h, **close)
    torch.testing.assert_close(probe.gradients["out.bias"], d_outputs.sum(0), **close)
    assert probe.head == ("out.weight", "out.bias")
    assert equal(probe.parameters, {name: value[0] for name, value in learner.parameters.items()})
    assert equal(probe.initial, {name: value[0] for name, value in learner.initial.items()})


def test_a_parameter_that_the_probe_does_not_reach_has_gradient_zero() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.idle = nn.Linear(2, 2)
            self.out = nn.Linear(48, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(x.flatten(1))

    learner = network(Idle)
    probe = learner.probe(0, ToyTask(0))
    assert probe.layers == ()
    assert not probe.gradients["idle.weight"].any()
    assert probe.gradients["out.weight"].any()


def test_activations_are_those_of_the_last_training_step() -> None:
    learner = make(MLP(width=5, depth=1), methods=[Recycler()], optimizer=SGD)
    task = ToyTask(0)
    inputs, targets = task.batch(0)
    weight, bias = (learner.parameters[f"layers.0.linear.{kind}"][0].clone() for kind in ("weight", "bias"))
    learner.step([(inputs, targets)], [task])
    learner.evaluate(0, task)  # is not a training step
    learner.probe(0, task)
    (group,) = learner.units
    assert (group.name, group.size) == ("layers.0.linear", 5)
    torch.testing.assert_close(group.activation[0], F.relu(F.linear(inputs.flatten(1), weight, bias)))
    assert not group.activation.requires_grad


# --- checkpoints ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("architecture", "methods", "seeds"),
    [
        (SMALL, (), (0,)),
        (BATCH_NORM, (), (0,)),
        (DROPOUT, (), (0,)),
        (BATCH_NORM, (Recycler(), Noise()), (0,)),
        (DROPOUT, (Restart(), Recycler()), (0,)),
        (BATCH_NORM, (Recycler(), Noise()), (0, 1)),
    ],
    ids=["plain", "batch", "dropout", "resets", "restart", "stack"],
)
@pytest.mark.parametrize("optimizer", [MOMENTUM, ADAM], ids=["sgd", "adam"])
def test_a_resumed_learner_goes_on_bit_for_bit(
    architecture: Any, methods: tuple[Perturbation, ...], seeds: tuple[int, ...], optimizer: Optimizer
) -> None:
    learner = make(architecture, seeds, methods, optimizer)
    train(learner, range(5))
    learner.begin_task(1, first=False, reset_optimizer=False, zero_head=True)
    train(learner, range(8), index=1)
    saved = snapshot(learner.state_dict())
    resumed = make(architecture, seeds, methods, optimizer)
    resumed.begin_task(1, first=True, reset_optimizer=False, zero_head=False)
    resumed.load_state_dict(saved)
    assert equal(resumed.state_dict(), saved)
    for ours, theirs in zip(train(learner, range(8, 20), index=1), train(resumed, range(8, 20), index=1), strict=True):
        assert torch.equal(ours[0], theirs[0])
    assert equal(resumed.state_dict(), learner.state_dict())
    assert resumed.optimizer.lr == learner.optimizer.lr
    assert equal(resumed.initial, learner.initial)


def test_learners_share_no_memory_after_loading() -> None:
    first, second = (make(BATCH_NORM, methods=[Recycler(), Noise()]) for _ in range(2))
    train(first, range(4))
    second.load_state_dict(first.state_dict())
    before = snapshot(first.state_dict())
    train(second, range(4, 8))
    assert equal(first.state_dict(), before)


def test_state_bytes_counts_weights_buffers_and_optimizer() -> None:
    learner = make(BATCH_NORM, optimizer=MOMENTUM)
    weights = sum(value.nbytes for value in learner.parameters.values())
    buffers = sum(value.nbytes for value in learner.buffers.values())
    assert learner.state_bytes() == weights + buffers
    train(learner, range(1))
    assert learner.state_bytes() == 2 * weights + buffers


# --- what is found in a network -------------------------------------------------------------------------------------


def test_a_network_without_a_head_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="no linear layer with 7 outputs"):
        network(lambda: SMALL.build(SHAPE, CLASSES, generator=Generator()), outputs=7)


def test_activation_functions_are_found_by_what_they_are() -> None:
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act = nn.GELU()
            self.attention = nn.MultiheadAttention(4, 2)
            self.softmax = nn.Softmax(1)

    assert activation_layers(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), Wrapped())) == ["1", "2.act"]


def test_without_units_asking_for_them_is_an_error() -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(48, CLASSES))

    learner = network(build)
    with pytest.raises(UnsupportedError, match="no units with private outgoing weights"):
        _ = learner.units
    with pytest.raises(UnsupportedError, match="no units with private outgoing weights"):
        network(build, methods=[Recycler()])
