"""The convolutional network of continual ImageNet, for images of 32x32 pixels.

Dohare et al. 2024, "Loss of plasticity in deep continual learning" (Nature 632), and their code
(shibhansh/loss-of-plasticity, ``lop/nets/conv_net.py``): three convolutions without padding, then two hidden layers.
Normalisation and dropout are ours; they have none.

Smaller networks of this form are published too: ``convnet:channels=16/16,kernels=5/5,hidden=100/100`` is that of Kumar,
Marklund and Van Roy 2023 (arXiv:2308.11958) for CIFAR.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

from torch import nn

from lopbench import InvalidInputError, UnsupportedError, numbers
from lopbench_plugins.architectures._base import PaperArchitecture, activation_names, image_shape, named


@dataclass(frozen=True, kw_only=True)
class ConvNet(PaperArchitecture):
    """Convolutions, each with norm, activation and 2x2 max pooling; fully connected hidden layers; then ``out``.

    Initialised as torch does: weights and biases uniform within ``1 / sqrt(fan_in)``. Dropout acts in the fully
    connected layers alone.

    Args:
        channels: Channels of each convolution, each at least 1; written ``32/64/128`` on the command line.
        kernels: Side of the kernel of each convolution, as many as ``channels``, each at least 1.
        hidden: Units of each fully connected hidden layer, at least 1.
    """

    name: ClassVar[str] = "convnet"
    examples: ClassVar[tuple[Mapping[str, object], ...]] = (
        {"channels": (4, 6), "kernels": (5, 3), "hidden": (12, 8)},
        {"channels": (4, 6), "kernels": (5, 3), "hidden": (12,), "normalization": "batch"},
    )
    channels: tuple[int, ...] = numbers((32, 64, 128), least=1)
    kernels: tuple[int, ...] = numbers((5, 3, 3), least=1)
    hidden: tuple[int, ...] = numbers((128, 128), least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.channels) != len(self.kernels):
            raise InvalidInputError(
                f"{self.name}: each convolution has its channels and its kernel, got "
                f"channels={'/'.join(map(str, self.channels))} and kernels={'/'.join(map(str, self.kernels))}; "
                "give as many of both"
            )

    def assemble(self, input_shape: Sequence[int], outputs: int) -> nn.Module:
        """Return the network for images that are large enough for its kernels and poolings."""
        inputs, height, width = image_shape(self.name, input_shape)
        sides = [self._side(height), self._side(width)]
        if min(sides) < 1:
            raise UnsupportedError(
                f"{self.name} shrinks the image in {len(self.channels)} convolutions, and nothing is left of "
                f"{height}x{width} pixels; use larger images, fewer convolutions or smaller kernels"
            )
        layers = [
            named(
                conv=nn.Conv2d(fan_in, fan_out, kernel_size=kernel),
                norm=self.normalization_layer("image", fan_out),
                activation=self.activation_layer(),
                pool=nn.MaxPool2d(2),
            )
            for (fan_in, fan_out), kernel in zip(pairwise((inputs, *self.channels)), self.kernels, strict=True)
        ]
        sizes = [self.channels[-1] * sides[0] * sides[1], *self.hidden]
        hidden = [self.hidden_layer(fan_in, fan_out) for fan_in, fan_out in pairwise(sizes)]
        return named(
            layers=nn.Sequential(*layers),
            flatten=nn.Flatten(),
            hidden=nn.Sequential(*hidden),
            out=nn.Linear(sizes[-1], outputs),
        )

    def _side(self, pixels: int) -> int:
        """Return the side of the last map for images of this side; 0 or less if nothing is left of them."""
        for kernel in self.kernels:
            pixels = (pixels - kernel + 1) // 2
        return pixels

    def layers(self, module: nn.Module) -> Sequence[str]:
        """Return the names of the activation modules: one per convolution, and one per hidden layer."""
        return activation_names(module)

    def widened(self, factor: int) -> "ConvNet":
        """Return the architecture with ``factor`` times the channels and hidden units."""
        channels, hidden = (tuple(factor * each for each in sizes) for sizes in (self.channels, self.hidden))
        return replace(self, channels=channels, hidden=hidden)
