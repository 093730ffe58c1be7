import itertools
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lopbench.core import rng
from lopbench.core.interfaces import Architecture, LayerMetric, Metric, Perturbation
from lopbench.core.manager import plugins
from lopbench.core.measuring import measured
from lopbench.core.spec import ComponentSpec, RunSpec, build_optimizer, parse_scenario
from lopbench.data import ImageSet
from lopbench.learner.learner import StackLearner
from lopbench.runner.run import Run
from lopbench_plugins.architectures.mlp import MLP
from lopbench_plugins.architectures.resnet18 import ResNet18
from lopbench_plugins.scenarios.augmentation import BLOCK
from lopbench_plugins.scenarios.tinyimagenet40 import TinyImageNet40, TinyImageNetStream, TinyImageNetTask

CPU = torch.device("cpu")
DEFAULT = TinyImageNet40()
ADAM = ComponentSpec.parse("optimizers", DEFAULT.recipe("mlp").optimizer)
REFERENCE = ComponentSpec.parse("optimizers", DEFAULT.recipe("mlp").reference)
METHODS = plugins().registry.names("methods")

Batch = tuple[Tensor, Tensor]


class Bare:
    """A hand-written training loop: the learner's network, masked loss, accuracy and Adam, and no more."""

    def __init__(self, architecture: Architecture, stream: TinyImageNetStream, *, fused: bool | None = True) -> None:
        self.module = architecture.build(stream.input_shape, stream.outputs, generator=rng.derive(0, "init", 0))
        self.optimizer = torch.optim.Adam(self.module.parameters(), lr=ADAM.fields["lr"], fused=fused)
        self.classes = stream.task(0).classes

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


def learner(architecture: Architecture, stream: TinyImageNetStream, *methods: Perturbation) -> StackLearner:
    """Return the learner of seed 0 at its first task, as the runner makes it."""
    made = StackLearner(
        build=lambda generator: architecture.build(stream.input_shape, stream.outputs, generator=generator),
        seeds=[0],
        methods=methods,
        optimizer=build_optimizer(ADAM),
        reference_optimizer=build_optimizer(REFERENCE),
        input_shape=stream.input_shape,
        outputs=stream.outputs,
        layers=architecture.layers,
    )
    made.begin_task(0, first=True, reset_optimizer=False, zero_head=True)
    return made


def steps(trained: StackLearner, task: TinyImageNetTask, batches: list[Batch], count: int) -> None:
    for _, batch in zip(range(count), itertools.cycle(batches), strict=False):
        trained.step([batch], [task])


def some_batches(task: TinyImageNetTask, count: int = 16) -> list[Batch]:
    stream = task.batches()
    return [next(stream) for _ in range(count)]


def seconds(function: Callable[[], object], timer: Callable[[], float]) -> float:
    start = timer()
    function()
    return timer() - start


def default_metrics() -> list[ComponentSpec]:
    registry = plugins().registry
    return [
        ComponentSpec.parse("metrics", entry.name)
        for entry in registry.entries("metrics")
        if isinstance(made := ComponentSpec.parse("metrics", entry.name).build(), Metric) and made.default
    ]


def diagnose(trained: StackLearner, task: TinyImageNetTask, metrics: list[Metric]) -> None:
    """Do what the runner does at the start and end of each task."""
    probe = trained.probe(0, task)
    for metric in metrics:
        for part in probe.layers if isinstance(metric, LayerMetric) else [probe]:
            measured(metric, part)


@pytest.fixture(scope="module")
def images() -> ImageSet:
    """Noise of the shape of the Tiny ImageNet subset: 200 classes, 50 images to train on and 50 held out."""
    pixels = np.random.default_rng(0).integers(0, 256, (10_000, 3, 64, 64), dtype=np.uint8)
    labels = np.repeat(np.arange(200), 50)
    return ImageSet(
        name="noise",
        content_hash="0" * 64,
        subset=True,
        classes=tuple(f"n{k:08}" for k in range(200)),
        train_images=pixels,
        train_labels=labels,
        test_images=pixels[::-1].copy(),
        test_labels=labels,
        real=False,
        notice="",
        terms="",
    )


@pytest.fixture(scope="module")
def stream(images: ImageSet) -> TinyImageNetStream:
    return DEFAULT.stream(0, data=images, device=CPU)


# --- training -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "plain"])
@pytest.mark.parametrize(
    ("architecture", "resolution", "count", "rounds"),
    [(MLP(), 32, 10, 40), (ResNet18(base_width=16), 16, 1, 25)],
    ids=["mlp", "resnet18"],
)
def test_training_step(
    architecture: Architecture,
    resolution: int,
    count: int,
    rounds: int,
    fused: bool,
    images: ImageSet,
    compare: Any,
    report: Any,
) -> None:
    stream = TinyImageNet40(resolution=resolution).stream(0, data=images, device=CPU)
    task = stream.task(0)
    batches = some_batches(task)
    ours, bare = learner(architecture, stream), Bare(architecture, stream, fused=fused)
    found = compare(lambda: steps(ours, task, batches, count), lambda: bare.steps(batches, count), rounds=rounds)
    report(
        f"training step of {architecture.name} / bare loop, {'fused' if fused else 'default'} Adam",
        found.ratio,
        target=1.05 if fused else None,
        note=f"best {found.best:.3f}; bare {1e3 * median(found.baseline) / count:.2f} ms",
    )


def test_batch_preparation(stream: TinyImageNetStream, compare: Any, report: Any) -> None:
    # In turns, so that a batch is made in the caches that a step leaves behind.
    bare, batches = Bare(MLP(), stream), stream.task(0).batches()
    batch = next(batches)

    def prepare() -> None:
        nonlocal batch
        batch = next(batches)

    found = compare(prepare, lambda: bare.step(batch), rounds=6 * BLOCK, warmup=BLOCK)
    # One draw of random numbers in every block of batches, which a median over batches would miss.
    ratios = [
        sum(found.ours[start : start + BLOCK]) / sum(found.baseline[start : start + BLOCK])
        for start in range(0, 6 * BLOCK, BLOCK)
    ]
    report(
        "preparing a batch / step of mlp", median(ratios), unit="%", target=0.15, note=f"best {100 * min(ratios):.1f}%"
    )


@pytest.mark.parametrize("method", METHODS)
def test_method(method: str, stream: TinyImageNetStream, compare: Any, report: Any, timer: Any) -> None:
    made = ComponentSpec.parse("methods", method).build()
    assert isinstance(made, Perturbation)
    task = stream.task(0)
    batches = some_batches(task)
    with_it, without = learner(MLP(), stream, made), learner(MLP(), stream)
    steps(with_it, task, batches, 130)  # units are mature after 100 steps
    found = compare(
        lambda: steps(with_it, task, batches, 10), lambda: steps(without, task, batches, 10), rounds=15, warmup=1
    )
    boundary = seconds(lambda: with_it.begin_task(1, first=False, reset_optimizer=False, zero_head=True), timer)
    shared = boundary / (DEFAULT.steps_per_task * median(found.baseline) / 10)
    report(f"step of {method} / none", found.ratio, note=f"best {found.best:.3f}; boundary adds {100 * shared:.2f}%")


# --- whole runs -----------------------------------------------------------------------------------------------------


def test_default_run_from_its_parts(stream: TinyImageNetStream, compare: Any, report: Any, timer: Any) -> None:
    metrics = [made for spec in default_metrics() if isinstance(made := spec.build(), Metric)]
    task = stream.task(0)
    fixed = some_batches(task)
    ours, batches = learner(MLP(), stream), task.batches()
    bare, plain = Bare(MLP(), stream), Bare(MLP(), stream, fused=False)

    def train() -> None:
        for _ in range(BLOCK):
            ours.step([next(batches)], [task])

    def begin_task() -> None:
        next(stream.task(1).batches())

    others: dict[str, list[float]] = {"begin": [], "evaluate": [], "diagnose": [], "plain": []}

    found = compare(train, lambda: bare.steps(fixed, BLOCK), rounds=8)
    for _ in range(8):
        others["begin"].append(seconds(begin_task, timer))
        others["evaluate"].append(seconds(lambda: ours.evaluate(0, task), timer))
        others["diagnose"].append(seconds(lambda: diagnose(ours, task, metrics), timer))
        others["plain"].append(seconds(lambda: plain.steps(fixed, BLOCK), timer))
    step, bare_step = median(found.ours) / BLOCK, median(found.baseline) / BLOCK
    begin, evaluate, diagnosis, default_adam = (median(times) for times in others.values())
    late = len(DEFAULT.late_tasks)
    tasks = DEFAULT.tasks + 2 * late  # with the references at the protocol's and at the run's own learning rate
    steps_of_run = DEFAULT.tasks * DEFAULT.steps_per_task
    training_s = tasks * DEFAULT.steps_per_task * step
    diagnoses_s = 2 * DEFAULT.tasks * diagnosis
    total_s = training_s + tasks * (begin + evaluate) + diagnoses_s
    parts = (
        f"{total_s:.0f} s: training {training_s:.0f}, tasks {tasks * begin:.1f}, "
        f"evaluation {tasks * evaluate:.1f}, diagnostics {diagnoses_s:.1f}"
    )
    what = "default run, from its parts / bare loop of its training steps"
    report("default diagnostics / default run", diagnoses_s / total_s, unit="%", target=0.05)
    report(f"{what}, fused Adam", total_s / (steps_of_run * bare_step), target=1.6, note=parts)
    report(f"{what}, default Adam", total_s / (steps_of_run * default_adam / BLOCK))


def test_short_run(images: ImageSet, tmp_path: Path, compare: Any, report: Any) -> None:
    scenario = parse_scenario("tinyimagenet40:tasks=5,steps_per_task=100")
    architecture = ComponentSpec.parse("architectures", "mlp")
    stream = TinyImageNet40(tasks=5).stream(0, data=images, device=CPU)
    bare, batches = Bare(MLP(), stream), some_batches(stream.task(0))
    folders = (tmp_path / str(i) for i in itertools.count())

    def run() -> None:
        spec = RunSpec(
            scenario=scenario,
            architecture=architecture,
            optimizer=ADAM,
            reference_optimizer=REFERENCE,
            methods=(),
            seed=0,
            metrics=tuple(default_metrics()),
            data={"name": images.name, "content_hash": images.content_hash},
            core="0",
        )
        folder = next(folders)
        for each in (spec, spec.reference(), spec.own_reference()):
            status, _ = Run([each], results=folder, data=images, device=CPU).execute()[0]
            assert status == "completed"

    found = compare(run, lambda: bare.steps(batches, 1500), rounds=2, warmup=0)
    report(
        "5 x 100 steps with references, diagnosed and recorded / bare loop of the 1500 steps",
        found.ratio,
        note=f"best {found.best:.3f}; diagnosed five times as often as the default run",
    )


# --- command line ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("argument", "target"), [("--help", 0.3), ("list", 0.6)])
def test_command_line(argument: str, target: float, compare: Any, report: Any) -> None:
    command = [sys.executable, "-m", "lopbench", argument]
    python = [sys.executable, "-c", "pass"]
    walls: dict[str, list[float]] = {"lopbench": [], "python": []}  # whatever the timer: another process spends it

    def start(name: str, command: list[str]) -> None:
        walls[name].append(seconds(lambda: subprocess.run(command, check=True, capture_output=True), time.perf_counter))

    compare(lambda: start("lopbench", command), lambda: start("python", python), rounds=7, warmup=1)
    report(
        f"lopbench {argument}",
        median(walls["lopbench"]),
        unit="s",
        target=target,
        note=f"best {min(walls['lopbench']):.3f} s; python alone {min(walls['python']):.3f} s",
    )
    traced = subprocess.run(
        [command[0], "-X", "importtime", *command[1:]], check=True, capture_output=True, text=True
    ).stderr
    imported = re.findall(r"^import time:.*\|\s*([\w.]+)$", traced, flags=re.MULTILINE)
    assert "lopbench" in imported
    heavy = {name for name in imported if name.partition(".")[0] in ("torch", "numpy", "pandas", "scipy", "timm")}
    assert not heavy
