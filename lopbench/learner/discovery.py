"""Finding the groups of hidden units that a method may reset.

A method may reset a unit only if nothing but the unit's own outgoing weights reads it. With these weights at zero, the
network then computes the same as without the unit. Some units have no such weights: they are added into a residual
stream, meet other units in an attention product or a gate, or leave the network as outputs. `discover` leaves them out.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lopbench.core.errors import UnsupportedError
from lopbench.core.rng import derive
from lopbench.core.text import counted, told
from lopbench.learner.groups import Consumer, Norm, UnitGroup
from lopbench.learner.trial import OUT_OF_MEMORY, noisy_copy, on_input, own_randomness, some_samples
from lopbench.learner.verify import unit_axis, verify

#: Layers that make and read units. Axis 0 of their weight is over the units they make, axis 1 over those they read.
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_Layer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
_NORMS = (
    nn.modules.batchnorm._BatchNorm,
    nn.modules.instancenorm._InstanceNorm,
    nn.LayerNorm,
    nn.GroupNorm,
)


@dataclass(frozen=True)
class Discovery:
    """What was found in a network.

    Args:
        network: Name of the network's class.
        groups: The groups of units that a method may reset, in forward order.
        left_out: Why the units of the other layers may not be reset, by name of the layer. Layers that failed `verify`
            come first.
    """

    network: str
    groups: tuple[UnitGroup, ...]
    left_out: Mapping[str, str]

    @property
    def refusal(self) -> str:
        """The error message for a network without any group."""
        reasons = list(self.left_out.values())
        if len(reasons) > 3:
            reasons[3:] = [f"and likewise for {counted(len(reasons) - 3, 'more layer')}"]
        return f"{self.network} has no units with private outgoing weights that could be reset" + (
            f": {'; '.join(reasons)}" if reasons else ""
        )


class _LeftOutError(Exception):
    """Why the units of a layer may not be reset."""


@dataclass
class _Trace:
    """The graph of one forward pass of ``module``, as nodes of torch_pruning, and what `_follow` asks about it."""

    module: nn.Module
    names: dict[nn.Module, str]
    nodes: dict[Any, Any]  #: Module or operation -> node.
    calls: list[nn.Module]  #: Layers and norms in the order of their calls, once for each call.
    uses: Counter[int]  #: Number of names that each parameter has, by its id.
    data: set[Any]  #: Nodes that depend on the network's input; the others derive from parameters alone.

    def private(self, module: nn.Module) -> bool:
        """Return whether the module is called once, is not grouped, and owns all its parameters (none is computed)."""
        parameters = [getattr(module, name, None) for name in ("weight", "bias")]
        return (
            self.calls.count(module) == 1
            and (not isinstance(module, _LAYERS) or getattr(module, "groups", 1) == 1)
            and all(p is None or self.uses[id(p)] == 1 for p in parameters)
        )


def discover(module: nn.Module, batch: Tensor) -> Discovery:
    """Return the groups of units of ``module`` that a method may reset, and why the others are left out.

    The network is traced with torch_pruning's dependency graph. Each candidate is then checked twice. First, each
    column that a consumer reads may depend on one unit only, by its derivative. Second, nothing but the consumers may
    read the units (`verify`). All of this runs on copies. The module, its gradients and buffers, and all random states
    stay as they are.

    Args:
        module: Any network of one input and one output tensor, on any device.
        batch: A batch of the stream, ``(N, *input_shape)``, on the module's device: numbers of the module's type, or
            tokens. Normal noise stands in for numbers that are all zero.

    Raises:
        UnsupportedError: If the network cannot be traced, or does not run in training or evaluation mode.
    """
    found: dict[str, UnitGroup] = {}
    left_out: dict[str, str] = {}
    with torch.enable_grad(), own_randomness(batch.device):
        try:
            batch = some_samples(batch)
            network = noisy_copy(module)
            network.eval().requires_grad_(True)
            untouched = copy.deepcopy(network)  # a network that has run may hold tensors that cannot be copied
            trace = _trace(network, batch)
        except OUT_OF_MEMORY:
            raise
        except Exception as error:
            raise UnsupportedError(
                f"the units of {type(module).__name__} cannot be found, because its forward pass cannot be traced "
                f"({told(error)}); use a method that resets no units, or another architecture"
            ) from error
        for layer in dict.fromkeys(trace.calls):
            if isinstance(layer, _LAYERS):
                name = trace.names[layer]
                try:
                    found[name] = _walk(trace, layer)
                except _LeftOutError as reason:
                    left_out[name] = str(reason)
        for name, reads in _mixed(network, batch, list(found.values())).items():
            del found[name]
            left_out[name] = f"'{reads}' does not read the units of '{name}' each in columns of its own"
        failed = verify(untouched, batch, list(found.values()))
    groups = tuple(group for name, group in found.items() if name not in failed)
    return Discovery(type(module).__name__, groups, failed | left_out)


def _trace(module: nn.Module, example: Tensor) -> _Trace:
    """Return the graph of ``module(example)``."""
    import torch_pruning  # here: takes seconds (torchvision, timm), and tables of results need none

    names = {m: name for name, m in module.named_modules()}
    calls: list[nn.Module] = []
    handles = [
        m.register_forward_pre_hook(lambda m, _: calls.append(m)) for m in names if isinstance(m, (*_LAYERS, *_NORMS))
    ]

    inputs: list[object] = []

    def forward(network: nn.Module, batch: Tensor) -> Tensor:
        # The clone makes the input an operation of the graph, so that a skip connection from it is seen as well.
        if batch.is_floating_point():
            batch = batch.detach().requires_grad_().clone()
            inputs.append(batch.grad_fn)
        return network(batch)  # type: ignore[no-any-return]

    graph = torch_pruning.DependencyGraph()
    graph.build_dependency(module, example, forward_fn=forward, verbose=False)
    for handle in handles:
        handle.remove()
    uses = Counter(id(p) for _, p in module.named_parameters(remove_duplicate=False))
    embedding = torch_pruning.ops.OPTYPE.EMBED
    stack = [n for n in graph.module2node.values() if n.grad_fn in inputs or n.type == embedding]
    data = set(stack)
    while stack:
        reached = [node for node in stack.pop().outputs if node not in data]
        data.update(reached)
        stack.extend(reached)
    return _Trace(module, names, graph.module2node, calls, uses, data)


def _walk(trace: _Trace, layer: _Layer) -> UnitGroup:
    """Return the group of units that ``layer`` makes.

    Raises:
        _LeftOutError: If something other than layers reads them.
    """
    name = trace.names[layer]
    if layer not in trace.nodes or not trace.private(layer):
        raise _LeftOutError(f"'{name}' is called more than once, is grouped, or its weights are shared or computed")
    size = layer.weight.shape[0]
    consumers, norms = _follow(trace, layer)
    for maker in (layer, *norms):
        for parameter, value in maker.named_parameters():
            if parameter not in ("weight", "bias") and size in value.shape:
                raise _LeftOutError(
                    f"'{trace.names[maker]}.{parameter}' has an entry for each unit, which no reset would change"
                )
    return UnitGroup(
        name=name,
        size=size,
        weight=f"{name}.weight",
        bias=f"{name}.bias" if layer.bias is not None else None,
        norms=tuple(_norm(trace, m) for m in trace.calls if m in norms),
        consumers=tuple(_consumer(trace, m, size) for m in trace.calls if m in consumers),
    )


def _follow(trace: _Trace, layer: _Layer) -> tuple[set[nn.Module], set[nn.Module]]:
    """Return the layers that read the units of ``layer``, and the normalisations on the way.

    Raises:
        _LeftOutError: If something other than layers reads them.
    """
    import torch_pruning

    name, size = trace.names[layer], layer.weight.shape[0]
    kind = torch_pruning.ops.OPTYPE
    root = trace.nodes[layer]
    path: set[Any] = {root}
    consumers: set[nn.Module] = set()
    norms: set[nn.Module] = set()
    stack = list(root.outputs)
    while stack:
        node = stack.pop()
        if node in path or node.module in consumers:
            continue
        if isinstance(node.module, (*_LAYERS, *_NORMS)) and not trace.private(node.module):
            raise _LeftOutError(f"'{trace.names[node.module]}' reads units of '{name}' and other things")
        if isinstance(node.module, _LAYERS):
            consumers.add(node.module)
            continue
        if isinstance(node.module, _NORMS):
            if not _per_channel(node.module, size):
                raise _LeftOutError(f"'{trace.names[node.module]}' does not normalise the units of '{name}' one by one")
            norms.add(node.module)
        elif node.type in (kind.CONV, kind.DEPTHWISE_CONV, kind.MHA, kind.LSTM, kind.EMBED):
            raise _LeftOutError(f"units of '{name}' are read by a layer of another kind than linear or convolution")
        elif node.type == kind.PRELU and node.module.weight.numel() > 1:
            raise _LeftOutError(f"an activation has a parameter for each unit of '{name}', which no reset would change")
        if node.type == kind.OUTPUT or not node.outputs:
            raise _LeftOutError(f"units of '{name}' leave the network as its outputs")
        path.add(node)
        stack.extend(node.outputs)
    for node in path - {root}:
        for other in set(node.inputs) - path:
            if other in trace.data or _unit_parameter(other, size):
                raise _LeftOutError(f"units of '{name}' are added to or multiplied with other things")
    if not consumers:
        raise _LeftOutError(f"units of '{name}' leave the network as its outputs")
    return consumers, norms


def _per_channel(norm: nn.Module, size: int) -> bool:
    """Return whether all tensors of the norm have one entry for each of ``size`` channels."""
    names = ("weight", "bias", "running_mean", "running_var")
    tensors = (getattr(norm, name, None) for name in names)
    return all(tensor is None or tensor.shape == (size,) for tensor in tensors)


def _unit_parameter(node: Any, size: int) -> bool:
    """Return whether ``node`` derives from a parameter outside of layers that may have a value for each unit."""
    import torch_pruning

    if node.type == torch_pruning.ops.OPTYPE.PARAMETER:
        return size in node.module.shape
    return any(_unit_parameter(parent, size) for parent in node.inputs)


def _norm(trace: _Trace, norm: nn.Module) -> Norm:
    """Return the names of a normalisation and of its tensors."""

    def name(tensor: str) -> str | None:
        return None if getattr(norm, tensor, None) is None else f"{trace.names[norm]}.{tensor}"

    return Norm(trace.names[norm], name("weight"), name("bias"), name("running_mean"), name("running_var"))


def _consumer(trace: _Trace, layer: nn.Module, size: int) -> Consumer:
    """Return how ``layer`` reads ``size`` units.

    Raises:
        _LeftOutError: If its input does not have the same whole number of columns for each unit.
    """
    assert isinstance(layer, _LAYERS)
    columns = layer.weight.shape[1]
    expansion, rest = divmod(columns, size)
    if rest or (expansion != 1 and not isinstance(layer, nn.Linear)):
        raise _LeftOutError(f"'{trace.names[layer]}' does not read each unit in columns of its own")
    name = trace.names[layer]
    return Consumer(name, f"{name}.weight", f"{name}.bias" if layer.bias is not None else None, expansion)


def _mixed(module: nn.Module, batch: Tensor, groups: list[UnitGroup]) -> dict[str, str]:
    """Return the names of the groups whose units a consumer does not read in separate columns, with that consumer.

    Derivatives show it. Normalisations mix units through their statistics, so they are replaced by the identity.
    """
    made: dict[str, Tensor] = {}
    reads: dict[str, Tensor] = {}
    layers = dict(module.named_modules())
    handles: list[RemovableHandle] = []
    for group in groups:
        handles += [
            layers[group.name].register_forward_hook(lambda _, __, out, name=group.name: made.update({name: out})),
            *(on_input(layers[c.module], partial(_keep, reads, c.module)) for c in group.consumers),
            *(layers[n.module].register_forward_hook(lambda _, inputs, __: inputs[0].clone()) for n in group.norms),
        ]
    module(batch)
    for handle in handles:
        handle.remove()
    found = {}
    for group in groups:
        axis = unit_axis(layers[group.name])
        for consumer in group.consumers:
            read = reads[consumer.module].movedim(unit_axis(layers[consumer.module]), -1)
            # The widths differ if a subclass of a layer has its units on another axis.
            widths = (made[group.name].shape[axis], read.shape[-1])
            if widths != (group.size, group.size * consumer.expansion) or not _own_columns(
                made[group.name], axis, read
            ):
                found[group.name] = consumer.module
                break
    return found


def _keep(reads: dict[str, Tensor], name: str, read: Tensor) -> None:
    reads[name] = read


def _own_columns(made: Tensor, axis: int, read: Tensor) -> bool:
    """Return whether each column of ``read`` ``(..., D * expansion)`` depends on its own unit of ``made`` only.

    The indices of any two units differ in at least one bit. It is therefore enough to check for each bit that the
    columns of units with the bit set do not depend on units without it, and the other way round.

    Args:
        made: What a layer makes.
        axis: The axis of ``made`` that its D units are on.
        read: What a consumer reads.
    """
    size = made.shape[axis]
    units = torch.arange(size)
    cotangent = torch.randn(read.shape, generator=derive(0, "trial", "slopes")).to(read)
    for bit in range((size - 1).bit_length()):
        for wanted in (0, 1):
            mine = (units >> bit & 1) == wanted
            columns = mine.repeat_interleave(read.shape[-1] // size)
            masked = cotangent * columns.to(read.device)
            (gradient,) = torch.autograd.grad(read, made, masked, retain_graph=True, allow_unused=True)
            if gradient is None or gradient.movedim(axis, -1)[..., ~mine].any():
                return False
    return True
