"""What methods that replace activation functions share: which layer makes what one reads, and how wide it is."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lopbench import UnsupportedError, activation_layers
from lopbench_plugins.perturbations._layers import is_norm

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Producer:
    """Where the inputs of an activation function come from.

    Args:
        layer: Name of the linear layer or convolution.
        norms: Names of the normalisation layers between the two.
    """

    layer: str
    norms: Sequence[str]


def functions_of(module: nn.Module, method: str) -> list[str]:
    """Return the names of all activation functions of a network.

    Raises:
        UnsupportedError: If it has none that is a module of its own.
    """
    found = activation_layers(module)
    if not found:
        raise UnsupportedError(
            f"{method}: {type(module).__name__} has no activation function that is a module of its own; "
            "write them as modules, such as torch.nn.ReLU()"
        )
    return found


def producers(module: nn.Module, example: Tensor) -> dict[str, list[Producer | None]]:
    """Return, for each call of each activation function, what makes its inputs; None where it is no single layer.

    Runs a copy of the network in evaluation mode, so that the network and the random state stay as they are.
    """
    network = copy.deepcopy(module).eval()
    functions = activation_layers(network)
    made: dict[int, tuple[str, Tensor, Tensor]] = {}  # holds the tensors, so that no other takes their place
    found: dict[str, list[Producer | None]] = {}

    def keep(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        return lambda layer, inputs, output: made.update({id(output): (name, inputs[0], output)})

    def read(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda layer, inputs: found.setdefault(name, []).append(_origin(network, made, inputs[0]))

    for name, layer in network.named_modules():
        if isinstance(layer, LAYERS) or is_norm(layer):
            layer.register_forward_hook(keep(name))
        if name in functions:
            layer.register_forward_pre_hook(read(name))
    run_aside(network, example)
    return found


def _origin(network: nn.Module, made: Mapping[int, tuple[str, Tensor, Tensor]], tensor: Tensor) -> Producer | None:
    norms: list[str] = []
    while id(tensor) in made:
        name, read, _ = made[id(tensor)]
        if isinstance(network.get_submodule(name), LAYERS):
            return Producer(name, norms)
        norms.append(name)
        tensor = read
    return None


def narrow(module: nn.Module, example: Tensor, size: Callable[[int], int], method: str) -> dict[str, set[int]]:
    """Leave the layers in front of all activation functions ``size(D)`` of their D units, in place.

    Returns:
        The numbers D of each activation function, one unless it is used at several places.

    Raises:
        UnsupportedError: If an activation function reads something else than one layer makes.
    """
    widths: dict[str, int] = {}
    found: dict[str, set[int]] = {}
    for name, calls in producers(module, example).items():
        for producer in calls:
            if producer is None:
                raise UnsupportedError(
                    f"{method}: the activation function {name!r} reads no outputs of a single layer, whose units could "
                    "be fewer; choose an architecture without additions in front of activation functions"
                )
            weight = module.get_submodule(producer.layer).weight
            assert isinstance(weight, Tensor)
            width = widths.setdefault(producer.layer, len(weight))
            found.setdefault(name, set()).add(width)
            for part in (producer.layer, *producer.norms):
                _cut(module.get_submodule(part), size(width))
    return found


def _cut(layer: nn.Module, rows: int) -> None:
    """Leave a layer its first channels, in place; its law, which is that of its inputs, stays."""
    for name, parameter in layer.named_parameters(recurse=False):
        if len(parameter) > rows:
            setattr(layer, name, nn.Parameter(parameter.detach()[:rows].clone()))
    for name, buffer in layer.named_buffers(recurse=False):
        if buffer.ndim and len(buffer) > rows:
            setattr(layer, name, buffer[:rows].clone())
    for attribute in ("out_features", "out_channels", "num_features", "num_channels"):
        if hasattr(layer, attribute):
            setattr(layer, attribute, rows)
    if isinstance(layer, nn.LayerNorm):
        layer.normalized_shape = (rows,)


@contextmanager
def refitting(method: str, what: str) -> Iterator[None]:
    """Refuse, for the duration, networks that do not run with layers of other sizes.

    Raises:
        UnsupportedError: If a forward pass inside fails.
    """
    try:
        yield
    except (RuntimeError, ValueError) as error:
        raise UnsupportedError(f"{method}: the network does not run with {what}: {error}") from error


def feature_axis(values: Tensor) -> int:
    """Return the axis of the features, of vectors and tokens ``(..., D)`` or maps ``(N, D, height, width)``."""
    return 1 if values.ndim > 3 else -1


def run_aside(module: nn.Module, example: Tensor) -> None:
    """Run a network on a batch in the mode in which it is, without gradients and without a draw from global streams."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        module(example)


def refuse_sequences(module: nn.Module, method: str) -> None:
    """Refuse networks whose features cannot be told from positions by the number of axes.

    Raises:
        UnsupportedError: If there is a one-dimensional convolution.
    """
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Conv1d):
            raise UnsupportedError(f"{method}: {name!r} is a one-dimensional convolution, which it does not serve")
