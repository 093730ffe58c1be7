"""Dormant units."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lopbench.core.errors import InvalidInputError
from lopbench.core.probe import LayerProbe
from lopbench_plugins.metrics.dormant_fraction import DormantFraction


@pytest.mark.parametrize(("tau", "expected"), [(0.0, 0.25), (0.24, 0.25), (0.25, 0.5), (1.0, 0.75), (3.0, 1.0)])
def test_score_is_mean_magnitude_over_the_layers(tau, expected):
    # Mean magnitudes 0, 1, 4, 11, of mean 4: scores 0, 0.25, 1, 2.75.
    probe = LayerProbe(torch.tensor([[0.0, 2.0, -4.0, 11.0], [0.0, 0.0, 4.0, -11.0]]))
    assert DormantFraction(tau=tau).compute(probe) == expected


@pytest.mark.parametrize("tau", [0.0, 0.1])
def test_all_zero_layer_is_fully_dormant(tau):
    assert DormantFraction(tau=tau).compute(LayerProbe(torch.zeros(4, 3))) == 1


def test_smallest_positive_activation_is_not_silent():
    assert DormantFraction().compute(LayerProbe(torch.tensor([[1e-45, 0.0], [0.0, 0.0]]))) == 0.5


@given(st.integers(0, 2**32), st.floats(0, 2), st.floats(0, 2))
def test_larger_tau_never_finds_fewer(seed, one, other):
    probe = LayerProbe(torch.randn(7, 9, generator=torch.Generator().manual_seed(seed)).relu())
    low, high = sorted([one, other])
    assert DormantFraction(tau=low).compute(probe) <= DormantFraction(tau=high).compute(probe)


@pytest.mark.parametrize("tau", [-0.1, float("nan"), float("inf")])
def test_tau_out_of_range_is_refused(tau):
    with pytest.raises(InvalidInputError, match="tau must be"):
        DormantFraction(tau=tau)
