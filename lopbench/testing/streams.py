"""Streams of scenarios, opened and taken from as the checks look at them."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from lopbench.core import rng
from lopbench.core.errors import DataError
from lopbench.core.interfaces import ActingBatches, Batches, Component, Samples, Scenario, Stream, Task
from lopbench.data import example
from lopbench.testing.check import NotApplicable
from lopbench.testing.comparing import same

#: Batches that are looked at.
BATCHES = 3

#: Inputs and targets.
Batch = tuple[Tensor, Tensor]


def scenario_of(component: Component) -> Scenario:
    """Return the component, which is a scenario."""
    assert isinstance(component, Scenario)
    return component


@lru_cache(maxsize=2)
def _samples(name: str) -> Samples:
    try:
        return example(name)
    except DataError as error:
        raise NotApplicable(f"{error}; or give the data set an example") from error


def opened(scenario: Scenario, seed: int = 0) -> Stream:
    """Return a stream; of a few samples that a program makes where the scenario reads a data set that has them."""
    samples = None if scenario.data is None else _samples(scenario.data)
    return scenario.stream(seed, data=samples, device=torch.device("cpu"))


def batches_of(scenario: Scenario, task: int, seed: int = 0) -> list[Batch]:
    """Return the first batches of a task of a seed."""
    return first(opened(scenario, seed), task)


def first(stream: Stream, task: int) -> list[Batch]:
    """Return the first batches of a task."""
    return take(stream.task(task).batches(), stream.outputs)


def take(batches: Batches, outputs: int, count: int = BATCHES, start: int = 0) -> list[Batch]:
    """Return batches as they are trained on: a stream that depends on the learner is shown random outputs.

    Args:
        batches: The stream.
        outputs: Outputs of the network.
        count: Number of batches.
        start: Number of batches that were taken before.
    """
    taken = []
    for step in range(start, start + count):
        act(batches, outputs, step)
        inputs, targets = next(batches)
        generator = rng.derive(0, "conformance", "policy", step)
        seen = batches.observe(torch.randn(output_shape(targets, outputs), generator=generator))
        taken.append((inputs, targets if seen is None else seen))
    return taken


def act(batches: Batches, outputs: int, step: int) -> None:
    """Let random outputs act in a stream in which networks do, if it is time in this step."""
    if isinstance(batches, ActingBatches) and not batches.left:
        generator = rng.derive(0, "conformance", "actions", step)
        type(batches).act([batches], lambda inputs: torch.randn(*inputs.shape[:2], outputs, generator=generator))


def depends_on_the_learner(batches: Batches) -> bool:
    """Return whether a stream is made of what networks do."""
    return isinstance(batches, ActingBatches) or type(batches).observe is not Batches.observe


def output_shape(targets: Tensor, outputs: int) -> tuple[int, ...]:
    """Return the shape of the outputs for these targets: ``(N, K)``, or ``(N, T, K)`` of sequences."""
    return (*(targets.shape[:-1] if targets.is_floating_point() else targets.shape), outputs)


def of_task(task: Task, outputs: Tensor) -> Tensor:
    """Return the outputs that count in the task."""
    return outputs if task.classes is None else outputs[..., task.classes]


def looked_at(scenario: Scenario) -> list[int]:
    """Return the tasks that are looked at: the first two and the last."""
    return sorted({0, min(1, scenario.tasks - 1), scenario.tasks - 1})


def equal(one: list[Batch], other: list[Batch]) -> bool:
    """Return whether batches are the same to the bit."""
    return all(same(a, b) for left, right in zip(one, other, strict=True) for a, b in zip(left, right, strict=True))
