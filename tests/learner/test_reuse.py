"""What the pass in training takes over from the pass for the score: fewer calls, and the same bits."""

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from learner_toys import CLASSES, SGD, SHAPE, ToyTask, batch, equal, method, network, train
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from lopbench.core import rng
from lopbench.core.interfaces import Learner, Perturbation, State
from lopbench.learner.learner import StackLearner

SIZE = math.prod(SHAPE)


class Calls(TorchFunctionMode):
    """Counts the layers that are computed."""

    count = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self.count += func in (F.linear, F.conv2d)
        return func(*args, **(kwargs or {}))


class Tied(nn.Module):
    """Calls one layer twice on the samples, and changes what it made in place."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.drop, self.out = nn.Linear(SIZE, 8), nn.Dropout(0.5), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        return self.out(self.drop(self.layer(x).relu_() - self.layer(x)))  # type: ignore[no-any-return]


def perceptron(*, inplace: bool = False) -> nn.Module:
    layers = (nn.Linear(SIZE, 8), nn.ReLU(inplace=inplace), nn.Dropout(0.5), nn.Linear(8, CLASSES))
    return nn.Sequential(nn.Flatten(), *layers)


def convolutional() -> nn.Module:
    layers = (nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(64, CLASSES))
    return nn.Sequential(*layers)


def random_inputs() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(SIZE, CLASSES))


#: Networks, with the layers that both passes call together.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "perceptron": (perceptron, 3),
    "convolutional": (convolutional, 3),
    "changed in place": (lambda: perceptron(inplace=True), 4),
    "tied": (Tied, 5),
    "random inputs": (random_inputs, 2),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_is_that_of_a_loop_by_hand_to_the_bit(name: str) -> None:
    learner = network(NETWORKS[name][0])
    module = copy.deepcopy(learner.network.module)
    optimizer = torch.optim.SGD(module.parameters(), lr=SGD.lr, fused=True)
    with rng.isolated(rng.derive(0, "layers")):
        for step in range(4):
            inputs, targets = ToyTask(0).batch(step)
            F.cross_entropy(module(inputs), targets).backward()
            optimizer.step()
            optimizer.zero_grad()
    train(learner, range(4))
    assert equal(dict(learner.network.module.state_dict()), dict(module.state_dict()))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_layer_that_reads_the_samples_is_computed_once(name: str) -> None:
    build, expected = NETWORKS[name]
    learner = network(build)
    with Calls() as calls:
        train(learner, range(3))
    assert calls.count == 3 * expected


def test_samples_that_a_method_changes_are_looked_at_anew() -> None:
    def blurs(
        self: Perturbation, learner: Learner, state: State, inputs: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor]:
        return inputs + 0.5, targets

    learner = network(perceptron, methods=[method(batch=blurs)])
    with Calls() as calls:
        train(learner, range(1))
    assert calls.count == 4


def looked_ahead() -> tuple[StackLearner, Tensor]:
    """Return a learner with a batch that it was scored on."""
    learner = network(perceptron)
    inputs, _ = batch(learner, 0)
    with torch.no_grad():
        learner.network.steadily(inputs, ahead=True)
    return learner, inputs


def test_weights_that_changed_in_between_are_used() -> None:
    learner, inputs = looked_ahead()
    with torch.no_grad():
        learner.view.parameters["1.weight"].mul_(2)
    with Calls() as calls:
        learner.network.plain(inputs)
    assert calls.count == 2


def test_what_was_kept_is_used_once() -> None:
    learner, inputs = looked_ahead()
    with Calls() as calls:
        learner.network.plain(inputs)
        learner.network.plain(inputs)
    assert calls.count == 1 + 2
