"""A training step of one replica beside a loop as one would write it."""

from dataclasses import replace
from statistics import median
from typing import Any

import pytest
from bench_toys import CPU, Bare, learner, some_batches, steps

from lopbench.data import ImageSet
from lopbench_plugins.architectures.mlp import MLP
from lopbench_plugins.architectures.resnet18 import ResNet18
from lopbench_plugins.scenarios.augmentation import BLOCK
from lopbench_plugins.scenarios.tinyimagenet40 import TinyImageNet40, TinyImageNetStream


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "plain"])
@pytest.mark.parametrize(("name", "resolution", "count", "rounds"), [("mlp", 32, 10, 60), ("resnet18", 16, 1, 25)])
def test_training_step(
    name: str,
    resolution: int,
    count: int,
    rounds: int,
    fused: bool,
    mlp: MLP,
    scenario: TinyImageNet40,
    images: ImageSet,
    compare: Any,
    report: Any,
    tiny: bool,
) -> None:
    architecture = mlp if name == "mlp" else ResNet18(base_width=4 if tiny else 16)
    changed = scenario if tiny else replace(scenario, resolution=resolution)
    stream = changed.stream(0, data=images, device=CPU)
    batches, count = some_batches(stream.task(0)), 1 if tiny else count
    ours, bare = learner(architecture, stream), Bare(architecture, stream, fused=fused)
    found = compare(lambda: steps(ours, batches, count), lambda: bare.steps(batches, count), rounds=rounds)
    report(
        f"training step of {name} / bare loop, {'fused' if fused else 'default'} Adam",
        found.ratio,
        target=1.05 if fused else None,
        note=f"best {found.best:.3f}; bare {1e3 * median(found.baseline) / count:.2f} ms",
    )


def test_batch_preparation(mlp: MLP, stream: TinyImageNetStream, compare: Any, report: Any, tiny: bool) -> None:
    # In turns, so that a batch is made in the caches that a step leaves behind.
    bare, batches = Bare(mlp, stream), stream.task(0).batches()
    batch = next(batches)

    def prepare() -> None:
        nonlocal batch
        batch = next(batches)

    block = 1 if tiny else BLOCK
    found = compare(prepare, lambda: bare.step(batch), rounds=6 * block, warmup=block)
    # One draw of random numbers in every block of batches, which a median over batches would miss.
    starts = range(0, len(found.ours), block)
    ratios = [sum(found.ours[start : start + block]) / sum(found.baseline[start : start + block]) for start in starts]
    report(
        "preparing a batch / step of mlp", median(ratios), unit="%", target=0.15, note=f"best {100 * min(ratios):.1f}%"
    )
