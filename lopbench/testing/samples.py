"""The checks of what a scenario's samples are: held-out ones, those of other seeds, the probe, their loss and scale."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from lopbench.core import rng
from lopbench.core.interfaces import Component, Scenario, Stream, Task
from lopbench.testing.check import Mismatch, NotApplicable, check
from lopbench.testing.streams import (
    BATCHES,
    Batch,
    act,
    depends_on_the_learner,
    equal,
    looked_at,
    of_task,
    opened,
    output_shape,
    scenario_of,
    take,
)

#: Batches of a training stream in which held-out samples are looked for, at most.
_MANY = 300

#: Images that are compared, and by how many pixels augmentation may shift them.
_IMAGES, _SHIFT = 200, 4


@check(
    "No held-out sample is trained on, as it is or augmented.",
    lesson="a test set that is drawn from the images of the task measures what was memorised, and no generalisation",
)
def held_out_samples_are_not_trained_on(component: Component) -> None:
    """Look for them in the training stream: sample by sample, and images also shifted, mirrored and recoloured."""
    scenario = scenario_of(component)
    stream = opened(scenario)
    compared = 0
    for index in looked_at(scenario):
        task = stream.task(index)
        shared = _shared(list(task.held_out()), _trained(scenario, stream, index))
        if shared is None:
            continue
        compared += 1
        if shared > 0.1:
            raise Mismatch(
                f"held-out samples of task {index} that are not trained on",
                f"{100 * shared:.0f}% of them are in its training stream, as they are or augmented",
            )
    if not compared:
        raise NotApplicable("it holds no samples out, or has so few different ones that they meet by chance")


@check(
    "Validation samples are the same at every call, and are neither trained on nor held out.",
    lesson="weights that are chosen by samples of the test set have a score there that no new sample would give them",
)
def validation_samples_are_set_aside(component: Component) -> None:
    """Look for them in the training stream and among held-out samples, as for held-out ones."""
    scenario = scenario_of(component)
    stream = opened(scenario)
    validated = [index for index in looked_at(scenario) if scenario.validate_every(index)]
    if not validated:
        raise NotApplicable("no task that is looked at is validated")
    for index in validated:
        task = stream.task(index)
        found = list(task.validation())
        if not found:
            raise Mismatch(f"validation batches of task {index}, which is validated", "none")
        again = list(opened(scenario).task(index).validation())
        if len(found) != len(again) or not equal(found, again):
            raise Mismatch(f"the same validation batches of task {index} at every call", "others")
        others = {"trained on": _trained(scenario, stream, index), "held out": list(task.held_out())}
        for what, batches in others.items():
            shared = _shared(found, batches)
            if shared is not None and shared > 0.1:
                raise Mismatch(
                    f"validation samples of task {index} that are not {what}",
                    f"{100 * shared:.0f}% of them are, as they are or augmented",
                )


def _trained(scenario: Scenario, stream: Stream, index: int) -> list[Batch]:
    """Return the batches of one pass of a task, or as many as are looked at."""
    task = stream.task(index)
    count = min(scenario.steps(index), task.epoch or _MANY, _MANY)
    return list(itertools.islice(_inputs(stream, task), count))


def _shared(kept: list[Batch], others: list[Batch]) -> float | None:
    """Return which share of the samples of ``kept`` is among ``others``, as they are or, of images, augmented.

    None where there are none, or so few different ones that they meet by chance.
    """
    wanted, seen = _samples(kept), _samples(others)
    if not wanted or not seen or _repeats(wanted) or _repeats(seen):
        return None
    shared = sum(count for sample, count in wanted.items() if sample in seen) / sum(wanted.values())
    images = [torch.cat([inputs for inputs, _ in batches])[:_IMAGES] for batches in (kept, others)]
    if images[0].ndim == 4 and min(images[0].shape[2:]) > 4 * _SHIFT:
        shared = max(shared, _alike(*(each.double().mean(dim=1) for each in images)))
    return shared


def _alike(held_out: Tensor, trained: Tensor) -> float:
    """Return the share of grey images ``(N, H, W)`` whose inner part correlates with some place of a trained one.

    The correlation is 1 for an image that was shifted, mirrored and made brighter or darker.
    """
    inner = held_out[:, _SHIFT:-_SHIFT, _SHIFT:-_SHIFT]
    best = torch.zeros(len(inner), dtype=inner.dtype, device=inner.device)
    size = inner[0].numel()
    ones = torch.ones(1, 1, *inner.shape[1:], dtype=inner.dtype, device=inner.device)
    images = trained.unsqueeze(1)
    deviations = (conv2d(images.square(), ones) - conv2d(images, ones).square() / size).clamp(min=1e-12).sqrt()
    for kernels in (inner, inner.flip(2)):
        centred = kernels - kernels.mean(dim=(1, 2), keepdim=True)
        norms = centred.flatten(1).norm(dim=1).clamp(min=1e-12).view(1, -1, 1, 1)
        found = conv2d(images, centred.unsqueeze(1)) / norms / deviations
        best = torch.maximum(best, found.amax(dim=(0, 2, 3)))
    return float((best > 0.98).double().mean())


def _inputs(stream: Stream, task: Task) -> Iterable[Batch]:
    batches = task.batches()
    for step in itertools.count():
        act(batches, stream.outputs, step)
        yield next(batches)


def _samples(batches: Iterable[Batch]) -> Counter[bytes]:
    """Return how often each sample occurs."""
    return Counter(row.cpu().numpy().tobytes() for inputs, _ in batches for row in inputs.contiguous())


def _repeats(samples: Counter[bytes]) -> bool:
    return len(samples) < 0.95 * sum(samples.values())


@check(
    "Tasks of another seed are other tasks.",
    lesson="permutations or classes from a fixed seed: the interval over seeds tells of one sequence of tasks alone",
)
def tasks_differ_between_seeds(component: Component) -> None:
    """Compare held-out samples and their targets, or those of the probe where there are no others."""
    scenario = scenario_of(component)
    streams = [opened(scenario, seed) for seed in (0, 1)]
    if depends_on_the_learner(streams[0].task(0).batches()):
        raise NotApplicable("what is trained on depends on the learner")
    tasks = looked_at(scenario)
    ours, theirs = ([_contents(stream, index) for index in tasks] for stream in streams)
    if len(tasks) > 1 and all(each == ours[0] for each in ours):
        raise NotApplicable("all its tasks are of one problem")
    if ours == theirs:
        raise Mismatch(
            "other held-out samples or targets for another seed",
            f"the same in tasks {', '.join(map(str, tasks))}; draw what makes a task from rng.derive(seed, ...)",
        )


def _contents(stream: Stream, index: int) -> Counter[bytes]:
    """Return the held-out samples of a task with their targets, in any order."""
    task = stream.task(index)
    return Counter(
        x.cpu().numpy().tobytes() + y.cpu().numpy().tobytes()
        for inputs, targets in (list(task.held_out()) or [task.probe()])
        for x, y in zip(inputs.contiguous(), targets.contiguous(), strict=True)
    )


@check(
    "The loss is a mean over the samples.",
    lesson="a loss that is summed makes the learning rate grow with the batch",
)
def loss_is_a_mean(component: Component) -> None:
    """Take the loss of a batch, and of the batch twice over."""
    scenario = scenario_of(component)
    stream = opened(scenario)
    task = stream.task(0)
    ((_, targets),) = take(task.batches(), stream.outputs, 1)
    generator = rng.derive(0, "conformance", "outputs")
    outputs = of_task(task, torch.randn(output_shape(targets, stream.outputs), generator=generator))
    once = float(task.loss(outputs, targets))
    twice = float(task.loss(torch.cat([outputs, outputs]), torch.cat([targets, targets])))
    if abs(twice - once) > 1e-4 * abs(once) + 1e-6:
        raise Mismatch(
            "the same loss of a batch and of the batch twice over", f"{twice / once:.3g} times as much: it is a sum"
        )


@check(
    "The probe batch is as diverse as the stream.",
    lesson="the rank of one sample repeated is 1, whatever the network",
)
def probe_is_diverse(component: Component) -> None:
    """Count different samples in it and in as many of the training stream."""
    scenario = scenario_of(component)
    stream = opened(scenario)
    for index in looked_at(scenario):
        task = stream.task(index)
        inputs, targets = task.probe()
        found = len(_samples([(inputs, targets)]))
        stream_rows = (
            row for batch, _ in itertools.islice(_inputs(stream, task), scenario.steps(index)) for row in batch
        )
        rows = list(itertools.islice(stream_rows, len(inputs)))
        usual = len(_samples([(torch.stack(rows), targets)]))
        if found < usual / 2:
            raise Mismatch(
                f"about {usual} different samples in the probe, as among {len(rows)} of the stream",
                f"{found} in task {index}",
            )


@check("Mean, standard deviation and range of the inputs.")
def inputs_have_a_scale(component: Component) -> str:
    """Take some batches of the first task."""
    scenario = scenario_of(component)
    stream = opened(scenario)
    if stream.inputs == "tokens":
        raise NotApplicable("its inputs are tokens")
    inputs = torch.cat(
        [batch.double().flatten() for batch, _ in itertools.islice(_inputs(stream, stream.task(0)), BATCHES)]
    )
    least, most = float(inputs.min()), float(inputs.max())
    return (
        f"mean {float(inputs.mean()):.2g}, standard deviation {_deviation(inputs):.2g}, from {least:.2g} to {most:.2g}"
    )


def _deviation(values: Tensor) -> float:
    return float(values.std(correction=0))


def steps_past_an_epoch(scenario: Scenario, task: Task) -> int | None:
    """Return a number of steps after which the second pass over the task's data has begun, None if it never does."""
    if task.epoch is None or task.epoch + 1 > min(_MANY, scenario.steps(0)):
        return None
    return task.epoch + 1
