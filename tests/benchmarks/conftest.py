"""Ratios of times, taken in rounds that alternate between what is measured and what it is measured against.

An ordinary test run does each once, with as little of it as will do, and measures nothing: it shows that they still
run. ``pytest tests/benchmarks --benchmark-enable`` measures; on a machine that is busy with other things, add
``--benchmark-timer=time.process_time`` and ``OMP_NUM_THREADS=1``. Nothing fails for being slow: the table at the end
says what was found beside what is aimed at.
"""

import pkgutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch

from lopbench.data import ImageSet
from lopbench_plugins.architectures.mlp import MLP
from lopbench_plugins.scenarios.tinyimagenet40 import TinyImageNet40, TinyImageNetStream

sys.path.insert(0, str(Path(__file__).parent))

from bench_toys import CPU, DEFAULT, noise_images

Row = tuple[str, str, str, str]
_ROWS = pytest.StashKey[list[Row]]()


@dataclass(frozen=True)
class Comparison:
    """Seconds of each round of what is measured and of its baseline, in the order in which they took turns."""

    ours: list[float]
    baseline: list[float]

    @property
    def ratio(self) -> float:
        """Ratio of the medians."""
        return median(self.ours) / median(self.baseline)

    @property
    def best(self) -> float:
        """Ratio of the fastest rounds, which other work on the machine has disturbed least."""
        return min(self.ours) / min(self.baseline)


@pytest.fixture(autouse=True, scope="module")
def _as_in_a_run() -> Iterator[None]:
    """Have one thread, and denormal numbers taken for zero, in what is measured and in the loops beside it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    yield
    torch.set_flush_denormal(False)
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny(request: pytest.FixtureRequest) -> bool:
    """Return whether nothing is measured, so that the least amount of work will do."""
    return bool(request.config.getoption("benchmark_disable")) and not request.config.getoption("benchmark_enable")


@pytest.fixture(scope="session")
def mlp(tiny: bool) -> MLP:
    return MLP(width=8, depth=2) if tiny else MLP()


@pytest.fixture(scope="session")
def scenario(tiny: bool) -> TinyImageNet40:
    few = TinyImageNet40(tasks=2, steps_per_task=2, resolution=8, images_per_class=4, batch_size=8)
    return few if tiny else DEFAULT


@pytest.fixture(scope="session")
def images(scenario: TinyImageNet40) -> ImageSet:
    return noise_images(scenario.tasks * scenario.classes_per_task, scenario.images_per_class)


@pytest.fixture(scope="session")
def stream(scenario: TinyImageNet40, images: ImageSet) -> TinyImageNetStream:
    return scenario.stream(0, data=images, device=CPU)


@pytest.fixture
def timer(request: pytest.FixtureRequest) -> Callable[[], float]:
    """Return the clock of ``--benchmark-timer``, in seconds."""
    chosen: Callable[[], float] = pkgutil.resolve_name(request.config.getoption("benchmark_timer"))
    return chosen


@pytest.fixture
def compare(benchmark: Any, timer: Callable[[], float]) -> Callable[..., Comparison]:
    """Return a function that times two others in turn; the first is what pytest-benchmark records."""

    def run(ours: Callable[[], object], baseline: Callable[[], object], *, rounds: int, warmup: int = 2) -> Comparison:
        found = Comparison([], [])

        def turn(function: Callable[[], object], seconds: list[float]) -> None:
            start = timer()
            function()
            seconds.append(timer() - start)

        benchmark.pedantic(
            lambda: turn(ours, found.ours),
            setup=lambda: turn(baseline, found.baseline),
            rounds=rounds,
            warmup_rounds=warmup,
        )
        return Comparison(found.ours[-rounds:], found.baseline[-rounds:])

    return run


@pytest.fixture
def report(benchmark: Any, request: pytest.FixtureRequest, tiny: bool) -> Callable[..., None]:
    """Return a function that puts a row into the table at the end and into the benchmark's own record."""

    def add(
        what: str, value: float, *, unit: str = "x", target: float | None = None, least: bool = False, note: str = ""
    ) -> None:
        benchmark.extra_info[what] = {"value": value, "unit": unit, "target": target, "note": note}
        aim = "" if target is None else f"{'>=' if least else '<='} {_show(target, unit)}"
        if not tiny:
            request.config.stash.setdefault(_ROWS, []).append((what, _show(value, unit), aim, note))

    return add


def _show(value: float, unit: str) -> str:
    return f"{100 * value:.1f}%" if unit == "%" else f"{value:.3f} {unit}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash.get(_ROWS, [])
    if not rows:
        return
    terminalreporter.section("speed, one thread")
    width = max(len(what) for what, *_ in rows)
    for what, value, aim, note in rows:
        terminalreporter.write_line(f"{what:<{width}}  {value:>10}  {aim:>12}  {note}".rstrip())
