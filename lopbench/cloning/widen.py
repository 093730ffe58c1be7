"""Widening any network: find out what may grow and how clones lie, fill the wider layers, and verify the function.

Inputs and outputs of the network keep their width, and with them whatever is added to something that cannot grow. How
clones lie in memory follows from the cloner's layout where the network leaves a choice; where it does not, as between
the heads of an attention, the layout that works is found by trying.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lopbench.cloning.layers import Axes, Copied, Widened, follows, reads, widen, width
from lopbench.cloning.tags import (
    BaseRun,
    Matches,
    Misfit,
    Tagged,
    Watcher,
    deviation,
    expand,
    first_tensor,
    leaves,
    match,
    without_fast_paths,
)
from lopbench.core import rng
from lopbench.core.errors import InvalidInputError, UnsupportedError
from lopbench.core.profile import Partition, Profile
from lopbench.core.text import told

Layout = Literal["interleave", "tile"]
Heads = Literal["duplicate", "widen"]

#: Relative deviation of the clone's output, in float64, above which the clone is refused.
_TOLERANCE = 1e-9
#: Operations whose operands must agree in every axis: where one of them cannot grow, none may.
_ELEMENTWISE = frozenset(
    [
        *("where", "cat", "concat", "stack", "maximum", "minimum", "lerp", "lerp_"),
        *(name + suffix for name in ("add", "sub", "mul", "div") for suffix in ("", "_")),
        *(f"__{kind}{name}__" for name in ("add", "sub", "mul", "truediv") for kind in ("", "r", "i")),
    ]
)
_HEAD_COUNTS = ("num_heads", "n_heads", "n_head", "heads", "num_attention_heads")
_HEAD_SIZES = ("head_dim", "attention_head_size", "dim_head", "d_head", "head_size")
_HEAD_WIDTHS = ("attn_dim", "embed_dim", "inner_dim", "all_head_size", "hidden_size", "split_size")


@dataclass(frozen=True)
class _Choices:
    """What the search decides.

    Args:
        fixed: Layers whose outputs keep their width.
        chunks: Runs in which the clones of a layer's outputs lie, where they are not the cloner's own.
        bare: Axes along which tensors that belong to no layer are cloned.
    """

    fixed: frozenset[str] = frozenset()
    chunks: Mapping[str, int] = field(default_factory=dict)
    bare: Mapping[str, frozenset[int]] = field(default_factory=dict)


def widen_network(
    module: nn.Module, factor: int, *, example: Tensor, layout: Layout, heads: Heads = "duplicate"
) -> tuple[nn.Module, Profile]:
    """Return a new network ``factor`` times as wide with the same function, and its profile.

    Every unit is cloned ``factor`` times: what makes it is copied, what reads it is divided by the number of clones
    (the block-wise constant manifold of Joudaki et al. 2025, "Barriers for Learning in an Evolving World", A.2).

    Args:
        module: Any network of one input and one output tensor; left as it is.
        factor: Clones of each unit, at least 1.
        example: A batch of zeros that the network takes, ``(2, *input_shape)``, on its device.
        layout: Whether clones lie side by side, or whole copies of a layer one after another.
        heads: Whether attention layers get more heads, or wider ones with the softmax scale divided by ``factor``.

    Raises:
        InvalidInputError: If ``factor`` is below 1.
        UnsupportedError: If a part of the network cannot be served, naming it.
    """
    if factor < 1:
        raise InvalidInputError(f"a network can be cloned by a factor of at least 1, got {factor}")
    devices = [example.device] if example.device.type == "cuda" else []
    with torch.random.fork_rng(devices), without_fast_paths():
        base = BaseRun(module, example, rng.derive(0, "cloning"))
        search = _Search(module, base, factor, layout, heads)
        attempt = search.solve()
        double = copy.deepcopy(module).eval().double()
        verify(double, _build(double, attempt, search.attributes), example, attempt.interfaces)
        wide = _build(module, attempt, search.attributes)
    return wide, attempt.profile(wide)


@dataclass
class Interface:
    """What is cloned along each axis of the tensor that a module takes and of the one it returns; None: no tensor."""

    taken: Axes | None
    returned: Axes | None


class _Attempt:
    """One run of the clone as planned, on the tags of the base."""

    def __init__(self, search: _Search, choices: _Choices) -> None:
        self.search = search
        self.base = search.base
        self.choices = choices
        self.widened: dict[str, Widened] = {}
        self.made: dict[str, Partition] = {}
        self.read: dict[str, tuple[Axes, ...]] = {}
        self.axes: dict[str, tuple[int, int]] = {}
        self.interfaces: dict[str, Interface] = {}
        self._calls = 0
        self._seen = 0
        self._matches = Matches()
        self._origins: dict[int, frozenset[str]] = {}  #: Leaf of autograd -> layers that chose its channels.
        self._bare: dict[int, str] = {}
        self._kept: list[Tensor] = []  #: Leaves must live, for their ids to stay theirs.
        self._network = search.tagged
        self._watcher = Watcher(self._operation_failed)

    def run(self, *, watch: bool) -> None:
        """Run, and note what every module takes and returns if ``watch``.

        Raises:
            Misfit: If it does not run or is not made of clones.
        """
        self._network.layer = self._emit
        self._network.watch = self._look if watch else None
        self._set_bare()
        try:
            with self._watcher:
                output = self._network.run(self.base.example)
        except (Misfit, UnsupportedError):
            raise
        except Exception as error:
            raise self._misfit("operation", told(error)) from error
        if not isinstance(output, Tensor) or self._calls != len(self.base.calls):
            raise self._misfit("output", "the wider network takes another way")
        if deviation(self.base.output, output) > 1e-9:
            reason = (
                f"the output has shape {tuple(output.shape)}"
                if output.shape != self.base.output.shape
                else ("the output is not that of the base")
            )
            raise self._misfit("output", reason, [output])

    def _set_bare(self) -> None:
        module = self._network.module
        for name, tensor in self.base.bare.items():
            wide = self.copied(name).apply(tensor)
            owner, _, attribute = name.rpartition(".")
            owner_module = module.get_submodule(owner)
            if attribute in owner_module._parameters:
                wide = nn.Parameter(wide)
                owner_module._parameters[attribute] = wide
            else:
                wide = wide.requires_grad_()
                owner_module._buffers[attribute] = wide
            self._bare[id(wide)] = name
            self._kept.append(wide)

    def copied(self, name: str) -> Copied:
        """Return how a tensor that belongs to no layer is cloned."""
        shape = self.base.bare[name].shape
        wanted = self.choices.bare.get(name, frozenset())
        return Copied(tuple(self.search.clones(n) if axis in wanted else None for axis, n in enumerate(shape)))

    def _emit(self, name: str, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        self._watcher.count += 1
        layer = self.base.layers[name]
        if self._calls >= len(self.base.calls) or self.base.calls[self._calls].name != name:
            raise self._misfit("read", "the wider network calls its layers in another order")
        call = self.base.calls[self._calls]
        self._calls += 1
        tensors = reads(layer, arguments, keywords)
        read = []
        for expected, actual in zip(call.read, tensors, strict=True):
            axes = match(expected, actual.detach())
            if axes is None:
                raise self._misfit("read", "what it reads is not made of clones of what it reads in the base", [actual])
            read.append(axes)
        in_axis, out_axis = call.axes
        if follows(layer):
            made = read[0][in_axis] or Partition.identity(call.made.shape[out_axis])
        else:
            made = self._chosen(name, call.made.shape[out_axis])
        if name in self.read and (self.read[name], self.made[name]) != (tuple(read), made):
            raise self._misfit("read", "it is called several times, and reads other clones each time")
        self.read[name], self.made[name], self.axes[name] = tuple(read), made, call.axes
        self.widened[name] = widen(
            name, layer, read, call.axes, None if made.trivial else made, self.search.head_chunk(layer)
        )
        outer: list[Partition | None] = [None] * call.made.ndim
        if read and len(read[0]) == call.made.ndim:
            outer = list(read[0])
        outer[out_axis] = made
        leaf = expand(call.made, outer).requires_grad_()
        self._kept.append(leaf)
        self._origins[id(leaf)] = self.layers_of(tensors[0]) if follows(layer) else frozenset((name,))
        if isinstance(layer, nn.MultiheadAttention):
            # Weights averaged over heads carry no channels; nothing is known to read them.
            return leaf.clone(), None
        return leaf.clone()

    def _chosen(self, name: str, size: int) -> Partition:
        if name in self.choices.fixed:
            return Partition.identity(size)
        return self.search.clones(size, self.choices.chunks.get(name))

    def _look(self, name: str, inputs: Any, output: Any) -> None:
        with torch._C.DisableTorchFunction():
            seen = self.base.seen[self._seen]
            self._seen += 1
            assert seen.name == name  # the calls of all layers were in order, and nothing else decides
            pairs = [(seen.taken, first_tensor(inputs)), (seen.returned, first_tensor(output))]
            found = [None if a is None or b is None else self._matches(a, b) for a, b in pairs]
            self.interfaces.setdefault(name, Interface(*found))  # of the first call, as all that looks at them

    def _misfit(self, kind: str, reason: str, operands: Any = (), operation: str = "") -> Misfit:
        where = next((name for name in reversed(self._network.inside) if name), "the network")
        return Misfit((self._calls, self._watcher.count), kind, where, reason, operands, operation)

    def _operation_failed(self, operation: str, operands: Any, error: Exception) -> Misfit:
        return self._misfit("operation", f"{operation}: {error}".partition("\n")[0], operands, operation)

    def layers_of(self, tensor: Tensor) -> frozenset[str]:
        """Return the layers that chose the channels of ``tensor``."""
        found = [self._origins[id(leaf)] for leaf in leaves(tensor) if id(leaf) in self._origins]
        return frozenset().union(*found)

    def bare_of(self, tensor: Tensor) -> list[str]:
        """Return the tensors belonging to no layer that ``tensor`` was computed from."""
        return [self._bare[id(leaf)] for leaf in leaves(tensor) if id(leaf) in self._bare]

    def profile(self, wide: nn.Module) -> Profile:
        """Return the profile, for the parameters of the finished clone."""
        inputs: dict[str, Partition] = {}
        outputs: dict[str, Partition] = {}
        for name, interface in self.interfaces.items():
            axes = self.axes.get(name)
            for side, found, axis in (
                (inputs, interface.taken, axes and axes[0]),
                (outputs, interface.returned, axes and axes[1]),
            ):
                seen = next(s for s in self.base.seen if s.name == name)
                tensor = seen.taken if side is inputs else seen.returned
                if found is None or tensor is None or tensor.ndim == 0:
                    continue
                axis = _channel_axis(found, tensor.ndim) if axis is None else axis
                side[name] = found[axis] or Partition.identity(tensor.shape[axis])
        copied = self.tensors()
        return Profile(inputs, outputs, {name: _plain(copied[name].axes) for name, _ in wide.named_parameters()})

    def tensors(self) -> dict[str, Copied]:
        """Return how every parameter and buffer that grows, and every parameter, is filled."""
        found = {name: self.copied(name) for name in self.base.bare}
        for layer, widened in self.widened.items():
            prefix = f"{layer}." if layer else ""
            found.update({f"{prefix}{key}": copied for key, copied in widened.tensors.items()})
        return found


def _plain(axes: Axes) -> Axes:
    """Return the axes with None for those along which nothing is cloned."""
    return tuple(None if p is None or p.trivial else p for p in axes)


def _channel_axis(axes: Axes, ndim: int) -> int:
    """Return the axis of the channels: the conventional one if it grew or none did, else the first that grew."""
    conventional = 1 if ndim == 4 else ndim - 1
    grown = [axis for axis, partition in enumerate(axes) if partition is not None]
    return conventional if not grown or conventional in grown else grown[0]


class _Search:
    """The search for choices under which the clone runs and is made of clones.

    Every misfit suggests a few changes; the first with which the run comes further is kept.
    """

    def __init__(self, module: nn.Module, base: BaseRun, factor: int, layout: Layout, heads: Heads) -> None:
        self.base = base
        self.factor = factor
        self.layout = layout
        self.heads = heads
        self.tagged = Tagged(module, list(base.layers))
        self.attributes: dict[str, dict[str, object]] = {}
        for name, child in module.named_modules():
            if name not in base.layers and (changed := self._wider_heads(name, child)):
                self.attributes[name] = changed
                for attribute, value in changed.items():
                    setattr(self.tagged.module.get_submodule(name), attribute, value)

    def clones(self, size: int, chunk: int | None = None) -> Partition:
        """Return the clones of ``size`` channels in the cloner's layout, or in runs of ``chunk``."""
        return Partition.clones(size, self.factor, chunk or (1 if self.layout == "interleave" else size))

    def head_chunk(self, layer: nn.Module) -> int:
        """Return the runs in which torch's own attention layer lays out its heads; 1 for other layers."""
        if not isinstance(layer, nn.MultiheadAttention):
            return 1
        if self.heads == "widen":
            raise UnsupportedError(
                "torch's MultiheadAttention has no softmax scale of its own that wider heads could correct; "
                "clone with heads=duplicate"
            )
        return int(layer.head_dim if self.layout == "interleave" else layer.embed_dim)

    def _wider_heads(self, name: str, module: nn.Module) -> dict[str, object]:
        """Return the attributes of an attention block that change; none if it is no such block."""
        own = {key: value for key, value in vars(module).items() if type(value) in (int, float)}
        if not any(type(own.get(key)) is int for key in _HEAD_COUNTS) or isinstance(module, nn.MultiheadAttention):
            return {}
        sizes = _HEAD_COUNTS if self.heads == "duplicate" else _HEAD_SIZES
        changed: dict[str, object] = {
            key: int(own[key]) * self.factor for key in (*sizes, *_HEAD_WIDTHS) if type(own.get(key)) is int
        }
        holds = any(key in own for key in (*_HEAD_SIZES, *_HEAD_WIDTHS)) or "scale" in own
        if self.heads == "widen" and self.factor > 1 and holds:
            if "scale" not in own:
                raise UnsupportedError(
                    f"{name} ({type(module).__name__}) cannot have wider heads: it has no attribute 'scale' to "
                    "correct; clone with heads=duplicate"
                )
            changed["scale"] = own["scale"] / self.factor
            if hasattr(module, "fused_attn"):
                changed["fused_attn"] = False  # the fused kernel has a scale of its own
        return changed

    def solve(self) -> _Attempt:
        """Return a run without misfits.

        Raises:
            UnsupportedError: If there is none, naming the place.
        """
        choices = _Choices(fixed=self._output_layers())
        attempt, misfit = self._try(choices)
        while misfit is not None:
            for group in self._changes(attempt, choices, misfit):
                tried = [(*self._try(changed), changed) for changed in group]
                best = max(tried, key=lambda one: (float("inf"), 0) if one[1] is None else one[1].position)
                if best[1] is None or best[1].position > misfit.position:
                    attempt, misfit, choices = best
                    break
            else:
                raise self._unsupported(attempt, misfit)
        final = _Attempt(self, choices)
        final.run(watch=True)
        return final

    def _try(self, choices: _Choices) -> tuple[_Attempt, Misfit | None]:
        attempt = _Attempt(self, choices)
        try:
            attempt.run(watch=False)
        except Misfit as misfit:
            return attempt, misfit
        return attempt, None

    def _output_layers(self) -> frozenset[str]:
        """Return the last layers before the output, which keep its width."""
        made = {id(leaf) for leaf in leaves(self.base.output)}
        return frozenset(
            name for name, leaf in self.base.made if id(leaf) in made and not follows(self.base.layers[name])
        )

    def _changes(self, attempt: _Attempt, choices: _Choices, misfit: Misfit) -> Iterator[list[_Choices]]:
        """Yield groups of choices that may take away the misfit, the likeliest first; of a group the best is taken."""
        growing = [frozenset(n for n in attempt.layers_of(t) if n not in choices.fixed) for t in misfit.operands]
        if misfit.kind == "operation":
            # What derives from parameters alone can grow; only then is it known which parameter is at fault.
            alone = [operand for operand in misfit.operands if not attempt.layers_of(operand)]
            bare = list(dict.fromkeys(name for operand in alone for name in attempt.bare_of(operand)))
            for names in [bare, *([name] for name in bare)] if len(bare) > 1 else [bare]:
                # Which axis is told by how far the run comes: a wrong one may pass where it is first used.
                most = max((self.base.bare[name].ndim for name in names), default=0)
                if group := [self._with_bare(choices, names, axis) for axis in range(most)]:
                    yield group
            if misfit.operation in _ELEMENTWISE and not bare:
                yield from ([held] for held in self._held_back(choices, misfit, growing))
            return
        layers = frozenset().union(*growing)
        if misfit.kind == "output" and layers and misfit.operands[0].shape != self.base.output.shape:
            yield [replace(choices, fixed=choices.fixed | layers)]
        for chunk in self._chunks(layers):
            yield [self._with_chunk(choices, layers, chunk)]

    def _held_back(self, choices: _Choices, misfit: Misfit, growing: list[frozenset[str]]) -> Iterator[_Choices]:
        """Yield choices in which layers whose outputs met something that cannot grow keep their width."""
        single = [frozenset(n for n in names if width(self.base.layers[n]) == 1) for names in growing]
        order = sorted(range(len(growing)), key=lambda index: -misfit.operands[index].numel())
        shapes = [operand.shape for operand in misfit.operands]
        if len({len(shape) for shape in shapes}) != 1:
            return
        sizes = [set(along) for along in zip(*shapes, strict=True)]
        differing = [axis for axis, along in enumerate(sizes) if len(along - {1}) > 1]
        if len(differing) != 1 or differing[0] == 0:
            return  # not a matter of widths
        along = sorted(sizes[differing[0]])
        held = [names for index in order if (names := single[index])]
        if along[-1] == along[0] * self.factor:
            held += [names for index in order if shapes[index][differing[0]] == along[-1] and (names := growing[index])]
        for names in held:
            yield replace(choices, fixed=choices.fixed | names)

    def _with_bare(self, choices: _Choices, names: list[str], axis: int) -> _Choices:
        """Return choices with one more (or one less) axis cloned, for the tensors and those that are called alike."""
        bare = dict(choices.bare)
        for name in names:
            shape = self.base.bare[name].shape
            if axis < len(shape):
                axes = choices.bare.get(name, frozenset()) ^ {axis}
                for other, tensor in self.base.bare.items():
                    if other == name or (_alike(other, name) and other not in bare and tensor.ndim == len(shape)):
                        bare[other] = axes
        return replace(choices, bare=bare)

    def _with_chunk(self, choices: _Choices, layers: frozenset[str], chunk: int) -> _Choices:
        chunks = dict(choices.chunks)
        for name in layers:
            for other, layer in self.base.layers.items():
                same = other == name or (_alike(other, name) and other not in choices.chunks)
                if same and not follows(layer) and width(layer) % chunk == 0:
                    chunks[other] = chunk
        return replace(choices, chunks=chunks)

    def _chunks(self, layers: frozenset[str]) -> list[int]:
        """Return the runs to try for the outputs of ``layers``: sizes of heads first, then every divisor."""
        if not layers:
            return []
        size = max(width(self.base.layers[name]) for name in layers)
        divisors = [n for n in range(1, size + 1) if size % n == 0]
        likely = []
        for name in layers:
            owner = self.base.tagged.module.get_submodule(name.rpartition(".")[0])
            keys = _HEAD_SIZES if self.layout == "interleave" or self.heads == "widen" else _HEAD_WIDTHS
            likely += [value for key in keys if type(value := getattr(owner, key, None)) is int]
        ordered = divisors if self.layout == "interleave" else divisors[::-1]
        return list(dict.fromkeys([*(n for n in likely if size % n == 0), *ordered]))

    def _unsupported(self, attempt: _Attempt, misfit: Misfit) -> UnsupportedError:
        where, network = misfit.where, self.base.tagged.module
        kind = type(network if where == "the network" else network.get_submodule(where)).__name__
        if misfit.kind == "operation":
            what = f"its forward pass does not run on clones ({misfit.reason})"
        else:
            what = misfit.reason
            if layers := ", ".join(sorted(attempt.layers_of(misfit.operands[0]))[:3] if misfit.operands else ()):
                what += f"; between {layers} and it something mixes channels or takes their number for granted"
        return UnsupportedError(f"{where} ({kind}) cannot be cloned: {what}; use another architecture")


def _alike(name: str, other: str) -> bool:
    """Return whether two names differ in numbers of blocks alone, as ``blocks.0.qkv`` and ``blocks.1.qkv`` do."""
    first, second = name.split("."), other.split(".")
    if len(first) != len(second) or first[-1] != second[-1] or first[-1].isdigit():
        return False
    return all(a == b or (a.isdigit() and b.isdigit()) for a, b in zip(first, second, strict=True))


def _build(module: nn.Module, attempt: _Attempt, attributes: Mapping[str, Mapping[str, object]]) -> nn.Module:
    """Return the clone: a copy of ``module`` with every parameter written anew.

    Raises:
        UnsupportedError: If layers share a parameter that must become different ones.
    """
    plan = attempt.tensors()
    buffers = dict(module.named_buffers(remove_duplicate=False))
    parameters = dict(module.named_parameters(remove_duplicate=False))
    keep = {id(t): t for t in (*buffers.values(), *parameters.values())}
    wide = copy.deepcopy(module, keep)  # the tensors are replaced below; what is not would show as shared
    filled: dict[int, tuple[str, Copied, Tensor]] = {}
    for name, tensor in (*parameters.items(), *buffers.items()):
        copied = plan.get(name) or next((plan[n] for n in plan if parameters.get(n) is tensor), None)
        if copied is None:
            assert name in buffers, f"nothing says what becomes of parameter {name}"
            copied = Copied(())
        if id(tensor) in filled:
            first, other, new = filled[id(tensor)]
            if (_plain(other.axes), other.divided) != (_plain(copied.axes), copied.divided) and not (
                other.apply(tensor).shape == copied.apply(tensor).shape
                and torch.equal(other.apply(tensor), copied.apply(tensor))
            ):
                raise UnsupportedError(
                    f"{first} and {name} are one parameter, and cloning would make them two; untie them first"
                )
        else:
            new = copied.apply(tensor)
            if name in parameters:
                new = nn.Parameter(new, requires_grad=tensor.requires_grad)
            filled[id(tensor)] = name, copied, new
        owner, _, attribute = name.rpartition(".")
        holder = wide.get_submodule(owner)
        (holder._parameters if name in parameters else holder._buffers)[attribute] = new  # type: ignore[assignment]
    for layer, widened in attempt.widened.items():
        for path, value in widened.attributes.items():
            owner, _, attribute = path.rpartition(".")
            setattr(wide.get_submodule(f"{layer}.{owner}".strip(".")), attribute, value)
    for name, values in attributes.items():
        for attribute, value in values.items():
            setattr(wide.get_submodule(name), attribute, value)
    shared = {id(p) for p in wide.parameters()} & keep.keys()
    assert not shared, "a parameter of the clone was not written"
    return wide


def verify(module: nn.Module, wide: nn.Module, example: Tensor, interfaces: Mapping[str, Interface]) -> None:
    """Compare base and clone, in float64 and evaluation mode, on random input.

    Raises:
        UnsupportedError: If they differ, naming the first module whose output does.
    """
    x = example[:2]  # one sample has no statistics, which batch norm may take of it
    if x.is_floating_point():
        x = torch.randn(x.shape, generator=rng.derive(0, "cloning", "verify"), dtype=torch.float64).to(x.device)
    returned: list[dict[str, Tensor]] = [{}, {}]
    with torch.no_grad():
        outputs = []
        for network, store in zip((module, wide), returned, strict=True):
            handles = [child.register_forward_hook(_keep(store, name)) for name, child in network.named_modules()]
            outputs.append(network(x))
            for handle in handles:
                handle.remove()
    # Every module is looked at, and not the output alone, which a head of zeros would make the same for any clone.
    for name, tensor in returned[0].items():
        axes = interfaces[name].returned if name in interfaces else None
        if axes is not None and deviation(expand(tensor, axes), returned[1][name]) > _TOLERANCE:
            kind = type(module.get_submodule(name)).__name__
            raise UnsupportedError(
                f"{name or 'the network'} ({kind}) cannot be cloned: it is the first whose output differs from the "
                "base's, although the rule of its kind of layer was applied; use another architecture"
            )
    if deviation(*outputs) > _TOLERANCE:
        raise UnsupportedError(
            "the clone's output differs from the base's, and no module's does; use another architecture"
        )


def _keep(store: dict[str, Tensor], name: str) -> Any:
    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        tensor = first_tensor(output)
        if tensor is not None and name not in store:
            store[name] = tensor

    return keep
