"""A study of many small networks from end to end, each in a process of its own, as on the command line."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

#: Does a study and prints, as JSON, samples trained, seconds on the clock of the benchmarks and what took them, and
#: the peak of the memory.
CODE = """
import json, pkgutil, sys, time, torch
from lopbench.learner.program import Program
from lopbench.runner import programs, study
from lopbench.runner.environment import peak_bytes
from lopbench.runner.feed import Feed

clock, (plan, results) = pkgutil.resolve_name(sys.argv[1]), map(json.loads, sys.argv[2:])
taken = {"making programs": 0.0, "steps": 0.0, "streams": 0.0}

def timed(function, name, clock):
    def run(*arguments, **options):
        start = clock()
        try:
            return function(*arguments, **options)
        finally:
            taken[name] += clock() - start
    return run

def made(*arguments, **options):
    before, start = clock(), time.perf_counter()
    program = Program(*arguments, **options)
    taken["making programs"] += clock() - before
    making.append(time.perf_counter() - start)
    return program

making = []
Program.advance = timed(Program.advance, "steps", clock)
Feed.take = timed(Feed.take, "streams", clock)
programs.Program = made
planned = study.plan(results=results, device="cpu", **plan)
start = clock()
refused = study.execute(planned)
assert not refused, refused
total = clock() - start
peak = peak_bytes(torch.device("cpu"))
print(json.dumps({"samples": sum(planned.steps), "s": total, "taken": taken, "making_s": sum(making), "peak": peak}))
"""

SEEDS = 100


def study(folder: Path, clock: str, plan: dict[str, Any]) -> dict[str, Any]:
    """Do a study with the compiled programs of ``folder``, in a results folder of its own."""
    results = folder / f"results-{len(list(folder.iterdir()))}"
    code = [sys.executable, "-c", CODE, clock, json.dumps(plan), json.dumps(str(results))]
    environment = {**os.environ, "LOPBENCH_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(code, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def spent(done: dict[str, Any]) -> float:
    """Return the seconds that a study took, its programs at hand."""
    return float(done["s"] - done["taken"]["making programs"])


@pytest.mark.parametrize("method", ["none", "cbp"])
def test_slowly_changing_regression(
    method: str, tmp_path: Path, benchmark: Any, report: Any, request: pytest.FixtureRequest, tiny: bool
) -> None:
    if tiny and method == "none":
        pytest.skip("the study of cbp shows as well that studies run")
    scenario = "slowly_changing_regression" + (":samples=100,steps_per_task=50" if tiny else "")
    plan = {"scenario": scenario, "methods": [method], "seeds": [*range(2 if tiny else SEEDS)]}
    clock = request.config.getoption("benchmark_timer").replace(".", ":", 1)
    found: list[dict[str, Any]] = []
    benchmark.pedantic(lambda: found.append(study(tmp_path, clock, plan)), rounds=2)
    # Programs are compiled in the first round, by other processes; making them anew is told apart.
    last = min(found, key=spent)
    made, trained = (last["taken"][name] for name in ("streams", "steps"))
    what = f"slowly_changing_regression, {method}, {SEEDS} seeds with references"
    report(
        f"{what} / its training",
        spent(last) / (made + trained),
        target=2.0,
        note=f"{1e6 * spent(last) / last['samples']:.3f} µs a sample; streams "
        f"{1e6 * made / last['samples']:.3f}, steps {1e6 * trained / last['samples']:.3f}",
    )
    making = f"{found[-1]['making_s']:.1f} s once they are compiled"
    report(f"{what}: making programs", found[0]["making_s"], unit="s", note=making)
    report(f"{what}: peak memory", max(each["peak"] for each in found) / 1e9, unit="GB", target=2.0)
