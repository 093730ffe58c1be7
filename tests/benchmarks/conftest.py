"""Ratios of times, taken in rounds that alternate between what is measured and what it is measured against.

Run with ``pytest tests/benchmarks``; on a machine that is busy with other things, add
``--benchmark-timer=time.process_time`` and ``OMP_NUM_THREADS=1``. Nothing fails for being slow: the table at the end
says what was found beside what is aimed at.
"""

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import pytest
import torch

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


@pytest.fixture
def timer(request: pytest.FixtureRequest) -> Callable[[], float]:
    """Return the clock of ``--benchmark-timer``, in seconds."""
    chosen: Callable[[], float] = pkgutil.resolve_name(request.config.getoption("benchmark_timer"))
    return chosen


@pytest.fixture
def compare(benchmark: Any, timer: Callable[[], float]) -> Callable[..., Comparison]:
    """Return a function that times two others in turn; the first is what pytest-benchmark records."""

    def run(ours: Callable[[], object], baseline: Callable[[], object], *, rounds: int, warmup: int = 2) -> Comparison:
        against: list[float] = []

        def turn() -> None:
            start = timer()
            baseline()
            against.append(timer() - start)

        benchmark.pedantic(ours, setup=turn, rounds=rounds, warmup_rounds=warmup)
        if benchmark.stats is None:
            pytest.skip("benchmarks are disabled")
        return Comparison(list(benchmark.stats.stats.data), against[-rounds:])

    return run


@pytest.fixture
def report(benchmark: Any, request: pytest.FixtureRequest) -> Callable[..., None]:
    """Return a function that puts a row into the table at the end and into the benchmark's own record."""

    def add(what: str, value: float, *, unit: str = "x", target: float | None = None, note: str = "") -> None:
        benchmark.extra_info[what] = {"value": value, "unit": unit, "target": target, "note": note}
        aim = "" if target is None else f"<= {_show(target, unit)}"
        request.config.stash.setdefault(_ROWS, []).append((what, _show(value, unit), aim, note))

    return add


def _show(value: float, unit: str) -> str:
    return f"{100 * value:.1f}%" if unit == "%" else f"{value:.3f} {unit}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash.get(_ROWS, [])
    if not rows:
        return
    terminalreporter.section(f"speed, {torch.get_num_threads()} threads")
    width = max(len(what) for what, *_ in rows)
    for what, value, aim, note in rows:
        terminalreporter.write_line(f"{what:<{width}}  {value:>10}  {aim:>10}  {note}".rstrip())
