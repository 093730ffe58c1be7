"""Covariances of a function of two correlated normal variables, as integrals over the plane.

Taken along the sum and the difference of the variables, in which the peak of the density is a product of two
one-dimensional ones, and cut where either of them meets a break of the function.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import sqrt

import numpy as np

from lopbench.theory.piecewise import Array, Function, Piecewise, panel_nodes, panel_weights, resolve

#: Standard deviations that the quadrature covers. Not round: a kink on an edge of the search is harder to see.
LOW, HIGH = -16 - np.pi / 100, 16 + np.e / 100

#: Standard deviations of the difference of X and Y that are integrated.
_REACH = 9.0

#: Halvings towards the places where the integrand changes as fast as the function does.
_HALVINGS = 12


@dataclass(frozen=True, eq=False)
class Bivariate:
    """Covariances of ``g(X)`` and ``g(Y)``, ``X`` and ``Y`` standard normal and correlated.

    Args:
        function: ``g``.
        breaks: Its kinks and jumps.
        mean: Mean of ``g(X)``.
    """

    function: Function
    breaks: Sequence[float]
    mean: float

    def moments(self, sign: int, roots: Array) -> Array:
        """Return the covariances at the correlations ``r = sign * (1 - root^2)``, some milliseconds each."""
        return np.array([self._moment(sign, float(root)) for root in roots])

    def _moment(self, sign: int, root: float) -> float:
        """Return the covariance at ``r = sign * (1 - root^2)`` as an integral over the plane.

        ``X = m + d`` and ``Y = sign (m - d)`` with independent normal ``m`` and ``d``, the latter narrow.
        """
        narrow, wide = max(root, 1e-12) / sqrt(2), sqrt(1 - root**2 / 2)  # a width of 0 divides by 0
        reach = _REACH * narrow
        panels = self._coarse.edges
        # In d, the integral over m has kinks where one of X meets one of Y, and is as fine beside them as the function.
        corners = np.append(0.0, np.subtract.outer(self.breaks, sign * np.array(self.breaks)).ravel() / 2)
        levels = np.clip(np.ceil(np.log2(reach / np.diff(panels).min())), 0, _HALVINGS)
        steps = reach / 2.0 ** np.arange(1, levels + 1)
        around = (corners[:, None] + np.concatenate([-steps, [0.0], steps])).ravel()
        low = 0.0 if sign > 0 else -reach  # to exchange X and Y is to change the sign of d
        edges = np.concatenate([np.linspace(low, reach, 5 if sign > 0 else 9), around])
        edges = np.unique(edges[(low <= edges) & (edges <= reach)])
        d, weights = (part(edges[:-1], edges[1:]).ravel() for part in (panel_nodes, panel_weights))
        weights = weights * density(d / narrow) / narrow * (2 if sign > 0 else 1)
        cuts = np.concatenate([panels - d[:, None], sign * panels + d[:, None]], axis=1)
        cuts = np.sort(np.clip(cuts, LOW + reach, HIGH - reach), axis=1)
        m = panel_nodes(cuts[:, :-1], cuts[:, 1:])
        m_weights = panel_weights(cuts[:, :-1], cuts[:, 1:]) * density(m / wide) / wide
        x, y = m + d[:, None, None], sign * (m - d[:, None, None])
        product = (self.function(x.ravel()) - self.mean) * (self.function(y.ravel()) - self.mean)
        inner = (m_weights * product.reshape(m.shape)).sum(axis=(1, 2))
        return float((weights * inner).sum())

    @cached_property
    def _coarse(self) -> Piecewise:
        """The function on panels no finer than it needs, for integrals without Hermite polynomials."""
        return resolve(self.function, LOW, HIGH, cuts=self.breaks, width=1.5, tolerance=1e-10, smallest=1e-6)


def density(points: Array) -> Array:
    """Return the density of the standard normal distribution."""
    density: Array = np.exp(-(points**2) / 2) / sqrt(2 * np.pi)
    return density
