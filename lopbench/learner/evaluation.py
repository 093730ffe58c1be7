"""Evaluates the replicas of a learner: the tensors to evaluate, held-out scores, probes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.func import functional_call

from lopbench.core.errors import PluginError
from lopbench.core.interfaces import Task
from lopbench.core.probe import NetworkProbe
from lopbench.learner import probing, together
from lopbench.learner.network import evaluating
from lopbench.learner.probing import Seen, Subject

if TYPE_CHECKING:
    from lopbench.learner.learner import StackLearner
    from lopbench.learner.network import Tensors


def evaluated(learner: StackLearner) -> tuple[Tensors, Tensors]:
    """Return the parameters and buffers to evaluate of all replicas, ``(R, ...)`` by name.

    They are the trained ones, except those that a method replaces in its hook ``evaluated``.
    """
    with torch.no_grad():
        changed = learner.hooks.evaluated(learner.view)
    parameters = {name: changed.get(name, value) for name, value in learner.view.parameters.items()}
    return parameters, {name: changed.get(name, value) for name, value in learner.view.buffers.items()}


def replica(learner: StackLearner, index: int) -> tuple[Tensors, Tensors]:
    """Return the parameters and buffers to evaluate of one replica, by name, without replica axis."""
    parameters, buffers = evaluated(learner)
    return {n: value[index] for n, value in parameters.items()}, {n: value[index] for n, value in buffers.items()}


@torch.no_grad()
def evaluate(learner: StackLearner, index: int, task: Task) -> dict[str, float]:
    """Return replica ``index``'s mean scores on the held-out data of ``task``, by name, in evaluation mode.

    They are ``heldout_score`` and the task's own ``held_out_scores``.
    """

    def scores(outputs: Tensor, targets: Tensor) -> Mapping[str, Tensor]:
        score = task.score(probing.counted(outputs, task), targets)
        return {"heldout_score": score, **task.held_out_scores(outputs, targets)}

    return _means(learner, replica(learner, index), task.held_out(), scores)


@torch.no_grad()
def validate(learner: StackLearner, index: int, task: Task) -> float:
    """Return replica ``index``'s mean score on the validation data of ``task``, in evaluation mode.

    It is that of the trained tensors, whatever methods evaluate: these are what a network goes on with.

    Raises:
        PluginError: If there are no such data.
    """
    view = learner.view
    trained = tuple({n: value[index] for n, value in each.items()} for each in (view.parameters, view.buffers))

    def scores(outputs: Tensor, targets: Tensor) -> Mapping[str, Tensor]:
        return {"score": task.score(probing.counted(outputs, task), targets)}

    found = _means(learner, trained, task.validation(), scores)
    if not found:
        raise PluginError("the scenario says when networks are validated, and its tasks yield no validation batch")
    return found["score"]


def _means(
    learner: StackLearner,
    state: tuple[Tensors, ...],
    batches: Iterable[tuple[Tensor, Tensor]],
    scores: Callable[[Tensor, Tensor], Mapping[str, Tensor]],
) -> dict[str, float]:
    """Return means over all samples of the ``scores`` of outputs and targets, in evaluation mode.

    Args:
        learner: The learner.
        state: Parameters and buffers of one replica.
        batches: Inputs and targets.
        scores: Returns scores of samples, ``(N,)`` each, by name, given all outputs of the network and the targets.
    """
    sums: dict[str, Tensor] = {}
    count = 0
    with evaluating(learner.network.module):
        for inputs, targets in batches:
            outputs = functional_call(learner.network.module, state, (learner.cast(inputs),))
            for name, score in scores(outputs, targets).items():
                total = score.sum(dtype=torch.float64)
                sums[name] = sums[name] + total if name in sums else total
            count += len(inputs)
    return {name: total.item() / count for name, total in sums.items()}


def see_together(learner: StackLearner, tasks: Sequence[Task]) -> list[Seen] | None:
    """Return what `probe` needs of each replica, from one pass over the probe batches of all.

    Args:
        learner: The learner.
        tasks: The task of each replica.

    Returns:
        What was seen of each replica; None if there is only one, if they are large, or if one pass is not possible.
    """
    if not learner.stacked:
        return None
    try:
        return together.see_together(_subject(learner, *evaluated(learner)), tasks)
    except Exception:  # `probe` meets the same error again in its replica, and reports it there
        return None


def probe(learner: StackLearner, index: int, task: Task, seen: Seen | None = None) -> NetworkProbe:
    """Return replica ``index``'s probe: activations and gradients on the task's probe batch, in evaluation mode.

    Weights, buffers, ``.grad``, mode and random state stay as they were.

    Args:
        learner: The learner.
        index: Index of the replica.
        task: Its task.
        seen: What `see_together` returned for this replica; None to run the network for it.
    """
    parameters, buffers = replica(learner, index)
    subject = _subject(learner, parameters, buffers)

    def score_former() -> float | None:
        former = task.former()
        return None if former is None else evaluate(learner, index, former).get("heldout_score")

    taken = probing.take(
        subject,
        task,
        initial={name: value[index] for name, value in learner.view.initial.items()},
        head=learner.view.head,
        lr=float(learner.optimizer.lr[index]),
        recall=lambda: learner.previous.swap(index, {**buffers, **parameters}),
        seen=seen,
    )
    return replace(taken, score_former=score_former)


def _subject(learner: StackLearner, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor]) -> Subject:
    return Subject(
        module=learner.network.module,
        parameters=parameters,
        buffers=buffers,
        layers=learner.network.layers,
        profile=learner.profile,
        tokens=learner.tokens,
    )
