"""Start-up time and peak memory of commands, each in a process of its own."""

import re
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from bench_toys import PEAK_BYTES, seconds

#: A command, and then its peak memory in bytes on the last line.
CODE = f"""
from lopbench.cli import main
try:
    main()
finally:
    print({PEAK_BYTES})
"""


def children_s() -> float:
    """Return the seconds of the processor that other processes of this one have spent and are done with."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize(("argument", "target"), [("--help", 0.2), ("list", 0.25)])
def test_start(argument: str, target: float, compare: Any, report: Any) -> None:
    command = [sys.executable, "-m", "lopbench", argument]
    python = [sys.executable, "-c", "pass"]
    walls: dict[str, list[float]] = {"lopbench": [], "python": []}  # whatever the timer: another process spends it
    spent: list[float] = []

    def start(name: str, command: list[str]) -> None:
        before = children_s()
        walls[name].append(seconds(lambda: subprocess.run(command, check=True, capture_output=True), time.perf_counter))
        if name == "lopbench":
            spent.append(children_s() - before)

    compare(lambda: start("lopbench", command), lambda: start("python", python), rounds=15, warmup=1)
    report(
        f"lopbench {argument}",
        median(walls["lopbench"]),
        unit="s",
        target=target,
        note=f"best {min(walls['lopbench']):.3f} s, of the processor {min(spent):.3f} s; python alone "
        f"{min(walls['python']):.3f} s",
    )
    traced = subprocess.run(
        [command[0], "-X", "importtime", *command[1:]], check=True, capture_output=True, text=True
    ).stderr
    imported = re.findall(r"^import time:.*\|\s*([\w.]+)$", traced, flags=re.MULTILINE)
    assert "lopbench" in imported
    heavy = {name for name in imported if name.partition(".")[0] in ("torch", "numpy", "pandas", "scipy", "timm")}
    assert not heavy


@pytest.mark.slow
def test_quick_checks_of_the_slowest_method(benchmark: Any, report: Any) -> None:
    command = [sys.executable, "-m", "lopbench", "plugins", "check", "cbp", "--quick"]
    before = children_s()
    benchmark.pedantic(lambda: subprocess.run(command, check=True, capture_output=True), rounds=1)
    report("quick checks of cbp", children_s() - before, unit="s", target=20, note="of the processor")


def test_memory_of_default_run(tmp_path: Path, benchmark: Any, report: Any, tiny: bool) -> None:
    # All tasks and images of the default run, in fewer steps, which leave nothing behind.
    default = ["run", "--scenario", "tinyimagenet40:steps_per_task=20", "--results", str(tmp_path)]
    command = [sys.executable, "-c", CODE, *(["list"] if tiny else default)]

    def run() -> int:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return int(done.stdout.split()[-1])

    peak = benchmark.pedantic(run, rounds=1)
    report("peak memory of the default run", peak / 1e9, unit="GB", target=1.75)
