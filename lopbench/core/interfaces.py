"""The interfaces. A component is a frozen dataclass: its fields are its hyperparameters.

Nothing here imports torch when it runs, so that listing components stays fast.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from lopbench.core import fields
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


@dataclass(frozen=True, kw_only=True)
class Optimizer(Component, ABC):
    """An update rule: what it remembers of each parameter, and the step it takes.

    All tensors carry the replica axis. What is remembered is kept entry by entry, so that entries that are cleared
    start anew: an entry is of the parameter's shape, or broadcasts to it.

    Args:
        lr: Learning rate, above 0.
    """

    lr: float

    def init(self, parameter: Tensor, *, hidden: bool) -> dict[str, Tensor]:
        """Return what is remembered of a parameter before its first step, by name; cleared entries become this again.

        Args:
            parameter: The parameter, ``(R, ...)``.
            hidden: Whether it is a matrix or kernel between hidden layers: no vector, no embedding, not the head's.
        """
        return {}

    @abstractmethod
    def update(self, gradient: Tensor, entries: dict[str, Tensor], parameter: Tensor, lr: float | Tensor) -> Tensor:
        """Return what is to be added to the parameter, a new tensor ``(R, ...)``, and change ``entries`` in place.

        Args:
            gradient: Gradient, ``(R, ...)``; left as it is.
            entries: What `init` returned and earlier steps changed.
            parameter: The parameter before the step, ``(R, ...)``; left as it is.
            lr: Learning rate, one for all replicas or ``(R,)``.
        """

    def fused(self, leaves: Sequence[nn.Parameter]) -> torch.optim.Optimizer | None:
        """Return torch's own optimizer that takes the same steps faster, None if there is none.

        It serves as long as nothing of a parameter's state is cleared.
        """
        return None

    def unfused(self, parameter: Tensor, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what `init` describes, as torch's optimizer has it in its ``state`` of one parameter.

        Args:
            parameter: The parameter, ``(R, ...)``.
            state: Its state in the fused optimizer, tensors of the parameter's shape with the replica axis, and
                numbers such as ``step`` as they are.
        """
        raise NotImplementedError


class OptimizerState(Protocol):
    """What a method may do to the optimizer of the learner."""

    @property
    def lr(self) -> Tensor:
        """Learning rate of each replica at the next step, ``(R,)`` of float64, the scale included."""

    def scale(self, factor: float | Tensor) -> None:
        """Multiply the learning rate of the run by ``factor``, one number or ``(R,)``, from the next step on.

        A later call replaces an earlier one.
        """

    def hold(self, *names: str) -> None:
        """Leave these parameters out of the steps to come; the method may move them itself. Their state is kept."""

    def release(self, *names: str) -> None:
        """Let the optimizer move these parameters again."""

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


class Pass(Protocol):
    """What one forward pass of all replicas made."""

    @property
    def outputs(self) -> Tensor:
        """Outputs of the network, ``(R, N, ...)``."""

    @property
    def features(self) -> Tensor:
        """Input of the head, ``(R, N, ...)``."""

    @property
    def activations(self) -> Mapping[str, Tensor]:
        """Outputs of the probed layers (every activation function, or what the architecture says), ``(R, N, ...)``."""


class Learner(Protocol):
    """What a method sees of the stack of ``replicas`` networks in training. Every tensor leads with the axis R.

    It is the same object whether steps are taken one by one or as a program of many.
    """

    @property
    def replicas(self) -> int:
        """R, the number of replicas."""

    @property
    def device(self) -> torch.device:
        """Where all tensors are."""

    @property
    def module(self) -> nn.Module:
        """The network, for its structure; with several replicas a template, whose own values mean nothing."""

    @property
    def head(self) -> Sequence[str]:
        """Names of the parameters of the head (the output layer)."""

    @property
    def parameters(self) -> Mapping[str, Tensor]:
        """The parameters ``(R, ...)``, outside autograd; change them in place."""

    @property
    def buffers(self) -> Mapping[str, Tensor]:
        """The buffers ``(R, ...)``, such as running statistics; change them in place."""

    @property
    def initial(self) -> Mapping[str, Tensor]:
        """Copies ``(R, ...)`` of the parameters as built, taken before the first step; read-only."""

    @property
    def differentiable(self) -> Mapping[str, Tensor]:
        """The parameters inside autograd, in `Perturbation.loss` and `Perturbation.penalty`."""

    @property
    def gradients(self) -> Mapping[str, Tensor]:
        """The gradients ``(R, ...)`` of this step, of the trained parameters; change them in place."""

    @property
    def updates(self) -> Mapping[str, Tensor]:
        """What the optimizer is about to add ``(R, ...)``, in `Perturbation.update`; change it in place."""

    @property
    def optimizer(self) -> OptimizerState:
        """The optimizer."""

    @property
    def units(self) -> Sequence[Units]:
        """The groups of units that a method may reset.

        Raises:
            UnsupportedError: If the network has none.
        """

    @property
    def inputs(self) -> Tensor:
        """The batch that is trained on, ``(R, N, ...)``."""

    @property
    def targets(self) -> Tensor:
        """Its targets, ``(R, N, ...)``; labels are places in `classes` where there are some."""

    @property
    def outputs(self) -> Tensor:
        """What the network made of the batch, ``(R, N, ...)``; inside autograd in `Perturbation.loss` and `penalty`."""

    @property
    def features(self) -> Tensor:
        """What its head read, ``(R, N, ...)``, likewise."""

    @property
    def activations(self) -> Mapping[str, Tensor]:
        """Outputs of the probed layers, ``(R, N, ...)``, likewise."""

    @property
    def classes(self) -> Tensor | None:
        """The outputs that count in this task, ``(R, K)`` of int64; None if all do."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the task's own loss ``(R,)`` of outputs ``(R, N, ...)``, of which only those of `classes` count."""

    def forward(
        self,
        inputs: Tensor,
        parameters: Mapping[str, Tensor] | None = None,
        buffers: Mapping[str, Tensor] | None = None,
    ) -> Pass:
        """Run the networks on ``inputs`` ``(R, N, ...)`` in training mode, without side effects.

        No buffer moves, no activation of the step is overwritten and no stream of dropout advances.

        Args:
            inputs: Inputs.
            parameters: Parameters ``(R, ...)`` to use in place of the learner's; others stay the learner's. They are
                differentiated if they ask for it.
            buffers: Likewise.
        """

    def coming(self, steps: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches ``(R, N, ...)`` and targets of the task that begins, from a copy of its stream.

        Only in `Perturbation.on_task_start` of a method that declares ``uses_data``; what is taken is counted and
        recorded.

        Args:
            steps: Number of batches; None for one pass over the task's data.

        Raises:
            UnsupportedError: Elsewhere, or if None is given and the samples of the task never repeat.
        """

    def fresh(self, state: State) -> Mapping[str, Tensor]:
        """Return the parameters ``(R, ...)`` of newly initialised networks, drawn from the method's own stream."""

    def restart(self) -> None:
        """Become the protocol's fresh reference: new network, new optimizer at the reference learning rate.

        Only in `Perturbation.on_task_start`.
        """


class State(Protocol):
    """A method's own memory. What is stored here is checkpointed with the run and restored bit for bit."""

    @property
    def host(self) -> MutableMapping[str, int | float]:
        """Numbers on the host, to be read without waiting for a device; a method that uses them is no program."""

    @property
    def generators(self) -> list[Generator]:
        """One per replica, private to the method, on the learner's device; a method that uses them is no program."""

    def normal(self, like: Tensor) -> Tensor:
        """Return standard normal noise of the shape ``(R, ...)`` of ``like``, each replica's from its generator."""

    def uniform(self, like: Tensor) -> Tensor:
        """Return numbers uniform in [0, 1) of the shape ``(R, ...)`` of ``like``, likewise."""

    def __getitem__(self, key: str) -> Tensor: ...
    def __setitem__(self, key: str, value: Tensor) -> None: ...
    def __contains__(self, key: object) -> bool: ...


@dataclass(frozen=True, kw_only=True)
class Perturbation(Component, ABC):
    """A mitigation: any intervention on network, batch, loss, gradients, updates, weights or optimizer.

    All hooks are optional and act in the order in which they stand here; of several methods, the left one acts first.
    Whether a method acts at boundaries, and whether it is on, follow from its hooks and its fields.
    """

    #: Trains on samples that it kept: a batch may then be larger than the stream's.
    uses_replay: ClassVar[bool] = False
    #: Asks for data of the task that begins (`Learner.coming`).
    uses_data: ClassVar[bool] = False
    #: False keeps the steps of the method out of programs, although they could be traced.
    as_program: ClassVar[bool] = True

    @property
    def track(self) -> Track:
        """The track of the leaderboard in which the method competes."""
        if self.uses_replay:
            return "replay"
        return "boundary-aware" if self.has("on_task_start") else "boundary-free"

    @classmethod
    def has(cls, hook: str) -> bool:
        """Return whether the class implements ``hook``."""
        return getattr(cls, hook) is not getattr(Perturbation, hook)

    @property
    def zero(self) -> Mapping[str, object] | None:
        """Fields of strength zero, at which the method is bit-identical to none; None for one without strength."""
        return fields.zeros(type(self)) or None

    @property
    def active(self) -> bool:
        """False at strength zero, where no hook is called."""
        zero = self.zero
        return zero is None or any(not _equal(getattr(self, name), value) for name, value in zero.items())

    def configure(self, module: nn.Module, *, example: Tensor, generator: Generator) -> nn.Module:
        """Return ``module``, changed as the method needs it (dropout, normalisation, activations).

        Args:
            module: A freshly built network; may be changed in place.
            example: A batch such as the network takes, ``(2, *input_shape)``: zeros, of the stream's type.
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
        """Act at a task boundary, before the first step of every task but the first.

        A class that has this hook uses boundaries: it competes with others that do, and cannot run on a stream
        without any.
        """

    def batch(self, learner: Learner, state: State, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return inputs and targets ``(R, N, ...)`` to train on, given those of the stream.

        The online score stays that of the stream's own batch.
        """
        return inputs, targets

    def loss(self, learner: Learner, state: State, loss: Tensor) -> Tensor:
        """Return the loss ``(R,)`` to train on, given the task's as other methods have changed it; inside autograd."""
        return loss

    def penalty(self, learner: Learner, state: State) -> Tensor:
        """Return the term ``(R,)`` added to the loss; inside autograd."""
        raise NotImplementedError

    def after_backward(self, learner: Learner, state: State) -> None:
        """Change ``learner.gradients`` in place."""

    def update(self, learner: Learner, state: State) -> None:
        """Change in place what the optimizer is about to add, ``learner.updates``."""

    def after_step(self, learner: Learner, state: State) -> None:
        """Change ``learner.parameters`` or ``learner.buffers``, or reset units, after the optimizer's step."""

    def evaluated(self, learner: Learner, state: State) -> Mapping[str, Tensor]:
        """Return the parameters and buffers ``(R, ...)`` to evaluate where they are not the trained ones."""
        raise NotImplementedError

    def report(self, learner: Learner, state: State) -> Mapping[str, Tensor]:
        """Return numbers of the method's own, ``(R,)`` each by name; they are recorded beside the metrics."""
        return {}


def _equal(value: object, zero: object) -> bool:
    """Return whether a field is at strength zero; one that differs between replicas (a tensor) never is."""
    return isinstance(value, int | float) and value == zero


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


class Batches(ABC):
    """The training stream of one task: deterministic, and resumable in the middle."""

    @abstractmethod
    def __next__(self) -> tuple[Tensor, Tensor]:
        """Return the next batch ``(N, ...)`` and its targets ``(N, ...)``, on the learner's device.

        Targets are labels ``(N,)`` where the score is an accuracy, and values ``(N, K)`` where it is an error. Labels
        are places in `Task.classes` where there are some.
        """

    @abstractmethod
    def state_dict(self) -> dict[str, Tensor]:
        """Return what is needed to continue from here."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue from ``state``."""

    def observe(self, outputs: Tensor) -> Tensor | None:
        """Take note of what the network made of the last batch, for a stream that depends on the learner.

        Called after the forward pass of each step, before loss and score. An agent acts here.

        Args:
            outputs: Outputs ``(N, ...)``, detached.

        Returns:
            Targets ``(N, ...)`` to use in place of the batch's, or None to keep them.
        """
        return None


class ChunkedBatches(Batches, ABC):
    """A training stream that can be asked for many batches at once, so that its steps can be a program.

    However the batches are asked for, one by one, in chunks of any size or both in turn, they are the same, bit for
    bit.
    """

    @property
    def sizes(self) -> Sequence[int]:
        """Sizes of the batches of one period, at least one: the stream repeats them for ever."""
        return (1,)

    @abstractmethod
    def take(self, periods: int) -> Sequence[tuple[Tensor, Tensor]]:
        """Return the batches of the next periods; only at the beginning of a period.

        Args:
            periods: Number of periods, at least 1.

        Returns:
            For each of `sizes`, N, the batches ``(periods, N, ...)`` and their targets ``(periods, N, ...)``.
        """


class Task(ABC):
    """One stationary phase of a scenario, for one seed."""

    #: The outputs that count, ``(K,)`` of int64 on the learner's device, as many in every task; None if all do. Loss
    #: and score are given these outputs alone.
    classes: Tensor | None = None
    #: Steps of one pass over the task's data; None if its samples never repeat.
    epoch: int | None = None

    @property
    @abstractmethod
    def chance(self) -> float:
        """Score of guessing."""

    @abstractmethod
    def batches(self) -> Batches:
        """Return the training stream from its start, the same at every call."""

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss, a scalar, of ``outputs`` of shape ``(N, K)`` (sequences: ``(N, T, K)``).

        It depends on its arguments alone, and is the same function in every task.
        """

    @abstractmethod
    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the score of each sample, ``(N,)``: one where it is right and zero where it is wrong, say; likewise."""

    @abstractmethod
    def held_out(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield held-out batches, without augmentation."""

    @abstractmethod
    def probe(self) -> tuple[Tensor, Tensor]:
        """Return the fixed, class-balanced probe batch of the task."""

    def held_out_scores(self, outputs: Tensor, targets: Tensor) -> Mapping[str, Tensor]:
        """Return further named scores of held-out samples, each ``(N,)``; ``outputs`` are all of the network's."""
        return {}


class Stream(ABC):
    """The tasks of one seed."""

    #: Shape of one sample.
    input_shape: Sequence[int]
    #: Number of outputs of the head; of a stream of tokens also the number of different tokens.
    outputs: int
    #: "tokens" are whole numbers below `outputs`, which are never cast; "numbers" take the type of the run.
    inputs: Literal["numbers", "tokens"] = "numbers"

    @abstractmethod
    def task(self, index: int) -> Task:
        """Return task ``index``, from 0."""


@dataclass(frozen=True, kw_only=True)
class Growth:
    """The replacement of the learner by a wider clone of itself.

    The clone is what is scored, and what methods act on; the base goes on beside it, on the same batches. A fresh
    reference is one network, born at this task and trained to the end.

    Args:
        task: The task before which it happens, at least 1.
        factor: Clones of each unit, at least 1.
        cloner: The cloner where none is named.
    """

    task: int
    factor: int = 2
    cloner: str = "interleave"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a protocol trains one architecture.

    Args:
        optimizer: Optimizer of the learner where none is named, as in ``adam:lr=1e-3``.
        reference: Frozen optimizer of the fresh reference.
    """

    optimizer: str
    reference: str


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

    def steps(self, task: int) -> int:
        """Return the number of steps of a task, at least 1."""
        return self.steps_per_task

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
    def growth(self) -> Growth | None:
        """When and how the learner is cloned; None where it is not."""
        return None

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
    def recipe(self, architecture: str) -> Recipe:
        """Return how the protocol trains the architecture of this name."""


#: The kinds of component in the order in which they are listed, with their interface and the word users see.
KINDS: Mapping[str, type[Component]] = {
    "architectures": Architecture,
    "cloners": Cloner,
    "methods": Perturbation,
    "metrics": Metric,
    "optimizers": Optimizer,
    "scenarios": Scenario,
}
