import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lopbench.core.errors import UnsupportedError
from lopbench.theory.piecewise import breaks, resolve

PLACES = st.floats(-4.5, 4.5)


def follow(function, **options):
    cuts = breaks(function, -5.1, 5.0, width=0.4)
    return resolve(function, -5.1, 5.0, cuts=cuts, width=0.4, **options)


def integral(pieces, values=None):
    return float((pieces.weights * (pieces.values if values is None else values)).sum())


@given(PLACES, st.floats(0.01, 10))
def test_a_kink_is_found_wherever_it_is(place, slope):
    (found,) = breaks(lambda z: np.where(z > place, slope * (z - place), 0.0), -5.1, 5.0, width=0.4)
    assert found == pytest.approx(place, abs=1e-9)


@given(PLACES, st.sampled_from([np.greater, np.greater_equal]))
def test_a_jump_is_found_wherever_it_is(place, above):
    (found,) = breaks(lambda z: np.where(above(z, place), 1.0, np.sin(z) / 10), -5.1, 5.0, width=0.4)
    assert found == pytest.approx(place, abs=1e-12)


@given(PLACES)
def test_integrals_over_a_kink_are_exact(place):
    pieces = follow(lambda z: np.abs(z - place))
    assert integral(pieces) == pytest.approx(((place + 5.1) ** 2 + (5 - place) ** 2) / 2, rel=1e-13)
    assert integral(pieces, pieces.slopes**2) == pytest.approx(10.1, rel=1e-8)
    assert not pieces.jumps.any()


@given(PLACES)
def test_integrals_over_a_jump_are_exact(place):
    pieces = follow(lambda z: np.sign(z - place))
    # A jump of 2, whose place is found to 1e-12.
    assert integral(pieces) == pytest.approx(5.0 - place - (place + 5.1), abs=2e-12)
    assert pieces.jumps.sum() == 1


def test_kinks_close_to_each_other_are_told_apart():
    found = breaks(lambda z: np.clip(z, 0.3, 0.31), -5.1, 5.0, width=0.4)
    assert found == pytest.approx([0.3, 0.31], abs=1e-9)


@pytest.mark.parametrize("function", [np.sin, np.exp, np.tanh, lambda z: z**3, np.zeros_like])
def test_smooth_functions_have_no_breaks(function):
    assert breaks(function, -5.1, 5.0, width=0.4) == []


@settings(max_examples=20)
@given(PLACES, st.floats(1, 1000))
def test_a_steep_function_is_followed(place, gain):
    def function(z):
        return np.tanh(gain * (z - place))

    pieces = follow(function)
    points = np.concatenate([np.linspace(-5, 5, 1001), place + np.linspace(-5, 5, 1001) / gain])
    points = points[np.abs(points) < 5]
    np.testing.assert_allclose(pieces(points), function(points), rtol=0, atol=1e-10)
    inside = np.array([-5.1, 5.0]) - place
    exact = np.diff(np.logaddexp(gain * inside, -gain * inside) / gain).item()
    assert integral(pieces) == pytest.approx(exact, abs=1e-10)


def test_an_infinite_slope_is_told_and_integrals_of_values_are_right():
    pieces = follow(lambda z: np.sqrt(np.abs(z)))
    assert not pieces.resolved
    assert integral(pieces) == pytest.approx(2 / 3 * (5.1**1.5 + 5**1.5), abs=1e-10)


def test_slope_coefficients_are_those_of_the_slopes():
    pieces = follow(np.sin)
    middle = np.polynomial.legendre.legval(0.0, pieces.slope_coefficients.T)
    np.testing.assert_allclose(middle, np.cos((pieces.edges[1:] + pieces.edges[:-1]) / 2), atol=1e-12)


def test_noise_is_refused():
    with pytest.raises(UnsupportedError, match="not piecewise smooth"):
        follow(lambda z: np.sin(1e9 * z))
