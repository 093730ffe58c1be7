from typing import Any

import pytest
import torch
from learner_toys import (
    CLASSES,
    DROPOUT,
    SHAPE,
    SMALL,
    Noise,
    ToyTask,
    batch,
    equal,
    make,
    method,
    network,
    train,
)
from torch import Generator, Tensor, nn

from lopbench.core.errors import UnsupportedError
from lopbench.learner.learner import activation_layers
from lopbench_plugins.optimizers import sgd


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


# --- dropout --------------------------------------------------------------------------------------------------------


def test_dropout_is_refused_beside_other_replicas() -> None:
    with pytest.raises(UnsupportedError, match="one after another"):
        make(DROPOUT, seeds=(0, 1))


def test_dropout_draws_from_the_stream_of_the_seed() -> None:
    first = make(DROPOUT)
    train(first, range(3))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(123)
        second = make(DROPOUT)
        train(second, range(3))
    assert equal(first.view.parameters, second.view.parameters)
    # Every step drops other units: it makes something else of the same batch.
    frozen = make(DROPOUT, optimizer=sgd.SGD(lr=1e-30))
    task = ToyTask(0)
    made = set()
    for _ in range(4):
        frozen.step([task.batch(0)])
        made.add(float(frozen.view.outputs.sum()))
    assert len(made) == 4


# --- what is seen inside --------------------------------------------------------------------------------------------


class Recurrent(nn.Module):
    """A layer that returns two tensors, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.GRU(16, 5, batch_first=True)
        self.out = nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        outputs, _ = self.body(x.flatten(2))
        made: Tensor = self.out(outputs[:, -1])
        return made


def test_a_probed_layer_that_returns_no_tensor_is_named() -> None:
    def build(layers: Any, *methods: Any) -> Any:
        return network(Recurrent, layers=lambda module: layers, methods=methods)

    sentence = (
        r"^the probed layer 'body' returns a tuple, not a tensor; name other layers in the architecture's 'layers'$"
    )
    with pytest.raises(UnsupportedError, match=sentence):
        train(build(["body"], Noise()), range(1))
    with pytest.raises(UnsupportedError, match=sentence):  # nor is it left out of a probe where no method looks
        build(["body"]).probe(0, ToyTask(0))
    train(build(["out"], Noise()), range(1))  # any other layer may


def test_nothing_is_kept_where_nobody_looks() -> None:
    """A method that acts at boundaries alone costs steps nothing, and sees inside when it looks."""
    learner = make(methods=[method(on_task_start=lambda self, learner, state: None)])
    train(learner, range(1))
    assert not learner.view.activations
    assert not any(module._forward_hooks for module in learner.network.module.modules())
    inputs, _ = batch(learner, 0)
    assert learner.view.forward(inputs).activations.keys() == {f"layers.{i}.activation" for i in (0, 1)}
    watched = make(methods=[Noise()])
    train(watched, range(1))
    assert watched.view.activations.keys() == {f"layers.{i}.activation" for i in (0, 1)}


def test_kept_activations_are_stacked_by_replica() -> None:
    seeds = (4, 0)
    together = make(seeds=seeds, methods=[Noise()])
    train(together, range(1))
    for replica, seed in enumerate(seeds):
        alone = make(seeds=(seed,), methods=[Noise()])
        train(alone, range(1))
        for ours, theirs in (
            (together.view.features, alone.view.features),
            (together.view.activations["layers.0.activation"], alone.view.activations["layers.0.activation"]),
        ):
            assert ours.shape == (2, 12, 8)
            torch.testing.assert_close(ours[replica], theirs[0])
