"""Metrics: numbers of a layer, of the network, or of the training steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from lopbench.core.component import Component
from lopbench.core.errors import InvalidInputError
from lopbench.core.fields import later

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

    #: Whether more of it is better; None of a diagnostic, of which neither is.
    higher_is_better: ClassVar[bool | None] = None
    default: ClassVar[bool] = False  #: Measured when no metric is named.
    needs_clones: ClassVar[bool] = False  #: Measured of cloned networks only, for it reads what is a clone of what.

    def __post_init__(self) -> None:
        """Check that the class says what it measures, and the fields.

        Raises:
            InvalidInputError: If it is none of the three kinds of metrics, or a field is not as it should be.
        """
        if not isinstance(self, LayerMetric | NetworkMetric | TrainingMetric):
            raise InvalidInputError(
                f"metric {self.name} does not say what it measures; "
                "let it subclass LayerMetric, NetworkMetric or TrainingMetric"
            )
        super().__post_init__()


@dataclass(frozen=True, kw_only=True)
class LayerMetric(Metric, ABC):
    """A number of each probed layer.

    What layers share (flattened activations, Gram matrices, decompositions) is computed once, in the `LayerProbe`.

    Args:
        modules: Names of the modules of the network whose outputs are measured, such as ``hidden`` of ``online_mlp``,
            which is what comes before its activation; where none is named, the layers that the architecture probes.
    """

    modules: tuple[str, ...] = later(())

    #: Inputs worked out by hand.
    known: ClassVar[Known] = ()
    #: What leaves the value as it is.
    invariances: ClassVar[frozenset[Invariance]] = frozenset()

    @abstractmethod
    def compute(self, probe: LayerProbe) -> float | None:
        """Return the value; leaves weights, mode and random state untouched.

        It is asked of layers whose activations are finite alone; the value of others is NaN.

        Returns:
            The value, NaN where it is not finite; None where there is nothing to measure, as of a gradient that cannot
            flow (`LayerProbe.blocked`), and then nothing is recorded.
        """


@dataclass(frozen=True, kw_only=True)
class NetworkMetric(Metric, ABC):
    """A number of the whole network."""

    @abstractmethod
    def compute(self, probe: NetworkProbe) -> float | None:
        """Return the value; leaves weights, mode and random state untouched.

        Returns:
            The value, which is recorded as NaN where it is not finite; None where there is nothing to measure, as of
            what changed since the previous probe at the first, and then nothing is recorded.
        """


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
