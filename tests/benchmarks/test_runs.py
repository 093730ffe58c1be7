"""Whole runs on images, the diagnostics and references of the protocol included."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from bench_toys import ADAM, CPU, REFERENCE, Bare, default_metrics, learner, seconds, some_batches

from lopbench.core.interfaces import Metric
from lopbench.core.spec import ComponentSpec, RunSpec
from lopbench.data import ImageSet
from lopbench.learner.probing import Seen
from lopbench.runner.measure import diagnostics
from lopbench.runner.run import Run
from lopbench_plugins.architectures.mlp import MLP
from lopbench_plugins.architectures.online_mlp import OnlineMLP
from lopbench_plugins.optimizers.sgd import SGD
from lopbench_plugins.scenarios.augmentation import BLOCK
from lopbench_plugins.scenarios.slowly_changing_regression import SlowlyChangingRegression
from lopbench_plugins.scenarios.tinyimagenet40 import TinyImageNet40, TinyImageNetStream


def test_default_run_from_its_parts(
    mlp: MLP, stream: TinyImageNetStream, compare: Any, report: Any, timer: Callable[[], float], tiny: bool
) -> None:
    metrics = [(spec.label(), made) for spec in default_metrics() if isinstance(made := spec.build(), Metric)]
    task, scenario = stream.task(0), stream.scenario
    fixed, block = some_batches(task), 2 if tiny else BLOCK
    ours, batches = learner(mlp, stream), task.batches()
    bare, plain = Bare(mlp, stream), Bare(mlp, stream, fused=False)

    def train() -> None:
        for _ in range(block):
            ours.step([next(batches)])

    parts: dict[str, Callable[[], object]] = {
        "begin": lambda: next(stream.task(1).batches()),
        "evaluate": lambda: ours.evaluate(0, task),
        "diagnose": lambda: list(diagnostics(ours, 0, task, metrics)),
        "plain": lambda: plain.steps(fixed, block),
    }
    found = compare(train, lambda: bare.steps(fixed, block), rounds=8)
    rounds = 1 if tiny else 8
    taken = {name: median(seconds(part, timer) for _ in range(rounds)) for name, part in parts.items()}
    step, bare_step = median(found.ours) / block, median(found.baseline) / block
    late = len(scenario.late_tasks)
    tasks = scenario.tasks + 2 * late  # with the references at the protocol's and at the run's own learning rate
    steps_of_run = scenario.tasks * scenario.steps_per_task
    training_s = tasks * scenario.steps_per_task * step
    diagnoses_s = 2 * scenario.tasks * taken["diagnose"]
    total_s = training_s + tasks * (taken["begin"] + taken["evaluate"]) + diagnoses_s
    shares = (
        f"{total_s:.0f} s: training {training_s:.0f}, tasks {tasks * taken['begin']:.1f}, "
        f"evaluation {tasks * taken['evaluate']:.1f}, diagnostics {diagnoses_s:.1f}"
    )
    what = "default run, from its parts / bare loop of its training steps"
    report("default diagnostics / default run", diagnoses_s / total_s, unit="%", target=0.05)
    report(f"{what}, fused Adam", total_s / (steps_of_run * bare_step), target=1.6, note=shares)
    report(f"{what}, default Adam", total_s / (steps_of_run * taken["plain"] / block))


@pytest.mark.parametrize("width", [5, 100])
def test_diagnosis_of_many_replicas(width: int, compare: Any, report: Any, tiny: bool) -> None:
    scenario, replicas = SlowlyChangingRegression(), 3 if tiny else 30
    streams = [scenario.stream(seed, data=None, device=CPU) for seed in range(replicas)]
    metrics = [(spec.label(), made) for spec in default_metrics() if isinstance(made := spec.build(), Metric)]
    ours = learner(OnlineMLP(width=width), streams[0], seeds=range(replicas), optimizer=SGD(lr=0.01))
    tasks = [stream.task(0) for stream in streams]

    def diagnose(seen: Sequence[Seen | None]) -> None:
        for replica, (task, each) in enumerate(zip(tasks, seen, strict=True)):
            list(diagnostics(ours, replica, task, metrics, each))

    def together() -> None:
        seen = ours.see_together(tasks)
        assert seen is not None
        diagnose(seen)

    found = compare(together, lambda: diagnose([None] * replicas), rounds=20)
    what = f"diagnosis of {replicas} replicas, width {width}, together / one after another"
    report(what, found.ratio, target=0.6 if width == 5 else None, note=f"best {found.best:.3f}")


def test_short_run(
    scenario: TinyImageNet40, images: ImageSet, mlp: MLP, tmp_path: Path, compare: Any, report: Any, tiny: bool
) -> None:
    short = scenario if tiny else replace(scenario, tasks=5, steps_per_task=100)
    stream = short.stream(0, data=images, device=CPU)
    bare, batches = Bare(mlp, stream), some_batches(stream.task(0))
    folders = (tmp_path / str(i) for i in itertools.count())
    spec = RunSpec(
        scenario=ComponentSpec.of("scenarios", short),
        architecture=ComponentSpec.of("architectures", mlp),
        optimizer=ADAM,
        reference_optimizer=REFERENCE,
        methods=(),
        seed=0,
        metrics=tuple(default_metrics()),
        data={"name": images.name, "content_hash": images.content_hash},
    )

    def run() -> None:
        folder = next(folders)
        for each in (spec, spec.reference(), spec.own_reference()):
            ((status, _),) = Run([each], results=folder, data=images, device=CPU).execute()
            assert status == "completed"

    count = 3 * short.tasks * short.steps_per_task
    found = compare(run, lambda: bare.steps(batches, count), rounds=2, warmup=0)
    report(
        "5 x 100 steps with references, diagnosed and recorded / bare loop of the 1500 steps",
        found.ratio,
        note=f"best {found.best:.3f}; diagnosed five times as often as the default run",
    )
