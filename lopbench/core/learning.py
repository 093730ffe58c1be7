"""What methods see of the learner: the stack of networks in training, its units, its optimizer, their own memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Generator, Tensor, nn


class OptimizerState(Protocol):
    """What a method may do to the optimizer of the learner."""

    @property
    def lr(self) -> Tensor:
        """Learning rate of each replica at the next step, ``(R,)`` of float64, schedule and scale included."""

    def scale(self, factor: float | Tensor) -> None:
        """Multiply the learning rate of the run by ``factor``, one number or ``(R,)``, from the next step on.

        A later call replaces an earlier one. The protocol's schedule (`Scenario.rate_factors`) is multiplied with it.

        Raises:
            UnsupportedError: If another method scales it already.
        """

    def hold(self, *names: str) -> None:
        """Leave these parameters out of the steps to come; the method may move them itself. Their state is kept."""

    def release(self, *names: str) -> None:
        """Let the optimizer move these parameters again."""

    def clear(self, name: str | None = None, mask: Tensor | None = None) -> None:
        """Forget the state of all parameters, of parameter ``name``, or of its entries where ``mask`` is true.

        ``mask`` broadcasts to the parameter's ``(R, ...)``. Cleared entries restart their step count.

        Raises:
            UnsupportedError: If all are to be forgotten and the method does not act at boundaries.
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

    def mix(self, share: Tensor) -> None:
        """Move each unit a share of the way to a new one, in place: a reset in part.

        Incoming weights become ``(1 - share) * w + share * fresh``, with ``fresh`` drawn from the layer's own
        initialisation law, and outgoing ones ``(1 - share) * w``. Biases, norms and the optimizer's state stay.

        Args:
            share: Share of each unit in [0, 1], ``(R, D)``; at 0 nothing is changed or drawn.
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
    def age(self) -> int:
        """Steps of the stream between the turn-on of the methods and the first step of this learner, at least 0.

        It is above 0 for a network that is born in the middle of the stream, to see what a recipe can learn there. A
        schedule over the steps of the stream starts from it and not anew. Read it in `Perturbation.begin`.
        """

    @property
    def device(self) -> torch.device:
        """Where all tensors are."""

    @property
    def module(self) -> nn.Module:
        """The network, for its structure; with several replicas a template, whose own values mean nothing."""

    @property
    def is_random(self) -> bool:
        """Whether what the networks make of a batch in training is random, as under dropout."""

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
        """The batch that is trained on, ``(R, N, ...)``; in `Perturbation.begin` zeros of its shape."""

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
