"""Runs many small replicas on their probe batches at once. One by one, most of the time would go into Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lopbench.core.interfaces import Task
from lopbench.core.moments import Moments
from lopbench.core.probe import as_units
from lopbench.learner.network import Tensors, attention_for_vmap
from lopbench.learner.probing import Seen, Subject

#: Most elements of the parameters of all replicas, and of all their probe batches, for one pass. Larger networks gain
#: nothing by it, and memory stays bounded.
MOST_ELEMENTS = 2**20


def see_together(subject: Subject, tasks: Sequence[Task]) -> list[Seen] | None:
    """Run several networks forward and back in one pass, each on the probe batch of its task.

    Args:
        subject: The networks. Its tensors are ``(R, ...)``.
        tasks: The task of each network.

    Returns:
        What the pass shows of each network; None if they are too large, or if a layer gets no gradient in this way.
    """
    if sum(value.numel() for value in subject.parameters.values()) > MOST_ELEMENTS:
        return None
    batches = [task.probe() for task in tasks]
    if sum(inputs.numel() for inputs, _ in batches) > MOST_ELEMENTS:
        return None
    inputs, targets = (torch.stack(each) for each in zip(*batches, strict=True))
    some = [task.classes for task in tasks if task.classes is not None]
    classes = torch.stack(some) if some else None
    parameters = {name: value.detach().requires_grad_() for name, value in subject.parameters.items()}

    def one(
        values: Tensors, buffers: Tensors, x: Tensor, y: Tensor, k: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensors]:
        outputs, kept = replace(subject, buffers=buffers).look(values, x, subject.layers)
        outputs = outputs if k is None else outputs.index_select(-1, k)
        return outputs, tasks[0].loss(outputs, y), kept

    with torch.enable_grad(), attention_for_vmap(inputs):
        mapped = torch.vmap(one, in_dims=(0, 0, 0, 0, None if classes is None else 0))
        outputs, losses, kept = mapped(parameters, dict(subject.buffers), inputs, targets, classes)
    found = torch.autograd.grad(losses.sum(), [*kept.values(), *parameters.values()], allow_unused=True)
    layers = found[: len(kept)]
    if None in layers:  # the loss does not read the layer, or `vmap` has returned another view of it
        return None
    gradients = [
        torch.zeros_like(value) if gradient is None else gradient
        for gradient, value in zip(found[len(kept) :], parameters.values(), strict=True)
    ]
    moments = [Moments(torch.vmap(as_units)(tensor.detach())) for tensor in kept.values()]
    return [
        Seen(
            outputs=outputs[place].detach(),
            kept={name: tensor[place] for name, tensor in kept.items()},
            kept_gradients=[gradient[place] for gradient in layers],
            gradients={name: gradient[place] for name, gradient in zip(parameters, gradients, strict=True)},
            moments=moments,
            place=place,
        )
        for place in range(len(tasks))
    ]
