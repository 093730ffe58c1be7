from collections.abc import Mapping
from typing import Any

import pytest
import torch
from learner_toys import (
    BATCH_NORM,
    CLASSES,
    CLOSE,
    DROPOUT,
    ENGINES,
    SGD,
    SHAPE,
    SMALL,
    ToyTask,
    assert_close,
    batch,
    equal,
    every_engine,
    make,
    method,
    snapshot,
    train,
)
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from lopbench.core import rng
from lopbench.core.errors import InvalidInputError, UnsupportedError
from lopbench.core.interfaces import Learner, Perturbation, State
from lopbench.learner.learner import StackLearner
from lopbench_plugins.architectures.mlp import MLP

SEEDS = pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)], ids=["one", "three"])


# --- changing tensors in place --------------------------------------------------------------------------------------


def test_gradients_are_views_of_those_that_the_optimizer_uses() -> None:
    def zero(self: Perturbation, learner: Learner, state: State) -> None:
        for gradient in learner.gradients.values():
            assert gradient.shape[0] == learner.replicas
            gradient.zero_()

    for seeds in ((0,), (0, 1)):
        learner = make(seeds=seeds, methods=[method(after_backward=zero)], optimizer=SGD)
        before = snapshot(learner.view.parameters)
        train(learner, range(2))
        assert equal(learner.view.parameters, before)


@pytest.mark.parametrize("what", ["parameters", "buffers", "initial"])
def test_no_tensor_of_the_network_can_be_put_in_anothers_place(what: str) -> None:
    tensors: Any = getattr(make(BATCH_NORM).view, what)
    name, value = next(iter(tensors.items()))
    with pytest.raises(InvalidInputError, match=rf"^'{name}' cannot be assigned: .* as in tensors\['{name}'\]\.copy_"):
        tensors[name] = value.clone()
    for refused in (
        lambda: tensors.pop(name),
        lambda: tensors.update({name: value}),
        lambda: tensors.setdefault("new", value),
        tensors.clear,
        tensors.popitem,
        lambda: tensors.__delitem__(name),
        lambda: tensors.__ior__({name: value}),
    ):
        with pytest.raises(InvalidInputError, match="changed in place, and neither added nor removed"):
            refused()
    assert tensors[name] is value


def test_tensors_can_be_changed_by_the_signs_for_that() -> None:
    """In Python ``tensors[name] *= 2`` puts the changed tensor in its own place."""
    parameters: Any = make().view.parameters
    before = parameters["out.weight"].clone()
    parameters["out.weight"] *= 2
    parameters["out.weight"] += 1
    assert torch.equal(parameters["out.weight"], before * 2 + 1)


@every_engine
def test_gradients_are_there_to_the_end_of_the_step(engine: str) -> None:
    """With plain descent the step is the gradient, and a method that undoes it sees both."""
    seeds, steps = ENGINES[engine]

    def undo(self: Perturbation, learner: Learner, state: State) -> None:
        for name, gradient in learner.gradients.items():
            learner.parameters[name].add_(gradient, alpha=SGD.lr)

    learner = make(seeds=seeds, methods=[method(after_step=undo)], optimizer=SGD, dtype=torch.float64)
    before = snapshot(learner.view.parameters)
    steps(learner, range(4))
    assert_close(learner.view.parameters, before)
    assert not learner.view.gradients


# --- what a step shows ----------------------------------------------------------------------------------------------


@every_engine
def test_a_step_shows_its_batch_and_what_the_network_made_of_it(engine: str) -> None:
    seeds, steps = ENGINES[engine]

    def begin(self: Perturbation, learner: Learner, state: State) -> None:
        for name, value in learner.parameters.items():
            state[name] = value.clone()
        for key in ("outputs", "features", "activation", "aside"):
            state[key] = torch.zeros(learner.replicas)

    def after_step(self: Perturbation, learner: Learner, state: State) -> None:
        made = learner.forward(learner.inputs, parameters={name: state[name] for name in learner.parameters})
        layer = "layers.1.activation"
        for key, ours, theirs in (
            ("outputs", learner.outputs, made.outputs),
            ("features", learner.features, made.features),
            ("activation", learner.activations[layer], made.activations[layer]),
        ):
            assert not ours.requires_grad
            state[key] = torch.maximum(state[key], (ours - theirs).flatten(1).abs().amax(1))
        state["aside"] = (learner.features - learner.activations[layer]).flatten(1).abs().amax(1)
        for name, value in learner.parameters.items():
            state[name] = value.clone()

    learner = make(seeds=seeds, methods=[method(begin=begin, after_step=after_step)], dtype=torch.float64)
    steps(learner, range(4))
    for key in ("outputs", "features", "activation"):
        assert (learner.states[0][key] < 1e-12).all(), key
    assert not learner.states[0]["aside"].any()  # the head reads what the last activation made
    assert learner.view.replicas == len(seeds)


def test_before_a_step_there_is_no_batch() -> None:
    view = make().view
    for name in ("inputs", "targets", "outputs", "features", "activations"):
        with pytest.raises(UnsupportedError, match="there is no batch yet"):
            getattr(view, name)


def test_differentiable_parameters_are_for_loss_and_penalty() -> None:
    def after_step(self: Perturbation, learner: Learner, state: State) -> None:
        _ = learner.differentiable

    learner = make(methods=[method(after_step=after_step)])
    sentence = (
        r"^method 'method', hook after_step: learner\.differentiable exists only in the hooks loss and penalty; read"
    )
    with pytest.raises(UnsupportedError, match=sentence):
        train(learner, range(1))


# --- the loss of the task -------------------------------------------------------------------------------------------


@SEEDS
def test_only_outputs_that_count_are_given_to_loss_and_score(seeds: tuple[int, ...]) -> None:
    """Every replica has outputs of its own that count, in an order of its own."""

    class Some(ToyTask):
        @property
        def classes(self) -> Tensor:  # type: ignore[override]
            return torch.tensor([(self.seed + 2) % 4, self.seed % 4])

    tasks = [Some(seed) for seed in seeds]
    learner = make(seeds=seeds, dtype=torch.float64)
    learner.turn_to(0, tasks)
    inputs, _ = batch(learner, 0)
    targets = (inputs.flatten(2).sum(2) > 0).long()
    assert learner.view.classes is not None
    assert learner.view.classes.tolist() == [task.classes.tolist() for task in tasks]
    forward = learner.view.forward(inputs.double())
    outputs = forward.outputs
    losses, scores = learner.view.loss_and_score(forward, targets)
    assert torch.equal(losses, learner.view.loss(outputs, targets))
    for replica, task in enumerate(tasks):
        counted = outputs[replica][:, task.classes]
        torch.testing.assert_close(losses[replica], F.cross_entropy(counted, targets[replica]), **CLOSE)
        assert scores[replica] == (counted.argmax(1) == targets[replica]).double().mean()
    taken = learner.step(list(zip(inputs, targets, strict=True)))
    torch.testing.assert_close(taken.losses, losses, **CLOSE)


# --- forward passes aside -------------------------------------------------------------------------------------------


def snapshot_of_all(learner: StackLearner) -> dict[str, Tensor]:
    view = learner.view
    seen = {f"read/{name}": view.read(name) for name in ("layers.0.linear", "layers.1.linear", "out")}
    seen.update({f"activation/{name}": value for name, value in view.activations.items()})
    return snapshot({**learner.state_dict(), **seen, "outputs": view.outputs, "inputs": view.inputs})


@pytest.mark.parametrize(
    ("architecture", "seeds"),
    [(SMALL, (0,)), (BATCH_NORM, (0,)), (BATCH_NORM, (0, 1)), (DROPOUT, (0,))],
    ids=["plain", "batch norm", "stack", "dropout"],
)
def test_a_pass_aside_leaves_no_trace(architecture: MLP, seeds: tuple[int, ...]) -> None:
    def watch(self: Perturbation, learner: Learner, state: State) -> None:
        pass

    learner = make(architecture, seeds, [method(after_step=watch)])
    train(learner, range(2))
    before, state = snapshot_of_all(learner), torch.get_rng_state()
    inputs, _ = batch(learner, 7)
    made = [learner.view.forward(inputs) for _ in range(2)]
    assert torch.equal(made[0].outputs, made[1].outputs)  # of dropout the same draws, those of the next step
    assert equal(snapshot_of_all(learner), before)
    assert torch.equal(torch.get_rng_state(), state)
    again = make(architecture, seeds, [method(after_step=watch)])
    train(again, range(2))
    for ours, theirs in zip(train(learner, range(2, 4)), train(again, range(2, 4)), strict=True):
        assert torch.equal(ours.losses, theirs.losses)


def test_a_pass_aside_inside_of_a_step_leaves_no_trace() -> None:
    """One in each hook, in every engine: the steps are those without."""

    def aside(self: Perturbation, learner: Learner, state: State) -> None:
        learner.forward(learner.inputs * 2)

    def loss(self: Perturbation, learner: Learner, state: State, loss: Tensor) -> Tensor:
        learner.forward(learner.inputs * 2)
        return loss

    looking = method(loss=loss, after_backward=aside, update=aside, after_step=aside)
    for seeds, steps in ENGINES.values():
        ours, theirs = (make(BATCH_NORM, seeds, methods, SGD, torch.float64) for methods in ([looking], []))
        for each in (ours, theirs):
            steps(each, range(4))
        assert_close(ours.view.parameters, theirs.view.parameters)
        assert_close(ours.view.buffers, theirs.view.buffers)
        assert ours.hooks.acted == [False]


def test_a_pass_aside_is_in_training_mode() -> None:
    learner = make(BATCH_NORM, dtype=torch.float64)
    inputs = 5 + 3 * torch.randn(1, 12, *SHAPE, generator=rng.derive(0, "x"), dtype=torch.float64)
    module = learner.network.module
    expected = functional_call(module, {n: b.clone() for n, b in module.named_buffers()}, (inputs[0],))
    made = learner.view.forward(inputs)
    torch.testing.assert_close(made.outputs[0], expected, **CLOSE)
    module.eval()
    assert not torch.allclose(made.outputs[0], module(inputs[0]))


@SEEDS
def test_a_pass_aside_with_other_parameters_and_buffers(seeds: tuple[int, ...]) -> None:
    learner = make(SMALL, seeds, dtype=torch.float64)
    inputs, _ = batch(learner, 0)
    zero = {"out.weight": torch.zeros_like(learner.view.parameters["out.weight"])}
    made = learner.view.forward(inputs.double(), zero)
    bias = learner.view.parameters["out.bias"].unsqueeze(1)
    assert torch.equal(made.outputs, bias.expand_as(made.outputs))
    plain = learner.view.forward(inputs.double())
    assert torch.equal(made.features, plain.features)  # all others are the learner's
    assert not torch.equal(made.outputs, plain.outputs)


def test_a_pass_aside_with_other_buffers() -> None:
    class Scaled(torch.nn.Linear):
        def __init__(self) -> None:
            super().__init__(48, CLASSES)
            self.register_buffer("scale", torch.ones(()))

        def forward(self, x: Tensor) -> Tensor:
            return self.scale * super().forward(x.flatten(1))

    class Architecture:
        layers = staticmethod(lambda module: [])

        def build(self, *args: Any, generator: torch.Generator) -> torch.nn.Module:
            with rng.isolated(generator):
                return Scaled()

    learner = make(Architecture(), (0, 1))
    inputs, _ = batch(learner, 0)
    plain = learner.view.forward(inputs).outputs
    scaled = learner.view.forward(inputs, buffers={"scale": torch.tensor([1.0, 2.0])}).outputs
    torch.testing.assert_close(scaled, plain * torch.tensor([1.0, 2.0]).view(2, 1, 1))


@pytest.mark.parametrize("engine", [*ENGINES, "dropout"])
def test_a_pass_aside_is_differentiated_in_loss(engine: str) -> None:
    """The mean of two losses on the same batch is the loss, and so is its gradient."""
    seeds, steps = ENGINES.get(engine, ((3,), train))
    architecture = SMALL if engine != "dropout" else MLP(width=8, depth=2, dropout=1e-12)

    def twice(self: Perturbation, learner: Learner, state: State, loss: Tensor) -> Tensor:
        again = learner.loss(learner.forward(learner.inputs).outputs, learner.targets)
        return 3 * again - 2 * loss

    ours, theirs = (make(architecture, seeds, m, SGD, torch.float64) for m in ([method(loss=twice)], []))
    for each in (ours, theirs):
        steps(each, range(4))
    assert_close(ours.view.parameters, theirs.view.parameters)
    assert not equal(ours.view.parameters, ours.view.initial)


@every_engine
def test_other_parameters_are_differentiated_if_they_ask_for_it(engine: str) -> None:
    """One look ahead along the gradient: the loss at the parameters less 0.1 of themselves, by the chain rule."""
    seeds, steps = ENGINES[engine]

    def ahead(self: Perturbation, learner: Learner, state: State, loss: Tensor) -> Tensor:
        moved: Mapping[str, Tensor] = {name: 0.9 * value for name, value in learner.differentiable.items()}
        return learner.loss(learner.forward(learner.inputs, moved).outputs, learner.targets)

    learner = make(SMALL, seeds, [method(loss=ahead)], SGD, torch.float64)
    steps(learner, range(2))
    for replica, seed in enumerate(seeds):
        module = SMALL.build(SHAPE, CLASSES, generator=rng.derive(seed, "init", 0)).double()
        values = {n: p.detach().clone() for n, p in module.named_parameters()}
        for step in range(2):
            inputs, targets = ToyTask(seed).batch(step)
            leaves = {n: (0.9 * value).requires_grad_() for n, value in values.items()}
            F.cross_entropy(functional_call(module, leaves, (inputs.double(),)), targets).backward()
            values = {n: values[n] - SGD.lr * 0.9 * leaf.grad for n, leaf in leaves.items() if leaf.grad is not None}
        assert_close({n: v[replica] for n, v in learner.view.parameters.items()}, values)
