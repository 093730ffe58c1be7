"""What metrics read: one probe of a network on a fixed batch, with everything they share computed once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import nan
from types import EllipsisType
from typing import NoReturn, Protocol

import torch
from torch import Tensor

from lopbench.core.errors import InvalidInputError
from lopbench.core.moments import Moments
from lopbench.core.profile import Partition, Profile


def as_units(tensor: Tensor) -> Tensor:
    """Return activations as ``(N, D)``: ``(B, C, H, W)`` becomes ``(B*H*W, C)`` and ``(B, T, E)`` ``(B*T, E)``.

    Raises:
        InvalidInputError: If ``tensor`` has another number of axes or is empty.
    """
    if tensor.ndim not in (2, 3, 4) or tensor.numel() == 0:
        raise InvalidInputError(
            "activations need shape (N, D), (B, T, E) or (B, C, H, W), with at least one sample and one unit; "
            f"got {tuple(tensor.shape)}"
        )
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
        clones: Which of its units are clones of each other; None where the network was not cloned.
        blocked: Whether no gradient can flow into it, since the weights of the head are zero.

    Raises:
        InvalidInputError: If a shape is none of a layer's output, activation and gradient differ in shape, or
            ``clones`` partitions another number of units.
    """

    activation: Tensor
    gradient: Tensor | None = None
    name: str = ""
    clones: Partition | None = None
    blocked: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "activation", as_units(self.activation.detach()))
        if self.gradient is not None:
            object.__setattr__(self, "gradient", as_units(self.gradient.detach()))
            if self.gradient.shape != self.activation.shape:
                raise InvalidInputError(
                    f"layer {self.name!r} has activations of shape {tuple(self.activation.shape)} and gradients of "
                    f"shape {tuple(self.gradient.shape)}; take both from the same forward pass"
                )
        if self.clones is not None and len(self.clones) != self.activation.shape[1]:
            raise InvalidInputError(
                f"layer {self.name!r} has {self.activation.shape[1]} units and a partition of {len(self.clones)}; "
                "take the partition from the profile of this network"
            )

    @cached_property
    def _moments(self) -> tuple[Moments, int | EllipsisType]:
        return Moments(self.activation), ...

    def share(self, moments: Moments, place: int) -> None:
        """Take what follows from the activations from ``moments`` of several replicas, of which this is ``place``."""
        self.__dict__["_moments"] = moments, place

    def share_of_rows(self, condition: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the share of the rows on which ``condition``, taken elementwise, holds, float64 ``(D,)`` in [0, 1].

        A share is the correctly rounded quotient of two whole numbers, so that 19 of 20 rows equal the literal 0.95.
        """
        return Moments(self.activation).column_sums(condition) / self.activation.shape[0]

    @cached_property
    def finite(self) -> bool:
        """Whether every activation is a finite number."""
        # Magnitudes cannot cancel, so their sum is finite only if each of them is.
        return bool(self.mean_magnitude.sum().isfinite())

    @cached_property
    def mean_magnitude(self) -> Tensor:
        """Mean absolute activation of each unit, float64 ``(D,)``."""
        moments, place = self._moments
        return moments.mean_magnitude[place]

    @cached_property
    def mean(self) -> Tensor:
        """Mean activation of each unit, float64 ``(D,)``."""
        moments, place = self._moments
        return moments.mean[place]

    @cached_property
    def covariance(self) -> Tensor:
        """Centred scatter ``(H - mean)^T (H - mean)`` in float64, ``(D, D)``; not divided by N."""
        moments, place = self._moments
        return moments.covariance[place]

    @cached_property
    def gram(self) -> Tensor:
        """Uncentred ``H^T H`` in float64, ``(D, D)``."""
        moments, place = self._moments
        return moments.gram[place]

    @cached_property
    def varying(self) -> Tensor:
        """Units whose standard deviation exceeds 1e-6 of their root mean square, boolean ``(D,)``.

        The other units are constant: what variation they have is the rounding of float32.
        """
        moments, place = self._moments
        return moments.varying[place]

    @cached_property
    def singular_values(self) -> Tensor:
        """Singular values of the uncentred activations, descending, float64 ``(min(N, D),)``.

        They come from the smaller Gram matrix, whose eigenvalues are known to ``min(N, D)`` float64 roundings of the
        largest. Singular values that this cannot tell from zero, about 1e-7 of the largest, are zero. All are NaN if
        an activation is not finite.
        """
        moments, place = self._moments
        return moments.singular_values[place]


def is_blocked(parameters: Mapping[str, Tensor], head: Sequence[str]) -> bool:
    """Return whether the weights of the head are zero and other parameters lie behind it, which get no gradient."""
    weights = [parameters[name] for name in head if parameters[name].ndim > 1]
    return bool(weights) and len(head) < len(parameters) and not any(bool(weight.any()) for weight in weights)


def _absent(*arguments: object, **options: object) -> NoReturn:
    raise InvalidInputError("this probe was made without its network, which cannot be asked; take it from a learner")


class Loss(Protocol):
    """The task's mean loss as a function of the parameters."""

    def __call__(self, parameters: Mapping[str, Tensor], rows: Tensor | None = None) -> Tensor:
        """Return the mean loss, a scalar inside autograd, in evaluation mode and in the parameters' precision.

        Args:
            parameters: Parameters by name.
            rows: Indices ``(n,)`` of the samples of the probe batch to take; None takes all.
        """


@dataclass(frozen=True, eq=False)
class NetworkProbe:
    """One replica on the probe batch: its parameters, their gradients, and its layers.

    What can be called may be called until the network trains on; it leaves the network as it is, and
    ``torch.func`` may transform it.

    Args:
        parameters: Trained parameters by name.
        initial: The same parameters as built.
        gradients: Gradients of the probe's mean loss by name.
        layers: The probed layers in forward order.
        head: Names of the head's parameters.
        inputs: The probe batch, ``(N, ...)``.
        targets: Its targets, ``(N, ...)``.
        outputs: Outputs for it, ``(N, K)`` or, of sequences, ``(N, T, K)``: those that count in the task.
        profile: What is a clone of what; None where the network was not cloned.
        lr: Learning rate of the next step, above 0; NaN where nobody says.
        loss: The task's mean loss as a function of the parameters.
        forward: Returns the outputs, of the shape of ``outputs``, of parameters by name and inputs ``(N, ...)``, in
            evaluation mode and in the parameters' precision. Buffers among the parameters replace the network's.
        modules: Returns the probe of each module named that returns a single tensor, for metrics that read more than
            ``layers``.
        recall: Returns what `previous` is, and keeps what the network is now for the next probe.
        score_former: Returns what `former_score` is.
    """

    parameters: Mapping[str, Tensor]
    initial: Mapping[str, Tensor]
    gradients: Mapping[str, Tensor]
    layers: tuple[LayerProbe, ...]
    head: tuple[str, ...] = ()
    inputs: Tensor = field(default_factory=lambda: torch.empty(0))
    targets: Tensor = field(default_factory=lambda: torch.empty(0))
    outputs: Tensor = field(default_factory=lambda: torch.empty(0))
    profile: Profile | None = None
    lr: float = nan
    loss: Loss = _absent
    forward: Callable[[Mapping[str, Tensor], Tensor], Tensor] = _absent
    modules: Callable[[Sequence[str]], tuple[LayerProbe, ...]] = _absent
    recall: Callable[[], Mapping[str, Tensor] | None] = lambda: None
    score_former: Callable[[], float | None] = lambda: None
    #: Memo for quantities that several metrics of the whole network share.
    _shared: dict[str, Tensor] = field(default_factory=dict, repr=False)

    @cached_property
    def previous(self) -> Mapping[str, Tensor] | None:
        """Parameters and buffers by name at the last probe at which a metric read this; None at the first.

        They are kept for networks of which a metric reads this, and for no others.
        """
        return self.recall()

    @cached_property
    def former_score(self) -> float | None:
        """Mean held-out score on the task before; None if the task tells of none, or nothing of it is held out."""
        return self.score_former()

    @cached_property
    def blocked(self) -> bool:
        """Whether the weights of the head are zero, so that no gradient gets past it, whatever the rest is like."""
        return is_blocked(self.parameters, self.head)

    def shared(self, key: str, compute: Callable[["NetworkProbe"], Tensor]) -> Tensor:
        """Return ``compute(self)``, computed once for each ``key``."""
        if key not in self._shared:
            self._shared[key] = compute(self)
        return self._shared[key]
