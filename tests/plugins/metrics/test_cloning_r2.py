"""Cloning R2, as published and as the authors log it."""

import dataclasses
from dataclasses import dataclass
from math import isnan, nan

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from lopbench.core import rng
from lopbench.core.errors import InvalidInputError, UnsupportedError
from lopbench.core.probe import LayerProbe, NetworkProbe
from lopbench.core.profile import Partition, Profile
from lopbench.learner.learner import StackLearner
from lopbench_plugins.architectures.mlp import MLP
from lopbench_plugins.architectures.resnet18 import ResNet18
from lopbench_plugins.architectures.vit import ViT
from lopbench_plugins.cloners.equitable import Equitable
from lopbench_plugins.cloners.interleave import Interleave
from lopbench_plugins.cloners.noisy import Noisy
from lopbench_plugins.cloners.tile import Tile
from lopbench_plugins.metrics.cloning_r2 import CloningR2Backward, CloningR2Forward
from lopbench_plugins.metrics.cloning_r2_authors import CloningR2Authors
from lopbench_plugins.optimizers import sgd

FORWARD, BACKWARD, AUTHORS = CloningR2Forward(), CloningR2Backward(), CloningR2Authors()
BOTH = pytest.mark.parametrize("metric", [FORWARD, BACKWARD], ids=lambda metric: metric.name)
PAIRS = Partition.clones(2, 2)


@dataclass(frozen=True)
class ToyTask:
    """Random images and labels."""

    classes = None
    shape: tuple[int, ...]
    classes: None = None

    def batch(self, step, size=16):
        generator = rng.derive(0, "toy", step)
        return torch.randn(size, *self.shape, generator=generator), torch.randint(4, (size,), generator=generator)

    def probe(self):
        return self.batch(-1, 40)

    def loss(self, outputs, targets):
        return F.cross_entropy(outputs, targets)

    def score(self, outputs, targets):
        return outputs.argmax(1) == targets


def cloned(architecture, cloner=None, factor=2, shape=(3, 8, 8), steps=0):
    """Return the probe of a clone that was trained for some steps."""
    generator = rng.derive(0, "clone")
    example = torch.zeros(2, *shape)
    base = architecture.build(shape, 4, generator=generator)
    wide, profile = (cloner or Interleave()).clone(base, factor, example=example, generator=generator)
    learner = StackLearner(
        build=lambda generator: wide,
        seeds=(0,),
        optimizer=sgd.SGD(lr=0.05, momentum=0.9),
        example=example,
        outputs=4,
        layers=architecture.layers,
    )
    learner.profile = profile
    task = ToyTask(shape)
    learner.begin_task(0, [task], first=True, reset_optimizer=False, zero_head=False)
    for step in range(steps):
        learner.step([task.batch(step)])
    return learner.probe(0, task)


def probe_of(values, clones=PAIRS, metric=FORWARD):
    """Return a layer's probe in which ``metric`` reads ``values``."""
    values = torch.tensor(values)
    other = torch.zeros_like(values)
    return LayerProbe(*((values, other) if metric is FORWARD else (other, values)), "hidden", clones)


@BOTH
def test_known_values_by_hand(metric):
    # Block means 1 and 5 leave 4 of the 20 about the mean 3.
    assert metric.compute(probe_of([[0.0, 2.0, 4.0, 6.0]], metric=metric)) == pytest.approx(1 - 4 / 20, rel=1e-12)
    # The second row adds 1 to the total and is explained.
    rows = [[0.0, 2.0, 4.0, 6.0], [1.0, 1.0, 0.0, 0.0]]
    assert metric.compute(probe_of(rows, metric=metric)) == pytest.approx(1 - 4 / 21, rel=1e-12)
    # Tiled: blocks {0, 4} and {2, 6} of means 2 and 4 leave 16 of 20.
    tiled = Partition.clones(2, 2, chunk=2)
    assert metric.compute(probe_of(rows[:1], tiled, metric)) == pytest.approx(1 - 16 / 20, rel=1e-12)


@BOTH
def test_blocks_of_one_mean_explain_nothing(metric):
    assert metric.compute(probe_of([[1.0, -1.0, 3.0, -3.0]], metric=metric)) == 0


@BOTH
def test_units_that_are_all_alike_are_clones(metric):
    assert metric.compute(probe_of([[0.0] * 4, [0.0] * 4], metric=metric)) == 1  # dead ones
    assert metric.compute(probe_of([[0.1] * 6, [3.7] * 6], Partition.clones(2, 3), metric)) == 1


@BOTH
@pytest.mark.parametrize("factor", [2, 3, 5])
def test_mean_of_strangers_explains_one_part_of_factor(metric, factor):
    h = torch.randn(200, 60 * factor, generator=torch.Generator().manual_seed(0))
    assert metric.compute(LayerProbe(h, h, clones=Partition.clones(60, factor))) == pytest.approx(1 / factor, abs=0.01)


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32), factor=st.integers(2, 4), noise=st.floats(0, 3))
def test_value_is_a_share(seed, factor, noise):
    generator = torch.Generator().manual_seed(seed)
    h = torch.randn(5, 4, generator=generator).repeat_interleave(factor, 1)
    h = h + noise * torch.randn(h.shape, generator=generator)
    assert 0 <= FORWARD.compute(LayerProbe(h, clones=Partition.clones(4, factor))) <= 1


ARCHITECTURES = [
    MLP(width=16, depth=3),
    MLP(width=16, depth=2, normalization="batch"),
    ResNet18(base_width=4, normalization="layer"),
    ViT(width=16, depth=2, heads=2, patch=4),
]


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: f"{a.name}-{a.normalization}")
def test_a_clone_in_training_has_r2_of_exactly_one(architecture):
    probe = cloned(architecture, steps=3)
    assert len(probe.layers) > 1
    assert {metric.compute(layer) for metric in (FORWARD, BACKWARD) for layer in probe.layers} == {1.0}


@pytest.mark.parametrize(("cloner", "factor"), [(Tile(), 3), (Interleave(), 3), (Equitable(strength=0.5), 2)])
def test_all_exact_cloners_have_r2_of_exactly_one(cloner, factor):
    probe = cloned(MLP(width=16, depth=3), cloner, factor, steps=10)
    assert {metric.compute(layer) for metric in (FORWARD, BACKWARD) for layer in probe.layers} == {1.0}


def test_r2_falls_with_noise_on_the_weights():
    probes = [cloned(MLP(width=32, depth=2), Noisy(strength=s)) for s in (0.0, 0.01, 0.1, 1.0)]
    for layer in (0, 1):
        for metric in (FORWARD, BACKWARD):
            values = [metric.compute(probe.layers[layer]) for probe in probes]
            assert values == sorted(values, reverse=True)
            assert values[0] == 1 > values[1] > 0.99
            assert values[3] < 0.8
    values = [AUTHORS.compute(probe) for probe in probes]
    assert values == sorted(values, reverse=True)
    # A deviation counts with its size, not with its square.
    assert values[0] - values[1] > 10 * max(1 - FORWARD.compute(layer) for layer in probes[1].layers)


@BOTH
def test_layer_without_clones_has_no_r2(metric):
    assert isnan(metric.compute(probe_of([[0.0, 2.0, 4.0, 6.0]], Partition.identity(4), metric)))


@BOTH
def test_network_that_was_not_cloned_is_refused_with_what_to_do(metric):
    with pytest.raises(UnsupportedError, match=rf"{metric.name}.*'hidden'.*scenario"):
        metric.compute(probe_of([[0.0, 2.0]], None, metric))


def test_gradients_must_be_there_and_finite():
    with pytest.raises(InvalidInputError, match="gradients"):
        BACKWARD.compute(LayerProbe(torch.ones(1, 4), clones=PAIRS))
    assert isnan(BACKWARD.compute(probe_of([[0.0, nan, 1.0, 1.0]], metric=BACKWARD)))


# -- the authors' logging


def logged(keys):
    """Return the number that a perfect clone has where the authors' code makes ``keys`` entries."""
    return (keys + 0.5) / (keys + 1)


@pytest.mark.parametrize(
    ("architecture", "keys"),
    [
        (MLP(width=8, normalization="batch"), 30),  # 5 hidden layers, of linear, norm and activation, both ways
        (MLP(width=8, normalization="layer"), 30),
        (MLP(width=8, depth=3, normalization="batch"), 18),
        (MLP(width=8, depth=1), 4),
        (ResNet18(base_width=2), 16),  # blocks only
        (ViT(width=8, depth=2, heads=2, patch=4), 4),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_authors_logging_of_a_perfect_clone_falls_short_of_one(architecture, keys):
    assert AUTHORS.compute(cloned(architecture)) == pytest.approx(logged(keys), rel=1e-6)


def test_authors_logging_of_the_papers_mlp_is_their_plateau():
    value = AUTHORS.compute(cloned(MLP(width=8, depth=5, normalization="batch"), steps=5))
    assert value == pytest.approx(30.5 / 31, rel=1e-5)
    assert round(value, 3) == 0.984


def network_of(activation, gradient, clones=PAIRS):
    layer = LayerProbe(activation, gradient, "unit", clones)
    profile = Profile({}, {"": Partition.identity(3), "unit": clones, "out": Partition.identity(3)}, {})

    def modules(names):
        assert names == ["unit"]  # neither the container nor what was not widened
        return (layer,)

    return NetworkProbe({}, {}, {}, (layer,), profile=profile, modules=modules)


def test_authors_logging_by_hand():
    # Standard deviations: the root of 2 in each block, and of 20 / 3 in the row.
    h = torch.tensor([[0.0, 2.0, 4.0, 6.0]], dtype=torch.float64)
    forward = 1 - (2 / (20 / 3)) ** 0.5
    perfect = torch.tensor([[1.0, 1.0, 2.0, 2.0]], dtype=torch.float64)
    assert AUTHORS.compute(network_of(h, perfect)) == pytest.approx((forward + 1 + forward / 2) / 3, rel=1e-9)
    assert AUTHORS.compute(network_of(perfect, h)) == pytest.approx((1 + forward + 1 / 2) / 3, rel=1e-9)


@pytest.mark.parametrize("factor", [2, 3])
def test_authors_logging_is_that_of_interleaved_slices(factor):
    generator = torch.Generator().manual_seed(factor)
    h, g = torch.randn(2, 50, 4 * factor, generator=generator, dtype=torch.float64)
    forward, backward = (
        1
        - (torch.stack([x[:, j::factor] for j in range(factor)]).std(0) / (x.std(1, keepdim=True) + 1e-10))
        .mean()
        .item()
        for x in (h, g)
    )
    value = AUTHORS.compute(network_of(h, g, Partition.clones(4, factor)))
    assert value == pytest.approx((forward + backward + forward / 2) / 3, rel=1e-12)


def test_authors_logging_counts_gradients_of_zero_as_agreement():
    h = torch.tensor([[1.0, 1.0, 2.0, 2.0]])
    assert AUTHORS.compute(network_of(h, torch.zeros_like(h))) == pytest.approx(logged(2))


def test_authors_logging_refuses_a_network_without_clones():
    h = torch.ones(1, 4)
    whole = network_of(h, h)
    with pytest.raises(UnsupportedError, match="not cloned; measure it in a scenario"):
        AUTHORS.compute(dataclasses.replace(whole, profile=None))
    with pytest.raises(UnsupportedError, match="factor above 1"):
        AUTHORS.compute(cloned(MLP(width=8, depth=1), factor=1))
    alone = NetworkProbe(whole.parameters, whole.initial, whole.gradients, whole.layers, profile=whole.profile)
    with pytest.raises(InvalidInputError, match="take it from a learner"):
        AUTHORS.compute(alone)
