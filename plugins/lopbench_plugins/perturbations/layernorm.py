"""Layer normalisation: Ba, Kiros, Hinton 2016, arXiv:1607.06450.

Against loss of plasticity: Lyle et al. 2023, "Understanding Plasticity in Neural Networks", arXiv:2303.01486, who find
it the most reliable of the architectural choices.
"""

import copy
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn

from lopbench import Family, Perturbation, UnsupportedError, activation_layers
from lopbench_plugins.perturbations._layers import is_norm, replace

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True, kw_only=True)
class LayerNorm(Perturbation):
    """Normalises the features of each sample in front of every activation function, with learned scale and shift.

    Feature vectors and tokens get `torch.nn.LayerNorm`. Feature maps of convolutions get `torch.nn.GroupNorm` of one
    group, over channels and positions with a scale for each channel: what Joudaki et al. 2025, "Barriers for Learning
    in an Evolving World", call "layer" there.
    """

    name: ClassVar[str] = "layernorm"
    family: ClassVar[Family] = "normalise"
    cost: ClassVar[Mapping[str, float]] = {"time": 1.1, "memory": 1.0, "program": 1.3}
    presets: ClassVar[Mapping[str, str]] = {
        "layernorm+l2": "with a pull to zero: the strongest of the cheap baselines in most comparisons"
    }
    equation: ClassVar[str] = "z = gamma * (z - mean(z)) / std(z) + beta, over the features of a sample"
    validated: ClassVar[tuple[str, ...]] = (
        "theorem: the outputs do not change when a layer's weights and bias are scaled",
    )

    def configure(self, module: nn.Module, *, example: Tensor, generator: Generator) -> nn.Module:
        """Put a normalisation in front of each activation function, in place; draws nothing.

        An activation function called ``act`` becomes a sequence ``act`` of ``act.norm`` and ``act.function``.

        Raises:
            UnsupportedError: If the network normalises already, has no activation function that is a module of its
                own, or uses one at several places.
        """
        for name, layer in module.named_modules():
            if is_norm(layer):
                raise UnsupportedError(
                    f"{self.name}: the network normalises its features already ({name}, {type(layer).__name__}); "
                    "build it without, or leave the method away"
                )
        norms = {name: self._norm(name, calls) for name, calls in _inputs(module, example).items()}
        if not norms:
            raise UnsupportedError(
                f"{self.name}: {type(module).__name__} has no activation function that is a module of its own; "
                "write them as modules, such as torch.nn.ReLU()"
            )
        functions = {module.get_submodule(name): norm for name, norm in norms.items()}
        replace(
            module,
            {f: nn.Sequential(OrderedDict(norm=norm, function=f)) for f, norm in functions.items()},
        )
        return module

    def _norm(self, function: str, calls: list[tuple[int, bool]]) -> nn.Module:
        """Return the normalisation for the inputs of one activation function, as `_inputs` found them."""
        if len(calls) > 1:
            raise UnsupportedError(
                f"{self.name}: the activation function {function!r} is used at {len(calls)} places, which need a "
                "normalisation each; give every place a module of its own"
            )
        ((features, is_map),) = calls
        return nn.GroupNorm(1, features) if is_map else nn.LayerNorm(features)


def _inputs(module: nn.Module, example: Tensor) -> dict[str, list[tuple[int, bool]]]:
    """Return the number of features, and whether they form a map, at each call of each activation function.

    Runs a copy of the network in evaluation mode, so that the network, its mode and the random state stay as they are.
    """
    found: dict[str, list[tuple[int, bool]]] = {}
    network = copy.deepcopy(module).eval()
    last_is_convolution = False

    def remember(layer: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        nonlocal last_is_convolution
        last_is_convolution = isinstance(layer, _CONVOLUTIONS)

    def measure(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(layer: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            features = arguments[0]
            # Three axes are (N, C, L) behind a convolution and (N, T, C) behind a linear layer.
            is_map = features.ndim > 3 or (features.ndim == 3 and last_is_convolution)
            found.setdefault(name, []).append((features.shape[1 if is_map else -1], is_map))

        return hook

    for layer in network.modules():
        if isinstance(layer, (nn.Linear, *_CONVOLUTIONS)):
            layer.register_forward_pre_hook(remember)
    for name in activation_layers(network):
        network.get_submodule(name).register_forward_pre_hook(measure(name))
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        network(example)
    return found
