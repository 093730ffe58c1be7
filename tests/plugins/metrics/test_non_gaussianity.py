"""Non-Gaussianity of units."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lopbench.core.errors import InvalidInputError
from lopbench.core.probe import LayerProbe
from lopbench_plugins.metrics.non_gaussianity import NonGaussianity

KINDS = ["shapiro", "ks", "kurtosis"]


def quantiles(rows):
    """The rows of an ideal Gaussian sample."""
    return torch.special.ndtri((torch.arange(rows, dtype=torch.float64) + 0.5) / rows)[:, None]


def test_excess_kurtosis_of_a_fair_coin_is_minus_two():
    assert NonGaussianity(kind="kurtosis").compute(LayerProbe(torch.tensor([[1.0], [-1.0]] * 5))) == pytest.approx(2)


def test_kurtosis_of_one_unit_is_capped():
    # One of 100 rows: excess kurtosis 94.
    spike = torch.zeros(100, 2)
    spike[0, 0] = 1
    spike[:50, 1] = 1
    assert NonGaussianity(kind="kurtosis").compute(LayerProbe(spike)) == pytest.approx((10 + 2) / 2)


def test_ks_distance_equals_scipys():
    h = torch.randn(60, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64).exp()
    expected = [stats.kstest(stats.zscore(column), "norm").statistic for column in h.T.numpy()]
    assert NonGaussianity(kind="ks").compute(LayerProbe(h)) == pytest.approx(sum(expected) / 3, rel=1e-9)


@pytest.mark.parametrize(("kind", "most"), [("shapiro", 0.001), ("ks", 0.002), ("kurtosis", 0.1)])
def test_gaussian_units_are_near_zero_and_exponential_ones_are_not(kind, most):
    gaussian = quantiles(900)
    assert NonGaussianity(kind=kind).compute(LayerProbe(gaussian)) < most
    assert NonGaussianity(kind=kind).compute(LayerProbe(gaussian.exp())) > 50 * most


@pytest.mark.parametrize(("kind", "constant"), [("shapiro", 1.0), ("ks", 1.0), ("kurtosis", 10.0)])
def test_constant_units_count_most(kind, constant):
    metric = NonGaussianity(kind=kind)
    coin = torch.tensor([[1.0], [-1.0]] * 10)
    alone = metric.compute(LayerProbe(coin))
    both = metric.compute(LayerProbe(torch.cat([coin, torch.full((20, 1), 0.1)], dim=1)))
    assert both == pytest.approx((alone + constant) / 2)
    assert metric.compute(LayerProbe(torch.zeros(20, 3))) == constant


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30)
@given(seed=st.integers(0, 2**32), scale=st.sampled_from([-3.0, 1e-6, 40.0]), shift=st.integers(-5, 5))
def test_affine_maps_of_a_unit_are_irrelevant(kind, seed, scale, shift):
    h = torch.randn(50, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    metric = NonGaussianity(kind=kind)
    mapped = metric.compute(LayerProbe((h + shift) * scale))
    assert mapped == pytest.approx(metric.compute(LayerProbe(h)), rel=1e-6)


def test_of_many_rows_a_fixed_thousand_is_read():
    h = torch.randn(5000, 2, generator=torch.Generator().manual_seed(0))
    metric = NonGaussianity(kind="kurtosis")
    first = metric.compute(LayerProbe(h))
    assert metric.compute(LayerProbe(h.clone())) == first
    changed = [metric.compute(LayerProbe(torch.where(torch.arange(5000)[:, None] == row, 9.0, h))) for row in range(60)]
    # A fifth of the rows is read, so most changes of one row go unseen and some do not.
    assert 1 <= sum(value != first for value in changed) <= 30


def test_unit_constant_on_the_rows_that_are_read_is_constant():
    h = torch.zeros(100_000, 1)
    h[0] = 1.0
    seen = NonGaussianity().compute(LayerProbe(h))
    assert seen == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_fewer_than_three_rows_are_refused(kind):
    with pytest.raises(InvalidInputError, match="at least 3 rows"):
        NonGaussianity(kind=kind).compute(LayerProbe(torch.tensor([[1.0], [2.0]])))


def test_unknown_kind_is_refused():
    with pytest.raises(InvalidInputError, match="'shapiro-wilk'"):
        NonGaussianity(kind="shapiro-wilk")
