"""Where the hidden units of a network are, in names of its modules, parameters and buffers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Norm:
    """A normalisation between a layer and its consumers.

    Args:
        module: Dotted name of the normalisation.
        weight: Name of its weight ``(D,)``, None if it has none; likewise the other three.
        bias: Name of its bias.
        running_mean: Name of its running mean.
        running_var: Name of its running variance.
    """

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
    """The hidden units of one layer. Shapes are without the replica axis.

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
        """Name of the first consumer, whose input is the units' activation."""
        return self.consumers[0].module
