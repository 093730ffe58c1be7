"""Piecewise polynomials that follow a function of one variable: quadrature that is right for kinks and jumps.

A Gauss rule is spectrally accurate where the function is smooth and hardly better than a trapezoid across a kink. So
kinks and jumps are located first, the axis is cut there, and each piece is bisected until a polynomial
follows it. The kinks of activation functions need not be declared, and bias and gain may move them anywhere.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray

from lopbench.core.errors import UnsupportedError

Array = NDArray[np.float64]
Function = Callable[[Array], Array]

#: Gauss-Legendre points of a panel; its polynomial has one degree less.
ORDER = 16
POINTS, WEIGHTS = legendre.leggauss(ORDER)

# Matrices that act on the values at the points: -> Legendre coefficients, slopes, and values where a panel is checked.
_COEFFICIENTS = legendre.legvander(POINTS, ORDER - 1) * WEIGHTS[:, None] * (np.arange(ORDER) + 0.5)
_SLOPES = _COEFFICIENTS @ legendre.legder(np.eye(ORDER)).T @ legendre.legvander(POINTS, ORDER - 2).T
#: Between the points, and almost at the ends, where a kink would otherwise hide. Not at the ends, so that a panel that
#: stops at a jump never sees its other side.
_CHECKS = np.concatenate(([1e-9 - 1], (POINTS[1:] + POINTS[:-1]) / 2, [1 - 1e-9]))
_AT_CHECKS = _COEFFICIENTS @ legendre.legvander(_CHECKS, ORDER - 1).T

#: Error, as a share of a function's largest value, that rounding makes: a misfit below it says nothing.
_ROUNDING = 1e-14

#: Panels of one level of the bisection above which a function is noise rather than piecewise smooth.
_MOST_PANELS = 2000


@dataclass(frozen=True, eq=False)
class Piecewise:
    """A function on an interval as P panels, each with a polynomial through its values at the Gauss points.

    Attributes:
        edges: Ends of the panels, ascending, ``(P + 1,)``.
        values: Values of the function at the Gauss points of each panel, ``(P, 16)``.
        resolved: False if a panel at the limit of the bisection is still not followed by its polynomial, as beside an
            infinite slope. Integrals of the values are right nevertheless, those of the slopes may not be.
    """

    edges: Array
    values: Array
    resolved: bool

    @property
    def nodes(self) -> Array:
        """The Gauss points of each panel, ``(P, 16)``."""
        return panel_nodes(self.edges[:-1], self.edges[1:])

    @property
    def weights(self) -> Array:
        """The weights that go with `nodes`, ``(P, 16)``."""
        return panel_weights(self.edges[:-1], self.edges[1:])

    @property
    def slopes(self) -> Array:
        """The derivative at `nodes`, ``(P, 16)``; at kinks, which lie on edges, none is taken."""
        return self.values @ _SLOPES * (2 / np.diff(self.edges))[:, None]

    @property
    def slope_coefficients(self) -> Array:
        """Legendre coefficients of the derivative on each panel, mapped to [-1, 1], ``(P, 15)``."""
        return self.values @ _COEFFICIENTS @ legendre.legder(np.eye(ORDER)).T * (2 / np.diff(self.edges))[:, None]

    @property
    def jumps(self) -> NDArray[np.bool_]:
        """Whether the function jumps at each inner edge, by more than 1e-7 of its size there, ``(P - 1,)``."""
        ends = self.values @ _COEFFICIENTS @ legendre.legvander(np.array([-1.0, 1.0]), ORDER - 1).T
        size = np.abs(self.values).max(axis=1)
        found: NDArray[np.bool_] = np.abs(ends[:-1, 1] - ends[1:, 0]) > (
            1e-7 * np.maximum(size[:-1], size[1:]) + _ROUNDING * size.max()
        )
        return found

    def __call__(self, points: Array) -> Array:
        """Return the polynomials' values at ``points`` ``(N,)`` inside the interval."""
        panel = np.clip(np.searchsorted(self.edges, points, side="right") - 1, 0, len(self.values) - 1)
        low, high = self.edges[panel], self.edges[panel + 1]
        basis = legendre.legvander((2 * points - low - high) / (high - low), ORDER - 1)
        found: Array = np.einsum("nk,nk->n", basis, (self.values @ _COEFFICIENTS)[panel])
        return found


def panel_nodes(low: Array, high: Array) -> Array:
    """Return the Gauss points ``(..., 16)`` of panels from ``low`` to ``high``, both ``(...)``."""
    nodes: Array = ((low + high) / 2)[..., None] + ((high - low) / 2)[..., None] * POINTS
    return nodes


def panel_weights(low: Array, high: Array) -> Array:
    """Return the weights ``(..., 16)`` that go with `panel_nodes`."""
    weights: Array = ((high - low) / 2)[..., None] * WEIGHTS
    return weights


def breaks(function: Function, low: float, high: float, *, width: float) -> list[float]:
    """Return where ``function`` has kinks, jumps or very steep places in ``[low, high]``, ascending.

    Jumps are placed to 1e-12, kinks in the slope to 1e-9, which moves integrals by the square of that.
    A smooth place may be among them: to cut there does no harm.

    Args:
        function: Maps points ``(N,)`` to values ``(N,)``.
        low: Lower end of the interval.
        high: Upper end of the interval.
        width: Width of the panels that are searched first, above 0. Two kinks must be a hundredth of it apart to be
            told from one.

    Raises:
        UnsupportedError: If the function is not piecewise smooth at any scale that can be searched.
    """
    edges = np.linspace(low, high, int(np.ceil((high - low) / width)) + 1)
    start, stop = edges[:-1], edges[1:]
    smallest = (stop[0] - start[0]) / 100
    floor = _floor(function, start, stop)
    while True:
        rough = ~_follows(function, start, stop, floor)[1]
        start, stop = start[rough], stop[rough]
        if not start.size or stop[0] - start[0] < smallest:
            break
        start, stop = _halves(start, stop)
    found = []
    while start.size:
        joined = int(np.argmax(np.append(start[1:] > stop[:-1] + smallest / 100, True)))
        found.append(_narrow(function, float(start[0]), float(stop[joined])))
        start, stop = start[joined + 1 :], stop[joined + 1 :]
    return found


def resolve(
    function: Function,
    low: float,
    high: float,
    *,
    cuts: Sequence[float] = (),
    width: float = np.inf,
    tolerance: float = 1e-12,
    smallest: float = 1e-12,
) -> Piecewise:
    """Return ``function`` on ``[low, high]`` as polynomials on panels, bisected until they follow it.

    Args:
        function: Maps points ``(N,)`` to values ``(N,)``; it is never evaluated at an end of a panel.
        low: Lower end of the interval.
        high: Upper end of the interval.
        cuts: Points between ``low`` and ``high`` that must be edges, ascending, as `breaks` gives them.
        width: Width that no panel exceeds.
        tolerance: Largest error, relative to the largest value on the panel.
        smallest: Width of the panels at which the bisection ends, relative to where they lie if that is beyond 1.

    Raises:
        UnsupportedError: If the function is not piecewise smooth at any scale that can be searched.
    """
    fixed = np.array([low, *cuts, high])
    pieces = [np.linspace(a, b, max(1, int(np.ceil((b - a) / width))) + 1)[:-1] for a, b in pairwise(fixed)]
    edges = np.append(np.concatenate(pieces), high)
    start, stop = edges[:-1], edges[1:]
    floor = _floor(function, start, stop)
    starts, values, resolved = [], [], True
    while start.size:
        found, good = _follows(function, start, stop, floor, tolerance)
        narrow = stop - start < smallest * np.maximum(1.0, np.abs(start))
        resolved = resolved and bool(good[narrow].all())
        done = good | narrow
        starts.append(start[done])
        values.append(found[done])
        start, stop = _halves(start[~done], stop[~done])
    edges, order = np.unique(np.concatenate(starts), return_index=True)
    return Piecewise(np.append(edges, high), np.concatenate(values)[order], resolved)


def _follows(
    function: Function, start: Array, stop: Array, floor: float, tolerance: float = 1e-12
) -> tuple[Array, NDArray[np.bool_]]:
    """Return the values at the Gauss points of the panels, and whether the polynomials through them follow."""
    values, misfit = _misfit(function, start, stop)
    # Rounding of the points moves the values too, by the more the steeper the function is.
    rounded = 1e-15 * np.maximum(1.0, np.abs(start)) * np.ptp(values, axis=1) / (stop - start)
    return values, misfit <= tolerance * np.abs(values).max(axis=1) + rounded + floor


def _misfit(function: Function, start: Array, stop: Array) -> tuple[Array, Array]:
    where = np.concatenate([POINTS, _CHECKS])
    places = ((start + stop) / 2)[:, None] + ((stop - start) / 2)[:, None] * where
    values = function(places.ravel()).reshape(places.shape)
    return values[:, :ORDER], np.abs(values[:, :ORDER] @ _AT_CHECKS - values[:, ORDER:]).max(axis=1)


def _floor(function: Function, start: Array, stop: Array) -> float:
    return _ROUNDING * float(np.abs(function(panel_nodes(start, stop).ravel())).max())


def _halves(start: Array, stop: Array) -> tuple[Array, Array]:
    if start.size > _MOST_PANELS:
        raise UnsupportedError(
            f"the function is not piecewise smooth: near {start[0]:.3g} it still varies on panels of "
            f"width {stop[0] - start[0]:.1g}; give one with finitely many kinks and jumps"
        )
    middle = (start + stop) / 2
    return np.stack([start, middle], axis=1).ravel(), np.stack([middle, stop], axis=1).ravel()


def _narrow(function: Function, low: float, high: float) -> float:
    """Return the kink or jump between ``low`` and ``high``, following the half that polynomials follow worse."""
    before = 0.0
    while high - low > 4e-16 * max(1.0, abs(low), abs(high)):
        middle = (low + high) / 2
        left, right = _misfit(function, np.array([low, middle]), np.array([middle, high]))[1]
        if max(left, right) < 1e-9 * before:  # it is where two panels meet, as far as rounded points can tell
            break
        low, high, before = (low, middle, left) if left >= right else (middle, high, right)
    return (low + high) / 2
