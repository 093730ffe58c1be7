"""Saturated units."""

from math import isnan

import pytest
import torch

from lopbench.core.errors import InvalidInputError
from lopbench.core.probe import LayerProbe
from lopbench_plugins.metrics.saturated_fraction import SaturatedFraction

METRIC = SaturatedFraction()


def test_gradient_is_measured_against_the_mean_magnitude_of_the_unit():
    # Mean magnitudes 2, 2, 20: limits 2e-4, 2e-4, 2e-3.
    activation = torch.tensor([[1.0, -4.0, 20.0], [3.0, 0.0, -20.0]])
    gradient = torch.tensor([[1e-4, 1e-3, 1e-3], [-1e-4, 1e-3, -1e-3]])
    assert METRIC.compute(LayerProbe(activation, gradient)) == pytest.approx(2 / 3)


def test_unit_with_vanished_gradient_on_exactly_the_share_is_not_saturated():
    gradient = (torch.arange(100)[:, None] < torch.tensor([0, 1, 2])).float()
    assert METRIC.compute(LayerProbe(torch.ones(100, 3), gradient)) == pytest.approx(1 / 3)


def test_ratio_must_be_below_the_tolerance():
    gradient = torch.tensor([[0.5, 0.25]])
    assert SaturatedFraction(tolerance=0.5).compute(LayerProbe(torch.ones(1, 2), gradient)) == 0.5


def test_silent_unit_is_measured_against_1e_12():
    probe = LayerProbe(torch.zeros(2, 3), torch.tensor([[0.0, 0.9e-16, 1.1e-16]] * 2))
    assert METRIC.compute(probe) == pytest.approx(2 / 3)


def test_half_precision_gradient_of_zero_is_vanished():
    probe = LayerProbe(torch.zeros(2, 1, dtype=torch.float16), torch.zeros(2, 1, dtype=torch.float16))
    assert METRIC.compute(probe) == 1


def test_value_depends_on_the_size_of_the_batch():
    # The gradient of a mean loss shrinks as 1/N: a larger probe saturates the same units. Published behaviour.
    activation, gradient = torch.ones(4, 2), torch.full((4, 2), 1.5e-4)
    assert METRIC.compute(LayerProbe(activation, gradient)) == 0
    assert METRIC.compute(LayerProbe(activation.repeat(2, 1), gradient.repeat(2, 1) / 2)) == 1


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_non_finite_gradient_gives_nan(bad):
    assert isnan(METRIC.compute(LayerProbe(torch.ones(2, 2), torch.tensor([[0.0, bad], [0.0, 0.0]]))))


def test_probe_without_gradient_is_refused_by_name():
    with pytest.raises(InvalidInputError, match=r"layer 'hidden'.*gradients"):
        METRIC.compute(LayerProbe(torch.ones(2, 2), name="hidden"))


@pytest.mark.parametrize("fields", [{"tolerance": -1.0}, {"tolerance": float("nan")}, {"row_share": 1.0}])
def test_fields_out_of_range_are_refused(fields):
    with pytest.raises(InvalidInputError, match=f"{next(iter(fields))}.*got"):
        SaturatedFraction(**fields)


def test_units_behind_a_zero_head_are_not_measured():
    probe = LayerProbe(torch.ones(2, 3), torch.zeros(2, 3), blocked=True)
    assert METRIC.compute(probe) is None


def test_units_that_get_no_gradient_through_a_dead_network_are_saturated():
    assert METRIC.compute(LayerProbe(torch.ones(2, 3), torch.zeros(2, 3))) == 1
