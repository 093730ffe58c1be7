"""What methods that act on matrices share: which tensors are weights, and those of one shape side by side."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lopbench import Learner, UnsupportedError
from lopbench_plugins.perturbations._layers import is_norm

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Roles:
    """Names of parameters by what they do, in order of definition.

    Embeddings, tokens and positions are none of them.

    Args:
        weights: Matrices of linear layers and attention, kernels of convolutions.
        biases: What these layers add.
        gains: What normalisation layers multiply by.
        shifts: What normalisation layers add.
    """

    weights: Sequence[str]
    biases: Sequence[str]
    gains: Sequence[str]
    shifts: Sequence[str]


def roles(module: nn.Module) -> Roles:
    """Return what the parameters of a network do.

    Raises:
        UnsupportedError: If the weight of a layer is computed from others, as by `torch.nn.utils.parametrizations`.
    """
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    found: dict[str, list[str]] = {"weights": [], "biases": [], "gains": [], "shifts": []}
    for path, layer in module.named_modules():
        if isinstance(layer, _LAYERS) and id(layer.weight) not in names:
            raise UnsupportedError(
                f"the weight of the layer {path!r} is computed from other parameters; build the network without"
            )
        if isinstance(layer, _LAYERS):
            pairs = {"weights": layer.weight, "biases": layer.bias}
        elif isinstance(layer, nn.MultiheadAttention):
            pairs = {"weights": layer.in_proj_weight, "biases": layer.in_proj_bias}
        elif is_norm(layer):
            pairs = {"gains": getattr(layer, "weight", None), "shifts": getattr(layer, "bias", None)}
        else:
            continue
        for role, parameter in pairs.items():
            name = names.get(id(parameter))
            if name is not None and name not in found[role]:
                found[role].append(name)
    return Roles(**found)


def hidden_weights(learner: Learner, method: str) -> list[str]:
    """Return the names of all weights but the head's.

    Raises:
        UnsupportedError: If there are none.
    """
    found = [name for name in roles(learner.module).weights if name not in learner.head]
    if not found:
        raise UnsupportedError(
            f"{method}: {type(learner.module).__name__} has no layer before its head that it could act on; choose an "
            "architecture with hidden layers"
        )
    return found


def by_shape(names: Collection[str], tensors: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """Return the names of weights by the shape of their matrices, as in "128x64"."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in names:
        rows, columns = tensors[name].flatten(2).shape[1:]
        found[f"{rows}x{columns}"].append(name)
    return dict(found)


def stacked(names: Sequence[str], tensors: Mapping[str, Tensor]) -> Tensor:
    """Return weights of one shape as matrices ``(R, L, out, in)``; kernels are ``(out, in * height * width)``."""
    if len(names) == 1:
        return tensors[names[0]].flatten(2).unsqueeze(1)
    return torch.stack([tensors[name].flatten(2) for name in names], dim=1)
