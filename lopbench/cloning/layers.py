"""How each kind of layer is widened, given which channels of its inputs and outputs are clones of which.

The rule is that of Joudaki et al. 2025, "Barriers for Learning in an Evolving World", section A.3: what makes channels
is copied; what reads clones is divided by their number. Layers are of two sorts. A source makes new channels, of a
width that may be chosen; a follower has the channels that it reads.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lopbench.core.errors import UnsupportedError
from lopbench.core.profile import Partition

#: What is cloned along each axis of a tensor; None where nothing is.
Axes = tuple[Partition | None, ...]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_CHANNEL_NORMS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)
_FOLLOWERS = (*_CHANNEL_NORMS, nn.GroupNorm, nn.PReLU)
_SOURCES = (nn.Linear, *_CONVOLUTIONS, nn.Embedding, nn.MultiheadAttention)


@dataclass(frozen=True)
class Copied:
    """How a tensor of the clone follows from the base's.

    Args:
        axes: What is cloned along each axis: entries are copied.
        divided: Axis of what the tensor reads: its entries are divided by the number of clones of what they read.
    """

    axes: Axes
    divided: int | None = None

    def apply(self, tensor: Tensor) -> Tensor:
        """Return the clone's tensor, a new one."""
        made = tensor.detach()
        for axis, partition in enumerate(self.axes):
            if partition is not None and not partition.trivial:
                made = partition.expand(made, axis)
        if made.data_ptr() == tensor.data_ptr():
            made = made.clone()
        partition = None if self.divided is None else self.axes[self.divided]
        if self.divided is not None and partition is not None and not partition.trivial:
            sizes = partition.expand(made.new_tensor(partition.sizes), 0)
            made /= sizes.reshape([-1 if axis == self.divided else 1 for axis in range(made.ndim)])
        return made


@dataclass(frozen=True)
class Widened:
    """A layer's place in a clone.

    Args:
        tensors: Every parameter and buffer of the layer, by its name inside the layer.
        attributes: Widths that the layer holds, by their dotted names inside the layer.
    """

    tensors: Mapping[str, Copied]
    attributes: Mapping[str, object]


def refuse(name: str, module: nn.Module, reason: str) -> UnsupportedError:
    """Return the error that says why a layer cannot be cloned."""
    return UnsupportedError(f"{name or 'the network'} ({type(module).__name__}) cannot be cloned: {reason}")


def is_layer(name: str, module: nn.Module) -> bool:
    """Return whether the module is of a kind that is widened as a whole.

    Raises:
        UnsupportedError: If it has parameters and is one of torch's layers of another kind, or none that has a shape.
    """
    if parametrize.is_parametrized(module):
        raise refuse(name, module, "its parameters are computed from others; remove the parametrisation")
    if any(nn.parameter.is_lazy(p) for p in module.parameters(recurse=False)):
        raise refuse(name, module, "its shape is not known yet; call the network once")
    if isinstance(module, (*_SOURCES, *_FOLLOWERS)) or _normalizes(module):
        weights = [getattr(module, w, None) for w in ("weight", "bias")]
        if any(isinstance(w, Tensor) and not isinstance(w, nn.Parameter) for w in weights):
            raise refuse(name, module, "its weight is computed from other parameters; remove what computes it")
        return True
    own = next(iter(module.parameters(recurse=False)), None)
    if own is not None and type(module).__module__.startswith("torch.nn.modules"):
        raise refuse(name, module, "no rule is known for this kind of layer")
    return False


def follows(module: nn.Module) -> bool:
    """Return whether the layer has the channels that it reads; otherwise it makes channels of its own."""
    if isinstance(module, _CONVOLUTIONS):
        return module.groups == module.in_channels == module.out_channels > 1
    return not isinstance(module, _SOURCES)


def width(module: nn.Module) -> int:
    """Return the number of channels that a source makes."""
    for attribute in ("out_features", "out_channels", "embedding_dim", "embed_dim"):
        if hasattr(module, attribute):
            return int(getattr(module, attribute))
    raise AssertionError(f"{type(module).__name__} is no source")


def reads(module: nn.Module, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> tuple[Tensor, ...]:
    """Return the tensors of channels that a call of the layer reads: none of an embedding, three of an attention."""
    if isinstance(module, nn.Embedding):
        return ()
    if isinstance(module, nn.MultiheadAttention):
        bound = inspect.signature(nn.MultiheadAttention.forward).bind(module, *arguments, **keywords)
        return tuple(bound.arguments[name] for name in ("query", "key", "value"))
    found = [*arguments, *keywords.values()]
    return (found[0],)


def output_of(module: nn.Module, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
    """Return what a call of the layer returns, with the right shapes and no values (on the meta device)."""

    def meta(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return value.to("meta", torch.float64 if value.is_floating_point() else None)

    shell = _shell(module, {name: meta(tensor) for name, tensor in _tensors(module).items()})

    if isinstance(module, nn.MultiheadAttention):
        shell._modules = {"out_proj": copy.deepcopy(module.out_proj).to("meta", torch.float64)}
    return type(module).forward(shell, *map(meta, arguments), **{k: meta(v) for k, v in keywords.items()})


def channel_axes(module: nn.Module, shape: torch.Size) -> tuple[int, int]:
    """Return the axes of the channels in what the layer reads, of shape ``shape``, and in what it makes.

    A subclass may have its channels elsewhere than torch's layer, so it is asked by a call on constants.
    """
    standard = -1
    if isinstance(module, (*_CONVOLUTIONS, *_CHANNEL_NORMS, nn.GroupNorm, nn.PReLU)):
        standard = 1 if len(shape) > 1 else 0
    own = inspect.getmodule(type(module).forward)
    if own is None or own.__name__.startswith("torch.nn.modules") or isinstance(module, nn.Embedding):
        return standard, standard
    try:
        if follows(module) and not isinstance(module, _CONVOLUTIONS):
            axis = _varying_axis(_ask_follower(module, shape), standard)
            return axis, axis
        return _ask_source(module, shape, standard)
    except Exception:  # a layer of its own mind: what it does is verified at the end
        return standard, standard


def _normalizes(module: nn.Module) -> bool:
    """Return whether the module is a layer or RMS norm, torch's or one that is like them."""
    shape = getattr(module, "normalized_shape", None)
    return (isinstance(shape, tuple) and next(module.children(), None) is None) or isinstance(module, nn.LayerNorm)


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    own = {**module._parameters, **module._buffers}
    return {name: tensor for name, tensor in own.items() if tensor is not None}


def _shell(module: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Return the module with other tensors; the module itself is left as it is."""
    shell = copy.copy(module)
    parameters = {name: tensors.get(name) for name in module._parameters}
    object.__setattr__(shell, "_parameters", parameters)
    object.__setattr__(shell, "_buffers", {name: tensors.get(name) for name in module._buffers})
    object.__setattr__(shell, "training", False)
    return shell


def _ask_follower(module: nn.Module, shape: torch.Size) -> Tensor:
    """Return what the layer makes of a constant when weight and bias count its channels."""
    tensors = {}
    for name in (*module._parameters, *module._buffers):
        old = getattr(module, name)
        size = _norm_width(module)
        if name in ("weight", "bias"):
            tensors[name] = torch.arange(1.0, size + 1, dtype=torch.float64)
        elif old is not None:
            tensors[name] = torch.ones_like(old, dtype=torch.float64, device="cpu")
            tensors[name] *= 0 if name == "running_mean" else 1
    with torch.no_grad():
        made: Tensor = type(module).forward(_shell(module, tensors), torch.full(shape, 2.0, dtype=torch.float64))
    return made


def _norm_width(module: nn.Module) -> int:
    for attribute in ("num_features", "num_channels", "num_parameters"):
        if hasattr(module, attribute):
            return int(getattr(module, attribute))
    shape: tuple[int, ...] = getattr(module, "normalized_shape")  # noqa: B009 (no attribute of every module)
    if len(shape) != 1:
        raise ValueError("several axes")
    return shape[0]


def _ask_source(module: nn.Module, shape: torch.Size, standard: int) -> tuple[int, int]:
    """Return the axes of inputs and outputs of a linear layer or convolution with a forward pass of its own."""
    weight = torch.zeros_like(getattr(module, "weight"), dtype=torch.float64, device="cpu")  # noqa: B009
    bias = torch.arange(1.0, len(weight) + 1, dtype=torch.float64)
    x = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
    made = type(module).forward(_shell(module, {"weight": weight, "bias": bias}), x)
    out_axis = _varying_axis(made.detach(), standard)
    weight[:, 0] = 1
    made = type(module).forward(_shell(module, {"weight": weight, "bias": bias}), x)
    (gradient,) = torch.autograd.grad(made.sum(), x)
    inputs = weight.shape[1] * getattr(module, "groups", 1)
    for axis in sorted(range(x.ndim), key=lambda axis: axis != standard % x.ndim):
        rest = gradient.movedim(axis, 0)[1 : weight.shape[1]]
        if x.shape[axis] == inputs and not rest.any():
            return axis - x.ndim if standard < 0 else axis, out_axis
    return standard, out_axis


def _varying_axis(tensor: Tensor, standard: int) -> int:
    """Return the only axis along which ``tensor`` varies, ``standard`` if there is not one; signed as that is."""
    varying = [axis for axis in range(tensor.ndim) if (tensor.diff(dim=axis) != 0).any()]
    if len(varying) != 1:
        return standard
    return varying[0] - tensor.ndim if standard < 0 else varying[0]


def widen(
    name: str, module: nn.Module, read: Sequence[Axes], axes: tuple[int, int], made: Partition | None, chunk: int
) -> Widened:
    """Return the layer's place in a clone.

    Args:
        name: Dotted name of the layer, for errors.
        module: The layer of the base network.
        read: What is cloned in each tensor that it reads.
        axes: Axes of the channels in what it reads and makes.
        made: The partition of the channels it makes.
        chunk: Runs in which an attention layer lays out the clones of its heads.

    Raises:
        UnsupportedError: If no rule gives the clones of this layer the base's function.
    """
    if isinstance(module, nn.Embedding):
        if module.max_norm is not None:
            raise refuse(name, module, "max_norm bounds the norm of a row, which grows with the clones")
        return Widened({"weight": Copied((None, made))}, {"embedding_dim": _size(made, module.embedding_dim)})
    if isinstance(module, nn.MultiheadAttention):
        return _widen_attention(name, module, read, made, chunk)
    inputs = read[0][axes[0]]
    if isinstance(module, nn.Linear):
        tensors = {"weight": Copied((made, inputs), divided=1), "bias": Copied((made,))}
        attributes: dict[str, object] = {
            "in_features": _size(inputs, module.in_features),
            "out_features": _size(made, module.out_features),
        }
    elif isinstance(module, _CONVOLUTIONS):
        others = [p for axis, p in enumerate(read[0]) if axis != axes[0] % len(read[0])]
        if any(p is not None and not p.trivial for p in others):
            raise refuse(name, module, "it reads clones along an axis other than its channels")
        inputs = inputs or Partition.identity(module.in_channels)
        made = made or Partition.identity(module.out_channels)
        groups, inside = _groups(name, module, module.groups, inputs, made)
        kernel = (None,) * len(module.kernel_size)
        tensors = {"weight": Copied((made, inside, *kernel), divided=1), "bias": Copied((made,))}
        attributes = {"in_channels": len(inputs), "out_channels": len(made), "groups": groups}
    elif isinstance(module, _CHANNEL_NORMS):
        tensors = {key: Copied((inputs,)) for key in ("weight", "bias", "running_mean", "running_var")}
        tensors["num_batches_tracked"] = Copied(())
        attributes = {"num_features": _size(inputs, module.num_features)}
    elif isinstance(module, nn.GroupNorm):
        inputs = inputs or Partition.identity(module.num_channels)
        groups, _ = _groups(name, module, module.num_groups, inputs, inputs)
        tensors = {"weight": Copied((inputs,)), "bias": Copied((inputs,))}
        attributes = {"num_channels": len(inputs), "num_groups": groups}
    elif isinstance(module, nn.PReLU):
        shared = module.num_parameters == 1
        tensors = {"weight": Copied((None if shared else inputs,))}
        attributes = {"num_parameters": 1 if shared else _size(inputs, module.num_parameters)}
    else:
        tensors, attributes = _widen_layer_norm(name, module, read[0], inputs)
    own = _tensors(module)
    if unknown := own.keys() - tensors.keys():
        raise refuse(name, module, f"no rule is known for its {', '.join(sorted(unknown))}")
    return Widened({key: copied for key, copied in tensors.items() if key in own}, attributes)


def _size(partition: Partition | None, size: int) -> int:
    return size if partition is None else len(partition)


def _widen_layer_norm(
    name: str, module: nn.Module, read: Axes, inputs: Partition | None
) -> tuple[dict[str, Copied], dict[str, object]]:
    shape: tuple[int, ...] = getattr(module, "normalized_shape")  # noqa: B009 (no attribute of every module)
    normalized = (inputs,) if len(shape) == 1 else read[-len(shape) :]
    for partition in normalized:
        if partition is not None and len(set(partition.sizes)) > 1:
            raise refuse(name, module, "it averages over channels that have different numbers of clones")
    sizes = tuple(_size(p, size) for p, size in zip(normalized, shape, strict=True))
    return {"weight": Copied(normalized), "bias": Copied(normalized)}, {"normalized_shape": sizes}


def _groups(
    name: str, module: nn.Module, groups: int, inputs: Partition, outputs: Partition
) -> tuple[int, Partition | None]:
    """Return the number of groups of the clone, and the partition of the inputs inside each of them.

    A group must hold all inputs of one group of the base, each equally often, and likewise for the outputs: the number
    of groups stays where clones stand side by side, and is multiplied where they are tiled. A depthwise convolution
    stays depthwise.
    """
    if groups == 1 and isinstance(module, _CONVOLUTIONS):
        return 1, inputs
    fan_in, fan_out = inputs.count // groups, outputs.count // groups
    most = min(len(inputs), len(outputs))
    candidates = [g for g in range(groups, most + 1, groups) if len(inputs) % g == 0 and len(outputs) % g == 0]
    for candidate in reversed(candidates) if fan_in == 1 else candidates:
        inside = _inside(inputs, candidate, fan_in)
        made = _inside(outputs, candidate, fan_out)
        if inside is not None and made is not None and inside[0] == made[0]:
            # The blocks of the groups have the same pattern, so that one partition serves the weight's axis.
            return candidate, inside[1]
    raise refuse(name, module, f"clones of its {groups} groups do not fall into groups; try another cloner")


def _inside(channels: Partition, groups: int, size: int) -> tuple[list[int], Partition] | None:
    """Return the base's group of each group, and the partition that all have in common; None if there is not one."""
    length = len(channels) // groups
    origins, patterns = [], set()
    for start in range(0, len(channels), length):
        blocks = channels.blocks[start : start + length]
        origin = {block // size for block in blocks}
        if len(origin) != 1:
            return None
        origins.append(origin.pop())
        patterns.add(tuple(block % size for block in blocks))
    pattern = patterns.pop()
    if patterns or set(pattern) != set(range(size)):
        return None
    partition = Partition(pattern)
    return (origins, partition) if len(set(partition.sizes)) == 1 else None


def _widen_attention(
    name: str, module: nn.MultiheadAttention, read: Sequence[Axes], made: Partition | None, chunk: int
) -> Widened:
    """Return the clone of torch's attention, by duplication of its heads; ``chunk`` lays them out."""
    inputs = read[0][-1]
    if module.in_proj_weight is None or module.bias_k is not None:
        raise refuse(name, module, "only attention of one width, without bias for keys and values, can be")
    if inputs is None or made is None or len(made) != len(inputs) or any(each[-1] != inputs for each in read):
        raise refuse(name, module, "its queries, keys, values and outputs do not all have the same clones")
    factor = len(made) // made.count
    heads = Partition.clones(module.embed_dim, factor, chunk)
    projections = Partition.clones(3 * module.embed_dim, factor, chunk)
    tensors = {
        "in_proj_weight": Copied((projections, inputs), divided=1),
        "in_proj_bias": Copied((projections,)),
        "out_proj.weight": Copied((made, heads), divided=1),
        "out_proj.bias": Copied((made,)),
    }
    own = dict(module.named_parameters())
    attributes = {
        "num_heads": module.num_heads * factor,
        **dict.fromkeys(("embed_dim", "kdim", "vdim", "out_proj.in_features", "out_proj.out_features"), len(made)),
    }
    return Widened({key: copied for key, copied in tensors.items() if key in own}, attributes)
