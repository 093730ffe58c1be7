"""One training step of all replicas: the order in which everything happens, for every engine.

batch -> forward pass -> loss -> penalty -> gradients -> after_backward -> update -> after_step

Loss and score measure the network on the stream's own batch, without randomness. If the network is random in training,
as under dropout, or a method changes the batch, they come from a forward pass of their own, before the step.
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

#: Takes parameters by name. Returns the numbers to minimise, ``(R,)``, and what was made on the way.
Objective = Callable[[Mapping[str, Tensor]], tuple[Tensor, "Made"]]


class Made(NamedTuple):
    """What the objective makes on the way, for the parts of the step after the gradients."""

    losses: Tensor  #: The task's own loss, ``(R,)``.
    scores: Tensor  #: Mean score of the same outputs, ``(R,)``, outside autograd.
    forward: ForwardPass  #: The pass of the networks.
    targets: Tensor  #: The targets that were trained on, ``(R, N, ...)``.


class Engine(Protocol):
    """How the networks are run and differentiated."""

    def forward(self, view: View, inputs: Tensor) -> ForwardPass:
        """Run the networks on ``inputs`` ``(R, N, ...)``. Updates their buffers, or `differentiate` does."""

    def differentiate(self, view: View, objective: Objective) -> Made:
        """Make the gradients of ``objective`` the gradients of ``view``. Return what it made, outside autograd."""

    def descend(self, view: View, hooks: Hooks) -> None:
        """Take the optimizer's step, with the changes that the hooks ``update`` make to it."""


@dataclass(frozen=True)
class Taken:
    """What was measured in a step: losses and scores ``(R,)``, and the value ``(R,)`` of each training metric."""

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
        observe: Called with the outputs ``(R, N, ...)``; may return other targets to train on.
        metrics: What to measure of the step.

    Returns:
        Loss and score of the stream's batch before the update, without randomness, and the values of the metrics.
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
    """Return the stream's batch, with the targets that ``observe`` gives, and its loss and score without randomness."""
    with torch.no_grad():
        inputs, targets = batch
        forward = view.pass_to_score(inputs, ahead=True)
        seen = None if observe is None else observe(forward.outputs)
        targets = targets if seen is None else seen
        return (inputs, targets), Taken(*view.loss_and_score(forward, targets))
