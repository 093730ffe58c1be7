"""Profiles of cloned networks: which channels are copies of each other, at every interface and in every parameter.

Joudaki et al. 2025, "Barriers for Learning in an Evolving World": a partition of the units into blocks of clones
(section A.2) at every interface of every module (section A.3). The parameters that are constant on the products of
such blocks are the block-wise constant manifold, a linear space.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lopbench.core.errors import InvalidInputError

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Partition:
    """A partition of channels into blocks of clones.

    Args:
        blocks: Block of each channel. Blocks are numbered from 0 without gaps; in a clone, block ``b`` holds the
            copies of channel ``b`` of the base network.

    Raises:
        InvalidInputError: If there is no channel or a block without channels.
    """

    blocks: tuple[int, ...]
    #: Number of blocks.
    count: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        occupied = set(self.blocks)
        if not occupied or occupied != set(range(len(occupied))):
            raise InvalidInputError(
                f"a partition numbers its blocks from 0 without gaps and has at least one, got {len(self.blocks)} "
                f"channels in the blocks {sorted(occupied)[:8]}"
            )
        object.__setattr__(self, "count", len(occupied))

    @classmethod
    def identity(cls, size: int) -> Partition:
        """Return the partition of ``size`` channels of which none is cloned."""
        return cls(tuple(range(size)))

    @classmethod
    def clones(cls, count: int, factor: int, chunk: int = 1) -> Partition:
        """Return ``factor`` clones of each of ``count`` channels, laid out in runs of ``chunk`` channels.

        Each run of ``chunk`` channels is followed by its copies: ``chunk=1`` puts the clones of a channel side by side
        (interleaved), ``chunk=count`` puts whole copies of the layer one after another (tiled).

        Args:
            count: Channels of the base, at least 1.
            factor: Clones of each, at least 1.
            chunk: Length of a run, a divisor of ``count``.

        Raises:
            InvalidInputError: If a number is below 1 or ``chunk`` does not divide ``count``.
        """
        if min(count, factor, chunk) < 1 or count % chunk:
            raise InvalidInputError(
                f"clones need a count, a factor and a chunk of at least 1, and a chunk that divides the count; "
                f"got count {count}, factor {factor}, chunk {chunk}"
            )
        runs = (range(start, start + chunk) for start in range(0, count, chunk))
        return cls(tuple(block for run in runs for _ in range(factor) for block in run))

    def __len__(self) -> int:
        return len(self.blocks)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of channels of each block."""
        sizes = [0] * self.count
        for block in self.blocks:
            sizes[block] += 1
        return tuple(sizes)

    @property
    def trivial(self) -> bool:
        """Whether every block is a single channel: nothing is cloned."""
        return self.count == len(self.blocks)

    @cached_property
    def _runs(self) -> tuple[int, int, int] | None:
        """Runs, factor and chunk if the blocks lie as `clones` lays them out, which sums of views can use."""
        factor, rest = divmod(len(self), self.count)
        chunk = self.blocks.index(0, 1) if self.blocks.count(0) > 1 else self.count
        if rest or self.count % chunk or self != Partition.clones(self.count, factor, chunk):
            return None
        return self.count // chunk, factor, chunk

    def index(self, device: torch.device | str | None = None) -> Tensor:
        """Return ``blocks`` as a tensor of whole numbers, ``(len(self),)``."""
        import torch

        return torch.tensor(self.blocks, dtype=torch.int64, device=device)

    def means(self, tensor: Tensor, dim: int) -> Tensor:
        """Return the mean over each block along ``dim``: size ``len(self)`` becomes ``count``. Differentiable.

        Raises:
            InvalidInputError: If the axis has another size.
        """
        if tensor.shape[dim] != len(self):
            raise InvalidInputError(
                f"a partition of {len(self)} channels was applied to axis {dim} of a tensor of shape "
                f"{tuple(tensor.shape)}"
            )
        dim = dim % tensor.ndim
        if self._runs is not None:  # far faster than by index
            runs: Tensor = tensor.unflatten(dim, self._runs)
            return runs.mean(dim + 1).flatten(dim, dim + 1)
        shape = list(tensor.shape)
        shape[dim] = self.count
        sums = tensor.new_zeros(shape).index_add(dim, self.index(tensor.device), tensor)
        counts = tensor.new_tensor(self.sizes)
        return sums / counts.reshape([-1 if axis == dim else 1 for axis in range(tensor.ndim)])

    def expand(self, values: Tensor, dim: int) -> Tensor:
        """Return a value for each channel from one for each block: size ``count`` along ``dim`` becomes ``len(self)``.

        Raises:
            InvalidInputError: If the axis has another size.
        """
        if values.shape[dim] != self.count:
            raise InvalidInputError(
                f"a partition into {self.count} blocks was expanded along axis {dim} of a tensor of shape "
                f"{tuple(values.shape)}"
            )
        return values.index_select(dim, self.index(values.device))

    def project(self, tensor: Tensor, dim: int) -> Tensor:
        """Return ``tensor`` with each entry along ``dim`` replaced by the mean of its block. Differentiable."""
        return tensor if self.trivial else self.expand(self.means(tensor, dim), dim)

    def compose(self, coarser: Partition) -> Partition:
        """Return the partition of these channels into the blocks of ``coarser``, whose channels are these blocks.

        For a clone of a clone: ``second.compose(first)`` has a block for each channel of the first network.

        Raises:
            InvalidInputError: If ``coarser`` partitions another number of channels.
        """
        if len(coarser) != self.count:
            raise InvalidInputError(
                f"a partition into {self.count} blocks was composed with one of {len(coarser)} channels; "
                "compose the later clone's profile with the earlier one's"
            )
        return Partition(tuple(coarser.blocks[block] for block in self.blocks))


@dataclass(frozen=True)
class Profile:
    """What is a clone of what in a cloned network.

    The axis of a module's channels is the one its layer type has (of ``Linear`` the last, of a convolution the second);
    of other modules it is the one that grew, the conventional one (the second of four axes, otherwise the last) if
    that one grew or none did.

    Args:
        inputs: What each module reads, along its channel axis, by the module's dotted name ("" is the network).
        outputs: What each module makes, along its channel axis.
        parameters: For each parameter one partition per axis; None for an axis without clones, such as a kernel's.
    """

    inputs: Mapping[str, Partition]
    outputs: Mapping[str, Partition]
    parameters: Mapping[str, tuple[Partition | None, ...]]

    def project(self, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the orthogonal projection onto the block-wise constant manifold: means over the product blocks.

        Args:
            parameters: Any of the network's parameters, or gradients or directions of their shapes; further leading
                axes, such as one for replicas, are left alone.

        Raises:
            InvalidInputError: If a name is not in the profile or a shape does not fit it.
        """
        projected = {}
        for name, tensor in parameters.items():
            axes = self._axes(name, tensor)
            lead = tensor.ndim - len(axes)
            for axis, partition in enumerate(axes):
                if partition is not None:
                    tensor = partition.project(tensor, lead + axis)
            projected[name] = tensor
        return projected

    def residual(self, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the part of ``parameters`` normal to the block-wise constant manifold: themselves less `project`."""
        projected = self.project(parameters)
        return {name: tensor - projected[name] for name, tensor in parameters.items()}

    def equitable_residual(self, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the part of ``parameters`` that makes row and column sums of blocks unequal.

        It is zero exactly on the row- and column-equitable manifold (RE and CE of section A.2), on which clones compute
        and receive the same without having the same weights. It is the part of `residual` that survives averaging over
        the blocks of all axes but one.
        """
        import torch

        unequal = {}
        for name, tensor in parameters.items():
            axes = self._axes(name, tensor)
            lead = tensor.ndim - len(axes)
            cloned = {lead + axis: p for axis, p in enumerate(axes) if p is not None and not p.trivial}
            total = torch.zeros_like(tensor)
            for axis, partition in cloned.items():
                sums = tensor  # up to the size of the blocks
                for other, blocks in cloned.items():
                    sums = sums if other == axis else blocks.project(sums, other)
                total = total + sums - partition.project(sums, axis)
            unequal[name] = total
        return unequal

    def compose(self, first: Profile) -> Profile:
        """Return the profile relative to the base of ``first``, whose clone is the base of this one.

        Raises:
            InvalidInputError: If ``first`` is of another network.
        """

        def both(later: Partition | None, earlier: Partition | None) -> Partition | None:
            if later is None or earlier is None:
                return later or earlier
            return later.compose(earlier)

        try:
            return Profile(
                {name: partition.compose(first.inputs[name]) for name, partition in self.inputs.items()},
                {name: partition.compose(first.outputs[name]) for name, partition in self.outputs.items()},
                {
                    name: tuple(both(*pair) for pair in zip(axes, first.parameters[name], strict=True))
                    for name, axes in self.parameters.items()
                },
            )
        except KeyError as error:
            raise InvalidInputError(
                f"{error} is in one profile and not in the other; compose profiles of one network, cloned twice"
            ) from error

    def to_json(self) -> dict[str, Any]:
        """Return the profile as JSON values."""
        return {
            "inputs": {name: list(p.blocks) for name, p in self.inputs.items()},
            "outputs": {name: list(p.blocks) for name, p in self.outputs.items()},
            "parameters": {
                name: [None if p is None else list(p.blocks) for p in axes] for name, axes in self.parameters.items()
            },
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Profile:
        """Return the profile that `to_json` wrote."""
        return cls(
            {name: Partition(tuple(blocks)) for name, blocks in value["inputs"].items()},
            {name: Partition(tuple(blocks)) for name, blocks in value["outputs"].items()},
            {
                name: tuple(None if blocks is None else Partition(tuple(blocks)) for blocks in axes)
                for name, axes in value["parameters"].items()
            },
        )

    def _axes(self, name: str, tensor: Tensor) -> tuple[Partition | None, ...]:
        axes = self.parameters.get(name)
        if axes is None:
            raise InvalidInputError(f"the profile knows no parameter {name!r}; it is of another network")
        sizes = [None if p is None else len(p) for p in axes]
        trailing = tensor.shape[tensor.ndim - len(axes) :] if tensor.ndim >= len(axes) else ()
        if len(trailing) != len(axes) or any(s is not None and s != t for s, t in zip(sizes, trailing, strict=True)):
            raise InvalidInputError(
                f"the profile has {name} with axes of {sizes} channels, got a tensor of shape {tuple(tensor.shape)}"
            )
        return axes
