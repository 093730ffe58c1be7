"""The six ranks: values worked by hand, bounds, orders and invariances."""

from itertools import pairwise
from math import exp, inf, log, sqrt

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lopbench.core.errors import InvalidInputError
from lopbench.core.probe import LayerProbe
from lopbench_plugins.metrics.approximate_rank import ApproximateRank
from lopbench_plugins.metrics.effective_rank import EffectiveRank
from lopbench_plugins.metrics.participation_ratio import ParticipationRatio
from lopbench_plugins.metrics.renyi2_rank import Renyi2Rank
from lopbench_plugins.metrics.srank import Srank
from lopbench_plugins.metrics.stable_rank import StableRank

UNCENTRED = {metric.name: metric for metric in (EffectiveRank(), StableRank(), Srank(), ApproximateRank())}
CENTRED = {metric.name: metric for metric in (ParticipationRatio(), Renyi2Rank())}
ALL = UNCENTRED | CENTRED
SLACK = 1e-9

matrices = hnp.arrays(
    np.float64,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=9),
    elements=st.integers(-8, 8).map(lambda k: k / 4),
).map(torch.tensor)
seeds = st.integers(0, 2**32)
quick = settings(max_examples=60)


def each(metrics):
    return pytest.mark.parametrize("metric", metrics.values(), ids=metrics.keys())


def centred_orthonormal(rows, units, seed=0):
    """Orthonormal columns, each orthogonal to the constant one, so centring leaves them as they are."""
    draw = torch.randn(rows, units, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.linalg.qr(torch.cat([torch.ones(rows, 1), draw], dim=1)).Q[:, 1:]


def with_singular_values(*values, seed=0):
    """A layer of 12 rows whose centred activations have these singular values."""
    units = len(values)
    right = torch.linalg.qr(
        torch.randn(units, units, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
    ).Q
    return LayerProbe(
        centred_orthonormal(12, units, seed) @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ right
    )


@pytest.mark.parametrize(
    ("metric", "values", "expected"),
    [
        (EffectiveRank(), (3.0, 1.0), exp(-0.75 * log(0.75) - 0.25 * log(0.25))),
        (StableRank(), (2.0, 1.0), 5 / 4),
        (ParticipationRatio(), (2.0, 1.0), 25 / 17),
        (Srank(), (98.0, 1.0, 1.0), 2),  # 99 of 100: the share is held
        (Srank(), (97.9, 1.0, 1.0), 3),
        (Srank(delta=0.5), (4.0, 3.0, 1.0), 1),
        (ApproximateRank(), (sqrt(99), 1.0), 1),
        (ApproximateRank(), (sqrt(98), 1.0, 1.0), 2),
        (ApproximateRank(share=0.5), (4.0, 4.0, 4.0), 2),
    ],
)
def test_value_worked_by_hand(metric, values, expected):
    assert metric.compute(with_singular_values(*values)) == pytest.approx(expected, rel=1e-9)


def test_renyi2_rank_of_two_units_depends_on_their_correlation_alone():
    # tr M = 2, ||M||^2 = 2 + 2 r^2, with r = 0.6.
    a, b = centred_orthonormal(12, 2).T
    h = torch.stack([7 * a + 3, 0.1 * (0.6 * a + 0.8 * b) - 5], dim=1)
    assert Renyi2Rank().compute(LayerProbe(h)) == pytest.approx(4 / 2.72, rel=1e-9)


@each(ALL)
@pytest.mark.parametrize("units", [1, 2, 7, 11])
def test_orthonormal_units_have_full_rank(metric, units):
    assert metric.compute(LayerProbe(centred_orthonormal(12, units))) == pytest.approx(units, rel=1e-9)


@each(UNCENTRED)
@pytest.mark.parametrize("shape", [(20, 6), (6, 20)])
def test_identity_has_full_rank(metric, shape):
    assert metric.compute(LayerProbe(torch.eye(*shape))) == pytest.approx(6, rel=1e-9)


@each(ALL)
@quick
@given(seed=seeds, rows=st.integers(2, 30), units=st.integers(1, 30))
def test_one_direction_has_rank_one(metric, seed, rows, units):
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(rows, 1, generator=generator, dtype=torch.float64)
    b = torch.randn(1, units, generator=generator, dtype=torch.float64)
    assert metric.compute(LayerProbe(a @ b)) == pytest.approx(1, rel=1e-9)


@each(ALL)
@quick
@given(h=matrices)
def test_rank_is_between_one_and_the_smaller_side(metric, h):
    rows, units = h.shape
    value = metric.compute(LayerProbe(h))
    if metric.name in UNCENTRED:
        empty, most = not h.any(), min(rows, units)
    else:
        empty, most = bool((h == h[0]).all()), min(rows - 1, units)
    assert value == 0 if empty else 1 - SLACK <= value <= most + SLACK


@quick
@given(h=matrices)
def test_renyi_ranks_of_one_spectrum_fall_with_their_order(h):
    # exp(H_inf) <= exp(H_2) <= exp(H_1) <= exp(H_0), of p = s / sum(s).
    assume(h.any())
    probe = LayerProbe(h)
    p = probe.singular_values / probe.singular_values.sum()
    chain = [
        1 / p.max().item(),
        1 / p.square().sum().item(),
        EffectiveRank().compute(probe),
        torch.linalg.matrix_rank(h).item(),
    ]
    assert all(low <= high + 1e-5 for low, high in pairwise(chain))


@quick
@given(h=matrices)
def test_stable_rank_is_at_most_participation_ratio_is_at_most_effective_rank(h):
    # Of centred activations the three are Renyi ranks: orders infinity and 2 of s^2 / sum(s^2), order 1 of s / sum(s),
    # and squaring the singular values concentrates them.
    h = h - h.mean(dim=0)
    assume(LayerProbe(h).varying.any())
    h = h * LayerProbe(h).varying
    probe = LayerProbe(h)
    chain = [metric.compute(probe) for metric in (StableRank(), ParticipationRatio(), EffectiveRank())]
    assert chain[0] <= chain[1] + SLACK
    assert chain[1] <= chain[2] + SLACK


@quick
@given(h=matrices)
def test_approximate_rank_is_at_most_srank_of_the_same_share(h):
    probe = LayerProbe(h)
    assert ApproximateRank(share=0.99).compute(probe) <= Srank(delta=0.01).compute(probe)


@each(CENTRED)
@quick
@given(h=matrices, shift=st.integers(-100, 100))
def test_centred_ranks_ignore_the_units_means(metric, h, shift):
    shifted = metric.compute(LayerProbe(h + shift))
    assert shifted == pytest.approx(metric.compute(LayerProbe(h)), rel=1e-6)


def test_uncentred_ranks_see_the_units_means():
    h = centred_orthonormal(12, 5)
    for metric in (EffectiveRank(), StableRank(), ApproximateRank()):
        assert metric.compute(LayerProbe(h + 100)) < 1.5


@each(ALL)
@quick
@given(seed=seeds, factor=st.integers(2, 4))
def test_cloning_every_unit_leaves_ranks_unchanged(metric, seed, factor):
    h = torch.randn(12, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).relu()
    cloned = metric.compute(LayerProbe(h.repeat_interleave(factor, dim=1)))
    assert cloned == pytest.approx(metric.compute(LayerProbe(h)), rel=1e-7)


@each(UNCENTRED)
@quick
@given(seed=seeds)
def test_rotation_leaves_ranks_unchanged(metric, seed):
    h = torch.randn(12, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)).Q
    assert metric.compute(LayerProbe(h @ rotation)) == pytest.approx(metric.compute(LayerProbe(h)), rel=1e-9)


def test_renyi2_rank_ignores_the_scale_of_each_unit_and_participation_ratio_does_not():
    h = torch.randn(50, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scaled = h * torch.tensor([1.0, 10.0, 1e-3, -1e4])
    assert Renyi2Rank().compute(LayerProbe(scaled)) == pytest.approx(Renyi2Rank().compute(LayerProbe(h)), rel=1e-9)
    assert ParticipationRatio().compute(LayerProbe(scaled)) == pytest.approx(1, abs=1e-3)


@each(CENTRED)
@pytest.mark.parametrize("constant", [0.0, 0.1, -1e6])
def test_constant_units_are_left_out(metric, constant):
    h = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    padded = torch.cat([h, torch.full((50, 3), constant)], dim=1)
    assert metric.compute(LayerProbe(padded)) == pytest.approx(metric.compute(LayerProbe(h)), rel=1e-9)


@each(CENTRED)
def test_units_constant_up_to_float32_rounding_are_left_out(metric):
    # Their rounding, 6e-5, is ten times the variation of the others.
    generator = torch.Generator().manual_seed(0)
    h = 6e-6 * torch.randn(50, 4, generator=generator)
    rounded = 1000 + 6.1e-5 * torch.randint(0, 2, (50, 3), generator=generator)
    assert metric.compute(LayerProbe(rounded)) == 0
    both = LayerProbe(torch.cat([h, rounded], dim=1))
    assert metric.compute(both) == pytest.approx(metric.compute(LayerProbe(h)), rel=1e-9)


@each(CENTRED)
def test_layer_of_constant_units_has_rank_zero(metric):
    assert metric.compute(LayerProbe(torch.tensor([[0.1, 0.0, 1e8]]).repeat(7, 1))) == 0


@each(ALL)
def test_all_zero_layer_has_rank_zero(metric):
    assert metric.compute(LayerProbe(torch.zeros(6, 3))) == 0


@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, inf, float("nan")])
def test_shares_out_of_range_are_refused(value):
    with pytest.raises(InvalidInputError, match="delta"):
        Srank(delta=value)
    with pytest.raises(InvalidInputError, match="share"):
        ApproximateRank(share=value)
