"""Hidden units: finding the groups a method may reset, and the one ``reset`` behind every reset method.

A unit is resettable if nothing but its own outgoing weights reads it: with these at zero the network is the network
without the unit. Units that are added into a residual stream, that meet other units in an attention product or a
gate, or that leave the network as outputs have no such weights, and `discover` leaves them out.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from lopbench.core.errors import InvalidInputError, UnsupportedError
from lopbench.core.rng import derive

if TYPE_CHECKING:
    from lopbench.core.interfaces import Optimizer
    from lopbench.learner.fresh import FreshPool

#: Layers that make and read units. The unit axis of their weight is 0 where they make and 1 where they read.
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_Layer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
_NORMS = (
    nn.modules.batchnorm._BatchNorm,
    nn.modules.instancenorm._InstanceNorm,
    nn.LayerNorm,
    nn.GroupNorm,
)


@dataclass(frozen=True)
class Norm:
    """A normalisation between a layer and its consumers: its name and those of its tensors ``(D,)``, None if absent."""

    module: str
    weight: str | None
    bias: str | None
    running_mean: str | None
    running_var: str | None


@dataclass(frozen=True)
class Consumer:
    """A layer that reads units.

    Args:
        module: Dotted name of the layer.
        weight: Name of its weight, ``(O, D * expansion)`` or, in a convolution, ``(O, D, *kernel)``.
        bias: Name of its bias ``(O,)``, None if it has none.
        expansion: Consecutive columns that each unit owns: ``H * W`` behind a flattened feature map, otherwise 1.
    """

    module: str
    weight: str
    bias: str | None
    expansion: int = 1


@dataclass(frozen=True)
class UnitGroup:
    """The hidden units of one layer, told in names of parameters and buffers (no replica axis).

    Args:
        name: Dotted name of the layer that makes the units.
        size: D, the number of units.
        weight: Name of the incoming weights, ``(D, ...)``.
        bias: Name of the layer's bias ``(D,)``, None if it has none.
        norms: Normalisations on the way to the consumers, each over these D channels.
        consumers: Every layer that reads the units, in forward order; at least one.
    """

    name: str
    size: int
    weight: str
    bias: str | None
    norms: tuple[Norm, ...]
    consumers: tuple[Consumer, ...]

    @property
    def read(self) -> str:
        """Name of the module whose input is the units' activation: the first consumer."""
        return self.consumers[0].module


@dataclass
class _Trace:
    """The graph of one forward pass of ``module``, as torch_pruning's nodes, and what the walk asks about it."""

    module: nn.Module
    names: dict[nn.Module, str]
    nodes: dict[Any, Any]  #: Module or operation -> node.
    calls: list[nn.Module]  #: Layers and norms in the order of their calls, once for each call.
    uses: Counter[int]  #: How many modules own each parameter, by id.
    data: set[Any]  #: Nodes that depend on the network's input; the others derive from parameters alone.

    def private(self, module: nn.Module) -> bool:
        """Whether the module is called once, ungrouped, with parameters of its own (computed ones are not)."""
        parameters = [getattr(module, name, None) for name in ("weight", "bias")]
        return (
            self.calls.count(module) == 1
            and (not isinstance(module, _LAYERS) or getattr(module, "groups", 1) == 1)
            and all(p is None or self.uses[id(p)] == 1 for p in parameters)
        )


def discover(module: nn.Module, example: Tensor) -> tuple[UnitGroup, ...]:
    """Return the groups of units of ``module`` that a method may reset, in forward order.

    The network is traced by torch_pruning's dependency graph; each candidate is then checked on random input: the
    derivative of what a consumer reads by what the layer makes must be unit by unit. Works on a copy in evaluation
    mode, so that module, gradients, buffers and random state stay as they are.

    Args:
        module: Any network of one input and one output tensor, on any device.
        example: A batch of zeros that the network takes, ``(2, *input_shape)``, on the module's device.

    Raises:
        UnsupportedError: If the network cannot be traced.
    """
    devices = [example.device] if example.device.type == "cuda" else []
    with torch.enable_grad(), torch.random.fork_rng(devices):
        try:
            module = copy.deepcopy(module).eval().requires_grad_(True)
            trace = _trace(module, example)
        except Exception as error:
            raise UnsupportedError(
                f"the units of {type(module).__name__} cannot be found, its forward pass cannot be traced "
                f"({type(error).__name__}: {error}); use a method that resets no units, or another architecture"
            ) from error
        found = [group for layer in dict.fromkeys(trace.calls) if (group := _walk(trace, layer)) is not None]
        return tuple(_unitwise(module, example, found))


def _trace(module: nn.Module, example: Tensor) -> _Trace:
    """Return the graph of ``module(example)``."""
    import torch_pruning  # takes seconds, since it imports torchvision and timm; a table of results needs none

    names = {m: name for name, m in module.named_modules()}
    calls: list[nn.Module] = []
    handles = [
        m.register_forward_pre_hook(lambda m, _: calls.append(m)) for m in names if isinstance(m, (*_LAYERS, *_NORMS))
    ]

    inputs: list[object] = []

    def forward(network: nn.Module, batch: Tensor) -> Tensor:
        # The input joins the graph as an operation of its own, so that a skip from it is seen as well.
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


def _walk(trace: _Trace, layer: nn.Module) -> UnitGroup | None:
    """Return the group of units that ``layer`` makes, None if something other than layers reads them."""
    import torch_pruning

    if not isinstance(layer, _LAYERS) or layer not in trace.nodes or not trace.private(layer):
        return None
    size = layer.weight.shape[0]
    kind = torch_pruning.ops.OPTYPE
    root = trace.nodes[layer]
    path, consumers, norms = {root}, set(), set()
    stack = list(root.outputs)
    while stack:
        node = stack.pop()
        if node in path or node.module in consumers:
            continue
        if isinstance(node.module, _LAYERS):
            if not trace.private(node.module):
                return None
            consumers.add(node.module)
            continue
        if isinstance(node.module, _NORMS):
            if not trace.private(node.module) or not _per_channel(node.module, size):
                return None
            norms.add(node.module)
        elif node.type in (kind.OUTPUT, kind.CONV, kind.DEPTHWISE_CONV, kind.MHA, kind.LSTM, kind.EMBED):
            return None
        elif node.type == kind.PRELU and node.module.weight.numel() > 1:
            return None  # a parameter for each unit that `reset` does not know
        path.add(node)
        stack.extend(node.outputs)
        if not node.outputs:
            return None  # the network's output
    for node in path - {root}:
        for other in set(node.inputs) - path:
            if other in trace.data or _unit_parameter(other, size):
                return None  # added to or multiplied with something that is not of these units
    if not consumers:
        return None
    readers = [_consumer(trace, m, size) for m in trace.calls if m in consumers]
    if any(reader is None for reader in readers):
        return None
    name = trace.names[layer]
    return UnitGroup(
        name=name,
        size=size,
        weight=f"{name}.weight",
        bias=f"{name}.bias" if layer.bias is not None else None,
        norms=tuple(_norm(trace, m) for m in trace.calls if m in norms),
        consumers=tuple(reader for reader in readers if reader is not None),
    )


def _per_channel(norm: nn.Module, size: int) -> bool:
    """Whether all tensors of the norm have one entry for each of ``size`` channels."""
    names = ("weight", "bias", "running_mean", "running_var")
    tensors = (getattr(norm, name, None) for name in names)
    return all(tensor is None or tensor.shape == (size,) for tensor in tensors)


def _unit_parameter(node: Any, size: int) -> bool:
    """Whether ``node`` derives from a free parameter with an axis of ``size``, one value for each unit."""
    import torch_pruning

    if node.type == torch_pruning.ops.OPTYPE.PARAMETER:
        return size in node.module.shape
    return any(_unit_parameter(parent, size) for parent in node.inputs)


def _norm(trace: _Trace, norm: nn.Module) -> Norm:
    def name(tensor: str) -> str | None:
        return None if getattr(norm, tensor, None) is None else f"{trace.names[norm]}.{tensor}"

    return Norm(trace.names[norm], name("weight"), name("bias"), name("running_mean"), name("running_var"))


def _consumer(trace: _Trace, layer: _Layer, size: int) -> Consumer | None:
    """Return how ``layer`` reads ``size`` units, None if its inputs are not a whole number of columns for each."""
    columns = layer.weight.shape[1]
    expansion, rest = divmod(columns, size)
    if rest or (expansion != 1 and not isinstance(layer, nn.Linear)):
        return None
    name = trace.names[layer]
    return Consumer(name, f"{name}.weight", f"{name}.bias" if layer.bias is not None else None, expansion)


def _unitwise(module: nn.Module, example: Tensor, groups: list[UnitGroup]) -> Iterator[UnitGroup]:
    """Yield those groups whose consumers read each unit in its own columns, by derivatives on random input.

    Normalisations mix units through their statistics and are stepped over.
    """
    made: dict[str, Tensor] = {}
    reads: dict[str, Tensor] = {}

    def keep_output(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda module, inputs, output: made.update({name: output})

    def keep_input(name: str) -> Callable[[nn.Module, Any], None]:
        return lambda module, inputs: reads.update({name: inputs[0]})

    layers = dict(module.named_modules())
    for group in groups:
        layers[group.name].register_forward_hook(keep_output(group.name))
        for consumer in group.consumers:
            layers[consumer.module].register_forward_pre_hook(keep_input(consumer.module))
        for norm in group.norms:
            layers[norm.module].register_forward_hook(lambda module, inputs, output: inputs[0].clone())
    generator = derive(0, "units")
    if example.is_floating_point():
        example = torch.randn(example.shape, generator=generator).to(example)
    module(example)
    for group in groups:
        axis = _axis(layers[group.name])
        inputs = [reads[c.module].movedim(_axis(layers[c.module]), -1) for c in group.consumers]
        widths = [made[group.name].shape[axis], *(read.shape[-1] for read in inputs)]
        if widths != [group.size, *(group.size * c.expansion for c in group.consumers)]:
            continue  # a subclass that has its units on an axis of its own
        if all(_own_columns(made[group.name], axis, read, generator) for read in inputs):
            yield group


def _axis(layer: nn.Module) -> int:
    """Return the axis of the units in what ``layer`` takes and makes."""
    return -1 if isinstance(layer, nn.Linear) else 1


def _own_columns(made: Tensor, axis: int, read: Tensor, generator: torch.Generator) -> bool:
    """Whether the columns of ``read`` ``(..., D * expansion)`` depend each on their own unit, ``axis`` of ``made``.

    Any two units differ in a bit of their numbers, so it is enough to see that for each bit the units with and
    without it do not depend on each other.
    """
    size = made.shape[axis]
    units = torch.arange(size)
    cotangent = torch.randn(read.shape, generator=generator).to(read)
    for bit in range((size - 1).bit_length()):
        for wanted in (0, 1):
            mine = (units >> bit & 1) == wanted
            columns = mine.repeat_interleave(read.shape[-1] // size)
            masked = cotangent * columns.to(read.device)
            (gradient,) = torch.autograd.grad(read, made, masked, retain_graph=True, allow_unused=True)
            if gradient is None or gradient.movedim(axis, -1)[..., ~mine].any():
                return False
    return True


class StackUnits:
    """The units of one group in a stack of R replicas; implements the protocol ``Units``.

    Args:
        group: Where the units are.
        parameters: Views ``(R, ...)`` of the trained parameters, outside autograd; changed in place by `reset`.
        buffers: Views ``(R, ...)`` of the buffers; changed in place by `reset`.
        optimizer: Told which entries of its state to forget.
        pool: Where fresh incoming weights come from.
        activation: Returns what went into the module ``group.read`` in the last training step, ``(R, B, ...)``.
    """

    def __init__(
        self,
        group: UnitGroup,
        parameters: Mapping[str, Tensor],
        buffers: Mapping[str, Tensor],
        optimizer: Optimizer,
        pool: FreshPool,
        activation: Callable[[], Tensor],
    ) -> None:
        self.group = group
        self.name = group.name
        self.size = group.size
        self._parameters = parameters
        self._buffers = buffers
        self._optimizer = optimizer
        self._pool = pool
        self._activation = activation

    @property
    def activation(self) -> Tensor:
        """What the outgoing weights multiplied in the last training step, ``(R, N, D)``, detached.

        With several consumers it is what the first one read. In convolutions N counts samples x height x width, in
        transformers samples x tokens; behind a flattened feature map each of its positions is a row as well.
        """
        read = self._activation().detach()
        consumer = self.group.consumers[0]
        if self._parameters[consumer.weight].ndim > 3:  # a convolution: (R, B, D, ...)
            read = read.movedim(2, -1)
        elif consumer.expansion > 1:  # (R, B, D * expansion)
            read = torch.unflatten(read, -1, (self.size, consumer.expansion)).transpose(-1, -2)
        return read.reshape(read.shape[0], -1, self.size)

    def incoming(self) -> Tensor:
        """Return the incoming weights, biases left out, as a new tensor ``(R, D, fan_in)``."""
        return self._parameters[self.group.weight].flatten(2).clone()

    def outgoing(self) -> Tensor:
        """Return the outgoing weights of all consumers as a new tensor ``(R, D, fan_out)``."""
        columns = [self._columns(consumer).movedim(2, 1).flatten(2) for consumer in self.group.consumers]
        # A clone keeps the order in memory, which `cat` would transpose at three times the cost.
        return columns[0].clone() if len(columns) == 1 else torch.cat(columns, dim=2)

    @torch.no_grad()
    def reset(
        self,
        mask: Tensor,
        *,
        bias: Literal["law", "zero"] = "law",
        transfer_mean: Tensor | None = None,
    ) -> None:
        """Make the units where ``mask`` is true as good as new, in place.

        Incoming weights are redrawn from the layer's own initialisation law, outgoing columns are zeroed, the norms'
        affine (to 1 and 0) and running statistics (to mean 0 and variance 1) of these channels are reset, and
        exactly these entries of the optimizer's state are cleared. The consumers' biases keep theirs.

        Args:
            mask: Units to reset, boolean ``(R, D)``.
            bias: Whether the bias is redrawn from the layer's law or set to zero.
            transfer_mean: If given, ``(R, D)``: each reset unit's mean activation, whose contribution moves into the
                bias of the consumers before the outgoing columns are zeroed. In convolutions it is the contribution
                to positions that no padding touches. Entries outside ``mask`` are not read.

        Raises:
            InvalidInputError: If ``mask`` or ``transfer_mean`` has another shape, or ``mask`` is not boolean.
            UnsupportedError: If ``transfer_mean`` is given and a consumer has no bias; nothing is changed then.
        """
        group, parameters = self.group, self._parameters
        shape = parameters[group.weight].shape[:2]
        if mask.shape != shape or mask.dtype != torch.bool:
            raise InvalidInputError(
                f"resetting units of {self.name} needs a boolean mask of shape {tuple(shape)}, "
                f"got {mask.dtype} of shape {tuple(mask.shape)}"
            )
        if transfer_mean is not None:
            self._check_transfer(transfer_mean, shape)
        if self._is_empty(mask):
            return
        if transfer_mean is not None:
            self._transfer(mask, transfer_mean)

        self._redraw(mask, bias)
        self._optimizer.clear(group.weight, mask.view(*shape, *[1] * (parameters[group.weight].ndim - 2)))
        if group.bias is not None:
            self._optimizer.clear(group.bias, mask)
        for norm in group.norms:
            for name, value in ((norm.weight, 1.0), (norm.bias, 0.0)):
                if name is not None:
                    parameters[name].masked_fill_(mask, value)
                    self._optimizer.clear(name, mask)
            for name, value in ((norm.running_mean, 0.0), (norm.running_var, 1.0)):
                if name is not None:
                    self._buffers[name].masked_fill_(mask, value)
        for consumer in group.consumers:
            self._erase(mask, consumer)
            columns = mask.repeat_interleave(consumer.expansion, dim=1).unsqueeze(1)  # (R, 1, D * expansion)
            ndim = parameters[consumer.weight].ndim
            self._optimizer.clear(consumer.weight, columns.view(*columns.shape, *[1] * (ndim - 3)))

    def _is_empty(self, mask: Tensor) -> bool:
        return not bool(mask.any())

    def _redraw(self, mask: Tensor, bias: Literal["law", "zero"]) -> None:
        """Give the masked units fresh incoming weights and biases."""
        group, where = self.group, mask.nonzero(as_tuple=True)
        weight = self._parameters[group.weight]
        rows, biases = self._pool.take(group, mask)
        weight[where] = rows.to(weight)
        if group.bias is not None:
            assert biases is not None  # the pool builds the same layers
            self._parameters[group.bias][where] = biases.to(weight) if bias == "law" else 0.0

    def _erase(self, mask: Tensor, consumer: Consumer) -> None:
        """Zero the weights with which ``consumer`` reads the masked units."""
        replica, unit = mask.nonzero(as_tuple=True)
        self._columns(consumer)[replica, :, unit] = 0.0

    def _columns(self, consumer: Consumer) -> Tensor:
        """Return a view ``(R, O, D, expansion, *kernel)`` of the weights that read the units."""
        return torch.unflatten(self._parameters[consumer.weight], 2, (self.size, consumer.expansion))

    def _check_transfer(self, mean: Tensor, shape: torch.Size) -> None:
        if mean.shape != shape:
            raise InvalidInputError(
                f"transfer_mean for units of {self.name} needs shape {tuple(shape)}, got {tuple(mean.shape)}"
            )
        for consumer in self.group.consumers:
            if consumer.bias is None:
                raise UnsupportedError(
                    f"the mean of units of {self.name} cannot move into the bias of {consumer.module}, which has "
                    "none; reset without transferring the mean, or use a network whose layers have biases"
                )

    def _transfer(self, mask: Tensor, mean: Tensor) -> None:
        """Add what the masked units contribute on average to the biases of their consumers."""
        # `where` and not a product: the mean of a unit that was never measured may be NaN.
        mean = torch.where(mask, mean, 0.0)
        for consumer in self.group.consumers:
            assert consumer.bias is not None  # checked before anything was changed
            bias = self._parameters[consumer.bias]
            moved = torch.einsum("rod,rd->ro", self._columns(consumer).flatten(3).sum(dim=3), mean.to(bias))
            bias.copy_(torch.where(mask.any(dim=1, keepdim=True), bias + moved, bias))
