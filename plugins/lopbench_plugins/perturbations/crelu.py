"""CReLU: Shang et al. 2016, arXiv:1603.05201; against loss of plasticity Abbas et al. 2023, arXiv:2303.07507.

Kumar et al. 2023, arXiv:2308.11958, remove a share of the hidden units to make up for the parameters that it adds: 0.09
for MLPs on MNIST, 0.27 and 0.31 for their convolutional networks. Deviation: the weights of a widened layer are its own
and a shuffled copy of them, both divided by the square root of two: what its law, whatever that is, draws for twice the
inputs if its deviation falls with the root of their number.
"""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn

from lopbench import Family, Perturbation, UnsupportedError, number
from lopbench_plugins.perturbations._layers import replace
from lopbench_plugins.perturbations._producers import (
    LAYERS,
    feature_axis,
    functions_of,
    narrow,
    refitting,
    refuse_sequences,
    run_aside,
)


@dataclass(frozen=True, kw_only=True)
class CReLU(Perturbation):
    """Puts ``[relu(z), relu(-z)]`` in place of every ReLU; layers that read it take twice as many inputs.

    One of the two always has a gradient, so that no unit dies. The network has more parameters than before, unless
    ``removed`` takes some of the units away.

    Args:
        removed: Share of the hidden units that are left out, in [0, 1).
    """

    name: ClassVar[str] = "crelu"
    family: ClassVar[Family] = "activation"
    cost: ClassVar[Mapping[str, float]] = {"time": 1.3, "memory": 1.2, "program": 1.1}
    examples: ClassVar[tuple[Mapping[str, object], ...]] = ({}, {"removed": 0.3})
    grid: ClassVar[Mapping[str, tuple[object, ...]]] = {"removed": (0.0, 0.09, 0.27, 0.31)}
    equation: ClassVar[str] = "h = [relu(z), relu(-z)]"
    validated: ClassVar[tuple[str, ...]] = (
        "theorem: the halves differ by z and have product 0, and one of their slopes is 1",
        "property: weights of widened layers have the deviation of the law of twice the inputs",
    )
    removed: float = number(0.0, least=0, below=1)

    def configure(self, module: nn.Module, *, example: Tensor, generator: Generator) -> nn.Module:
        """Replace the activation functions, and widen the layers that read them, in place.

        Raises:
            UnsupportedError: If the network has other activation functions, or none that is a module, or does not run
                with twice as many features.
        """
        functions = functions_of(module, self.name)
        others = sorted({type(module.get_submodule(name)).__name__ for name in functions} - {"ReLU"})
        if others:
            raise UnsupportedError(
                f"{self.name}: the network has {', '.join(others)}, which are no torch.nn.ReLU; choose activation=relu"
            )
        refuse_sequences(module, self.name)
        if self.removed:
            narrow(module, example, lambda width: max(1, round(width * (1 - self.removed))), self.name)
        replace(module, {module.get_submodule(name): Doubled() for name in functions})
        _widen(module, example, generator)
        with refitting(self.name, "twice as many features"):
            run_aside(copy.deepcopy(module).eval(), example)
        return module


class Doubled(nn.ReLU):
    """CReLU on vectors and tokens ``(N, ..., D)`` and on feature maps ``(N, D, height, width)``."""

    def forward(self, z: Tensor) -> Tensor:
        """Return the positive and the negative part, side by side."""
        return torch.cat([z, -z], dim=feature_axis(z)).relu()


def _widen(module: nn.Module, example: Tensor, generator: Generator) -> None:
    """Make every layer fit what it reads, in place; draws from ``generator``."""
    network = copy.deepcopy(module).eval()
    sizes: dict[str, int] = {}

    def fit(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            assert isinstance(layer, LAYERS)
            size = inputs[0].shape[-1 if isinstance(layer, nn.Linear) else 1]
            if size != layer.weight.shape[1] and getattr(layer, "groups", 1) == 1:
                sizes[name] = size
                _resize(layer, size, None)

        return hook

    for name, layer in network.named_modules():
        if isinstance(layer, LAYERS):
            layer.register_forward_pre_hook(fit(name))
    with refitting("crelu", "twice as many features"):
        run_aside(network, example)
    for name, size in sizes.items():
        _resize(module.get_submodule(name), size, generator)


def _resize(layer: nn.Module, size: int, generator: Generator | None) -> None:
    """Give a layer ``size`` inputs: its own weights and a shuffled copy, scaled to the deviation for so many.

    What else has the shape of the weight, such as the parts of a head that another method has divided, goes with it.
    """
    assert isinstance(layer, LAYERS)
    shape, own = layer.weight.shape, layer.weight.shape[1]
    order = torch.randperm(layer.weight.numel(), generator=generator) if generator else slice(None)
    for name, parameter in list(layer.named_parameters(recurse=False)):
        if parameter.shape == shape:
            weight = parameter.detach()
            parts = [weight, *[weight.flatten()[order].view(shape)] * math.ceil(size / own - 1)]
            wide = torch.cat(parts, dim=1)[:, :size] * math.sqrt(own / size)
            setattr(layer, name, nn.Parameter(wide, requires_grad=parameter.requires_grad))
    setattr(layer, "in_features" if isinstance(layer, nn.Linear) else "in_channels", size)
