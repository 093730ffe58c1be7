"""What metrics of single samples use: a choice of samples, as many at once as memory allows, products of gradients."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.func import grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from lopbench import NetworkProbe, rng

#: Numbers of the gradients that are held, half a GiB in float32, and of those that are taken at once besides.
_HELD, _PIECE = 2**27, 2**25
#: Columns of gradients that are widened to float64 at once.
_COLUMNS = 2**16
#: Activations, as far as layers are probed, of the samples that pass the network at once: some half a GiB with what
#: a second derivative keeps besides.
_ACTIVATIONS = 2**22

Parameters = Mapping[str, Tensor]


def widened(parameters: Parameters) -> dict[str, Tensor]:
    """Return parameters and buffers in float64; whole numbers stay as they are."""
    return {name: value.double() if value.is_floating_point() else value for name, value in parameters.items()}


def chosen(probe: NetworkProbe, count: int, name: str) -> Tensor:
    """Return the indices ``(n,)`` of at most ``count`` samples of the probe batch, the same at every call.

    Args:
        probe: The probe.
        count: Most samples, at least 1.
        name: Name of the metric, from which the choice derives.
    """
    order = torch.randperm(len(probe.inputs), generator=rng.derive(0, name, "samples"))
    return order[:count].to(probe.inputs.device)


def at_once(probe: NetworkProbe) -> int:
    """Return how many samples may pass the network at once."""
    samples = max(1, len(probe.inputs))
    numbers = probe.inputs.numel() + sum(layer.activation.numel() for layer in probe.layers)
    return max(1, _ACTIVATIONS * samples // max(1, numbers))


def gradient_products(function: Callable[[Parameters, Tensor], Tensor], probe: NetworkProbe, rows: Tensor) -> Tensor:
    """Return the inner products of the gradients of ``function`` at pairs of samples, float64 ``(n, n)``.

    Gradients are in the precision of the parameters, their products in float64: the eigenvalues are squares of
    singular values, of which single precision knows seven digits, and so have twice as many.

    The gradients of n samples in P parameters are held as far as they have 2**27 numbers together, and are else taken
    again: a sample is differentiated about ``1 + n * P / 2**28`` times.

    Args:
        function: Returns a scalar of the parameters and the index ``(1,)`` of a sample of the probe batch.
        probe: The probe.
        rows: Indices ``(n,)`` of samples, at least one.
    """
    parameters = dict(probe.parameters)
    size = sum(value.numel() for value in parameters.values())
    pieces = rows.split(min(at_once(probe), max(1, _PIECE // size)))
    places = torch.arange(len(rows), device=rows.device).split(len(pieces[0]))
    gradients = vmap(grad(lambda at, row: function(at, row[None])), (None, 0))

    def of(piece: Tensor) -> list[Tensor]:
        with sdpa_kernel(SDPBackend.MATH):  # the fused kernels of attention are not all made to be mapped
            return [value.reshape(len(piece), -1) for value in gradients(parameters, piece).values()]

    products = torch.empty(len(rows), len(rows), dtype=torch.float64, device=rows.device)
    count = max(1, _HELD // (size * len(pieces[0])))
    for first in range(0, len(pieces), count):
        held = [of(piece) for piece in pieces[first : first + count]]
        mine = torch.cat(places[first : first + count])
        products[mine[:, None], mine] = _products(held, held)
        for piece, theirs in zip(pieces[first + count :], places[first + count :], strict=True):
            part = _products(held, [of(piece)])
            products[mine[:, None], theirs] = part
            products[theirs[:, None], mine] = part.T
    return products


def _products(ones: Sequence[Sequence[Tensor]], others: Sequence[Sequence[Tensor]]) -> Tensor:
    """Return the inner products of the rows of two matrices, in float64; both come in blocks of rows and of columns."""
    total: Tensor | float = 0.0
    for block in range(len(ones[0])):
        for start in range(0, ones[0][block].shape[1], _COLUMNS):
            columns = slice(start, start + _COLUMNS)
            left = torch.cat([rows[block][:, columns] for rows in ones]).double()
            right = left if others is ones else torch.cat([rows[block][:, columns] for rows in others]).double()
            total = total + left @ right.T
    assert isinstance(total, Tensor)  # a network has parameters
    return total


def eigenvalues(products: Tensor) -> Tensor:
    """Return the eigenvalues of a Gram matrix ``(n, n)``, descending; zero where rounding hides them.

    All are NaN if an entry is not finite.
    """
    if not products.isfinite().all():
        return products.new_full((len(products),), float("nan"))
    values = torch.linalg.eigvalsh(products).flip(0)
    noise = len(products) * torch.finfo(products.dtype).eps * values[0]
    return torch.where(values > noise, values, 0.0)


def entropy_rank(values: Tensor) -> float:
    """Return the exponential of the entropy of ``values / sum(values)``, none negative; 0 if all are zero."""
    total = values.sum()
    rank = torch.special.entr(values / total).sum().exp()
    return torch.where(total == 0, 0.0, rank).item()
