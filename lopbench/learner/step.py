"""One training step of all replicas: the order in which everything happens, for every engine.

batch -> forward pass -> loss -> penalty -> gradients -> after_backward -> update -> after_step

Loss and score are those of the network as it would be used. Where what it makes in training is random, as under
dropout, or a method changes the batch, they come from one more forward pass on the stream's batch, before the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from lopbench.core.interfaces import TrainingMetric
from lopbench.core.measuring import measured_in_step
from lopbench.learner.hooks import Hooks
from lopbench.learner.network import ForwardPass
from lopbench.learner.view import View

#: Makes of parameters by name the numbers to minimise, ``(R,)``, and what was made on the way.
Objective = Callable[[Mapping[str, Tensor]], tuple[Tensor, "Made"]]


class Made(NamedTuple):
    """What the objective makes on the way: all that is read after the gradients."""

    losses: Tensor  #: The task's own loss, ``(R,)``.
    scores: Tensor  #: Mean score of the same outputs, ``(R,)``, outside autograd.
    forward: ForwardPass
    targets: Tensor


class Engine(Protocol):
    """How the networks are run and differentiated."""

    def forward(self, view: View, inputs: Tensor) -> ForwardPass:
        """Run the networks on ``inputs`` ``(R, N, ...)``; their buffers move."""

    def differentiate(self, view: View, objective: Objective) -> Made:
        """Put the gradients of ``objective`` into ``view.gradients``; returns what it made, outside autograd."""

    def descend(self, view: View, hooks: Hooks) -> None:
        """Take the optimizer's step, as the hooks ``update`` change it."""


@dataclass(frozen=True)
class Taken:
    """What is known of a step: losses and scores ``(R,)``, and each training metric's value ``(R,)``."""

    losses: Tensor
    scores: Tensor
    measured: tuple[Tensor, ...] = ()


def take_step(
    view: View,
    hooks: Hooks,
    engine: Engine,
    batch: tuple[Tensor, Tensor],
    *,
    observe: Callable[[Tensor], Tensor | None] | None = None,
    metrics: Sequence[TrainingMetric] = (),
) -> Taken:
    """Train every replica on its batch.

    Args:
        view: What the methods see; its tensors are changed in place.
        hooks: The hooks of the methods that are on.
        engine: How the networks are run and differentiated.
        batch: Inputs and targets of the stream, ``(R, N, ...)`` each.
        observe: Is told the outputs ``(R, N, ...)``, and may return other targets.
        metrics: What to measure of the step.

    Returns:
        Loss and score of the stream's batch before the update, with all that is random off, and what was measured.
    """
    view.begin_step(*batch)
    own: Taken | None = None
    if view.network.stochastic or hooks.having("batch"):
        batch, own = _look_first(view, batch, observe)
        observe = None
        with torch.no_grad():
            view.begin_step(*hooks.batch(view, *batch))

    def objective(parameters: Mapping[str, Tensor]) -> tuple[Tensor, Made]:
        view.inside(parameters)
        view.made(forward := engine.forward(view, view.inputs))
        if observe is not None:
            view.made(forward, observe(forward.outputs.detach()))
        losses, scores = view.loss_and_score(forward, view.targets)
        return hooks.loss(view, losses), Made(losses, scores, forward, view.targets)

    made = engine.differentiate(view, objective)
    view.inside(None)
    with torch.no_grad():
        view.made(made.forward, made.targets)
        targets = made.targets if own is None else batch[1]
        own = own or Taken(made.losses, made.scores)
        hooks.run("after_backward", view)
        engine.descend(view, hooks)
        hooks.run("after_step", view)
        view.end_step()
        if metrics:
            after = view.loss(view.pass_to_score(batch[0]).outputs, targets)
            return Taken(own.losses, own.scores, tuple(measured_in_step(each, own.losses, after) for each in metrics))
    return own


def _look_first(
    view: View, batch: tuple[Tensor, Tensor], observe: Callable[[Tensor], Tensor | None] | None
) -> tuple[tuple[Tensor, Tensor], Taken]:
    """Return the stream's own batch, and its loss and score, which neither noise nor methods move."""
    with torch.no_grad():
        inputs, targets = batch
        forward = view.pass_to_score(inputs, ahead=True)
        seen = None if observe is None else observe(forward.outputs)
        targets = targets if seen is None else seen
        return (inputs, targets), Taken(*view.loss_and_score(forward, targets))
