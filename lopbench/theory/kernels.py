"""Correlation kernels of activation functions: Joudaki et al. 2025, arXiv:2510.00304v2, sections 3 and A.1.

For pre-activations ``bias + gain * Z`` with ``Z`` standard normal, write ``g(z) = phi(bias + gain * z)``. The kernel
``K(r)`` is the correlation of ``g(X)`` and ``g(Y)`` where ``X`` and ``Y`` are standard normal with correlation ``r``
(Eq. 1). It maps correlations before the nonlinearity to correlations after it, and lies below the identity: that is why
nonlinear layers raise the rank, and why activation functions that do so strongly have flat parts that freeze units.

Everything follows from one piecewise polynomial of ``g`` (`lopbench.theory.piecewise`), in float64. ``K`` is the
power series of the squared Hermite coefficients (Mehler's identity), which are quadratures cut at the kinks. Behind a
kink they decay as a power of their index only, so the series is not used where what it leaves out could exceed 1e-12:
for ``|r|`` above 0.97 to 1, according to the function, ``K`` is the bivariate integral, taken along the sum and the
difference of ``X`` and ``Y``, in which the peak of the density is a product of two one-dimensional ones.
"""

from dataclasses import dataclass
from functools import cached_property
from math import inf, sqrt

import numpy as np
from numpy.polynomial import legendre, polynomial
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar
from scipy.special import ndtr

from lopbench.core.errors import InvalidInputError, UnsupportedError
from lopbench.theory.activations import Activation, elementwise, label
from lopbench.theory.bivariate import HIGH, LOW, Bivariate, density
from lopbench.theory.piecewise import (
    Array,
    Function,
    Piecewise,
    breaks,
    resolve,
)

#: Most Hermite coefficients.
_TERMS = 1024

#: Width of the quadrature's panels, on which the last Hermite polynomial still has fewer waves than Gauss points.
_WIDTH = 0.55

#: What a truncated series may leave out.
_REMAINDER = 1e-12

#: Bivariate integrals, of some milliseconds each, that are done one by one; above it an interpolation pays.
_FEW = 32


@dataclass(frozen=True, eq=False)
class CorrelationKernel:
    """The correlation kernel of an activation function, and what the theory derives from it.

    Calling it gives ``K(r)``; `decorrelation_strength` and `rank_gain` are section 3's quantities.

    Args:
        activation: A name such as "relu" or "leaky_relu:negative_slope=0.1", a module, or any callable; see
            `lopbench.theory.activations.elementwise`. Kinks and jumps are found, and need not be declared.
        bias: Mean of the pre-activation.
        gain: Standard deviation of the pre-activation, above 0.

    Raises:
        UsageError: If the name of the activation function is unknown.
        InvalidInputError: If bias or gain is out of range, or the function is constant, not finite or too steep
            in their range, so that the correlation of its values is not defined or cannot be computed in float64.
        UnsupportedError: If the function is not elementwise or not piecewise smooth.
    """

    activation: Activation
    bias: float = 0.0
    gain: float = 1.0

    def __post_init__(self) -> None:
        if not np.isfinite(self.bias):
            raise InvalidInputError(f"bias must be a finite number, got {self.bias}")
        if not 0 < self.gain < inf:
            raise InvalidInputError(f"gain must be a number above 0, got {self.gain}; it is a standard deviation")
        spread = self.variance / (self.variance + self.mean**2) if self.variance > 0 else 0.0
        if spread < 1e-22:  # the deviations have fewer than five digits left
            raise InvalidInputError(
                f"{self._where} is constant to the precision of float64, so its values have no correlation; "
                "choose a smaller bias or a larger gain"
            )
        ends = self._function(np.array([LOW, HIGH])) ** 2 * density(np.array([LOW, HIGH]))
        if ends.max() > 1e-10 * self.variance:
            raise InvalidInputError(
                f"{self._where} has its variance from beyond {HIGH:.0f} standard deviations, which are not "
                "integrated; choose a smaller bias or another gain"
            )

    @cached_property
    def mean(self) -> float:
        """Mean of ``g(Z)``."""
        return float((self._measure * self._pieces.values).sum())

    @cached_property
    def variance(self) -> float:
        """Variance of ``g(Z)``."""
        return float((self._measure * (self._pieces.values - self.mean) ** 2).sum())

    @cached_property
    def mean_squared_slope(self) -> float:
        """Mean of ``g'(Z)^2``, the slope being that of ``g``: ``gain`` times ``phi'``. Infinite if ``g`` jumps.

        Raises:
            UnsupportedError: If the slope is unbounded.
        """
        if not self._pieces.resolved:
            raise UnsupportedError(
                f"{self._where} has a slope that is unbounded or too rough to integrate, so there is no local rate; "
                "the kernel itself is not affected"
            )
        if self._pieces.jumps.any():
            return inf
        return float((self._measure * self._pieces.slopes**2).sum())

    @cached_property
    def weights(self) -> Array:
        """Weights ``w_1, w_2, ...`` of the powers of ``r`` in ``K`` (Eq. 1), at least 0, of sum at most 1.

        At most 1024; fewer if what is left out is below 1e-12.
        """
        nodes = self._pieces.nodes.ravel()
        # The square root of the density goes into the polynomials, which alone would overflow.
        half = np.sqrt(density(nodes))
        values = (self._pieces.weights * (self._pieces.values - self.mean)).ravel() * half / sqrt(self.variance)
        previous, current = half, nodes * half
        found, total = [], 0.0
        for index in range(1, _TERMS + 1):
            found.append(float(values @ current) ** 2)
            total += found[-1]
            if 1 - total < _REMAINDER:
                break
            previous, current = current, (nodes * current - sqrt(index) * previous) / sqrt(index + 1)
        return np.array(found)

    def __call__(self, correlation: ArrayLike) -> Array:
        """Return ``K`` of correlations of any shape, in [-1, 1], to 1e-9.

        ``K(0) = 0``, ``K(1) = 1``, and ``|K(r)| < |r|`` between unless the function is linear (Lemma A.1).

        Raises:
            InvalidInputError: If a correlation is not in [-1, 1].
        """
        given = np.asarray(correlation, dtype=np.float64)
        if not (np.abs(given) <= 1).all():
            raise InvalidInputError(f"correlations must lie in [-1, 1], got {given[~(np.abs(given) <= 1)].flat[0]}")
        unique, inverse = np.unique(given, return_inverse=True)
        found = unique * polynomial.polyval(unique, self.weights)
        for sign in (-1, 1):
            beyond = (sign * unique > self._reliable) & (unique < 1)
            roots = np.sqrt(1 - sign * unique[beyond])
            if roots.size > _FEW:
                found[beyond] = (self._near_one if sign > 0 else self._near_minus_one)(roots)
            else:
                found[beyond] = self._integrals(sign, roots)
        found[unique == 1] = 1.0
        return found[inverse].reshape(given.shape)

    @cached_property
    def decorrelation_strength(self) -> float:
        """The paper's kappa, the maximum of ``r^2 - K(r)^2`` over ``r`` in [0, 1]; 0 for a linear function."""
        return self._strongest[1]

    @cached_property
    def strongest_correlation(self) -> float:
        """The ``r`` at which `decorrelation_strength` is reached, in [0, 1]."""
        return self._strongest[0]

    @cached_property
    def alpha_centred(self) -> float:
        """Local rate at which near duplicates part: ``K'(1) - 1 = E g'(Z)^2 / Var g(Z) - 1``, at least 0.

        Correlations ``1 - eps`` become ``1 - (1 + alpha) eps``. Infinite if the function jumps. This is the slope of
        the paper's own, centred kernel; `alpha_uncentred` is what the paper prints.
        """
        return self.mean_squared_slope / self.variance - 1

    @cached_property
    def alpha_uncentred(self) -> float:
        """The paper's alpha (section A.1.1), ``E g'(Z)^2 / E g(Z)^2 - 1``, at least -1.

        It divides by the second moment about zero where the kernel has the variance, and so depends on an added
        constant, which changes no correlation: ReLU gets exactly 0, as if it decorrelated nothing, and the sigmoid a
        negative rate. Both rates agree where the mean of ``g(Z)`` is 0, as for tanh without bias.
        """
        return self.mean_squared_slope / (self.variance + self.mean**2) - 1

    def frozen_share(self, slope: float = 1e-4) -> float:
        """Return the share, in [0, 1], of pre-activations at which ``phi`` is flat: dead or saturated.

        A unit whose pre-activations all lie there is frozen: no gradient reaches its incoming weights.

        Args:
            slope: ``|phi'|`` below which the function counts as flat, above 0; the authors' scripts take 1e-4.

        Raises:
            InvalidInputError: If ``slope`` is not above 0.
        """
        if not 0 < slope < inf:
            raise InvalidInputError(
                f"slope must be a number above 0, got {slope}; it is where a function counts as flat"
            )
        return _flat_share(self._pieces, slope * self.gain)

    def rank_gain(self, correlations: ArrayLike) -> float:
        """Return ``er_2(K(C)) / er_2(C)`` of Theorem 3.1, at least 1: what one nonlinear layer does to the rank.

        Args:
            correlations: ``C``, the correlation matrix ``(d, d)`` of the pre-activations.

        Raises:
            InvalidInputError: If ``C`` is not square, symmetric, with unit diagonal and entries in [-1, 1].
        """
        before = _correlation_matrix(correlations)
        return renyi2_rank(self(before)) / renyi2_rank(before)

    @cached_property
    def _function(self) -> Function:
        phi = elementwise(self.activation)

        def g(points: Array) -> Array:
            values = phi(self.bias + self.gain * points)
            if not np.isfinite(values).all():
                bad = self.bias + self.gain * points[~np.isfinite(values)][0]
                raise InvalidInputError(
                    f"{self._where} is not finite at {bad:.4g}, within the {HIGH:.0f} standard deviations that are "
                    "integrated; choose another bias or gain"
                )
            return values

        return g

    @cached_property
    def _breaks(self) -> list[float]:
        return breaks(self._function, LOW, HIGH, width=_WIDTH)

    @cached_property
    def _pieces(self) -> Piecewise:
        return resolve(self._function, LOW, HIGH, cuts=self._breaks, width=_WIDTH)

    @cached_property
    def _measure(self) -> Array:
        return self._pieces.weights * density(self._pieces.nodes)

    @property
    def _where(self) -> str:
        return f"{label(self.activation)} around a mean of {self.bias:g} with standard deviation {self.gain:g}"

    @cached_property
    def _reliable(self) -> float:
        """The magnitude of correlation up to which the series leaves out at most ``_REMAINDER``."""
        left_out = 1 - self.weights.sum()
        return 1.0 if left_out < 2 * _REMAINDER else float((_REMAINDER / left_out) ** (1 / (len(self.weights) + 1)))

    # In the root of 1 - |r|, K is smooth even where kinks and jumps give it roots of 1 - |r|.
    @cached_property
    def _near_one(self) -> Piecewise:
        return self._interpolated(1)

    @cached_property
    def _near_minus_one(self) -> Piecewise:
        return self._interpolated(-1)

    def _interpolated(self, sign: int) -> Piecewise:
        end = sqrt(1 - self._reliable)
        return resolve(lambda roots: self._integrals(sign, roots), 0.0, end, tolerance=1e-9, smallest=end / 500)

    def _integrals(self, sign: int, roots: Array) -> Array:
        return self._bivariate.moments(sign, roots) / self.variance

    @cached_property
    def _bivariate(self) -> Bivariate:
        return Bivariate(self._function, self._breaks, self.mean)

    @cached_property
    def _strongest(self) -> tuple[float, float]:
        def series(r: Array) -> Array:
            found: Array = r**2 - (r * polynomial.polyval(r, self.weights)) ** 2
            return found

        # The series leaves positive terms out, so it only ever overestimates what is maximised here.
        r, value = _maximum(series)
        return (r, value) if r <= self._reliable else _maximum(lambda r: r**2 - self(r) ** 2)


def renyi2_rank(correlations: ArrayLike) -> float:
    """Return ``er_2(C) = (tr C)^2 / ||C||_F^2`` of a matrix ``(d, d)``, in [1, d] for correlations (section 3).

    Raises:
        InvalidInputError: If the matrix is not square or is zero.
    """
    matrix = np.asarray(correlations, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.any():
        raise InvalidInputError(f"the rank is that of a square matrix (d, d) that is not zero, got {matrix.shape}")
    return float(np.trace(matrix) ** 2 / np.square(matrix).sum())


def equicorrelated(units: int, correlation: float) -> Array:
    """Return the correlation matrix ``(units, units)`` whose units all have the same ``correlation`` pairwise.

    Raises:
        InvalidInputError: If ``units`` is below 1 or no such units exist: the least is ``-1 / (units - 1)``.
    """
    least = -1.0 if units < 2 else -1 / (units - 1)
    if units < 1 or not least <= correlation <= 1:
        raise InvalidInputError(
            f"{units} units cannot all have the correlation {correlation}; with at least 1 unit it is in [{least:g}, 1]"
        )
    matrix = np.full((units, units), float(correlation))
    np.fill_diagonal(matrix, 1.0)
    return matrix


def _correlation_matrix(correlations: ArrayLike) -> Array:
    """Return ``correlations`` as float64 with a diagonal of exactly 1, rounding beyond [-1, 1] taken off.

    Raises:
        InvalidInputError: If it is not square, symmetric, with unit diagonal and entries in [-1, 1].
    """
    matrix = np.array(correlations, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise InvalidInputError(f"a correlation matrix has the shape (d, d) with d >= 1, got {matrix.shape}")
    # Rounding of a correlation matrix in float32 is forgiven, no more.
    if not (
        np.allclose(matrix, matrix.T, rtol=0, atol=1e-5)
        and np.allclose(np.diag(matrix), 1, rtol=0, atol=1e-5)
        and (np.abs(matrix) <= 1 + 1e-5).all()
    ):
        raise InvalidInputError(
            "a correlation matrix is symmetric, with ones on its diagonal and entries in [-1, 1]; "
            "divide a covariance by the standard deviations, and leave constant units out"
        )
    np.fill_diagonal(matrix, 1.0)
    return np.clip(matrix, -1.0, 1.0)


def _flat_share(pieces: Piecewise, slope: float) -> float:
    """Return the probability, in [0, 1], of where the slope's magnitude is below ``slope``."""
    low, high = pieces.edges[:-1], pieces.edges[1:]
    slopes = pieces.slopes
    flat = (np.abs(slopes) < slope).all(axis=1)
    share = (ndtr(high) - ndtr(low))[flat].sum()
    # A flat part may be too narrow to hold a Gauss point: beside a minimum, say.
    near = np.abs(slopes).min(axis=1) < slope + np.ptp(slopes, axis=1)
    for panel in np.flatnonzero(near & ~flat):
        share += _flat_part(pieces, int(panel), slope)
    return float(np.clip(share, 0.0, 1.0))


def _flat_part(pieces: Piecewise, panel: int, slope: float) -> float:
    """Return the probability of the part of a panel where the slope's magnitude is below ``slope``."""
    low, high = pieces.edges[panel : panel + 2]
    coefficients = pieces.slope_coefficients[panel]
    ends = [-1.0, 1.0]
    for level in (slope, -slope):
        shifted = coefficients.copy()
        shifted[0] -= level
        roots = legendre.legroots(shifted)
        ends += [float(root.real) for root in roots if abs(root.imag) < 1e-9 and abs(root.real) < 1]
    cuts = np.array(sorted(ends))
    flat = np.abs(legendre.legval((cuts[:-1] + cuts[1:]) / 2, coefficients)) < slope
    probability = ndtr((low + high) / 2 + (high - low) / 2 * cuts)
    return float(np.diff(probability)[flat].sum())


def _maximum(function: Function) -> tuple[float, float]:
    """Return where ``function`` has its largest value on [0, 1], and that value."""
    grid = np.linspace(0.0, 1.0, 201)
    best = int(np.argmax(function(grid)))
    between = (float(grid[max(best - 1, 0)]), float(grid[min(best + 1, len(grid) - 1)]))
    found = minimize_scalar(lambda r: -float(function(np.array([r]))[0]), bounds=between, options={"xatol": 1e-9})
    return float(found.x), max(0.0, -float(found.fun))
