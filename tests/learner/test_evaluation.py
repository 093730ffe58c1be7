import copy
from collections.abc import Iterator, Mapping

import pytest
import torch
from learner_toys import (
    BATCH_NORM,
    CLASSES,
    SGD,
    Noise,
    Recycler,
    ToyTask,
    equal,
    make,
    method,
    network,
    snapshot,
    train,
)
from torch import Tensor, nn
from torch.nn import functional as F

from lopbench.core.errors import PluginError
from lopbench.core.interfaces import Learner, Perturbation, State
from lopbench.learner import evaluation
from lopbench_plugins.architectures.mlp import MLP


def test_evaluation_is_the_mean_over_samples_in_evaluation_mode() -> None:
    architecture = MLP(width=8, depth=2, normalization="batch", dropout=0.5)
    learner = make(architecture)
    train(learner, range(3))
    task = ToyTask(0)
    before = snapshot(learner.state_dict())
    found = learner.evaluate(0, task)
    module = copy.deepcopy(learner.network.module).eval()
    right = torch.cat([module(inputs).argmax(1) == targets for inputs, targets in task.held_out()])
    assert len(right) == 13
    assert found == {"heldout_score": right.double().mean().item(), "heldout_wrong": (~right).double().mean().item()}
    assert equal(learner.state_dict(), before)
    assert all(each.training for each in learner.network.module.modules())


def test_validation_is_the_mean_score_of_the_trained_network_and_leaves_it_as_it_was() -> None:
    class Validated(ToyTask):
        def validation(self) -> Iterator[tuple[Tensor, Tensor]]:
            yield from ToyTask(self.seed + 7, self.index).held_out()

    def zeros(self: Perturbation, learner: Learner, state: State) -> Mapping[str, Tensor]:
        return {name: torch.zeros_like(value) for name, value in learner.parameters.items()}

    architecture = MLP(width=8, depth=2, normalization="batch", dropout=0.5)
    learner = make(architecture, methods=[method(evaluated=zeros)])
    train(learner, range(3))
    task = Validated(0)
    before, drawn = snapshot(learner.state_dict()), torch.get_rng_state()
    found = learner.validate(0, task)
    module = copy.deepcopy(learner.network.module).eval()
    right = torch.cat([module(inputs).argmax(1) == targets for inputs, targets in task.validation()])
    assert found == right.double().mean().item()
    assert equal(learner.state_dict(), before)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(each.training for each in learner.network.module.modules())
    with pytest.raises(PluginError, match="its tasks yield no validation batch"):
        learner.validate(0, ToyTask(0))


def test_the_probe_scores_the_network_of_now_on_the_held_out_samples_of_the_task_before() -> None:
    class Later(ToyTask):
        def former(self) -> ToyTask | None:
            return ToyTask(self.seed, self.index - 1) if self.index else None

    learner = make(seeds=(0, 1))
    train(learner, range(3))
    for replica in (0, 1):
        probe = learner.probe(replica, Later(5, 2))
        assert probe.former_score == learner.evaluate(replica, ToyTask(5, 1))["heldout_score"]
        assert learner.probe(replica, Later(5)).former_score is None
        assert learner.probe(replica, ToyTask(5, 2)).former_score is None


def test_a_former_task_of_which_nothing_is_held_out_has_no_score() -> None:
    class Unheld(ToyTask):
        def held_out(self) -> Iterator[tuple[Tensor, Tensor]]:
            return iter(())

        def former(self) -> ToyTask:
            return Unheld(self.seed)

    assert make().probe(0, Unheld(0)).former_score is None


def silence(self: Perturbation, learner: Learner, state: State) -> Mapping[str, Tensor]:
    return {name: torch.zeros_like(learner.parameters[name]) for name in learner.head}


def test_evaluation_and_probe_use_the_parameters_that_a_method_names() -> None:
    learner = make(methods=[method(evaluated=silence)])
    before = snapshot(learner.view.parameters)
    probe = learner.probe(0, ToyTask(0))
    assert not probe.outputs.any()
    targets = torch.cat([targets for _, targets in ToyTask(0).held_out()])
    assert learner.evaluate(0, ToyTask(0))["heldout_score"] == (targets == 0).double().mean().item()
    assert equal(learner.view.parameters, before)


@pytest.mark.parametrize("seeds", [(0,), (0, 1)], ids=["one", "two"])
def test_evaluation_and_probe_use_the_buffers_that_a_method_names(seeds: tuple[int, ...]) -> None:
    name = "layers.0.norm.running_mean"

    def evaluated(self: Perturbation, learner: Learner, state: State) -> Mapping[str, Tensor]:
        assert not torch.is_grad_enabled()
        return {name: torch.full_like(learner.buffers[name], 1e3)}

    learner, plain = (make(BATCH_NORM, seeds, methods) for methods in ([method(evaluated=evaluated)], []))
    for each in (learner, plain):
        train(each, range(2))
    plain.view.buffers[name].fill_(1e3)
    replica, task = len(seeds) - 1, ToyTask(seeds[-1])
    assert torch.equal(learner.probe(replica, task).outputs, plain.probe(replica, task).outputs)
    assert learner.evaluate(replica, task) == plain.evaluate(replica, task)
    assert not (learner.view.buffers[name] == 1e3).any()


def test_of_two_methods_the_right_one_says_what_is_evaluated() -> None:
    """Each sees the trained network, and the last to name a tensor has it."""

    def fill(value: float, *names: str) -> Perturbation:
        def evaluated(self: Perturbation, learner: Learner, state: State) -> Mapping[str, Tensor]:
            return {name: torch.full_like(learner.parameters[name], value) for name in names}

        return method(evaluated=evaluated)

    learner = make(methods=[fill(1, "out.weight", "out.bias"), fill(2, "out.bias")])
    parameters, _ = evaluation.replica(learner, 0)
    assert (parameters["out.weight"] == 1).all()
    assert (parameters["out.bias"] == 2).all()


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_the_probe_leaves_the_learner_as_it_was(seeds: tuple[int, ...]) -> None:
    learner = make(BATCH_NORM, seeds, methods=[Noise()])
    train(learner, range(2))
    for leaf in learner.leaves.values():
        leaf.grad = torch.ones_like(leaf)
    gradients = {name: leaf.grad for name, leaf in learner.leaves.items()}
    hooks = [len(each._forward_hooks) for each in learner.network.module.modules()]
    before, state = snapshot(learner.state_dict()), torch.get_rng_state()
    learner.probe(len(seeds) - 1, ToyTask(0))
    assert equal(learner.state_dict(), before)
    assert torch.equal(torch.get_rng_state(), state)
    for name, leaf in learner.leaves.items():
        assert leaf.grad is gradients[name]
        assert torch.equal(leaf.grad, torch.ones_like(leaf))
    assert all(each.training for each in learner.network.module.modules())
    assert [len(each._forward_hooks) for each in learner.network.module.modules()] == hooks


def test_the_probe_equals_a_computation_by_hand() -> None:
    learner = make(MLP(width=5, depth=1), dtype=torch.float64)
    train(learner, range(2))
    inputs, targets = ToyTask(0).probe()
    parameters = {name: value[0] for name, value in learner.view.parameters.items()}
    w1, b1, w2, b2 = (
        parameters[name] for name in ("layers.0.linear.weight", "layers.0.linear.bias", "out.weight", "out.bias")
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
    assert equal(probe.parameters, parameters)
    assert equal(probe.initial, {name: value[0] for name, value in learner.view.initial.items()})


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
    weight, bias = (learner.view.parameters[f"layers.0.linear.{kind}"][0].clone() for kind in ("weight", "bias"))
    learner.step([(inputs, targets)])
    learner.evaluate(0, task)  # is not a training step
    learner.probe(0, task)
    (group,) = learner.view.units
    assert (group.name, group.size) == ("layers.0.linear", 5)
    torch.testing.assert_close(group.activation[0], F.relu(F.linear(inputs.flatten(1), weight, bias)))
    assert not group.activation.requires_grad
