"""The five interfaces. A component is a frozen dataclass: its fields are its hyperparameters.

Nothing here imports torch when it runs, so that listing components stays fast.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, runtime_checkable

from lopbench.core.errors import UnsupportedError

if TYPE_CHECKING:
    import torch
    from torch import Generator, Tensor, nn

    from lopbench.core.probe import LayerProbe, NetworkProbe
    from lopbench.core.profile import Profile

Track = Literal["boundary-free", "boundary-aware", "replay"]
#: Activations ``(N, D)`` of a layer, row by row, with the value that a metric has there.
Known = tuple[tuple[Sequence[Sequence[float]], float], ...]
#: What may leave the value of a layer as it is: another scale of activations and gradients, another order of the units
#: or of the rows, each unit taken twice.
Invariance = Literal["scale", "units", "rows", "duplication"]


@dataclass(frozen=True, kw_only=True)
class Component:
    """What the registry holds: a named, versioned, immutable set of hyperparameters.

    Subclasses are frozen keyword-only dataclasses and validate their fields in ``__post_init__`` with
    ``InvalidInputError``. ``version`` is raised whenever the same fields give other numbers.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    #: The field that ``name:value`` without a ``field=`` sets, as in ``timm:resnet18``.
    positional: ClassVar[str | None] = None
    #: The rule in one line of plain mathematics.
    equation: ClassVar[str] = ""
    #: What the implementation was validated against: recorded runs, theorems, properties.
    validated: ClassVar[tuple[str, ...]] = ()
    #: Settings in which the conformance kit sees the component act within some 25 steps or on a small network.
    examples: ClassVar[tuple[Mapping[str, object], ...]] = ({},)
    #: Checks of the conformance kit that cannot hold, by name, each with the reason.
    exempt: ClassVar[Mapping[str, str]] = {}


@dataclass(frozen=True, kw_only=True)
class Architecture(Component, ABC):
    """Makes one network."""

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

    def widened(self, factor: int) -> Architecture:
        """Return this architecture with ``factor`` times the units, whose parameters have the names of its clones.

        It gives the law from which units of a cloned network are drawn when they are reset.

        Args:
            factor: Clones of each unit, at least 1.

        Raises:
            UnsupportedError: If the architecture cannot say.
        """
        raise UnsupportedError(
            f"{self.name} does not say how its wider networks start ('widened'), so that no unit of a clone can be "
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


class Optimizer(Protocol):
    """What a method may do to the optimizer of the learner."""

    @property
    def lr(self) -> float:
        """Learning rate."""

    def clear(self, name: str | None = None, mask: Tensor | None = None) -> None:
        """Forget the state of all parameters, of parameter ``name``, or of its entries where ``mask`` is true.

        ``mask`` broadcasts to the parameter's ``(R, ...)``. Cleared entries restart their step count.
        """


class Units(Protocol):
    """A group of hidden units with private outgoing weights, as ``learner.units`` yields them."""

    @property
    def name(self) -> str:
        """Name of the module that produces the units."""

    @property
    def size(self) -> int:
        """D, the number of units."""

    @property
    def activation(self) -> Tensor:
        """What the outgoing weights multiplied in the last training step, ``(R, N, D)``, detached.

        In convolutions N counts samples x height x width, in transformers samples x tokens.
        """

    def incoming(self) -> Tensor:
        """Return the incoming weights, biases left out, as a new tensor ``(R, D, fan_in)``."""

    def outgoing(self) -> Tensor:
        """Return the outgoing weights of all consumers as a new tensor ``(R, D, fan_out)``."""

    def reset(
        self,
        mask: Tensor,
        *,
        bias: Literal["law", "zero"] = "law",
        transfer_mean: Tensor | None = None,
    ) -> None:
        """Make the units where ``mask`` is true as good as new, in place.

        Incoming weights are redrawn from the layer's own initialisation law, outgoing columns are zeroed, the norm's
        affine and running statistics of these channels are reset, and exactly these entries of the optimizer's state
        are cleared.

        Args:
            mask: Units to reset, boolean ``(R, D)``.
            bias: Whether the bias is redrawn from the layer's law or set to zero.
            transfer_mean: If given, ``(R, D)``: each reset unit's mean activation, whose contribution moves into the
                bias of the consumer before the outgoing column is zeroed.

        Raises:
            UnsupportedError: If ``transfer_mean`` is given and a consumer has no bias.
        """


class Learner(Protocol):
    """What a method sees of the stack of ``replicas`` networks in training. Every tensor leads with the axis R."""

    @property
    def replicas(self) -> int:
        """R, the number of replicas."""

    @property
    def module(self) -> nn.Module:
        """The network; with several replicas a template, whose own values mean nothing."""

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer."""

    @property
    def parameters(self) -> Mapping[str, Tensor]:
        """Views ``(R, ...)`` of the trained parameters, outside autograd; change them in place."""

    @property
    def differentiable(self) -> Mapping[str, Tensor]:
        """The same parameters inside autograd, for penalties."""

    @property
    def gradients(self) -> Mapping[str, Tensor]:
        """Views ``(R, ...)`` of the gradients of this step; change them in place in ``after_backward``."""

    @property
    def initial(self) -> Mapping[str, Tensor]:
        """Copies ``(R, ...)`` of the parameters as built, taken before the first step."""

    @property
    def head(self) -> Sequence[str]:
        """Names of the parameters of the head (the output layer)."""

    @property
    def units(self) -> Sequence[Units]:
        """The groups of units that a method may reset.

        Raises:
            UnsupportedError: If the network has none.
        """

    def fresh(self, state: State) -> Mapping[str, Tensor]:
        """Return the parameters ``(R, ...)`` of newly initialised networks, drawn from the method's own stream."""

    @property
    def traced(self) -> bool:
        """Whether this step is being traced into a program of many steps: no value can be read on the host."""

    def restart(self) -> None:
        """Become the protocol's fresh reference: new network, new optimizer at the reference learning rate."""


class State(Protocol):
    """A method's own memory. What is stored here is checkpointed with the run and restored bit for bit.

    Tensors live on the learner's device; those whose key begins with ``host_`` on the CPU.
    """

    @property
    def generators(self) -> list[Generator]:
        """One per replica, private to the method, on the learner's device. A traced step has none."""

    def normal(self, like: Tensor) -> Tensor:
        """Return standard normal noise of the shape ``(R, ...)`` of ``like``, each replica's from its generator."""

    def uniform(self, like: Tensor) -> Tensor:
        """Return numbers uniform in [0, 1) of the shape ``(R, ...)`` of ``like``, likewise."""

    def __getitem__(self, key: str) -> Tensor: ...
    def __setitem__(self, key: str, value: Tensor) -> None: ...
    def __contains__(self, key: object) -> bool: ...


@dataclass(frozen=True, kw_only=True)
class Perturbation(Component, ABC):
    """A mitigation: any intervention on network, loss, gradients, weights or optimizer.

    All hooks are optional and act in the order in which they stand here. The class declares what it uses; the
    declaration decides its track and is enforced: a method that does not declare ``uses_boundaries`` is never told
    of one.
    """

    uses_boundaries: ClassVar[bool] = False
    uses_replay: ClassVar[bool] = False
    #: Reads ``Units.activation``, so that the learner must capture activations at each step.
    uses_activations: ClassVar[bool] = False
    #: False if replicas cannot run in one program (global random draws); seeds then run one after another.
    replica_aware: ClassVar[bool] = True
    #: True if the hooks of a step can be traced into a program that takes many steps at once: they compute with
    #: tensors of fixed shapes, read no value on the host, and draw from ``state.normal`` and ``state.uniform``.
    traceable: ClassVar[bool] = False
    #: Fields that may differ between the replicas of a program; there they are tensors ``(R,)`` of float64.
    swept: ClassVar[tuple[str, ...]] = ()
    #: Fields of strength zero, at which the method is bit-identical to none; None for a method without strength.
    zero: ClassVar[Mapping[str, object] | None] = None

    @property
    def track(self) -> Track:
        """The track of the leaderboard in which the method competes."""
        if self.uses_replay:
            return "replay"
        return "boundary-aware" if self.uses_boundaries else "boundary-free"

    def configure(self, module: nn.Module, *, example: Tensor, generator: Generator) -> nn.Module:
        """Return ``module``, changed as the method needs it (dropout, normalisation, activations).

        Args:
            module: A freshly built network; may be changed in place.
            example: A batch of zeros of the shape the network takes, ``(2, *input_shape)``.
            generator: Source of every random draw; advanced in place.

        Raises:
            UnsupportedError: If the method cannot serve this network.
        """
        return module

    def begin(self, learner: Learner, state: State) -> None:
        """Put what the method remembers into ``state``, once, before the first step in which it acts.

        Raises:
            UnsupportedError: If the method cannot serve this network.
        """

    def on_task_start(self, learner: Learner, state: State) -> None:
        """Act at a task boundary, before the first step of every task but the first; needs ``uses_boundaries``."""

    def penalty(self, learner: Learner, state: State) -> Tensor:
        """Return the term ``(R,)`` added to the loss."""
        raise NotImplementedError

    def after_backward(self, learner: Learner, state: State) -> None:
        """Change ``learner.gradients`` in place."""

    def after_step(self, learner: Learner, state: State) -> None:
        """Change ``learner.parameters`` or reset units after the optimizer's step."""

    def evaluated(self, learner: Learner, state: State) -> Mapping[str, Tensor]:
        """Return the parameters ``(R, ...)`` to evaluate where they are not the trained ones."""
        raise NotImplementedError

    @property
    def active(self) -> bool:
        """False at strength zero: the method then does nothing, bit for bit."""
        return True


@dataclass(frozen=True, kw_only=True)
class Metric(Component, ABC):
    """A number from a probe: of one layer, or of the whole network.

    ``scope`` says which: "layer" metrics get a `LayerProbe` for each probed layer, "network" metrics one
    `NetworkProbe`. Everything they share (flattened activations, Gram matrices, decompositions) is computed once there.
    """

    scope: ClassVar[Literal["layer", "network"]] = "layer"
    higher_is_better: ClassVar[bool | None] = None
    default: ClassVar[bool] = False  #: Measured when no metric is named.
    #: Inputs worked out by hand.
    known: ClassVar[Known] = ()
    #: What leaves the value as it is.
    invariances: ClassVar[frozenset[Invariance]] = frozenset()
    needs_clones: ClassVar[bool] = False  #: Measured of cloned networks only, for it reads what is a clone of what.

    @abstractmethod
    def compute(self, probe: LayerProbe | NetworkProbe) -> float:
        """Return the value; leaves weights, mode and random state untouched."""


class Batches(Protocol):
    """The training stream of one task: deterministic, and resumable in the middle."""

    def __next__(self) -> tuple[Tensor, Tensor]:
        """Return the next batch ``(N, ...)`` and its targets ``(N, ...)``, on the learner's device.

        Targets are labels ``(N,)`` where the score is an accuracy, and values ``(N, K)`` where it is an error.
        """

    def state_dict(self) -> dict[str, Tensor]:
        """Return what is needed to continue from here."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue from ``state``."""


@runtime_checkable
class ChunkedBatches(Batches, Protocol):
    """A training stream that can be asked for many batches at once, for scenarios whose batches are small.

    However the batches are asked for, one by one, in chunks of any size or both in turn, they are the same, bit for
    bit.
    """

    def take(self, steps: int) -> tuple[Tensor, Tensor]:
        """Return the next ``steps`` batches, ``(steps, N, ...)``, and their targets, ``(steps, N, ...)``.

        Args:
            steps: Number of batches, at least 1.
        """


class Task(Protocol):
    """One stationary phase of a scenario, for one seed."""

    @property
    def chance(self) -> float:
        """Score of guessing."""

    def batches(self) -> Batches:
        """Return the training stream from its start, the same at every call."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss, a scalar, of ``outputs`` of shape ``(N, K)``."""

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the score of each sample, ``(N,)``: one where it is right and zero where it is wrong, say."""

    def held_out(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield held-out batches, without augmentation."""

    def probe(self) -> tuple[Tensor, Tensor]:
        """Return the fixed, class-balanced probe batch of the task."""

    def held_out_scores(self, outputs: Tensor, targets: Tensor) -> Mapping[str, Tensor]:
        """Return further named scores of held-out samples, each ``(N,)``."""


class Stream(Protocol):
    """The tasks of one seed."""

    @property
    def input_shape(self) -> Sequence[int]:
        """Shape of one sample."""

    @property
    def outputs(self) -> int:
        """Number of outputs of the head."""

    def task(self, index: int) -> Task:
        """Return task ``index``, from 0."""


@dataclass(frozen=True, kw_only=True)
class Scenario(Component, ABC):
    """A non-stationary learning problem: an ordered stream of tasks with its score, chance level and budget.

    A scenario is a protocol: every field changes the protocol id. ``profiles`` names sets of fields that belong
    together; ``unranked`` names the profiles that never enter a ranking.
    """

    profiles: ClassVar[Mapping[str, Mapping[str, object]]] = {}
    default_profile: ClassVar[str] = "full"
    unranked: ClassVar[frozenset[str]] = frozenset()
    #: "accuracy" (a ratio of sums above chance) or "error" (geometric ratio of errors).
    score: ClassVar[Literal["accuracy", "error"]] = "accuracy"
    #: False where the problem changes without boundaries: its tasks are only the bins in which the score is averaged,
    #: and methods that use boundaries cannot run on it.
    boundaries: ClassVar[bool] = True

    default_architecture: ClassVar[str]
    #: What clones the learner where the scenario does so (`clone_at`) and no cloner is named.
    default_cloner: ClassVar[str] = "interleave"
    #: Metrics that are measured beside the default ones when none is named.
    extra_metrics: ClassVar[tuple[str, ...]] = ()

    profile: str
    tasks: int
    steps_per_task: int
    #: Whether the optimizer's state is carried over a task boundary, for every method alike.
    optimizer_policy: Literal["carry", "reset"] = "carry"
    #: What becomes of weights and bias of the head at the start of every task, the first included.
    head_policy: Literal["zero", "keep"] = "zero"
    #: Steps between probes inside a task; 0 probes at its start and end only.
    probe_every: int = 0

    @property
    def late_tasks(self) -> range:
        """The tasks that the score is made of: the last 20% of tasks, at least 5 (all, if there are fewer)."""
        count = min(self.tasks, max(5, -(-self.tasks // 5)))
        return range(self.tasks - count, self.tasks)

    @property
    def reference_lead(self) -> int:
        """Tasks on which a fresh reference is trained before the late task on which it is measured.

        Zero where a task is long enough for a fresh network to learn it. At most ``late_tasks.start``, so that the
        tasks before the first late one suffice.
        """
        return 0

    @property
    def clone_at(self) -> int | None:
        """The task before which the learner is replaced by a wider clone of itself; None where nothing is cloned.

        The clone is what is scored, and what methods act on; the base goes on beside it, on the same batches. A fresh
        reference is one network, born at this task and trained to the end.
        """
        return None

    @property
    def factor(self) -> int:
        """Clones of each unit, at least 1; read where there is a `clone_at`."""
        return 1

    @property
    @abstractmethod
    def data(self) -> str | None:
        """Name of the data set it streams, None if it generates its samples."""

    @abstractmethod
    def stream(self, seed: int, *, data: object, device: torch.device) -> Stream:
        """Return the stream of ``seed``; it depends on the scenario, the data and the seed alone.

        Args:
            seed: Seed of the run.
            data: The loaded data set that ``data`` names, or None.
            device: Where batches are made.
        """

    @abstractmethod
    def optimizer(self, architecture: str) -> str:
        """Return the optimizer spec that the protocol gives the architecture of this name."""

    @abstractmethod
    def reference_optimizer(self, architecture: str) -> str:
        """Return the frozen optimizer spec of the fresh reference for the architecture of this name."""


#: The kinds of component in the order in which they are listed, with their interface and the word users see.
KINDS: Mapping[str, type[Component]] = {
    "architectures": Architecture,
    "cloners": Cloner,
    "methods": Perturbation,
    "metrics": Metric,
    "scenarios": Scenario,
}
