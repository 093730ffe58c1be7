"""One replica of a learner as it is evaluated: its tensors, its held-out scores, its probe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.func import functional_call

from lopbench.core.interfaces import Task
from lopbench.core.probe import NetworkProbe
from lopbench.learner import probing, together
from lopbench.learner.network import evaluating
from lopbench.learner.probing import Seen, Subject

if TYPE_CHECKING:
    from lopbench.learner.learner import StackLearner
    from lopbench.learner.network import Tensors


def evaluated(learner: StackLearner) -> tuple[Tensors, Tensors]:
    """Return the evaluated parameters and buffers of all replicas, ``(R, ...)``."""
    with torch.no_grad():
        changed = learner.hooks.evaluated(learner.view)
    parameters = {name: changed.get(name, value) for name, value in learner.view.parameters.items()}
    return parameters, {name: changed.get(name, value) for name, value in learner.view.buffers.items()}


def replica(learner: StackLearner, index: int) -> tuple[Tensors, Tensors]:
    """Return the evaluated parameters and buffers of one replica, as a plain module holds them."""
    parameters, buffers = evaluated(learner)
    return {n: value[index] for n, value in parameters.items()}, {n: value[index] for n, value in buffers.items()}


@torch.no_grad()
def evaluate(learner: StackLearner, index: int, task: Task) -> dict[str, float]:
    """Return replica ``index``'s mean scores on the held-out data of ``task``, in evaluation mode."""
    state = replica(learner, index)
    sums: dict[str, Tensor] = {}
    count = 0
    with evaluating(learner.network.module):
        for inputs, targets in task.held_out():
            outputs = functional_call(learner.network.module, state, (learner.cast(inputs),))
            scores = {
                "heldout_score": task.score(probing.counted(outputs, task), targets),
                **task.held_out_scores(outputs, targets),
            }
            for name, score in scores.items():
                total = score.sum(dtype=torch.float64)
                sums[name] = sums[name] + total if name in sums else total
            count += len(inputs)
    return {name: total.item() / count for name, total in sums.items()}


def see_together(learner: StackLearner, tasks: Sequence[Task]) -> list[Seen] | None:
    """Return what one pass over the probe batches of the replicas' tasks shows of each, to be given to `probe`.

    None if there is one replica, they are large, or they cannot be seen together.
    """
    if not learner.stacked:
        return None
    try:
        return together.see_together(_subject(learner, *evaluated(learner)), tasks)
    except Exception:  # whatever it is, it is found again, and told of its replica, when each is seen by itself
        return None


def probe(learner: StackLearner, index: int, task: Task, seen: Seen | None = None) -> NetworkProbe:
    """Return replica ``index``'s probe: activations and gradients on the task's probe batch, in evaluation mode.

    Weights, buffers, ``.grad``, mode and random state stay as they were.

    Args:
        learner: The learner.
        index: Index of the replica.
        task: Its task.
        seen: What `see_together` returned of it, if it did.
    """
    parameters, buffers = replica(learner, index)
    subject = _subject(learner, parameters, buffers)
    return probing.take(
        subject,
        task,
        initial={name: value[index] for name, value in learner.view.initial.items()},
        head=learner.view.head,
        lr=float(learner.optimizer.lr[index]),
        recall=lambda: learner.previous.swap(index, {**buffers, **parameters}),
        seen=seen,
    )


def _subject(learner: StackLearner, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor]) -> Subject:
    return Subject(
        module=learner.network.module,
        parameters=parameters,
        buffers=buffers,
        layers=learner.network.layers,
        profile=learner.profile,
        tokens=learner.tokens,
    )
