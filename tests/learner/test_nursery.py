from typing import Any

import pytest
import torch
from learner_toys import CLASSES, SGD, SMALL, Noise, Recycler, equal, make, method, network, snapshot
from torch import nn

from lopbench.core.errors import InvalidInputError, UnsupportedError
from lopbench.core.interfaces import Perturbation
from lopbench.learner.learner import StackLearner


def test_fresh_networks_come_from_the_methods_own_stream() -> None:
    learner = make(seeds=(5, 7), methods=[Noise(), Noise()])
    alone = make(seeds=(7,), methods=[Noise(), Noise()])
    first, second = (snapshot(learner.view.fresh(learner.states[0])) for _ in range(2))
    other = learner.view.fresh(learner.states[1])
    row = alone.view.fresh(alone.states[0])
    for name, values in first.items():
        assert values.shape == learner.view.parameters[name].shape
        assert not torch.equal(values, second[name])
        assert not torch.equal(values, other[name])
        assert not torch.equal(values, learner.view.initial[name])
        assert torch.equal(values[1], row[name][0])
    assert first["layers.0.linear.weight"].abs().max() <= (3 * 4 * 4) ** -0.5  # the law of torch's linear layer


def test_methods_configure_in_turn_given_a_batch_of_zeros() -> None:
    seen: list[str] = []

    def configure(name: str) -> Any:
        def hook(self: Perturbation, module: nn.Module, *, example: torch.Tensor, generator: torch.Generator) -> Any:
            assert not example.any()
            seen.append(f"{name} {tuple(example.shape)} {example.dtype}")
            return nn.Sequential(module)

        return hook

    methods = [method(configure=configure(name)) for name in "ab"]
    learner = make(methods=methods, dtype=torch.float64)
    assert seen == [f"{name} (2, 3, 4, 4) torch.float64" for name in "ab"]
    assert learner.hooks.acted == [True, True]  # what is built into the network acts
    assert all(name.startswith("0.0.") for name in learner.view.parameters)
    plain = make(dtype=torch.float64).view.parameters
    assert equal({name.removeprefix("0.0."): value for name, value in learner.view.parameters.items()}, plain)


@pytest.mark.parametrize("returned", [None, 3, nn.Module], ids=["None", "int", "class"])
def test_configure_returns_the_network(returned: object) -> None:
    given = method(configure=lambda self, module, **others: returned)
    kind = "nothing" if returned is None else type(returned).__name__
    with pytest.raises(
        InvalidInputError, match=rf"^method 'method', hook configure: it must return the network, got {kind}$"
    ):
        make(methods=[given])


def test_what_a_method_cannot_serve_is_told_in_its_own_words() -> None:
    def configure(self: Perturbation, module: nn.Module, **others: Any) -> nn.Module:
        raise UnsupportedError("method: needs convolutions")

    with pytest.raises(UnsupportedError, match=r"^method: needs convolutions$"):
        make(methods=[method(configure=configure)])


def tokens(build: Any) -> StackLearner:
    return network(build, outputs=9, optimizer=SGD, example=torch.zeros(2, 5, dtype=torch.int64), tokens=True)


def test_tokens_need_an_embedding() -> None:
    with pytest.raises(
        UnsupportedError, match=r"^the stream is of tokens, and Sequential has no embedding to take them"
    ):
        tokens(lambda: nn.Sequential(nn.Linear(5, 9)))
    learner = tokens(lambda: nn.Sequential(nn.Embedding(9, 4), nn.ReLU(), nn.Linear(4, 9)))
    assert learner.view.forward(torch.ones(1, 2, 5, dtype=torch.int64)).outputs.shape == (1, 2, 5, 9)


def test_without_units_asking_for_them_is_an_error() -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(48, CLASSES))

    with pytest.raises(UnsupportedError, match="no units with private outgoing weights"):
        _ = network(build).view.units

    def begin(self: Perturbation, learner: Any, state: Any) -> None:
        _ = learner.units

    sentence = "^method 'method', hook begin: .*no units with private outgoing weights"
    with pytest.raises(UnsupportedError, match=sentence):
        network(build, methods=[method(begin=begin)])


def test_units_are_drawn_anew_as_methods_configure_them() -> None:
    """The rows are of a network with the layers and the law that the method gave it."""

    def configure(self: Perturbation, module: nn.Module, **others: Any) -> nn.Module:
        with torch.no_grad():
            module.get_submodule("layers.0.linear").weight.fill_(7.0)
        return module

    learner = make(SMALL, methods=[method(configure=configure), Recycler()])
    group = learner.view.units[0]
    learner.view.parameters["layers.0.linear.weight"].zero_()
    group.reset(torch.ones(1, group.size, dtype=torch.bool))
    assert (group.incoming() == 7).all()
