"""Studies that are killed again and again, and started again each time, end as those that were left alone.

A kill is one of four signals, at a random time or at a random operation on a file below the results folder. An ordinary
test run does a few; ``--kills 1000`` does so many, those of compiled programs included.
"""

import hashlib
import math
import random
import shutil
import signal
import time
from collections import Counter
from dataclasses import dataclass

import pytest

from lopbench.results.record import find_records

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
#: Seconds between checkpoints: one at every look, or now and then, so that a kill finds steps that were not saved.
CHECKPOINT_S = (0.0, 0.02)
#: A process dies in so large a part of the time of its study, or among so many operations on files, those of one run.
PART, OPERATIONS = 1 / 3, 50

CBP = "cbp:replacement_rate=0.05,maturity=5,utility=random,accumulate=false"
BITS = {"architecture": None, "metrics": ["dead_fraction"]}
BITFLIP = {**BITS, "scenario": "bitflip:samples=60,m=8,f=5,T=10,steps_per_task=20,probe_every=4"}
REGRESSION = {**BITS, "scenario": "slowly_changing_regression:samples=60,m=8,f=5,T=10,steps_per_task=20"}
IMAGES = {
    "scenario": "tinyimagenet40:tasks=5,steps_per_task=4,classes_per_task=2,images_per_class=8,resolution=8",
    "metrics": ["dead_fraction"],
    "methods": ["none", "dropout+noisy_sgd"],
}
CLONING = {
    "scenario": "cloning:base_epochs=2,epochs=5,images_per_class=8,batch_size=32",
    "architecture": "mlp:width=8,depth=2,normalization=batch",
    "metrics": ["manifold_distance"],
}
#: All runs of a study and their references, and how they are done.
STUDIES = {
    "bitflip": {"plan": {**BITFLIP, "methods": [f"{CBP}+noisy_sgd"], "start": 0.4}},
    "bitflip, groups": {"plan": {**BITFLIP, "methods": [CBP], "seeds": [0, 1], "sweeps": ["lr=0.01,0.003"]}},
    "bitflip, compiled": {"plan": {**BITFLIP, "methods": [CBP], "seeds": [0, 1]}, "compile_steps": 1},
    "regression": {"plan": {**REGRESSION, "methods": ["noisy_sgd"]}},
    "regression, groups": {"plan": {**REGRESSION, "methods": ["none"], "seeds": [0, 1]}},
    "regression, compiled": {"plan": {**REGRESSION, "methods": ["none"]}, "compile_steps": 1},
    "images": {"plan": IMAGES},
    "images, groups": {"plan": {**IMAGES, "seeds": [0, 1]}, "most_operations": 1e9},
    "images, diverging": {"plan": {**IMAGES, "methods": ["none"], "optimizers": ["sgd:lr=1e30"], "seeds": [0, 1]}},
    "cloning": {"plan": CLONING},
}


@dataclass
class Tally:
    """What went wrong in studies that were killed: records lost, twice or of other content, and what is left over."""

    kills: int = 0
    lost: int = 0
    duplicated: int = 0
    changed: int = 0
    left: int = 0


def content(results):
    """Return a digest and the time of the last change of each file of the records, by path."""
    return {
        path: (hashlib.sha256(path.read_bytes()).digest(), path.stat().st_mtime_ns)
        for path in results.glob("runs/[!.]*/*")
    }


def what_it_says(record):
    """Return all of a record that must not depend on how often its run was killed."""
    status = {name: record.status[name] for name in ("status", "error", "diverged_at", "idle")}
    how = {name: record.environment[name] for name in ("replicas", "steps")}
    if record.outcome == "completed":
        how["taken"] = record.status["steps"]  # those of a run that diverged depend on when it was looked at
    return (record.path / "spec.json").read_bytes(), record.measurements_digest, status, how


def compare(results, whole, tally):
    """Add to ``tally`` in what the records of a finished study differ from ``whole``, those of one left alone."""
    records = find_records(results)
    found = Counter(record.run_id for record in records)
    tally.lost += len(whole.keys() - found.keys())
    tally.duplicated += found.total() - len(found) + len(found.keys() - whole.keys())
    tally.changed += sum(what_it_says(record) != whole.get(record.run_id) for record in records)
    tally.left += sum(path != results / "runs" for path in results.iterdir()) + len(list(results.glob("runs/.*")))


def start(server, results, draws, seconds, **request):
    """Do a study in a process that gets a signal; returns its exit code, 0 if it was over by then."""
    number = draws.choice(SIGNALS)
    request |= {"look_s": 0.0, "checkpoint_s": draws.choice(CHECKPOINT_S)}
    if draws.random() < 0.5:
        code = server.signal_in(number, draws.uniform(0, PART * seconds), results, **request)
    else:
        code = server.run(results, operation=draws.randint(1, OPERATIONS), signal=number, **request)
    assert code in (0, 130 if number == signal.SIGINT else -number)
    return code


def finish(server, results, draws, seconds, kills, tally, **request):
    """Start a study until it is over, up to ``kills`` times with a signal."""
    published = {}
    while True:
        killing = tally.kills < kills
        code = start(server, results, draws, seconds, **request) if killing else server.run(results, **request)
        now = content(results)
        tally.changed += len(published.items() - now.items())
        published = now
        if code == 0:
            return
        tally.kills += 1


@pytest.mark.slow
@pytest.mark.parametrize("name", list(STUDIES))
def test_study_killed_at_random_ends_as_one_left_alone(server, tmp_path, request, name):
    asked, known = request.config.getoption("kills"), {**STUDIES[name], "kind": None}
    if "compile_steps" in known and (asked is None or shutil.which("g++") is None):
        pytest.skip("compiling takes a minute: only with --kills, and where there is a C++ compiler")
    kills = math.ceil((asked or len(STUDIES)) / len(STUDIES))
    results = tmp_path / "left alone"
    for _ in range(1 + ("compile_steps" in known)):  # programs are compiled by the first
        shutil.rmtree(results, ignore_errors=True)
        began = time.monotonic()
        assert server.run(results, **known) == 0
        seconds = time.monotonic() - began
    whole = {record.run_id: what_it_says(record) for record in find_records(results)}
    draws, tally, studies = random.Random(f"{name} {kills}"), Tally(), 0
    while tally.kills < kills:
        studies += 1
        results = tmp_path / f"killed {studies}"
        finish(server, results, draws, seconds, kills, tally, **known)
        compare(results, whole, tally)
        assert tally == Tally(tally.kills), results
        shutil.rmtree(results)
    print(f"{name}: {studies} studies of {len(whole)} runs, {tally}")
