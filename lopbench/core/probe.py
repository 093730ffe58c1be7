"""What metrics read: one probe of a network on a fixed batch, with everything they share computed once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from lopbench.core.errors import InvalidInputError


def as_units(tensor: Tensor) -> Tensor:
    """Return activations as ``(N, D)``: ``(B, C, H, W)`` becomes ``(B*H*W, C)`` and ``(B, T, E)`` ``(B*T, E)``."""
    if tensor.ndim < 2 or tensor.numel() == 0:
        raise InvalidInputError(f"activations need at least one sample and one unit, got shape {tuple(tensor.shape)}")
    if tensor.ndim == 4:
        tensor = tensor.movedim(1, -1)
    return tensor.reshape(-1, tensor.shape[-1])


@dataclass(frozen=True, eq=False)
class LayerProbe:
    """The post-activation values of one layer on the probe batch, and what metrics derive from them.

    Args:
        activation: ``(N, D)``, or a layer's raw output, which is flattened as in `as_units`.
        gradient: Gradient of the probe's mean loss with respect to ``activation``, same shape, or None.
        name: Name of the layer.
    """

    activation: Tensor
    gradient: Tensor | None = None
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "activation", as_units(self.activation.detach()))
        if self.gradient is not None:
            object.__setattr__(self, "gradient", as_units(self.gradient.detach()))
            if self.gradient.shape != self.activation.shape:
                raise InvalidInputError(
                    f"activation {tuple(self.activation.shape)} and gradient {tuple(self.gradient.shape)} differ in shape"
                )

    @cached_property
    def magnitude(self) -> Tensor:
        """Absolute activations ``(N, D)``."""
        return self.activation.abs()

    @cached_property
    def mean_magnitude(self) -> Tensor:
        """Mean absolute activation of each unit, ``(D,)``."""
        return self.magnitude.mean(dim=0)

    @cached_property
    def mean(self) -> Tensor:
        """Mean activation of each unit, float64 ``(D,)``."""
        return self.activation.double().mean(dim=0)

    @cached_property
    def gram(self) -> Tensor:
        """Uncentred ``H^T H`` in float64, ``(D, D)``."""
        activation = self.activation.double()
        return activation.T @ activation

    @cached_property
    def covariance(self) -> Tensor:
        """Centred scatter ``(H - mean)^T (H - mean)`` in float64, ``(D, D)``; not divided by N."""
        centred = self.activation.double() - self.mean
        return centred.T @ centred

    @cached_property
    def singular_values(self) -> Tensor:
        """Singular values of the uncentred activations, descending, float64 ``(min(N, D),)``.

        They come from the smaller Gram matrix, so values below 1e-8 of the largest are rounding noise and are zeroed.
        """
        n, d = self.activation.shape
        if n >= d:
            gram = self.gram
        else:
            activation = self.activation.double()
            gram = activation @ activation.T
        if not torch.isfinite(gram).all():
            return torch.full((min(n, d),), float("nan"), dtype=torch.float64)
        values = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt().flip(0)
        return torch.where(values > 1e-8 * values[0], values, 0.0)


@dataclass(frozen=True, eq=False)
class NetworkProbe:
    """One replica on the probe batch: its parameters, their gradients, and its layers.

    Args:
        parameters: Trained parameters by name.
        initial: The same parameters as built.
        gradients: Gradients of the probe's mean loss by name.
        layers: The probed layers in forward order.
        head: Names of the head's parameters.
        outputs: Outputs of the network, ``(N, K)``.
    """

    parameters: Mapping[str, Tensor]
    initial: Mapping[str, Tensor]
    gradients: Mapping[str, Tensor]
    layers: tuple[LayerProbe, ...]
    head: tuple[str, ...] = ()
    outputs: Tensor | None = None
    #: Memo for quantities that several metrics of the whole network share.
    _shared: dict[str, Tensor] = field(default_factory=dict, repr=False)

    def shared(self, key: str, compute: Callable[["NetworkProbe"], Tensor]) -> Tensor:
        """Return ``compute(self)``, computed once for each ``key``."""
        if key not in self._shared:
            self._shared[key] = compute(self)
        return self._shared[key]
