"""Distance to the cloning manifolds."""

import pytest
import torch

from lopbench.core import rng
from lopbench.core.errors import InvalidInputError, UnsupportedError
from lopbench.core.probe import NetworkProbe
from lopbench.core.profile import Partition, Profile
from lopbench_plugins.architectures.mlp import MLP
from lopbench_plugins.cloners.equitable import Equitable
from lopbench_plugins.cloners.interleave import Interleave
from lopbench_plugins.cloners.noisy import Noisy
from lopbench_plugins.metrics.manifold_distance import ManifoldDistance

CONSTANT, EQUITABLE = ManifoldDistance(), ManifoldDistance(manifold="equitable")
PAIR = Partition.clones(1, 2)
PROFILE = Profile({}, {}, {"w": (PAIR, PAIR), "b": (PAIR,), "head": (None,)})


def distances(w, b, head=0.0):
    parameters = {"w": torch.tensor(w), "b": torch.tensor(b), "head": torch.tensor([head])}
    probe = NetworkProbe(parameters, parameters, {}, (), profile=PROFILE)
    return CONSTANT.compute(probe), EQUITABLE.compute(probe)


def of_clone(cloner, factor):
    generator = rng.derive(0, "distance")
    base = MLP(width=8, depth=3).build((5,), 3, generator=generator)
    wide, profile = cloner.clone(base, factor, example=torch.zeros(2, 5), generator=generator)
    probe = NetworkProbe({n: p.detach() for n, p in wide.named_parameters()}, {}, {}, (), profile=profile)
    return CONSTANT.compute(probe), EQUITABLE.compute(probe)


def test_known_values_by_hand():
    # Rows and columns of equal sums: off the block's mean 2 by 1 everywhere, yet equitable. Norm: 1 + 9 + 9 + 1 = 20.
    assert distances([[1.0, 3.0], [3.0, 1.0]], [0.0, 0.0]) == pytest.approx((2 / 20**0.5, 0))
    # Biases 0 and 2 are 1 off their mean each; the head counts for the norm: 4 + 12 = 16.
    assert distances([[0.0, 0.0], [0.0, 0.0]], [0.0, 2.0], head=12**0.5) == pytest.approx((2**0.5 / 4,) * 2)
    # One weight of 4: off the mean by 3, 1, 1, 1; row sums 4, 0 and column sums 4, 0 keep 2 x 2**2 of these 12.
    assert distances([[4.0, 0.0], [0.0, 0.0]], [0.0, 0.0]) == pytest.approx((12**0.5 / 4, 8**0.5 / 4))


def test_network_of_zeros_is_on_the_manifold():
    assert distances([[0.0, 0.0], [0.0, 0.0]], [0.0, 0.0]) == (0, 0)


@pytest.mark.parametrize("factor", [2, 3, 7])
def test_a_clone_has_distance_of_exactly_zero(factor):
    assert of_clone(Interleave(), factor) == (0, 0)


def test_an_equitable_clone_is_off_the_smaller_manifold_only():
    constant, equitable = of_clone(Equitable(strength=0.5), 2)
    assert constant > 0.1
    assert equitable < 1e-7


def test_distance_is_the_strength_of_the_noise():
    # Noise of relative size s, three quarters of whose dimensions (of a block of four) are off the manifold, or fewer.
    near, far = (of_clone(Noisy(strength=s), 2) for s in (0.001, 0.01))
    assert 0.0005 < near[1] < near[0] < 0.001
    assert far == pytest.approx(tuple(10 * value for value in near), rel=0.01)


@pytest.mark.parametrize("metric", [CONSTANT, EQUITABLE])
def test_network_that_was_not_cloned_is_refused(metric):
    with pytest.raises(UnsupportedError, match="not cloned; measure it in a scenario"):
        metric.compute(NetworkProbe({"w": torch.ones(2)}, {}, {}, ()))


def test_unknown_manifold_is_refused():
    with pytest.raises(InvalidInputError, match="'flat'"):
        ManifoldDistance(manifold="flat")
