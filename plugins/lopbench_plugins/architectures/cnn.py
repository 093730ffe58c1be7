"""The convolutional network of Joudaki et al. 2025, "Barriers for Learning in an Evolving World", as their code has it.

Normalisation and dropout are not applied throughout, as the paper's text says, but where their code applies them:
convolutions have no dropout, the hidden fully connected layer has no normalisation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

from torch import nn

from lopbench import UnsupportedError, numbers, whole
from lopbench_plugins.architectures._base import PaperArchitecture, activation_names, image_shape, named


@dataclass(frozen=True, kw_only=True)
class CNN(PaperArchitecture):
    """3x3 convolutions, each with norm, activation and 2x2 max pooling; one hidden layer; then ``out``.

    Initialised as torch does: weights and biases uniform within ``1 / sqrt(fan_in)``. Convolutions keep their bias
    beside a normalisation.

    Args:
        channels: Channels of each convolution, each at least 1; written ``64/128/256`` on the command line.
        hidden: Units of the hidden fully connected layer, at least 1.
    """

    name: ClassVar[str] = "cnn"
    examples: ClassVar[tuple[Mapping[str, object], ...]] = (
        {"channels": (4, 6), "hidden": 12},
        {"channels": (4, 6), "hidden": 12, "normalization": "batch"},
    )
    channels: tuple[int, ...] = numbers((64, 128, 256), least=1)
    hidden: int = whole(512, least=1)

    def assemble(self, input_shape: Sequence[int], outputs: int) -> nn.Module:
        """Return the network for images at least ``2 ** len(channels)`` pixels wide and high."""
        inputs, height, width = image_shape(self.name, input_shape)
        shrink = 2 ** len(self.channels)
        if min(height, width) < shrink:
            raise UnsupportedError(
                f"cnn halves the image {len(self.channels)} times and needs at least {shrink}x{shrink} pixels, "
                f"got {height}x{width}; use larger images or fewer convolutions"
            )
        layers = [
            named(
                conv=nn.Conv2d(fan_in, fan_out, kernel_size=3, padding=1),
                norm=self.normalization_layer("image", fan_out),
                activation=self.activation_layer(),
                pool=nn.MaxPool2d(2),
            )
            for fan_in, fan_out in pairwise((inputs, *self.channels))
        ]
        features = self.channels[-1] * (height // shrink) * (width // shrink)
        return named(
            layers=nn.Sequential(*layers),
            flatten=nn.Flatten(),
            fc=named(
                linear=nn.Linear(features, self.hidden),
                activation=self.activation_layer(),
                dropout=self.dropout_layer(),
            ),
            out=nn.Linear(self.hidden, outputs),
        )

    def layers(self, module: nn.Module) -> Sequence[str]:
        """Return the names of the activation modules: one per convolution, and the hidden layer's."""
        return activation_names(module)

    def widened(self, factor: int) -> "CNN":
        """Return the architecture with ``factor`` times the channels and hidden units."""
        return replace(self, channels=tuple(factor * c for c in self.channels), hidden=factor * self.hidden)
