"""Curvatures normal to the cloning manifold, as metrics."""

from math import isnan, nan

import pytest
import torch

from lopbench.cloning.stability import normal_curvature
from lopbench.core.errors import InvalidInputError, UnsupportedError
from lopbench.core.probe import NetworkProbe
from lopbench.core.profile import Partition, Profile
from lopbench_plugins.metrics.normal_curvature import LargestNormalCurvature, SmallestNormalCurvature

PROFILE = Profile({}, {}, {"w": (Partition.clones(2, 2),)})
PARAMETERS = {"w": torch.tensor([1.0, 1.0, 2.0, 2.0])}


def saddle(parameters):
    """Return a loss of curvature -0.5 between the first two clones, and 4 between the others."""
    a, b, c, d = parameters["w"]
    return ((c - d).square() - (a - b).square() / 8) + (a + b + c + d) ** 2


def probe(loss=saddle, profile=PROFILE):
    return NetworkProbe(PARAMETERS, PARAMETERS, {}, (), profile=profile, loss=loss)


def without_its_network():
    return NetworkProbe(PARAMETERS, PARAMETERS, {}, (), profile=PROFILE)


def test_they_are_the_extremes_of_the_search():
    found = normal_curvature(saddle, PARAMETERS, PROFILE)
    values = [metric.compute(probe()) for metric in (SmallestNormalCurvature(), LargestNormalCurvature())]
    assert values == [found.smallest, found.largest] == pytest.approx([-0.5, 4], rel=1e-9)


def test_both_come_from_one_search_for_each_setting():
    calls = []

    def loss(parameters):
        calls.append(1)
        return saddle(parameters)

    shared = probe(loss)
    for metric in (SmallestNormalCurvature(), LargestNormalCurvature(), SmallestNormalCurvature()):
        metric.compute(shared)
    assert len(calls) == 1
    SmallestNormalCurvature(products=1).compute(shared)
    assert len(calls) == 2


def test_products_bound_the_search():
    assert -0.5 < SmallestNormalCurvature(products=1).compute(probe()) < 4


@pytest.mark.parametrize("metric", [SmallestNormalCurvature(), LargestNormalCurvature()], ids=lambda m: m.name)
def test_network_that_cannot_be_measured_is_refused_with_what_to_do(metric):
    with pytest.raises(UnsupportedError, match=rf"{metric.name}.*not cloned; measure it in a scenario"):
        metric.compute(probe(profile=None))
    with pytest.raises(InvalidInputError, match="take it from a learner"):
        metric.compute(without_its_network())
    assert isnan(metric.compute(probe(loss=lambda p: saddle(p) * nan)))


@pytest.mark.parametrize("fields", [{"products": 0}, {"tolerance": -1.0}, {"tolerance": nan}])
def test_fields_out_of_range_are_refused(fields):
    with pytest.raises(InvalidInputError, match=str(*fields.values())):
        LargestNormalCurvature(**fields)
