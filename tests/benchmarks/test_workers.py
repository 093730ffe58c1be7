"""What it costs to look at many workers."""

from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from lopbench.runner.claims import Claims
from lopbench.runner.heart import WORKERS
from lopbench.runner.pool import Pool, executor_of
from lopbench.runner.unfinished import PARTIAL
from lopbench.runner.worker import Telling

WORKERS_COUNT = 300


def test_signs_of_life(tmp_path: Path, benchmark: Any, timer: Callable[[], float], report: Any, tiny: bool) -> None:
    count = 3 if tiny else WORKERS_COUNT
    study = tmp_path / PARTIAL / "studies" / "study.json"
    tellings = [Telling(study, tmp_path, slot) for slot in range(count)]
    for telling in tellings:
        telling.started("none, mlp, seed 0", 100, 40)
    pool = Pool(study, tmp_path, executor_of("local"), jobs=1, devices=["cpu"])
    claims = [Claims(tmp_path, telling.heart) for telling in tellings[1:]]
    found: dict[str, list[float]] = {"to list": [], "to read": [], "to judge": []}

    def timed(what: str, function: Callable[[], object]) -> None:
        start = timer()
        function()
        found[what].append(timer() - start)

    def look() -> None:
        timed("to list", lambda: list((tmp_path / PARTIAL / WORKERS).glob("*.json")))
        timed("to read", pool.reports)
        timed("to judge", lambda: [claims[0]._is_dead(other._claim) for other in claims])

    benchmark.pedantic(look, rounds=1 if tiny else 20)
    assert len(pool.reports()) == count
    for what, seconds in found.items():
        target = 0.05 if what == "to read" else None
        report(f"{WORKERS_COUNT} workers: {what}", median(seconds), unit="s", target=target)
