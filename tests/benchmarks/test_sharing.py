"""A study that several processes do together in one results folder, beside one that does it alone."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from lopbench.results.record import find_records

#: Does a run, so that all is imported, and says so; does a study once it is told to. Runs wait when they start.
CODE = """
import sys, time
from dataclasses import replace
from lopbench.runner import report, study

class Waiting(report.Quiet):
    def started(self, label, steps, done, runs, score):
        time.sleep(wait_s)

    def finished(self, label, status, path):
        done.append(label)

def do(results, runs):
    # Not replicas of one program: so few steps of so wide a network are taken one by one.
    planned = study.plan(
        scenario="bitflip:samples=40,steps_per_task=20", architecture="online_mlp:width=2000",
        optimizers=["sgd:lr=1e-6"], metrics=[], seeds=range(runs), device="cpu", results=results,
    )
    refused = study.execute(replace(planned, pending=planned.specs), Waiting())
    assert not refused, refused

results, own, runs, wait_s, done = *sys.argv[1:3], int(sys.argv[3]), 0.0, []
do(own, 1)
print("ready", flush=True)
sys.stdin.readline()
wait_s, done = float(sys.argv[4]), []
do(results, runs)
print(len(done), flush=True)
"""


def share(folder: Path, processes: int, runs: int, wait_s: float) -> tuple[float, list[int]]:
    """Let processes do a study together; returns the seconds until the last is done, and the runs that each did."""
    results = folder / f"results-{len(list(folder.iterdir()))}"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", CODE, str(results), str(folder / f"{results.name}-{k}"), str(runs), str(wait_s)],
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for k in range(processes)
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    began = time.perf_counter()
    for process in started:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    done = [int(process.stdout.readline()) for process in started if process.stdout is not None]
    seconds = time.perf_counter() - began
    for process in started:
        process.communicate()
    assert [record.outcome for record in find_records(results)] == ["completed"] * runs
    return seconds, done


def test_runs_that_wait(tmp_path: Path, benchmark: Any, report: Any, tiny: bool) -> None:
    processes, runs, wait_s = (2, 4, 0.0) if tiny else (4, 40, 2.0)
    alone, _ = share(tmp_path, 1, runs, wait_s)
    found: list[tuple[float, list[int]]] = []
    benchmark.pedantic(lambda: found.append(share(tmp_path, processes, runs, wait_s)), rounds=1)
    seconds, done = min(found)
    assert sum(done) == runs
    report(
        f"{runs} runs that wait, {processes} processes / a fourth of one",
        seconds * processes / alone,
        target=1.15,
        note=f"{alone:.1f} s alone, {wait_s:.0f} s of each run waiting; together {seconds:.1f} s, "
        f"runs of each: {', '.join(map(str, done))}",
    )
