"""What methods of third parties found missing in the interface, each on its own."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from third_party_lab import CLASSES, INPUTS, TASK_STEPS, Lab, method, perceptron, same
from torch import nn

from lopbench import Learner, Perturbation, State, UnsupportedError, activation_layers, head_of
from lopbench_plugins.optimizers.adam import Adam
from lopbench_plugins.optimizers.sgd import SGD
from lopbench_plugins.perturbations.l2 import L2

STEPS = 3 * TASK_STEPS
CLOSE = {"rtol": 1e-9, "atol": 1e-11}


def close(ours, theirs):
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        torch.testing.assert_close(value, theirs[key], **CLOSE)


# --- what `begin` knows -------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Looks(Perturbation):
    """Keeps what `begin` shows."""

    name: ClassVar[str] = "looks"

    def begin(self, learner: Learner, state: State) -> None:
        state["inputs"], state["targets"] = learner.inputs, learner.targets


def test_begin_shows_the_shape_of_batches_and_no_sample():
    lab = Lab(Looks(), seeds=(0, 1))
    state = lab.learner.states[0]
    inputs, targets = lab.batch()
    for seen, real in ((state["inputs"], inputs), (state["targets"], targets)):
        assert seen.shape == real.shape
        assert seen.dtype == real.dtype
        assert not seen.any()
    with pytest.raises(UnsupportedError, match="no batch yet"):
        _ = lab.learner.view.inputs


# --- what `configure` knows ---------------------------------------------------------------------------------------


def test_configure_can_find_the_head():
    module = perceptron()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    assert head_of(module, torch.zeros(2, INPUTS)) == "4"
    assert same(dict(module.state_dict()), before)
    assert module.training


def test_a_function_derived_from_an_activation_is_one():
    class Mine(nn.ReLU):
        """ReLU of a third party."""

    assert activation_layers(nn.Sequential(nn.Linear(2, 2), Mine())) == ["1"]


# --- forward passes aside -----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class LooksInside(Perturbation):
    """Looks at features and activations although it takes no part in steps."""

    name: ClassVar[str] = "looks_inside"

    def on_task_start(self, learner: Learner, state: State) -> None:
        made = learner.forward(learner.inputs)
        state["features"], state["activation"] = made.features, made.activations["1"]


def test_a_method_at_boundaries_sees_inside_the_network():
    state = Lab(LooksInside(), seeds=(0, 1)).run(TASK_STEPS + 1).learner.states[0]
    assert state["features"].shape == (2, 5, 7)
    assert state["activation"].shape == (2, 5, 8)


# --- programs, and what methods do at boundaries --------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class AtBoundaries(Perturbation):
    """Does at the first boundary what changes the steps to come, each in a way of its own."""

    name: ClassVar[str] = "at_boundaries"
    what: str = "hold"

    def on_task_start(self, learner: Learner, state: State) -> None:
        if self.what == "hold":
            learner.optimizer.hold("0.weight")
        elif self.what == "scale":
            learner.optimizer.scale(0.5)
        elif self.what == "remember":
            state["mask"] = learner.parameters["0.weight"] > 0
        elif self.what == "clear":
            learner.optimizer.clear("0.weight", learner.parameters["0.weight"] > 0)

    def after_backward(self, learner: Learner, state: State) -> None:
        if "mask" in state:
            learner.gradients["0.weight"].mul_(state["mask"])


@pytest.mark.parametrize("what", ["hold", "scale", "remember", "clear"])
def test_a_program_follows_what_changes_at_a_boundary(what):
    options = {"seeds": (0, 1), "optimizer": Adam(lr=0.01)}
    steps = Lab(AtBoundaries(what=what), **options).run(STEPS)
    program = Lab(AtBoundaries(what=what), **options, by_program=True).run(STEPS)
    plain = Lab(**options).run(STEPS)
    close(steps.parameters(), program.parameters())
    assert not same(steps.parameters(), plain.parameters())


def test_two_methods_cannot_both_scale_the_learning_rate():
    with pytest.raises(UnsupportedError, match="'warm_up', hook begin: warm_up scales the learning rate already"):
        Lab(method("warm_up"), method("warm_up"))
    lab = Lab(method("warm_up"), AtBoundaries(what="scale"))
    with pytest.raises(UnsupportedError, match="'at_boundaries', hook on_task_start: warm_up scales"):
        lab.run(TASK_STEPS + 1)


# --- gradients ------------------------------------------------------------------------------------------------------


class Summed(nn.Linear):
    """A layer of two weights that are added up, and so have one gradient."""

    def __init__(self) -> None:
        super().__init__(INPUTS, CLASSES)
        self.other = nn.Parameter(self.weight.detach() / 2)

    def forward(self, x):
        return nn.functional.linear(x, self.weight + self.other, self.bias)


def test_a_hook_changes_the_gradient_of_one_parameter_and_of_no_other():
    options = {"seeds": (0, 1), "network": Summed, "optimizer": SGD(lr=0.1)}
    steps = Lab(L2(strength=0.1), **options).run(5)
    close(steps.parameters(), Lab(L2(strength=0.1), **options, by_program=True).run(5).parameters())


# --- who acted ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["hold", "scale", "clear"])
def test_what_the_optimizer_is_told_counts_as_acting(what):
    lab = Lab(AtBoundaries(what=what)).run(TASK_STEPS)
    assert lab.learner.hooks.acted == [False]
    assert lab.run(1).learner.hooks.acted == [True]
