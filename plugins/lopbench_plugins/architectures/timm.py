"""Any model of timm (Wightman, "PyTorch Image Models", github.com/huggingface/pytorch-image-models), from scratch."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import timm
import torch
from torch import Generator, Tensor, nn

from lopbench import Architecture, UnsupportedError, UsageError, number, rng
from lopbench_plugins.architectures._base import check_request, drop_idle_dropout, image_shape


class PointwiseLinear(nn.Linear):
    """A linear layer on images of one pixel: what a 1x1 convolution does there, under the type that a head has."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (the base class names it so)
        """Return ``(N, K, 1, 1)`` for ``input`` of shape ``(N, C, 1, 1)``."""
        return super().forward(input.flatten(1))[:, :, None, None]


@dataclass(frozen=True, kw_only=True)
class Timm(Architecture):
    """A model of timm by name, freshly initialised by timm's own rule; no weights are downloaded.

    Args:
        model: Name of the model without a tag of pretrained weights, as ``timm.list_models()`` lists it.
        dropout: timm's ``drop_rate``, in [0, 1): for most models the rate before the head. Stochastic depth, where a
            model has it by default (Swin, say), stays at the model's own rate.
    """

    name: ClassVar[str] = "timm"
    positional: ClassVar[str | None] = "model"
    examples: ClassVar[tuple[Mapping[str, object], ...]] = ({"model": "resnet10t"}, {"model": "test_vit"})
    model: str
    dropout: float = number(0.0, least=0, below=1, zero=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        models = timm.list_models()
        if self.model not in models:
            close = difflib.get_close_matches(self.model, models, n=3)
            hint = f"Did you mean {' or '.join(map(repr, close))}?" if close else "timm.list_models() names them all."
            tag = " A tag of pretrained weights is left out: networks start untrained." if "." in self.model else ""
            raise UsageError(f"Unknown timm model {self.model!r}. {hint}{tag}")

    def build(self, input_shape: Sequence[int], outputs: int, *, generator: Generator) -> nn.Module:
        """Return a freshly initialised network in training mode.

        Args:
            input_shape: Shape of one sample, ``(C, H, W)``.
            outputs: Number K of outputs of the head, at least 1.
            generator: Source of every random draw, on the CPU; advanced in place.

        Raises:
            InvalidInputError: If a dimension or ``outputs`` is below 1, or the generator is not on the CPU.
            UnsupportedError: If the model does not take this input size or has not exactly one linear head.
        """
        check_request(self.name, input_shape, outputs, generator)
        shape = image_shape(self.name, input_shape)
        asked = f"timm:{self.model} for images of {shape[0]}x{shape[1]}x{shape[2]}"
        with rng.isolated(generator):
            try:
                network = self._create(shape, outputs)
                _make_head_linear(network)
                drop_idle_dropout(network)
                head_is_output = _head_is_output(network, shape, outputs)
            except Exception as error:  # timm models fail in many ways on sizes they were not made for
                reason = str(error).partition("\n")[0] or type(error).__name__
                raise UnsupportedError(
                    f"{asked} and {outputs} outputs cannot be built: {reason}; choose another input size or model"
                ) from error
        if not head_is_output:
            raise UnsupportedError(
                f"{asked} does not end in one linear head of {outputs} outputs (distilled models average two); "
                "choose a model with a single head"
            )
        return network

    def _create(self, shape: tuple[int, int, int], outputs: int) -> nn.Module:
        channels, height, width = shape
        arguments: dict[str, Any] = {"num_classes": outputs, "in_chans": channels, "drop_rate": self.dropout}
        try:
            sized: nn.Module = timm.create_model(self.model, pretrained=False, img_size=(height, width), **arguments)
        except TypeError as error:
            if "img_size" not in str(error):
                raise
            # Convolutional models take any size and so have no such argument.
            sized = timm.create_model(self.model, pretrained=False, **arguments)
        for module in sized.modules():
            if getattr(module, "inplace", False):
                module.inplace = False  # type: ignore[assignment]  # would overwrite what a probe has captured
        return sized

    @property
    def transformer(self) -> bool:
        """Whether more than one layer of the model attends; a single one is a pooling of features."""
        return _attending(self.model) > 1

    def layers(self, module: nn.Module) -> Sequence[str] | None:
        """Return the names of the transformer or mixer blocks, or None (all activations) where there are none."""
        blocks = getattr(module, "blocks", None)
        containers = (nn.Sequential, nn.ModuleList)
        # EfficientNet and its kin call their stages blocks: what these give out has passed no activation.
        if not isinstance(blocks, containers) or any(isinstance(block, containers) for block in blocks):
            return None
        return [f"blocks.{index}" for index in range(len(blocks))]


@cache
def _attending(model: str) -> int:
    """Return how many layers of a model attend: all kinds of attention in timm and torch have a number of heads."""
    with torch.device("meta"):  # no weights are made
        network: nn.Module = timm.create_model(model, pretrained=False)
    return sum(isinstance(getattr(module, "num_heads", None), int) for module in network.modules())


def _make_head_linear(network: Any) -> None:
    """Turn a head that is a 1x1 convolution into a linear layer of the same weights, in place."""
    head = network.get_classifier()
    if not isinstance(head, nn.Conv2d) or head.kernel_size != (1, 1):
        return
    linear = PointwiseLinear(head.in_channels, head.out_channels, bias=head.bias is not None)
    linear.load_state_dict(
        {name: value.flatten(1) if value.ndim == 4 else value for name, value in head.state_dict().items()}
    )
    name = next(name for name, module in network.named_modules() if module is head)
    network.set_submodule(name, linear)


def _head_is_output(network: nn.Module, shape: tuple[int, int, int], outputs: int) -> bool:
    """Return whether the output is what the last linear layer of ``outputs`` units gives, for two images of zeros."""
    heads = [m for m in network.modules() if isinstance(m, nn.Linear) and m.out_features == outputs]
    if not heads:
        return False
    marker = torch.arange(2.0 * outputs).reshape(2, outputs)
    handle = heads[-1].register_forward_hook(lambda _module, _inputs, output: marker.reshape(output.shape))
    network.eval()  # keeps running statistics, and lets a single pixel through batch normalisation
    with torch.no_grad():
        output = network(torch.zeros(2, *shape))
    network.train()
    handle.remove()
    return isinstance(output, Tensor) and torch.equal(output, marker)
