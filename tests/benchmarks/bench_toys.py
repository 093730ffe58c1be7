"""What the benchmarks share: a learner as the runner makes it, and the loop that one would write by hand."""

import itertools
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lopbench.core import rng
from lopbench.core.interfaces import Architecture, Metric, Optimizer, Perturbation, Stream, Task
from lopbench.core.manager import plugins
from lopbench.core.spec import ComponentSpec, build_optimizer
from lopbench.data import ImageSet
from lopbench.learner.learner import StackLearner
from lopbench_plugins.scenarios.tinyimagenet40 import TinyImageNet40

CPU = torch.device("cpu")
DEFAULT = TinyImageNet40()
ADAM = ComponentSpec.parse("optimizers", DEFAULT.recipe("mlp").optimizer)
REFERENCE = ComponentSpec.parse("optimizers", DEFAULT.recipe("mlp").reference)

#: Expression of the peak memory of a process in bytes, for code that may import no torch, which `peak_bytes` needs.
PEAK_BYTES = 'int(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0]) * 1024'

Batch = tuple[Tensor, Tensor]


class Bare:
    """A hand-written training loop: the learner's network, masked loss, accuracy and torch's optimizer, and no more."""

    def __init__(
        self, architecture: Architecture, stream: Stream, rule: Optimizer | None = None, *, fused: bool | None = True
    ) -> None:
        self.module = architecture.build(stream.input_shape, stream.outputs, generator=rng.derive(0, "init", 0))
        rule = rule or build_optimizer(ADAM)
        kinds = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}
        self.optimizer = kinds[rule.name](self.module.parameters(), lr=rule.lr, fused=fused)
        classes = stream.task(0).classes
        self.classes = slice(None) if classes is None else classes

    def step(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Take one step, and return the batch's loss and accuracy before it."""
        inputs, targets = batch
        outputs = self.module(inputs)[:, self.classes]
        loss = F.cross_entropy(outputs, targets)
        accuracy = (outputs.detach().argmax(1) == targets).mean(dtype=torch.float64)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.detach(), accuracy

    def steps(self, batches: list[Batch], count: int) -> None:
        """Take ``count`` steps over ``batches`` again and again."""
        for _, batch in zip(range(count), itertools.cycle(batches), strict=False):
            self.step(batch)


def learner(
    architecture: Architecture,
    stream: Stream,
    *methods: Perturbation,
    seeds: range = range(1),
    optimizer: Optimizer | None = None,
) -> StackLearner:
    """Return a learner at its first task, as the runner makes it."""
    task = stream.task(0)
    example, targets = next(task.batches())
    made = StackLearner(
        build=lambda generator: architecture.build(stream.input_shape, stream.outputs, generator=generator),
        seeds=seeds,
        methods=methods,
        optimizer=optimizer or build_optimizer(ADAM),
        reference_optimizer=optimizer or build_optimizer(REFERENCE),
        example=example,
        targets=targets,
        outputs=stream.outputs,
        layers=architecture.layers,
    )
    made.begin_task(0, [task] * len(seeds), first=True, reset_optimizer=False, zero_head=task.classes is not None)
    return made


def steps(trained: StackLearner, batches: list[Batch], count: int) -> None:
    """Take ``count`` steps of one replica over ``batches`` again and again."""
    for _, batch in zip(range(count), itertools.cycle(batches), strict=False):
        trained.step([batch])


def some_batches(task: Task, count: int = 16) -> list[Batch]:
    stream = task.batches()
    return [next(stream) for _ in range(count)]


def seconds(function: Callable[[], object], timer: Callable[[], float]) -> float:
    start = timer()
    function()
    return timer() - start


def noise_images(classes: int, per_class: int, shape: tuple[int, int, int] = (3, 64, 64)) -> ImageSet:
    """Return noise, of the shape of Tiny ImageNet unless said, as many held-out images as there are to train on."""
    count = classes * per_class
    pixels = np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)
    labels = np.repeat(np.arange(classes), per_class)
    return ImageSet(
        name="noise",
        content_hash="0" * 64,
        subset=True,
        classes=tuple(f"n{k:08}" for k in range(classes)),
        train_images=pixels,
        train_labels=labels,
        test_images=pixels[::-1].copy(),
        test_labels=labels,
        real=False,
        notice="",
        terms="",
    )


def default_metrics() -> list[ComponentSpec]:
    named = (ComponentSpec.parse("metrics", entry.name) for entry in plugins().registry.entries("metrics"))
    return [spec for spec in named if isinstance(made := spec.build(), Metric) and made.default]
