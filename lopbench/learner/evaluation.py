"""One replica of a learner as it is evaluated: its tensors, its held-out scores, its probe."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.func import functional_call

from lopbench.core.interfaces import Task
from lopbench.core.probe import NetworkProbe
from lopbench.learner import probing
from lopbench.learner.network import evaluating

if TYPE_CHECKING:
    from lopbench.learner.learner import StackLearner
    from lopbench.learner.network import Tensors


def replica(learner: StackLearner, index: int) -> tuple[Tensors, Tensors]:
    """Return the evaluated parameters and buffers of one replica, as a plain module holds them."""
    with torch.no_grad():
        changed = learner.hooks.evaluated(learner.view)
    parameters = {name: changed.get(name, value)[index] for name, value in learner.view.parameters.items()}
    return parameters, {name: changed.get(name, value)[index] for name, value in learner.view.buffers.items()}


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


def probe(learner: StackLearner, index: int, task: Task) -> NetworkProbe:
    """Return replica ``index``'s probe: activations and gradients on the task's probe batch, in evaluation mode.

    Weights, buffers, ``.grad``, mode and random state stay as they were.
    """
    parameters, buffers = replica(learner, index)
    subject = probing.Subject(
        module=learner.network.module,
        parameters=parameters,
        buffers=buffers,
        layers=learner.network.layers,
        profile=learner.profile,
        tokens=learner.tokens,
    )
    return probing.take(
        subject,
        task,
        initial={name: value[index] for name, value in learner.view.initial.items()},
        head=learner.view.head,
        lr=float(learner.optimizer.lr[index]),
        recall=lambda: learner.previous.swap(index, {**buffers, **parameters}),
    )
