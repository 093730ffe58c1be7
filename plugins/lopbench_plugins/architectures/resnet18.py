"""ResNet-18 (He et al. 2015, arXiv:1512.03385v1) for small images, as the code of Joudaki et al. 2025 has it.

Deviation from He et al.: the stem is a 3x3 convolution of stride 1 without max pooling, and the shortcut of a
widening block is a 1x1 convolution (their option B).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor, nn

from lopbench import whole
from lopbench_plugins.architectures._base import PaperArchitecture, image_shape, named


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut: ``activation(residual(x) + shortcut(x))``.

    Args:
        residual: Maps ``(N, C, H, W)`` to ``(N, C', H', W')``.
        shortcut: The same shapes; the identity where the block keeps the shape.
        activation: What follows the addition.
    """

    def __init__(self, residual: nn.Module, shortcut: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.residual = residual
        self.shortcut = shortcut
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output for ``x`` of shape ``(N, C, H, W)``."""
        output: Tensor = self.activation(self.residual(x) + self.shortcut(x))
        return output


@dataclass(frozen=True, kw_only=True)
class ResNet18(PaperArchitecture):
    """Stem, eight basic blocks in stages of two with strides 1, 2, 2, 2, average pooling, dropout, ``out``.

    Dropout acts before the head alone, and convolutions have a bias only without normalisation. Initialised as the
    authors do: convolution weights normal with variance ``2 / fan_out`` (He et al. 2015, arXiv:1502.01852v1) whatever
    the activation, norms at 1 and 0; biases and the head as torch does, uniform within ``1 / sqrt(fan_in)``.

    Args:
        base_width: Channels of the stem and the first stage, at least 1; each later stage has twice as many.
    """

    name: ClassVar[str] = "resnet18"
    examples: ClassVar[tuple[Mapping[str, object], ...]] = (
        {"base_width": 4},
        {"base_width": 4, "normalization": "batch"},
    )
    base_width: int = whole(64, least=1)

    def assemble(self, input_shape: Sequence[int], outputs: int) -> nn.Module:
        """Return the network for images of any size."""
        inputs, _, _ = image_shape(self.name, input_shape)
        blocks = []
        width = self.base_width
        for stage in range(4):
            stage_width = self.base_width * 2**stage
            for stride in (1 if stage == 0 else 2, 1):
                blocks.append(self._block(width, stage_width, stride))
                width = stage_width
        network = named(
            stem=named(**self._conv(inputs, self.base_width, 3, 1), activation=self.activation_layer()),
            blocks=nn.Sequential(*blocks),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            dropout=self.dropout_layer(),
            out=nn.Linear(width, outputs),
        )
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        return network

    def _conv(self, inputs: int, width: int, kernel_size: int, stride: int) -> dict[str, nn.Module | None]:
        conv = nn.Conv2d(
            inputs, width, kernel_size, stride, padding=kernel_size // 2, bias=self.normalization == "none"
        )
        return {"conv": conv, "norm": self.normalization_layer("image", width)}

    def _block(self, inputs: int, width: int, stride: int) -> BasicBlock:
        first, second = self._conv(inputs, width, 3, stride), self._conv(width, width, 3, 1)
        residual = named(
            conv1=first["conv"],
            norm1=first["norm"],
            activation=self.activation_layer(),
            conv2=second["conv"],
            norm2=second["norm"],
        )
        same_shape = stride == 1 and inputs == width
        shortcut = nn.Identity() if same_shape else named(**self._conv(inputs, width, 1, stride))
        return BasicBlock(residual, shortcut, self.activation_layer())

    def layers(self, module: nn.Module) -> Sequence[str]:
        """Return the names of the blocks, whose outputs are the activations after the addition."""
        return [name for name, block in module.named_modules() if isinstance(block, BasicBlock)]

    def widened(self, factor: int) -> "ResNet18":
        """Return the architecture with ``factor`` times the channels."""
        return replace(self, base_width=self.base_width * factor)
