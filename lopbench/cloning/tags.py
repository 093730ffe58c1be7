"""Following channels through a network: every layer emits random tags instead of values, and what it reads is matched.

No operation needs a rule here. Base and clone are run side by side with their layers replaced: each layer emits tags
that are drawn once for the base and copied for the clones of a channel. Whatever lies between the layers (additions,
reshapes, attention, a flatten) is the network's own code, working on tags; where its result in the clone holds the
values of the base, each an entire number of times, the positions say which channel is a clone of which.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.overrides import TorchFunctionMode

from lopbench.cloning.layers import Axes, channel_axes, is_layer, output_of, reads
from lopbench.core.errors import UnsupportedError
from lopbench.core.profile import Partition
from lopbench.core.text import told

#: Relative deviation, in float64, up to which two tags are the same: what a sum in another order changes.
_SAME = 1e-9
#: The same for sums over a whole slice, by which slices are told apart.
_SAME_SLICE = 1e-11


def find_layers(module: nn.Module) -> dict[str, nn.Module]:
    """Return the layers that are widened as a whole, by name, a shared one once.

    Raises:
        UnsupportedError: If a layer of torch's is of a kind that no rule is known for.
    """
    found: dict[str, nn.Module] = {}
    for name, child in module.named_modules():
        inside = any(
            isinstance(layer, nn.MultiheadAttention) and name.startswith(f"{n}.") for n, layer in found.items()
        )
        if not inside and is_layer(name, child):
            found[name] = child
    return found


def match(base: Tensor, wide: Tensor) -> Axes | None:
    """Return, for each axis, of which base entry each entry of ``wide`` is a clone; None if it is not made of clones.

    Entries of an axis that has the same size in both are their own clones. Where several base entries hold the same
    values, their clones are shared out in order.
    """
    if base.ndim != wide.ndim:
        return None
    grown = [axis for axis in range(base.ndim) if base.shape[axis] != wide.shape[axis]]
    axes: list[Partition | None] = [None] * base.ndim
    for axis in grown:
        # The first entry is a clone of the first in every layout, so that one axis can be looked at alone.
        first = tuple(slice(0, 1) if other in grown and other != axis else slice(None) for other in range(base.ndim))
        found = _match_axis(base[first].movedim(axis, 0).flatten(1), wide[first].movedim(axis, 0).flatten(1))
        if found is None:
            return None
        axes[axis] = found
    return tuple(axes) if deviation(expand(base, axes), wide) <= _SAME else None


class Matches:
    """`match` for the tensors of one run, which stand at the end of one module and the beginning of the next."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], tuple[Tensor, Tensor, Axes | None]] = {}

    def __call__(self, base: Tensor, wide: Tensor) -> Axes | None:
        """Return ``match(base, wide)``."""
        key = id(base), id(wide)
        if key not in self._known:
            # The tensors are kept with their ids, which would be given to others.
            self._known[key] = base, wide, match(base.detach(), wide.detach())
        return self._known[key][2]


def expand(base: Tensor, axes: Sequence[Partition | None]) -> Tensor:
    """Return ``base`` with its entries cloned along each axis."""
    for axis, partition in enumerate(axes):
        if partition is not None:
            base = partition.expand(base, axis)
    return base


def deviation(expected: Tensor, actual: Tensor) -> float:
    """Return the largest difference, as a share of the largest magnitude; infinity if shapes differ or one is NaN."""
    if expected.shape != actual.shape:
        return float("inf")
    if expected.numel() == 0:
        return 0.0
    worst = (
        (expected - actual).abs().max().item() if expected.dtype != torch.bool else float((expected != actual).any())
    )
    if worst == 0:
        return 0.0
    scale = expected.abs().max().item() if expected.dtype != torch.bool else 1.0
    return float("inf") if worst != worst or scale == 0 else float(worst / scale)


def _match_axis(base: Tensor, wide: Tensor) -> Partition | None:
    """Return of which row of ``base`` each row of ``wide`` is a clone; None if one is of none, or one has no clone."""
    if base.shape[1] != wide.shape[1] or base.shape[0] > wide.shape[0]:
        return None
    weights = torch.linspace(0.5, 1.5, base.shape[1], dtype=base.dtype, device=base.device).cos()
    ordered, order = (base @ weights).sort(stable=True)
    sums = wide @ weights
    tolerance = _SAME_SLICE * max(base.abs().sum(dim=1).max().item(), 1e-300)
    first = torch.searchsorted(ordered, sums - tolerance)
    last = torch.searchsorted(ordered, sums + tolerance)
    if (last <= first).any():
        return None
    rows: list[list[int]] = [[] for _ in range(len(ordered))]  # wide rows, by the first base row that they may be of
    for row, start in enumerate(first.tolist()):
        rows[start].append(row)
    blocks = [0] * len(sums)
    candidates = order.tolist()
    for start, mine in enumerate(rows):
        if mine:
            equal = sorted(candidates[start : int(last[mine[0]])])
            share = len(mine) / len(equal)
            for position, row in enumerate(mine):
                blocks[row] = equal[int(position / share)]
    return Partition(tuple(blocks)) if len(set(blocks)) == len(ordered) else None


@dataclass(frozen=True)
class Call:
    """One call of a layer in the base network: what it read and the tags it emitted, and the axes of its channels."""

    name: str
    read: tuple[Tensor, ...]
    made: Tensor
    axes: tuple[int, int]


@dataclass
class Seen:
    """What one module, layer or not, took and returned in the base's run; the first tensor of each."""

    name: str
    taken: Tensor | None
    returned: Tensor | None


class Misfit(Exception):  # noqa: N818 (raised and caught here: the clone as planned does not run or hold clones)
    """A clone as planned does not run, or something in it is not made of clones.

    Args:
        position: How far the run came, in calls of layers and in operations.
        kind: "operation", "read" or "output".
        where: Name of the module in which it happened.
        reason: What happened, for the error.
        operands: Tensors that did not go together, or the one that is not made of clones.
        operation: Name of the operation.
    """

    def __init__(
        self,
        position: tuple[int, int],
        kind: str,
        where: str,
        reason: str,
        operands: Sequence[Tensor] = (),
        operation: str = "",
    ) -> None:
        super().__init__(reason)
        self.position = position
        self.kind = kind
        self.where = where
        self.reason = reason
        self.operands = tuple(operands)
        self.operation = operation


class Tagged:
    """A copy of a network whose layers do nothing but call ``layer`` with their name and what they were called with.

    Args:
        module: The network; a float64 copy in evaluation mode is made of it.
        layers: Names of its layers.
    """

    def __init__(self, module: nn.Module, layers: Sequence[str]) -> None:
        # The layers' own tensors are never looked at, and are not worth a copy.
        own = [t for name in layers for t in module.get_submodule(name).state_dict(keep_vars=True).values()]
        self.module = copy.deepcopy(module, {id(t): t for t in own}).eval()
        for child in self.module.modules():
            if hasattr(child, "fused_attn"):
                # With or without the kernel, all networks must call the same modules.
                object.__setattr__(child, "fused_attn", False)
            for tensors in (child._parameters, child._buffers):
                for name, tensor in tensors.items():
                    if tensor is not None and tensor.is_floating_point() and not any(tensor is t for t in own):
                        double = tensor.detach().double()
                        tensors[name] = nn.Parameter(double) if isinstance(tensor, nn.Parameter) else double  # type: ignore[assignment]
        self.inside: list[str] = []  #: Names of the modules that are being called, innermost last.
        self.layer: Callable[[str, tuple[Any, ...], dict[str, Any]], Any]
        self.watch: Callable[[str, tuple[Any, ...], Any], None] | None = None
        for name, child in self.module.named_modules():
            child.register_forward_pre_hook(self._enter(name))
            child.register_forward_hook(self._leave(name))
        for name in layers:
            object.__setattr__(self.module.get_submodule(name), "forward", self._replace(name))

    def run(self, example: Tensor) -> Any:
        """Return what the network makes of ``example`` and the tags that ``layer`` emits."""
        self.inside.clear()
        with torch.enable_grad():
            return self.module(example)

    def _enter(self, name: str) -> Callable[[nn.Module, Any], None]:
        return lambda module, inputs: self.inside.append(name)

    def _leave(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def leave(module: nn.Module, inputs: Any, output: Any) -> None:
            self.inside.pop()
            if self.watch is not None:
                self.watch(name, inputs, output)

        return leave

    def _replace(self, name: str) -> Callable[..., Any]:
        def forward(*arguments: Any, **keywords: Any) -> Any:
            with torch._C.DisableTorchFunction():
                return self.layer(name, arguments, keywords)

        return forward


def first_tensor(value: Any) -> Tensor | None:
    """Return the first floating-point tensor of what a module took or returned, if there is one."""
    values = value if isinstance(value, tuple | list) else (value,)
    return next((v for v in values if isinstance(v, Tensor) and v.is_floating_point()), None)


class BaseRun:
    """The base network's run on tags: every call of a layer, and what every module took and returned.

    Args:
        module: The base network.
        example: A batch of zeros that it takes.
        generator: Source of the tags.

    Raises:
        UnsupportedError: If the network does not run so, or does not return one tensor.
    """

    def __init__(self, module: nn.Module, example: Tensor, generator: Generator) -> None:
        self.layers = find_layers(module)
        self.calls: list[Call] = []
        self.made: list[tuple[str, Tensor]] = []  #: Layer and the leaf of autograd that it emitted, for each call.
        self.seen: list[Seen] = []
        self.generator = generator
        self.tagged = Tagged(module, list(self.layers))
        self.tagged.layer = self._emit
        self.tagged.watch = lambda name, inputs, output: self.seen.append(
            Seen(name, first_tensor(inputs), first_tensor(output))
        )
        self.example = self.tags(example.shape, example) if example.is_floating_point() else example
        #: Parameters and buffers that belong to no layer: class tokens, positions, layer scales.
        self.bare = self._bare_tensors()
        try:
            output = self.tagged.run(self.example)
        except UnsupportedError:
            raise
        except Exception as error:
            raise UnsupportedError(
                f"{type(module).__name__} cannot be followed from layer to layer, {self.where} fails ({told(error)})"
            ) from error
        if not isinstance(output, Tensor):
            raise UnsupportedError(f"{type(module).__name__} returns {type(output).__name__}; only one tensor will do")
        self.output = output
        called = {call.name for call in self.calls}
        for name, layer in self.layers.items():
            if name not in called and next(layer.parameters(), None) is not None:
                raise UnsupportedError(
                    f"{name} ({type(layer).__name__}) cannot be cloned: the forward pass never calls it, so nothing "
                    "tells what its channels are; leave it out, or call it as a module"
                )

    @property
    def where(self) -> str:
        """Name of the module that is being called."""
        return next((name for name in reversed(self.tagged.inside) if name), "the network")

    def tags(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """Return new tags, uniform in [0.1, 0.9]: activation functions let these through and keep them apart."""
        tags = torch.rand(tuple(shape), generator=self.generator, dtype=torch.float64) * 0.8 + 0.1
        return tags.to(like.device)

    def _bare_tensors(self) -> dict[str, Tensor]:
        def owned(name: str) -> bool:
            return any(name.startswith(f"{layer}.") for layer in self.layers)

        bare = {}
        network = self.tagged.module
        for name, parameter in network.named_parameters():
            if not owned(name) and "" not in self.layers:
                with torch.no_grad():
                    parameter.copy_(self.tags(parameter.shape, parameter))
                bare[name] = parameter.detach().clone()
        for name, buffer in network.named_buffers():
            if not owned(name) and "" not in self.layers and buffer.is_floating_point():
                bare[name] = buffer.detach().clone()
        return bare

    def _emit(self, name: str, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        layer = self.layers[name]
        read = reads(layer, arguments, keywords)
        shape = read[0].shape if read else first_shape(arguments, keywords)
        axes = channel_axes(layer, shape)
        output = output_of(layer, arguments, keywords)
        made = output[0] if isinstance(output, tuple) else output
        example = read[0] if read else arguments[0]
        tags = self.tags(made.shape, example).requires_grad_()
        self.made.append((name, tags))
        self.calls.append(Call(name, tuple(r.detach() for r in read), tags.detach(), axes))
        emitted = tags.clone()  # not the leaf itself, so that the network may change it in place
        if isinstance(output, tuple):
            # Attention weights beside the output carry no channels.
            rest = [None if v is None else self.tags(v.shape, example) for v in output[1:]]
            return (emitted, *rest)
        return emitted


def first_shape(arguments: Sequence[Any], keywords: Mapping[str, Any]) -> torch.Size:
    """Return the shape of the first tensor that a layer was called with."""
    return next(v.shape for v in [*arguments, *keywords.values()] if isinstance(v, Tensor))


class Watcher(TorchFunctionMode):
    """Counts the operations between layers, and tells which operands did not go together."""

    def __init__(self, fail: Callable[[str, Sequence[Tensor], Exception], Misfit]) -> None:
        super().__init__()
        self.count = 0
        self._fail = fail

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        try:
            return func(*args, **(kwargs or {}))
        except (RuntimeError, ValueError, IndexError) as error:
            operands: list[Tensor] = []
            for value in [*args, *(kwargs or {}).values()]:
                operands.extend(
                    v for v in (value if isinstance(value, tuple | list) else [value]) if isinstance(v, Tensor)
                )
            raise self._fail(getattr(func, "__name__", str(func)), operands, error) from error


def leaves(tensor: Tensor) -> list[Tensor]:
    """Return the leaves of autograd that ``tensor`` was computed from."""
    if tensor.grad_fn is None:
        return [tensor] if tensor.requires_grad else []
    found: list[Tensor] = []
    stack: list[Any] = [tensor.grad_fn]
    known: set[Any] = set()
    while stack:
        node = stack.pop()
        if node in known:
            continue
        known.add(node)
        if hasattr(node, "variable"):
            found.append(node.variable)
        stack.extend(following for following, _ in node.next_functions if following is not None)
    return found


@contextmanager
def without_fast_paths() -> Iterator[None]:
    """Keep torch's encoder layers from stepping around their own attention module."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)
