"""What a study of very many runs costs beside training: to list it, to look at its workers, to share its runs out."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lopbench.results.record import record_path
from lopbench.runner.groups import work_off
from lopbench.runner.run import Run
from lopbench.runner.status import status
from lopbench.runner.study import Study, plan
from lopbench.runner.worker import Telling
from lopbench.runner.workers import workers
from lopbench.runner.worklist import Part, Worklist

#: Seconds of a run that a share of the time is of.
RUN_S = 60.0


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return plan(
        scenario="bitflip:samples=40,steps_per_task=20",
        architecture="online_mlp",
        metrics=[],
        device="cpu",
        results=tmp_path,
    )


def seconds(function: Callable[[], object], timer: Callable[[], float]) -> float:
    start = timer()
    function()
    return timer() - start


def test_listing_a_plan(study: Study, tmp_path: Path, benchmark: Any, report: Any, timer: Any, tiny: bool) -> None:
    count = 50 if tiny else 10_000
    specs = [[replace(study.specs[0], seed=seed)] for seed in range(count)]
    Worklist(tmp_path, None, 10.0, [Part(None, specs)]).write()
    found: list[float] = []
    benchmark.pedantic(lambda: found.append(seconds(lambda: status(tmp_path), timer)), rounds=1 if tiny else 3)
    assert len(status(tmp_path)) == count
    report(f"status of a plan of {count:,} groups", min(found), unit="s", target=2.0)


def test_reading_reports(tmp_path: Path, benchmark: Any, report: Any, timer: Any, tiny: bool) -> None:
    count = 5 if tiny else 300
    telling = Telling(tmp_path / "n1-7.json", tmp_path, 0)
    for slot in range(count):
        lines = [f"cbp:replacement_rate=1e-4, resnet18, seed {slot}: completed, results/runs/x"] * 100
        telling.report = replace(telling.report, name=f"n{slot}-7-aa", slot=slot, lines=lines)
        telling.heart.path = telling.path.with_name(f"n{slot}-7-aa.json")
        telling.tell()
    found: list[float] = []
    benchmark.pedantic(lambda: found.append(seconds(lambda: workers(tmp_path), timer)), rounds=1 if tiny else 5)
    assert len(workers(tmp_path)) == count
    report(f"reports of {count} workers", min(found), unit="s", target=0.05)


def test_sharing_out_a_study(
    study: Study, tmp_path: Path, benchmark: Any, report: Any, tiny: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a thousand workers, one does what is its share, and passes over what the others have done by then."""
    runs, slots = (40, 4) if tiny else (100_000, 1000)
    specs = [replace(study.specs[0], seed=seed) for seed in range(runs)]
    mine = specs[: runs // slots]
    for spec in specs[runs // slots :]:  # what the others did
        path = record_path(tmp_path, spec)
        path.mkdir(parents=True)
        (path / "spec.json").touch()

    def execute(run: Run) -> None:
        run._session.open()
        path = record_path(tmp_path, run.specs[0])
        path.mkdir(parents=True)
        (path / "spec.json").touch()
        run._session.close()

    monkeypatch.setattr(Run, "execute", execute)
    taken: list[float] = []

    def work() -> None:
        began = time.perf_counter()
        work_off([([spec], None) for spec in specs], results=tmp_path, device=torch.device("cpu"), counts_attempts=True)
        taken.append(time.perf_counter() - began)

    benchmark.pedantic(work, rounds=1)
    share = taken[0] / (len(mine) * RUN_S)
    report(
        f"sharing out {runs:,} runs of a minute among {slots:,} workers",
        share,
        unit="%",
        target=0.02,
        note=f"{taken[0]:.0f} s of one worker, for {len(mine)} runs done and {runs - len(mine):,} passed over",
    )
