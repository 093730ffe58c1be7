"""Sharpness, the largest eigenvalue of the Hessian of the loss: Cohen et al. 2021, arXiv:2103.00065, section 1.

Lewandowski et al. 2023, arXiv:2312.00246, and Lee et al. 2024 (Hare and Tortoise), arXiv:2406.02596, follow it where
plasticity is lost. It is found by the Lanczos method (Golub and Van Loan 2013, "Matrix Computations", 4th ed., section
10.1) without reorthogonalisation, which finds extreme eigenvalues in three vectors, and may find them twice. Power
iteration would find the eigenvalue of largest magnitude, which is another where the most negative one is larger.
"""

from dataclasses import dataclass
from math import isfinite, nan
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from lopbench import NetworkMetric, NetworkProbe, number, rng, whole
from lopbench_plugins.metrics.samples import at_once, chosen


@dataclass(frozen=True, kw_only=True)
class Sharpness(NetworkMetric):
    """Largest curvature of the probe's mean loss along any direction, in loss per squared weight.

    It is of the task's own loss in evaluation mode, without penalties of a method, and of all parameters together.
    Where the loss has kinks, as with ReLU, it is that of the smooth piece. Gradient descent of learning rate ``lr`` is
    stable along directions of curvature below ``2 / lr``.

    Args:
        samples: Most samples of the probe batch, at least 1; a fixed random choice is read.
        products: Most products of the Hessian with a vector, at least 1. Each takes about twice as long as training on
            the samples once, and all take memory for some eight vectors of all parameters.
        tolerance: Error bound, as a share of the curvature, at which the search ends before, at least 0.
    """

    name: ClassVar[str] = "sharpness"
    equation: ClassVar[str] = "max v' H v over |v| = 1, H the Hessian of the loss"
    examples: ClassVar[tuple[dict[str, object], ...]] = ({"samples": 4, "products": 3},)
    samples: int = whole(128, least=1)
    products: int = whole(20, least=1)
    tolerance: float = number(1e-3, least=0)

    def compute(self, probe: NetworkProbe) -> float:
        """Return the curvature; NaN if the loss is not finite.

        Raises:
            InvalidInputError: If the probe was made without its network.
        """
        hessian = _Hessian(probe, chosen(probe, self.samples, self.name))
        generator = rng.derive(0, self.name, "start")
        start = torch.randn(hessian.size, generator=generator, dtype=torch.float64).to(probe.inputs.device)
        with sdpa_kernel(SDPBackend.MATH):  # the fused kernels of attention have no second derivative
            return _largest(hessian, start, self.products, self.tolerance)


class _Hessian:
    """The Hessian of the mean loss on some samples, by its products with float64 vectors ``(P,)`` of all parameters.

    It is differentiated in the precision of the parameters.
    """

    def __init__(self, probe: NetworkProbe, rows: Tensor) -> None:
        self._loss, self._rows = probe.loss, rows
        self._parts = rows.split(at_once(probe))
        self._at = {name: value.detach().clone().requires_grad_() for name, value in probe.parameters.items()}
        self.precision = max(torch.finfo(value.dtype).eps for value in self._at.values())
        self.size = sum(value.numel() for value in self._at.values())

    def __matmul__(self, vector: Tensor) -> Tensor:
        leaves = list(self._at.values())
        parts = vector.split([leaf.numel() for leaf in leaves])
        directions = [part.view_as(leaf).to(leaf.dtype) for part, leaf in zip(parts, leaves, strict=True)]
        product = torch.zeros_like(vector)
        for part in self._parts:
            with torch.enable_grad():
                loss = self._loss(self._at, part) * (len(part) / len(self._rows))
                gradient = torch.autograd.grad(loss, leaves, create_graph=True, materialize_grads=True)
                slope = torch.stack([(g * d).sum() for g, d in zip(gradient, directions, strict=True)]).sum()
            product += 0 * loss.detach()  # a loss that is not finite has no curvature, even where it is linear
            if slope.requires_grad:  # it is constant where the loss is linear
                found = torch.autograd.grad(slope, leaves, materialize_grads=True)
                product += torch.cat([each.reshape(-1) for each in found])
        return product


def _largest(hessian: _Hessian, start: Tensor, products: int, tolerance: float) -> float:
    """Return the largest eigenvalue that ``products`` products with vectors find from ``start`` on."""
    last, vector = torch.zeros_like(start), start / start.norm()
    diagonal: list[float] = []
    off_diagonal: list[float] = []
    while True:
        image = hessian @ vector
        image -= (off_diagonal[-1] if off_diagonal else 0.0) * last
        diagonal.append(float(image @ vector))
        image -= diagonal[-1] * vector
        norm = float(image.norm())
        if not (isfinite(norm) and isfinite(diagonal[-1])):
            return nan
        values, vectors = torch.linalg.eigh(_tridiagonal(diagonal, off_diagonal))
        largest, error = float(values[-1]), norm * abs(float(vectors[-1, -1]))
        rounding = hessian.precision * float(values.abs().max())
        if error <= max(tolerance * abs(largest), rounding) or len(diagonal) == products:
            return largest
        off_diagonal.append(norm)
        last, vector = vector, image / norm


def _tridiagonal(diagonal: list[float], off_diagonal: list[float]) -> Tensor:
    off = torch.tensor(off_diagonal, dtype=torch.float64)
    return torch.diag(torch.tensor(diagonal, dtype=torch.float64)) + torch.diag(off, 1) + torch.diag(off, -1)
