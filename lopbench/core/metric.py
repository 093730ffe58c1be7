"""Metrics: numbers of a layer, of the network, or of the training steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from lopbench.core.component import Component

if TYPE_CHECKING:
    from torch import Tensor

    from lopbench.core.probe import LayerProbe, NetworkProbe

#: Activations ``(N, D)`` of a layer, row by row, with the value that a metric has there.
Known = tuple[tuple[Sequence[Sequence[float]], float], ...]
#: What may leave the value of a layer as it is: another scale of activations and gradients, another order of the units
#: or of the rows, each unit taken twice.
Invariance = Literal["scale", "units", "rows", "duplication"]


@dataclass(frozen=True, kw_only=True)
class Metric(Component, ABC):
    """A number that is measured beside the score. Subclass `LayerMetric`, `NetworkMetric` or `TrainingMetric`."""

    higher_is_better: ClassVar[bool | None] = None
    default: ClassVar[bool] = False  #: Measured when no metric is named.
    needs_clones: ClassVar[bool] = False  #: Measured of cloned networks only, for it reads what is a clone of what.


@dataclass(frozen=True, kw_only=True)
class LayerMetric(Metric, ABC):
    """A number of each probed layer.

    What layers share (flattened activations, Gram matrices, decompositions) is computed once, in the `LayerProbe`.
    """

    #: Inputs worked out by hand.
    known: ClassVar[Known] = ()
    #: What leaves the value as it is.
    invariances: ClassVar[frozenset[Invariance]] = frozenset()

    @abstractmethod
    def compute(self, probe: LayerProbe) -> float:
        """Return the value; leaves weights, mode and random state untouched."""


@dataclass(frozen=True, kw_only=True)
class NetworkMetric(Metric, ABC):
    """A number of the whole network."""

    @abstractmethod
    def compute(self, probe: NetworkProbe) -> float:
        """Return the value; leaves weights, mode and random state untouched."""


@dataclass(frozen=True, kw_only=True)
class TrainingMetric(Metric, ABC):
    """A number of each training step, averaged over the steps of a task.

    The loss after the update costs a forward pass a step, which is taken only where such a metric is asked for.
    """

    @abstractmethod
    def compute(self, before: Tensor, after: Tensor) -> Tensor:
        """Return the value of a step, ``(R,)``.

        Args:
            before: The task's loss on the step's batch before the update, ``(R,)``.
            after: The loss on the same batch after it, ``(R,)``.
        """
