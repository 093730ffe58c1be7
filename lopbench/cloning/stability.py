"""Stability of the cloning manifold: does the loss push a perturbed clone back, or away?

Joudaki et al. 2025, "Barriers for Learning in an Evolving World", arXiv:2510.00304, Definition A.2: the signs of the
Hessian of the loss in directions normal to the manifold. The manifold here is the larger one of their section A.2, of
weights that are row- and column-equitable. The block-wise constant one inside it has more normals, but along these the
Hessian vanishes: redistributing weights within blocks with row and column sums kept changes neither what units compute
nor the gradient (their Theorem A.2), and no clone departs.

Without a penalty on the weights, no clone is stable or unstable in the strict sense of the definition: changing the
weights that read clones, with their sums over the clones kept, never changes the function, so that these normals have
curvature zero. Where the Hessian couples them to others the manifold is a saddle, and the most negative curvature is
the rate at which gradient flow leaves it; where it does not, they are flat.

The extreme curvatures are found by the Lanczos method (Golub and Van Loan 2013, "Matrix Computations", 4th ed.,
section 10.1) on products of the Hessian with vectors. It is written here since every vector must be kept in the normal
space: on the whole space the tangents are further eigenvectors, of eigenvalue zero, between curvatures of both signs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite, nan
from typing import Literal

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from lopbench.core import rng
from lopbench.core.errors import InvalidInputError, UnsupportedError
from lopbench.core.profile import Profile

Loss = Callable[[Mapping[str, Tensor]], Tensor]
Verdict = Literal["stable", "unstable", "saddle", "undecided"]

#: Roundings of float64, relative to the largest product of the Hessian with a unit vector, that a curvature may be off.
_ROUNDINGS = 1e4


@dataclass(frozen=True)
class NormalCurvature:
    """The extreme curvatures of a loss along unit normals of the cloning manifold, in units of loss per squared weight.

    Args:
        smallest: Smallest curvature found; some direction has it, up to ``rounding``.
        largest: Largest curvature found; some direction has it, up to ``rounding``.
        smallest_error: Bound on the distance of ``smallest`` from an eigenvalue of the Hessian restricted to the normal
            space, at least 0. That no eigenvalue lies beyond is what the Lanczos method gives with probability one,
            for it starts from a random direction.
        largest_error: The same for ``largest``.
        rounding: Bound on the effect of rounding on all of these, which the errors include, at least 0.
        converged: Whether the search ended because the errors met its tolerance, or because no direction was left.
        products: Products of the Hessian with a vector that were taken.
    """

    smallest: float
    largest: float
    smallest_error: float
    largest_error: float
    rounding: float
    converged: bool
    products: int

    @property
    def verdict(self) -> Verdict:
        """What Definition A.2 calls the manifold at this point.

        "stable" if all curvatures are positive, "unstable" if all are negative, "saddle" if there are both;
        "undecided" if the search leaves that open, as it must where some normal direction is flat.
        """
        if self.smallest < -self.rounding and self.largest > self.rounding:
            return "saddle"  # two directions suffice, while the others speak of all
        if self.converged and self.smallest > self.smallest_error:
            return "stable"
        if self.converged and self.largest < -self.largest_error:
            return "unstable"
        return "undecided"


def normal_curvature(
    loss: Loss, parameters: Mapping[str, Tensor], profile: Profile, *, products: int = 64, tolerance: float = 1e-3
) -> NormalCurvature:
    """Return the extreme curvatures of ``loss`` along normals of the cloning manifold, at its point nearest to here.

    Everything is computed in float64, in ``products + 1`` vectors of the size of the parameters. Where the loss has
    kinks, as with ReLU, curvature is that of the smooth piece.

    Args:
        loss: Returns the loss, a scalar, as a function of the parameters by name; twice differentiable.
        parameters: The parameters of the clone; left as they are.
        profile: What is a clone of what.
        products: Most products of the Hessian with a vector, at least 1. Each takes about as long as two backward
            passes.
        tolerance: Error bounds, as shares of the curvatures, at which the search ends before, at least 0.

    Returns:
        The curvatures; NaN where the loss is not finite.

    Raises:
        InvalidInputError: If a number is out of range, or ``profile`` is of another network.
        UnsupportedError: If nothing is cloned.
    """
    if products < 1 or not tolerance >= 0:
        raise InvalidInputError(
            f"the search for curvatures needs at least 1 product and a tolerance of at least 0, "
            f"got {products} and {tolerance}"
        )
    here = {name: value.detach().double() for name, value in parameters.items()}
    off = profile.equitable_residual(here)
    space = _NormalSpace({name: value - off[name] for name, value in here.items()}, profile)
    with sdpa_kernel(SDPBackend.MATH):  # the fused kernels of attention have no second derivative
        return _lanczos(_Hessian(loss, space), space, products, tolerance)


class _NormalSpace:
    """Directions normal to the manifold at ``point``, as flat vectors ``(P,)`` of all parameters."""

    def __init__(self, point: Mapping[str, Tensor], profile: Profile) -> None:
        self.point = point
        self._profile = profile

    def unflatten(self, vector: Tensor) -> dict[str, Tensor]:
        parts = vector.split([value.numel() for value in self.point.values()])
        return {n: part.view_as(value) for (n, value), part in zip(self.point.items(), parts, strict=True)}

    def project(self, vector: Tensor) -> Tensor:
        """Return the orthogonal projection of ``vector``."""
        return _flatten(self._profile.equitable_residual(self.unflatten(vector)))

    def random(self) -> Tensor:
        """Return a random unit vector, the same at every call.

        Raises:
            UnsupportedError: If there is none but zero.
        """
        generator = rng.derive(0, "stability")
        noise = {
            name: torch.randn(value.shape, generator=generator, dtype=torch.float64).to(value.device)
            for name, value in self.point.items()
        }
        vector = self.project(_flatten(noise))
        if not vector.any():
            raise UnsupportedError(
                "a network in which nothing is cloned has no normals of the cloning manifold; clone it by a factor of "
                "at least 2"
            )
        return vector / float(vector.norm())


def _flatten(tensors: Mapping[str, Tensor]) -> Tensor:
    """Return all entries as one vector."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors.values()])


class _Hessian:
    """The Hessian of ``loss`` at the point of ``space``, by differentiating its gradient, which is kept, once more."""

    def __init__(self, loss: Loss, space: _NormalSpace) -> None:
        self._space = space
        self._at = {name: value.clone().requires_grad_() for name, value in space.point.items()}
        with torch.enable_grad():
            value = loss(self._at)
            self._gradient = torch.autograd.grad(
                value, list(self._at.values()), create_graph=True, materialize_grads=True
            )

    def __matmul__(self, vector: Tensor) -> Tensor:
        directions = self._space.unflatten(vector).values()
        # Parameters in which the loss is linear have a constant gradient.
        pairs = [(g, v) for g, v in zip(self._gradient, directions, strict=True) if g.requires_grad]
        if not pairs:
            return torch.zeros_like(vector)
        gradient, direction = zip(*pairs, strict=True)
        at = list(self._at.values())
        found = torch.autograd.grad(gradient, at, direction, retain_graph=True, materialize_grads=True)
        return torch.cat([tensor.reshape(-1) for tensor in found])


def _lanczos(hessian: _Hessian, space: _NormalSpace, products: int, tolerance: float) -> NormalCurvature:
    basis = [space.random()]
    diagonal: list[float] = []
    off_diagonal: list[float] = []
    scale = 0.0  # of the products before projection, of which rounding is a share
    while True:
        image = hessian @ basis[-1]
        length = float(image.norm())
        if not isfinite(length):
            return NormalCurvature(nan, nan, nan, nan, nan, False, len(basis))
        scale = max(scale, length)
        rest = space.project(image)
        diagonal.append(float(rest @ basis[-1]))
        for _ in range(2):  # twice is enough to stay orthogonal to rounding
            for vector in basis:
                rest -= (rest @ vector) * vector
        rest = space.project(rest)
        norm = float(rest.norm())
        values, vectors = torch.linalg.eigh(_tridiagonal(diagonal, off_diagonal))
        rounding = _ROUNDINGS * torch.finfo(torch.float64).eps * scale
        errors = norm * vectors[-1].abs() + rounding
        ends = [(float(values[k]), float(errors[k])) for k in (0, -1)]
        converged = norm <= rounding or all(error <= tolerance * abs(value) for value, error in ends)
        if converged or len(basis) == products:
            (smallest, smallest_error), (largest, largest_error) = ends
            return NormalCurvature(smallest, largest, smallest_error, largest_error, rounding, converged, len(basis))
        off_diagonal.append(norm)
        basis.append(rest / norm)


def _tridiagonal(diagonal: list[float], off_diagonal: list[float]) -> Tensor:
    off = torch.tensor(off_diagonal, dtype=torch.float64)
    return torch.diag(torch.tensor(diagonal, dtype=torch.float64)) + torch.diag(off, 1) + torch.diag(off, -1)
