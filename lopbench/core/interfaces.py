"""All interfaces under one name. A component is a frozen dataclass: its fields are its hyperparameters.

Nothing here imports torch when it runs, so that listing components stays fast.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from lopbench.core.component import Component
from lopbench.core.data_set import DataSet, RemoteFile, Samples
from lopbench.core.errors import UnsupportedError
from lopbench.core.executor import Executor, Handle, RestartingHandle, Workers
from lopbench.core.learning import Learner, OptimizerState, Pass, State, Units
from lopbench.core.metric import LayerMetric, Metric, NetworkMetric, TrainingMetric
from lopbench.core.optimizer import Optimizer
from lopbench.core.perturbation import Family, Perturbation, Track
from lopbench.core.sink import Sink, SinkRun, SinkWriter
from lopbench.core.streams import (
    ActingBatches,
    Batches,
    ChunkedBatches,
    Growth,
    Headline,
    Recipe,
    Scenario,
    Stream,
    Task,
)

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from lopbench.core.profile import Profile

__all__ = [
    "KINDS",
    "ActingBatches",
    "Architecture",
    "Batches",
    "ChunkedBatches",
    "Cloner",
    "Component",
    "DataSet",
    "Executor",
    "Family",
    "Growth",
    "Handle",
    "Headline",
    "LayerMetric",
    "Learner",
    "Metric",
    "NetworkMetric",
    "Optimizer",
    "OptimizerState",
    "Pass",
    "Perturbation",
    "Recipe",
    "RemoteFile",
    "RestartingHandle",
    "Samples",
    "Scenario",
    "Sink",
    "SinkRun",
    "SinkWriter",
    "State",
    "Stream",
    "Task",
    "Track",
    "TrainingMetric",
    "Units",
    "Workers",
]


@dataclass(frozen=True, kw_only=True)
class Architecture(Component, ABC):
    """Makes one network."""

    #: What the networks read: "numbers", "tokens", or "observations", numbers of a stream in which the networks act.
    #: Those that read numbers also take observations.
    reads: ClassVar[Literal["numbers", "tokens", "observations"]] = "numbers"

    @abstractmethod
    def build(self, input_shape: Sequence[int], outputs: int, *, generator: Generator) -> nn.Module:
        """Return a freshly initialised network.

        Args:
            input_shape: Shape of one sample, ``(C, H, W)`` for images.
            outputs: Number of outputs of the head, at least 1.
            generator: Source of every random draw; advanced in place.

        Raises:
            UnsupportedError: If the network cannot take this input shape.
        """

    def layers(self, module: nn.Module) -> Sequence[str] | None:
        """Return the names of the submodules whose outputs are probed; None means every activation function."""
        return None

    def head(self, module: nn.Module) -> str | None:
        """Return the name of the layer that makes the outputs; None means it is found by running the network."""
        return None

    @property
    def transformer(self) -> bool:
        """Whether the network attends in more than one layer: protocols may train such networks at other rates."""
        return False

    def widened(self, factor: int) -> Architecture:
        """Return this architecture with ``factor`` times the units, whose parameters have the names of its clones.

        It gives the law from which units of a cloned network are drawn when they are reset, and the fresh network
        that stands beside a clone.

        Args:
            factor: Clones of each unit, at least 1.

        Raises:
            UnsupportedError: If the architecture cannot say.
        """
        raise UnsupportedError(
            f"{self.name} does not say how its wider networks start ('widened'), so no unit of a clone can be "
            "drawn anew; choose a method that resets none, or another architecture"
        )


@dataclass(frozen=True, kw_only=True)
class Cloner(Component, ABC):
    """Widens a trained network without changing its function."""

    @abstractmethod
    def clone(
        self, module: nn.Module, factor: int, *, example: Tensor, generator: Generator
    ) -> tuple[nn.Module, Profile]:
        """Return a new network ``factor`` times as wide, and what is a clone of what in it.

        Inputs and outputs of the network keep their width. ``module`` is left as it is.

        Args:
            module: The network to widen.
            factor: Clones of each unit, at least 1.
            example: A batch of zeros of the shape the network takes, ``(2, *input_shape)``, on its device.
            generator: Source of every random draw, on the CPU; advanced in place.

        Raises:
            InvalidInputError: If ``factor`` is below 1.
            UnsupportedError: If a layer cannot be served; the message names it.
        """


#: The kinds of component in the order in which they are listed, with their interface and the word users see.
KINDS: Mapping[str, type[Component]] = {
    "architectures": Architecture,
    "cloners": Cloner,
    "data": DataSet,
    "executors": Executor,
    "methods": Perturbation,
    "metrics": Metric,
    "optimizers": Optimizer,
    "scenarios": Scenario,
    "sinks": Sink,
}
