"""Methods against loss of plasticity: the hooks through which one acts, and what follows from having them."""

from __future__ import annotations

import difflib
from abc import ABC
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from lopbench.core import fields
from lopbench.core.component import Component
from lopbench.core.errors import PluginError

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from lopbench.core.learning import Learner, State

Hook = Literal[
    "configure",
    "begin",
    "on_task_start",
    "batch",
    "loss",
    "penalty",
    "after_backward",
    "update",
    "after_step",
    "evaluated",
    "report",
]

#: The hooks in the order in which they act.
HOOKS: tuple[Hook, ...] = get_args(Hook)

Track = Literal["boundary-free", "boundary-aware", "replay"]

#: What a method is, by which lists are grouped: a control, a penalty, one that redraws, normalises or bounds, or that
#: changes the activation functions or the optimizer's step.
Family = Literal["control", "regularise", "reset", "normalise", "activation", "optimizer", "other"]

FAMILIES: tuple[Family, ...] = get_args(Family)

#: What `Perturbation.cost` may have.
COSTS = ("time", "memory", "program")

#: What methods declared for plugin API 1, or may think that they declare, and where it stands now.
_OF_API_1: Mapping[str, str] = {
    "track": "it follows from the hooks, and from uses_replay",
    "uses_boundaries": "a method that has the hook on_task_start uses boundaries",
    "uses_activations": "activations are there in every step",
    "replica_aware": "every tensor leads with the axis of replicas",
    "traceable": "whether steps can be a program is found out by trying",
    "swept": "a field says it itself, as in number(0.1, swept=True)",
    "zero": "a field says it itself, as in number(0.1, zero=0)",
}


@dataclass(frozen=True, kw_only=True)
class Perturbation(Component, ABC):
    """A mitigation: any intervention on network, batch, loss, gradients, updates, weights or optimizer.

    All hooks are optional and act in the order in which they stand here; of several methods, the left one acts first.
    Whether a method acts at boundaries, and whether it is on, follow from its hooks and its fields.
    """

    #: What it is, by which lists are grouped.
    family: ClassVar[Family] = "other"
    #: Trains on samples that it kept: a batch may then be larger than the stream's.
    uses_replay: ClassVar[bool] = False
    #: Asks for data of the task that begins (`Learner.coming`).
    uses_data: ClassVar[bool] = False
    #: The control whose retention is 1 by construction: it becomes the fresh reference at each task. It always has the
    #: reference's optimizer, and composes with nothing.
    control: ClassVar[bool] = False
    #: False keeps the steps of the method out of programs, although they could be traced.
    as_program: ClassVar[bool] = True
    #: The values of its fields over which it is tuned, as published: field -> values. All of them are combined, with
    #: the learning rates too, so they are few. Empty where there is nothing to tune but the learning rate.
    grid: ClassVar[Mapping[str, tuple[object, ...]]] = {}
    #: What it costs, as multiples of plain learning: "time" and "memory" of a step, and "program", the time of a sample
    #: in a compiled program, of those of which it was measured. ``tests/benchmarks/test_methods.py`` says how.
    cost: ClassVar[Mapping[str, float]] = {}

    def __init_subclass__(cls, **kwargs: object) -> None:
        """Refuse what nobody would read: an unknown family, what is all but named as a hook, what was plugin API 1's.

        Raises:
            PluginError: If there is one.
        """
        super().__init_subclass__(**kwargs)
        if cls.family not in FAMILIES:
            raise PluginError(f"{cls.__name__} has the family {cls.family!r}; there are {', '.join(FAMILIES)}")
        for name, value in vars(cls).items():
            if name in _OF_API_1:
                raise PluginError(
                    f"{cls.__name__} declares {name!r}, which belongs to plugin API 1 and is not read any more: "
                    f"{_OF_API_1[name]}. plugins/README.md has all that changed."
                )
            near = [] if name.startswith("_") or hasattr(Perturbation, name) else _near(name)
            if near and callable(value):
                raise PluginError(
                    f"{cls.__name__} has {name!r}, which is no hook and is never called. Did you mean {near[0]!r}? A "
                    "function of your own begins with an underscore."
                )

    @classmethod
    def track_of(cls) -> Track:
        """Return the track of the leaderboard in which the method competes."""
        if cls.uses_replay:
            return "replay"
        return "boundary-aware" if cls.has("on_task_start") else "boundary-free"

    @property
    def track(self) -> Track:
        """The track of the leaderboard in which the method competes."""
        return self.track_of()

    @classmethod
    def has(cls, hook: str) -> bool:
        """Return whether the class implements ``hook``."""
        return getattr(cls, hook) is not getattr(Perturbation, hook)

    @property
    def active(self) -> bool:
        """False where every field that has a strength zero is at it; no hook is called there."""
        zeros = fields.zeros(type(self))
        return not zeros or any(not _equal(getattr(self, name), value) for name, value in zeros.items())

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

        ``learner.inputs`` and ``learner.targets`` are zeros of the shapes and types of the stream's batches.

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


def _near(name: str) -> list[str]:
    """Return the hook that ``name`` may have been meant for, none if it is like none."""
    return difflib.get_close_matches(name, HOOKS, n=1, cutoff=0.8)
