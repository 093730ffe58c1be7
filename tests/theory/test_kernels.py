from math import atanh, inf, sqrt

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm
from torch import nn

from lopbench.core.errors import InvalidInputError, UnsupportedError
from lopbench.theory.activations import names
from lopbench.theory.kernels import CorrelationKernel, equicorrelated, renyi2_rank

#: name, bias, gain; mean, variance, E g'^2, alpha_u, alpha_c, w1, K(.5), K(.9), kappa, argmax. By adaptive quadrature
#: and 300 Hermite terms of another program, as many digits as it gives.
REFERENCE = """
relu                          0 1  .398942 .340845 .5 0 .466942 .733471 .426422 .867298 .08887 .7097
leaky_relu                    0 1  .394953 .344062 .500050 0 .453371 .741218 .428561 .868249 .08641 .7094
leaky_relu:negative_slope=.1  0 1  .359048 .376084 .505 0 .342783 .804341 .445986 .875993 .06608 .7070
tanh                          0 1  0 .394294 .464403 .177807 .177807 .930470 .472551 .885641 .03817 .7313
erf                           0 1  0 .464559 .569410 .225700 .225700 .913583 .465704 .881837 .047766 .73390
sigmoid                       0 1  .5 .043379 .044836 -.847173 .033592 .984167 .493979 .897162 .00811 .7130
gelu                          0 1  .282095 .345644 .455851 .072032 .318845 .723288 .427369 .871971 .08417 .6894
silu                          0 1  .206621 .313083 .379482 .066634 .212081 .798510 .448690 .881063 .05931 .6787
elu                           0 1  .160521 .619179 .668102 .035905 .079013 .936727 .482925 .893203 .02076 .6860
selu                          0 1  0 1.0 1.071575 .071575 .071575 .970680 .490569 .895259 .01263 .7214
sin                           0 1  0 .432332 .567668 .313035 .313035 .850918 .443409 .873482 .07353 .7182
sign                          0 1  0 1 inf inf inf .636620 .333333 .712867 .305637 .87069
square                        0 1  1 2 4 .333333 1.0 0 .25 .81 .25 .70711
relu                         -1 1  .083315 .068398 .158655 1.105863 1.319578 .368013 .309883 .810117 .21902 .736
relu                         -2 1  .008491 .005697 .022750 2.943701 2.993609 .090855 .165132 .7117 .381 .781
relu                          1 1  1.083315 .751088 .841345 -.562861 .120168 .942448 .482687 .891815 .02237 .712
tanh                          0 2  0 .635261 1.023802 .611623 .611623 .837667 .432323 .856731 .10001 .765
tanh                          0 5  0 .842962 2.642658 2.134968 2.134968 .731380 .381751 .799744 .19210 .813
tanh                          0 10 0 .920537 5.310679 4.769110 4.769110 .685946 .358863 .7630 .242 .838
tanh                          0 50 0 .984045 26.594 26.026 26.026 .646729 .338615 .724 .292 .864
""".strip().splitlines()

#: Activation functions of every kind: smooth, kinked, twice kinked, jumping, and kinked in the second derivative only.
KINDS = [name for name in names() if name != "threshold"] + ["threshold:threshold=0.5,value=2"]

#: Correlations down to 1e-15 from 1 and -1, and between.
CORRELATIONS = np.concatenate([np.linspace(-1, 1, 101), 1 - np.logspace(-15, -1, 57), np.logspace(-15, -1, 57) - 1])


def erf_kernel(gain):
    scale = 2 * gain**2 / (1 + 2 * gain**2)
    return lambda r: np.arcsin(scale * r) / np.arcsin(scale)


@pytest.mark.parametrize("row", REFERENCE, ids=lambda row: ",".join(row.split()[:3]))
def test_published_activations_have_their_reference_values(row):
    name, bias, gain, *expected = row.split()
    kernel = CorrelationKernel(name, float(bias), float(gain))
    got = [
        kernel.mean,
        kernel.variance,
        kernel.mean_squared_slope,
        kernel.alpha_uncentred,
        kernel.alpha_centred,
        kernel.weights[0],
        kernel(0.5).item(),
        kernel(0.9).item(),
        kernel.decorrelation_strength,
        kernel.strongest_correlation,
    ]
    for value, text in zip(got, expected, strict=True):
        digits = len(text.partition(".")[2])
        last = 0.0 if text == "inf" else 10.0 ** -(digits if digits > 2 else 8)  # short ones are exact
        assert value == pytest.approx(float(text), rel=0, abs=0.6 * last)


@pytest.mark.parametrize(
    ("activation", "gain", "exact"),
    [
        ("relu", 1, lambda r: (np.sqrt(1 - r**2) + (np.pi - np.arccos(r)) * r - 1) / (np.pi - 1)),
        ("abs", 3, lambda r: (2 * (np.sqrt(1 - r**2) + r * np.arcsin(r)) - 2) / (np.pi - 2)),
        ("sign", 1, lambda r: 2 / np.pi * np.arcsin(r)),
        ("erf", 1, erf_kernel(1)),
        ("erf", 5, erf_kernel(5)),
        ("erf", 30, erf_kernel(30)),
        ("sin", 1, lambda r: np.sinh(r) / np.sinh(1)),
        ("sin", 3, lambda r: np.sinh(9 * r) / np.sinh(9)),
        ("square", 1, lambda r: r**2),
        (torch.exp, 2, lambda r: np.expm1(4 * r) / np.expm1(4)),
        (nn.Identity(), 1, lambda r: r),
    ],
)
def test_closed_forms_hold_at_every_correlation(activation, gain, exact):
    kernel = CorrelationKernel(activation, gain=gain)
    together = kernel(CORRELATIONS)  # interpolated near 1 and -1 where the series does not reach
    np.testing.assert_allclose(together, exact(CORRELATIONS), rtol=0, atol=1e-9)
    alone = np.array([kernel(r) for r in CORRELATIONS[101::10]])  # integrated there
    np.testing.assert_allclose(alone, exact(CORRELATIONS[101::10]), rtol=0, atol=1e-10)


@pytest.mark.parametrize(("bias", "gain", "r"), [(0.3, 2.0, 0.6), (0.3, 2.0, -0.6), (-1.0, 0.7, 0.995)])
def test_two_kinks_agree_with_scipys_adaptive_quadrature(bias, gain, r):
    kinks = [(edge - bias) / gain for edge in (-1, 1)]

    def g(z):
        return min(1.0, max(-1.0, bias + gain * z))

    def given_first(x):
        width = sqrt(1 - r**2)
        inner = [point for point in ((k - r * x) / width for k in kinks) if abs(point) < 9]
        mean = quad(lambda e: g(r * x + width * e) * norm.pdf(e), -9, 9, points=inner, epsabs=1e-10, limit=200)[0]
        return g(x) * mean * norm.pdf(x)

    mean = quad(lambda z: g(z) * norm.pdf(z), -9, 9, points=kinks)[0]
    variance = quad(lambda z: (g(z) - mean) ** 2 * norm.pdf(z), -9, 9, points=kinks)[0]
    together = quad(given_first, -9, 9, points=[*kinks, *(k / r for k in kinks)], epsabs=1e-8, limit=200)[0]
    kernel = CorrelationKernel("hardtanh", bias, gain)
    assert kernel(r) == pytest.approx((together - mean**2) / variance, abs=1e-7)


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "elu", "hardtanh"])
@pytest.mark.parametrize(("bias", "gain"), [(-1.5, 1.0), (0.5, 4.0)])
def test_centred_alpha_is_the_kernels_slope_at_one(activation, bias, gain):
    kernel = CorrelationKernel(activation, bias, gain)
    step = 1e-4
    # K falls short of its tangent by a power above 1 of the step: two steps tell the limit.
    first, second = ((1 - kernel(1 - s).item()) / s - 1 for s in (step, step / 4))
    limit = 2 * second - first
    assert limit == pytest.approx(kernel.alpha_centred, rel=2e-3)


@settings(max_examples=60)
@given(st.sampled_from(KINDS), st.floats(-2, 2), st.floats(0.3, 8))
def test_every_activation_obeys_lemma_a1(activation, bias, gain):
    kernel = CorrelationKernel(activation, bias, gain)
    r = np.linspace(0, 0.98, 50)
    values = kernel(r)
    assert kernel(0.0) == 0.0
    assert kernel(1.0) == 1.0
    assert (np.abs(kernel([-0.98, -0.5])) <= [0.98, 0.5]).all()
    assert (values <= r + 1e-12).all()
    assert (np.diff(values) >= -1e-15).all()
    assert (np.diff(values, 2) >= -1e-12).all()  # a convex combination of powers
    assert (kernel.weights >= 0).all()
    assert kernel.weights.sum() <= 1 + 1e-9
    assert 0 <= kernel.decorrelation_strength <= 1
    assert kernel.decorrelation_strength >= (r**2 - values**2).max() - 1e-12
    assert kernel.alpha_centred >= -1e-9
    assert kernel.alpha_uncentred <= kernel.alpha_centred + 1e-12
    assert 0 <= kernel.frozen_share() <= 1


@settings(max_examples=15)
@given(
    st.sampled_from(["relu", "gelu", "hardtanh", "sign"]),
    st.floats(-1, 1),
    st.floats(0.5, 3),
    st.floats(-2, 2),
    st.floats(0.1, 3) | st.floats(-3, -0.1),
)
def test_shift_scale_and_mirror_change_no_correlation(activation, bias, gain, shift, scale):
    from lopbench.theory.activations import elementwise

    kernel, phi = CorrelationKernel(activation, bias, gain), elementwise(activation)
    r = [-0.9, -0.3, 0.2, 0.8, 0.97]
    moved = CorrelationKernel(lambda x: shift + scale * phi(x.numpy()), bias, gain)
    mirrored = CorrelationKernel(lambda x: phi(-x.numpy()), -bias, gain)
    inside = CorrelationKernel(lambda x: phi(bias + gain * x.numpy()))
    for other in (moved, mirrored, inside):
        np.testing.assert_allclose(other(r), kernel(r), rtol=0, atol=1e-9)
    assert moved.alpha_centred == pytest.approx(kernel.alpha_centred, rel=1e-6, abs=1e-9)


def test_kappa_rises_with_negative_bias_of_relu_and_with_the_gain_of_tanh():
    relu = [CorrelationKernel("relu", bias).decorrelation_strength for bias in (2, 1, 0, -1, -2, -4, -6)]
    tanh = [CorrelationKernel("tanh", gain=gain).decorrelation_strength for gain in (0.3, 1, 2, 5, 10, 50)]
    assert relu == sorted(relu)
    assert tanh == sorted(tanh)
    # The sign function is the limit of tanh.
    assert tanh[-1] < CorrelationKernel("sign").decorrelation_strength


def test_sigmoid_is_a_shifted_tanh_of_half_the_gain():
    r = np.linspace(-1, 1, 21)
    np.testing.assert_allclose(CorrelationKernel("sigmoid")(r), CorrelationKernel("tanh", gain=0.5)(r), atol=1e-12)


def test_a_linear_function_decorrelates_nothing():
    kernel = CorrelationKernel(nn.Identity(), 0.7, 3.0)
    assert kernel.decorrelation_strength == pytest.approx(0, abs=1e-12)
    assert kernel.alpha_centred == pytest.approx(0, abs=1e-12)
    assert kernel.rank_gain(equicorrelated(5, 0.5)) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    ("activation", "units", "correlation", "before", "after"),
    [
        ("relu", 10, 0.5, 3.076923, 3.792873),
        ("erf", 10, 0.5, 3.076923, 3.387626),
        ("relu", 10, 0.9, 1.206273, 1.287026),
        ("erf", 10, 0.9, 1.206273, 1.250198),
        ("relu", 100, 0.5, 3.883495, 5.262669),
        ("erf", 100, 0.5, 3.883495, 4.450157),
        ("relu", 100, 0.9, 1.231679, 1.325058),
        ("erf", 100, 0.9, 1.231679, 1.282280),
        ("relu", 100, 0.99, 1.020097, 1.028778),
        ("erf", 100, 0.99, 1.020097, 1.024617),
    ],
)
def test_rank_gain_of_equal_correlations_has_its_reference_values(activation, units, correlation, before, after):
    matrix, kernel = equicorrelated(units, correlation), CorrelationKernel(activation)
    assert renyi2_rank(matrix) == pytest.approx(before, abs=6e-7)
    assert renyi2_rank(kernel(matrix)) == pytest.approx(after, abs=6e-7)
    assert kernel.rank_gain(matrix) == pytest.approx(after / before, rel=1e-6)


@settings(max_examples=25)
@given(st.sampled_from(["relu", "tanh", "sign"]), st.integers(2, 8), st.integers(0, 2**32 - 1))
def test_theorem_3_1_holds_for_any_correlation_matrix(activation, units, seed):
    matrix = np.corrcoef(np.random.default_rng(seed).standard_normal((units, units + 1)))
    kernel = CorrelationKernel(activation)
    after = kernel(np.clip(matrix, -1, 1))
    np.fill_diagonal(after, 1.0)
    off = ~np.eye(units, dtype=bool)
    ratio = (units + (matrix[off] ** 2).sum()) / (units + (after[off] ** 2).sum())
    assert kernel.rank_gain(matrix) == pytest.approx(ratio, rel=1e-9)
    assert ratio > 1
    assert np.linalg.eigvalsh(after).min() > -1e-9  # K(C) is a correlation matrix


def test_orthogonal_and_duplicated_units_gain_no_rank():
    kernel = CorrelationKernel("relu")
    assert kernel.rank_gain(np.eye(4)) == 1.0
    assert kernel.rank_gain(np.kron(np.eye(3), np.ones((2, 2)))) == 1.0


@pytest.mark.parametrize(
    ("activation", "bias", "gain", "share"),
    [
        ("relu", 0.0, 1.0, 0.5),
        ("relu", -1.5, 0.5, norm.cdf(3)),
        ("leaky_relu", -3.0, 1.0, 0.0),
        ("hardtanh", 0.2, 2.0, norm.cdf(-0.6) + norm.cdf(-0.4)),
        # 1 - tanh(x)^2 < 1e-4
        ("tanh", 0.5, 5.0, norm.cdf((-atanh(sqrt(0.9999)) - 0.5) / 5) + norm.sf((atanh(sqrt(0.9999)) - 0.5) / 5)),
        ("sign", 0.0, 1.0, 1.0),
        ("hardshrink", 0.0, 1.0, norm.cdf(0.5) - norm.cdf(-0.5)),
        # Beside a point where the slope is 0 and changes sign, and where it does not: 3 x^2 < 1e-4
        ("square", 0.3, 1.0, norm.cdf(0.5e-4 - 0.3) - norm.cdf(-0.5e-4 - 0.3)),
        (lambda x: x**3, 0.3, 1.0, norm.cdf(sqrt(1e-4 / 3) - 0.3) - norm.cdf(-sqrt(1e-4 / 3) - 0.3)),
    ],
)
def test_frozen_share_is_the_probability_of_a_flat_place(activation, bias, gain, share):
    assert CorrelationKernel(activation, bias, gain).frozen_share() == pytest.approx(share, abs=1e-9)


def test_frozen_share_counts_slopes_of_the_activation_not_of_the_gain():
    # |d/dx sigmoid| < 0.1 outside +-x with s (1 - s) = 0.1
    s = (1 + sqrt(0.6)) / 2
    x = np.log(s / (1 - s))
    assert CorrelationKernel("sigmoid", gain=3.0).frozen_share(0.1) == pytest.approx(2 * norm.sf(x / 3), abs=1e-9)


def test_a_jump_has_an_infinite_rate_and_torchs_switch_of_formulas_has_not():
    assert CorrelationKernel("hardshrink", 0.4).alpha_centred == inf
    # torch's softplus, in mish and alone, becomes the identity at 20, off by 2e-9.
    assert CorrelationKernel("softplus", 15.0, 2.0).alpha_centred == pytest.approx(0, abs=1e-6)


def test_an_unbounded_slope_has_a_kernel_but_no_rate():
    kernel = CorrelationKernel(lambda x: x.abs().sqrt(), 0.3)
    assert 0 < kernel(0.5) < 0.5
    with pytest.raises(UnsupportedError, match="slope that is unbounded"):
        _ = kernel.alpha_centred


@pytest.mark.parametrize(
    ("activation", "bias", "gain", "reason"),
    [
        ("relu", float("nan"), 1.0, "bias must be a finite number, got nan"),
        ("relu", 0.0, 0.0, r"gain must be a number above 0, got 0\.0"),
        ("relu", 0.0, -1.0, r"gain must be a number above 0, got -1\.0"),
        ("relu", -30.0, 1.0, "relu around a mean of -30 with standard deviation 1 is constant"),
        ("sigmoid", 40.0, 1.0, "constant to the precision of float64"),
        ("relu", -14.0, 1.0, "beyond 16 standard deviations"),
        (torch.log, 0.0, 1.0, "not finite at -"),
        (torch.exp, 0.0, 100.0, "not finite at "),
    ],
)
def test_what_has_no_kernel_says_why(activation, bias, gain, reason):
    with pytest.raises(InvalidInputError, match=reason):
        CorrelationKernel(activation, bias, gain)


@pytest.mark.parametrize("bad", [1.0001, -2.0, float("nan"), [0.5, 3.0]])
def test_what_is_no_correlation_is_refused(bad):
    with pytest.raises(InvalidInputError, match=r"must lie in \[-1, 1\]"):
        CorrelationKernel("relu")(bad)


@pytest.mark.parametrize(
    ("matrix", "reason"),
    [
        (np.ones(3), r"shape \(d, d\)"),
        (np.zeros((0, 0)), r"shape \(d, d\)"),
        (2 * np.eye(3), "ones on its diagonal"),
        (np.array([[1.0, 0.5], [0.4, 1.0]]), "is symmetric"),
        (np.array([[1.0, 1.5], [1.5, 1.0]]), "entries in"),
        (np.full((2, 2), np.nan), "constant units"),
    ],
)
def test_what_is_no_correlation_matrix_is_refused(matrix, reason):
    with pytest.raises(InvalidInputError, match=reason):
        CorrelationKernel("relu").rank_gain(matrix)


@pytest.mark.parametrize(("units", "correlation"), [(0, 0.5), (3, -0.6), (3, 1.1)])
def test_equal_correlations_that_cannot_be_are_refused(units, correlation):
    with pytest.raises(InvalidInputError, match="cannot all have the correlation"):
        equicorrelated(units, correlation)


@pytest.mark.parametrize("matrix", [np.ones((2, 3)), np.zeros((2, 2))])
def test_a_rank_that_is_not_defined_is_refused(matrix):
    with pytest.raises(InvalidInputError, match="square matrix"):
        renyi2_rank(matrix)


@pytest.mark.parametrize("slope", [0.0, -1.0, float("nan")])
def test_a_slope_that_nothing_is_below_is_refused(slope):
    with pytest.raises(InvalidInputError, match="slope must be a number above 0"):
        CorrelationKernel("relu").frozen_share(slope)
