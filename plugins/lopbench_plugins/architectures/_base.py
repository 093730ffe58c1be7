"""What the built-in architectures share: their common hyperparameters and the layers that these choose."""

from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from torch import Generator, Tensor, nn

from lopbench import Architecture, InvalidInputError, UnsupportedError, number, rng

Normalization = Literal["none", "batch", "layer", "group"]
Activation = Literal["relu", "leaky_relu", "tanh", "sigmoid", "gelu", "elu", "selu"]
#: Where the channels stand: ``(N, C)``, ``(N, C, H, W)`` or ``(N, T, C)``.
Layout = Literal["vector", "image", "token"]

ACTIVATIONS: Mapping[Activation, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": partial(nn.LeakyReLU, 0.1),
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "elu": nn.ELU,
    "selu": nn.SELU,
}


class TokenBatchNorm(nn.BatchNorm1d):
    """Batch normalisation of each channel of ``(N, T, C)`` over samples and tokens."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (the base class names it so)
        """Return ``input`` of shape ``(N, T, C)`` normalised."""
        return super().forward(input.transpose(1, 2)).transpose(1, 2)


class TokenGroupNorm(nn.GroupNorm):
    """Group normalisation of each sample of ``(N, T, C)`` over the tokens and the channels of a group."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (the base class names it so)
        """Return ``input`` of shape ``(N, T, C)`` normalised."""
        return super().forward(input.transpose(1, 2)).transpose(1, 2)


class NoDropout(nn.Identity):
    """Stands where a library wants a dropout layer and the rate is zero; draws nothing."""

    p = 0.0  # timm's attention reads the rate from its dropout layer


def group_count(channels: int) -> int:
    """Return the number of groups: the largest divisor of ``channels`` up to 32 with two channels or more a group.

    A group of one channel would map every vector to zero.

    Raises:
        UnsupportedError: If the only such divisor is 1, which is layer normalisation under another name.
    """
    groups = max((g for g in range(2, min(32, channels // 2) + 1) if channels % g == 0), default=1)
    if groups == 1:
        raise UnsupportedError(
            f"normalization=group cannot split {channels} channels into 2 to 32 equal groups of at least two; "
            "choose a width with such a divisor, such as a multiple of 32, or normalization=layer"
        )
    return groups


def normalization_layer(kind: Normalization, layout: Layout, channels: int, *, affine: bool) -> nn.Module | None:
    """Return a normalisation layer of ``channels`` channels, or None for "none".

    "layer" is LayerNorm on vectors and tokens, and GroupNorm of one group on images, as in the authors' code.

    Raises:
        UnsupportedError: If ``channels`` cannot be split into groups.
    """
    if kind == "none":
        return None
    if kind == "batch":
        batch_norm = {"vector": nn.BatchNorm1d, "image": nn.BatchNorm2d, "token": TokenBatchNorm}[layout]
        return batch_norm(channels, affine=affine)
    if kind == "layer" and layout != "image":
        return nn.LayerNorm(channels, elementwise_affine=affine)
    group_norm = TokenGroupNorm if layout == "token" else nn.GroupNorm
    return group_norm(1 if kind == "layer" else group_count(channels), channels, affine=affine)


def named(**modules: nn.Module | None) -> nn.Sequential:
    """Return the modules in their order under their names; None stands for no module."""
    return nn.Sequential(OrderedDict((name, module) for name, module in modules.items() if module is not None))


def drop_idle_dropout(module: nn.Module) -> None:
    """Replace, in place, every dropout layer of rate zero inside ``module``: it costs time and does nothing."""
    for name, child in list(module.named_modules()):
        if type(child) is nn.Dropout and child.p == 0:
            module.set_submodule(name, NoDropout())


def image_shape(name: str, input_shape: Sequence[int]) -> tuple[int, int, int]:
    """Return ``input_shape`` as ``(C, H, W)``.

    Raises:
        UnsupportedError: If samples are no images.
    """
    if len(input_shape) != 3:
        raise UnsupportedError(
            f"{name} takes images of shape (C, H, W), and these samples have shape {tuple(input_shape)}; "
            "use an architecture for vectors, such as mlp"
        )
    channels, height, width = input_shape
    return channels, height, width


def check_request(name: str, input_shape: Sequence[int], outputs: int, generator: Generator) -> None:
    """Refuse what no network can be built for, or not from ``generator``.

    Raises:
        InvalidInputError: If a dimension of the input or ``outputs`` is below 1, or the generator is not on the CPU.
    """
    if not input_shape or min(input_shape) < 1:
        raise InvalidInputError(f"{name}: every dimension of a sample must be at least 1, got {tuple(input_shape)}")
    if outputs < 1:
        raise InvalidInputError(f"{name}: the head needs at least 1 output, got {outputs}")
    if generator.device.type != "cpu":
        raise InvalidInputError(
            f"{name}: networks are drawn on the CPU, so that devices agree, got a generator on {generator.device}; "
            "pass a CPU generator and move the network"
        )


@dataclass(frozen=True, kw_only=True)
class PaperArchitecture(Architecture):
    """Base of the architectures of Joudaki et al. 2025, as their code (ajoudaki/loss-of-plasticity, 52fdf81) has them.

    Args:
        normalization: Kind of normalisation layers.
        affine: Whether normalisation layers learn scale and shift; without normalisation it has no effect.
        activation: Activation function; the slope of "leaky_relu" is 0.1.
        dropout: Dropout rate in [0, 1), at the places the authors chose; 0 builds no dropout layer.
    """

    normalization: Normalization = "none"
    affine: bool = True
    activation: Activation = "relu"
    dropout: float = number(0.0, least=0, below=1, zero=0)

    def build(self, input_shape: Sequence[int], outputs: int, *, generator: Generator) -> nn.Module:
        """Return a freshly initialised network in training mode, on the CPU.

        Args:
            input_shape: Shape of one sample, ``(C, H, W)`` for images.
            outputs: Number K of outputs of the head, at least 1; the network maps ``(N, *input_shape)`` to ``(N, K)``.
            generator: Source of every random draw, on the CPU; advanced in place.

        Raises:
            InvalidInputError: If a dimension or ``outputs`` is below 1, or the generator is not on the CPU.
            UnsupportedError: If the network cannot take this input shape.
        """
        check_request(self.name, input_shape, outputs, generator)
        with rng.isolated(generator):
            return self.assemble(input_shape, outputs)

    @abstractmethod
    def assemble(self, input_shape: Sequence[int], outputs: int) -> nn.Module:
        """Return the network of `build`, drawing from torch's global generator, which `build` has replaced."""

    def activation_layer(self) -> nn.Module:
        """Return a new activation module; each is used once, so that hooks on it see one tensor a pass."""
        return ACTIVATIONS[self.activation]()

    def normalization_layer(self, layout: Layout, channels: int) -> nn.Module | None:
        """Return a new normalisation layer, or None."""
        return normalization_layer(self.normalization, layout, channels, affine=self.affine)

    def dropout_layer(self) -> nn.Module | None:
        """Return a new dropout layer, or None at rate zero."""
        return nn.Dropout(self.dropout) if self.dropout else None

    def hidden_layer(self, inputs: int, units: int) -> nn.Module:
        """Return a new hidden layer of a perceptron: linear, normalisation, activation, dropout."""
        return named(
            linear=nn.Linear(inputs, units),
            norm=self.normalization_layer("vector", units),
            activation=self.activation_layer(),
            dropout=self.dropout_layer(),
        )


def activation_names(module: nn.Module) -> list[str]:
    """Return the names of the submodules called ``activation``, in forward order."""
    return [name for name, _ in module.named_modules() if name.rpartition(".")[2] == "activation"]
