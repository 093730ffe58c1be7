"""Why steps cannot be a program, told in one sentence."""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from learner_toys import (
    CLASSES,
    DROPOUT,
    SMALL,
    Noise,
    Recycler,
    Restart,
    ToyTask,
    batch,
    equal,
    make,
    method,
    network,
    snapshot,
    train,
)
from torch import Tensor, nn

from lopbench.core import rng
from lopbench.core.errors import UnsupportedError
from lopbench.core.interfaces import Learner, Perturbation, State, TrainingMetric
from lopbench.learner.learner import StackLearner
from lopbench.learner.program import Program, why_not
from lopbench_plugins.perturbations.cbp import ContinualBackprop
from lopbench_plugins.perturbations.dropout import Dropout

END = "its seeds train one after another"
BIAS = "out.bias"


def why(learner: StackLearner) -> str | None:
    return why_not(learner, ToyTask(0), [batch(learner, 0)])


def after_step(function: Callable[[Any, Any], object], **others: Any) -> Perturbation:
    """A method that calls ``function`` with learner and state, whatever it returns."""

    def hook(self: Perturbation, learner: Learner, state: State) -> None:
        function(learner, state)

    return method(after_step=hook, **others)


def branch(learner: Learner, state: State) -> None:
    if learner.parameters[BIAS].mean() > 0:
        learner.parameters[BIAS].zero_()


READS = {
    "if": after_step(branch),
    "float": after_step(lambda learner, state: float(learner.parameters[BIAS].sum())),
    "int": after_step(lambda learner, state: range(int(learner.targets.sum()))),
    "numpy": after_step(lambda learner, state: learner.parameters[BIAS].numpy()),
    "array": after_step(lambda learner, state: np.asarray(learner.parameters[BIAS])),
    "list": after_step(lambda learner, state: learner.parameters[BIAS].tolist()),
    "loss": method(loss=lambda self, learner, state, loss: loss * float(learner.outputs.detach().mean())),
    "batch": method(
        batch=lambda self, learner, state, inputs, targets: (inputs * int(targets.sum() > 3), targets),
    ),
}


@pytest.mark.parametrize("reads", READS)
def test_a_value_that_is_read_on_the_host_is_told_with_the_method(reads: str) -> None:
    learner = make(seeds=(0, 1), methods=[Noise(), READS[reads]])
    assert why(learner) == f"method reads a value on the host: {END}"


def counts(learner: Learner, state: State) -> None:
    state.host["step"] = state.host.get("step", 0) + 1


def remembers(learner: Learner, state: State) -> None:
    state["new"] = torch.ones(learner.replicas)


def draws(learner: Learner, state: State) -> None:
    for weight in learner.parameters.values():
        weight.add_(rng.normal(weight, state.generators))


SENTENCES: dict[str, tuple[Perturbation, str]] = {
    "host": (after_step(counts), "method 'method', hook after_step: it uses state.host"),
    "generators": (
        after_step(draws),
        "method 'method', hook after_step: it draws from state.generators, and not by state.normal and state.uniform",
    ),
    "global": (
        after_step(lambda learner, state: learner.parameters[BIAS].add_(torch.rand(CLASSES))),
        "a step draws from torch's global generator (aten.rand.default)",
    ),
    "python": (
        after_step(lambda learner, state: learner.parameters[BIAS].mul_(random.random())),
        "a step draws from the global generator of Python or numpy",
    ),
    "numpy": (
        after_step(lambda learner, state: learner.parameters[BIAS].mul_(np.random.rand())),
        "a step draws from the global generator of Python or numpy",
    ),
    "key": (after_step(remembers), "method 'method' makes state['new'] in a step, and not in 'begin'"),
    "fresh": (
        after_step(lambda learner, state: learner.fresh(state)),
        "method 'method', hook after_step: it builds networks in a step",
    ),
    "restart": (
        after_step(lambda learner, state: learner.restart()),
        "method 'method', hook after_step: it restarts the learner in a step",
    ),
    "coming": (
        after_step(lambda learner, state: learner.coming(1), uses_data=True),
        "method 'method', hook after_step: it asks for data in a step",
    ),
    "hold": (
        after_step(lambda learner, state: learner.optimizer.hold(BIAS)),
        "a method holds or releases parameters in a step",
    ),
    "scale": (
        after_step(lambda learner, state: learner.optimizer.scale(0.5)),
        "a method scales the learning rate in a step, and none did in 'begin'",
    ),
    "declared": (after_step(lambda learner, state: None, as_program=False), "method declares as_program = False"),
}


@pytest.mark.parametrize("case", SENTENCES)
def test_what_only_steps_one_by_one_can_do_is_told(case: str) -> None:
    made, sentence = SENTENCES[case]
    told = why(make(seeds=(0, 1), methods=[Noise(), made]))
    assert told in (f"{sentence}; {END}", f"{sentence}: {END}")


def test_an_error_in_a_hook_is_told_with_the_method() -> None:
    learner = make(methods=[Noise(), after_step(lambda learner, state: 1 // 0)])
    assert why(learner) == f"method cannot be traced (ZeroDivisionError: integer division or modulo by zero): {END}"


class Branching(nn.Module):
    """A network whose path depends on its input."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(48, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.out((x if x.sum() > 0 else -x).flatten(1))
        return made


def test_networks_that_cannot_be_traced_are_named() -> None:
    assert why(network(Branching)) == f"Branching reads a value on the host: {END}"
    assert why(make(DROPOUT)) == f"the network draws random numbers: {END}"
    assert why(make(methods=[Dropout(p=0.1)])) == f"the network draws random numbers: {END}"


def measuring(compute: Callable[[Tensor, Tensor], object]) -> TrainingMetric:
    """A metric of training steps."""
    namespace = {"name": "gauge", "compute": lambda self, before, after: compute(before, after)}
    made: TrainingMetric = dataclass(frozen=True, kw_only=True)(type("Gauge", (TrainingMetric,), namespace))()
    return made


@pytest.mark.parametrize(
    ("compute", "told"),
    [
        (lambda before, after: before if before.sum() > 0 else after, "metric 'gauge' reads a value on the host"),
        (lambda before, after: before[before > 0], "metric 'gauge' reads a value on the host"),
        (lambda before, after: 1 / 0, r"metric 'gauge' cannot be traced \(ZeroDivisionError: division by zero\)"),
        (lambda before, after: 0.5, "metric gauge of .* returned a float where a number for each replica belongs"),
    ],
)
def test_metrics_of_steps_that_cannot_be_traced_are_named(compute: Callable[..., object], told: str) -> None:
    learner = make(methods=[Noise()])
    found = why_not(learner, ToyTask(0), [batch(learner, 0)], [measuring(compute)])
    assert found is not None
    assert re.fullmatch(f"{told}.*: {END}", found)
    assert why_not(learner, ToyTask(0), [batch(learner, 0)], [measuring(lambda before, after: before - after)]) is None


def test_a_program_raises_what_is_told() -> None:
    learner = make(methods=[after_step(branch)])
    with pytest.raises(UnsupportedError, match=f"^method reads a value on the host: {END}$"):
        Program(learner, ToyTask(0), [batch(learner, 0)], unroll=1, compiled=False)


@pytest.mark.parametrize(
    "methods",
    [(), (Noise(),), (Restart(),), (ContinualBackprop(replacement_rate=0.1, maturity=3),), (Dropout(p=0.0),)],
    ids=["none", "noise", "boundaries", "resets", "off"],
)
def test_nothing_is_told_of_what_can_be_a_program(methods: tuple[Perturbation, ...]) -> None:
    assert why(make(seeds=(0, 1), methods=methods)) is None


def test_what_is_not_on_is_no_hindrance() -> None:
    never = after_step(branch, active=False, as_program=False)
    assert why(make(methods=[never])) is None
    # Of a method that waits it is told when it is on.
    learner = make(methods=[after_step(branch)], waiting=True)
    assert why(learner) is None
    learner.turn_on()
    assert why(learner) == f"method reads a value on the host: {END}"


@pytest.mark.parametrize("methods", [(Recycler(),), (ContinualBackprop(replacement_rate=1.0, maturity=0), Noise())])
def test_finding_out_leaves_the_learner_as_it_is(methods: tuple[Perturbation, ...]) -> None:
    learner, other = (make(SMALL, (0, 1), methods) for _ in range(2))
    for each in (learner, other):
        train(each, range(2))
    before, state = snapshot(learner.state_dict()), torch.get_rng_state()
    why(learner)
    assert equal(learner.state_dict(), before)
    assert torch.equal(torch.get_rng_state(), state)
    for each in (learner, other):
        train(each, range(2, 5))
    assert equal(learner.state_dict(), other.state_dict())
