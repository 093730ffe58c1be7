"""Whether what a network makes in training is random, found out by running it."""

import random
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lopbench.learner.trial import is_random

BATCH = torch.zeros(2, 12)


class Through(nn.Module):
    """Ten features, what ``act`` makes of them, and a head."""

    def __init__(self, act: Any) -> None:
        super().__init__()
        self.a, self.out, self.act = nn.Linear(12, 10), nn.Linear(10, 3), act

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.out(self.act(self, self.a(x)))
        return made


class Layer(Through):
    """The same with a layer in the middle."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__(lambda self, x: self.layer(x))
        self.layer = layer


class Gated(nn.Module):
    """A branch with dropout that starts at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.drop, self.out = nn.Parameter(torch.zeros(())), nn.Dropout(0.5), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.out(x + self.gate * self.drop(x))
        return made


class OfItsOwn(nn.Module):
    """Noise from a generator that the network keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.generator, self.out = torch.Generator().manual_seed(0), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        noise = torch.randn(x.shape, generator=self.generator) if self.training else torch.zeros_like(x)
        made: Tensor = self.out(x + noise)
        return made


def from_numpy(self: nn.Module, x: Tensor) -> Tensor:
    return x * float(np.random.rand()) if self.training else x


def from_python(self: nn.Module, x: Tensor) -> Tensor:
    return x * random.random() if self.training else x


RANDOM = {
    "dropout": lambda: Layer(nn.Dropout(0.1)),
    "dropout that seldom shows": lambda: Layer(nn.Dropout(1e-9)),
    "alpha dropout": lambda: Layer(nn.AlphaDropout(0.5)),
    "function": lambda: Through(lambda self, x: F.dropout(x, 0.3, self.training)),
    "slope": lambda: Layer(nn.RReLU()),
    "behind a zero": Gated,
    "numpy": lambda: Through(from_numpy),
    "python": lambda: Through(from_python),
    "own generator": OfItsOwn,
}
STEADY = {
    "plain": lambda: Layer(nn.ReLU()),
    "dropout of rate zero": lambda: Layer(nn.Dropout(0.0)),
    "off in training": lambda: Through(lambda self, x: F.dropout(x, 0.3, False)),
    "batch norm": lambda: Layer(nn.BatchNorm1d(10)),
    "power iteration": lambda: Layer(nn.utils.parametrizations.spectral_norm(nn.Linear(10, 10))),
}


@pytest.mark.parametrize("name", RANDOM)
def test_what_draws_is_random(name: str) -> None:
    assert is_random(RANDOM[name](), BATCH)


@pytest.mark.parametrize("name", STEADY)
def test_what_makes_the_same_each_time_is_not(name: str) -> None:
    assert not is_random(STEADY[name](), BATCH)


@pytest.mark.parametrize(("rate", "expected"), [(0.0, False), (0.2, True)])
def test_models_of_timm_may_leave_out_blocks(rate: float, expected: bool) -> None:
    network = timm.create_model("test_vit", img_size=16, num_classes=3, drop_path_rate=rate)
    assert is_random(network, torch.zeros(2, 3, 16, 16)) is expected


def test_the_trial_leaves_no_trace() -> None:
    network = nn.Sequential(nn.Linear(12, 10), nn.BatchNorm1d(10), nn.Dropout(0.5), nn.Linear(10, 3)).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    assert is_random(network, BATCH)
    assert not network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states[1:]


def test_a_network_that_does_not_run_is_told_of_where_it_is_trained() -> None:
    assert not is_random(nn.Linear(7, 3), BATCH)
