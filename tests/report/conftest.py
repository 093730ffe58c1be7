"""A small results folder that has a bit of everything, and the page made of it."""

import importlib.util
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lopbench.core.spec import RunSpec
from lopbench.report.page import render, write_report
from lopbench.report.summary import POINTS, Row, summarise
from lopbench.results.record import Measurements, write_record

# Tests are no package, so what makes small records is loaded by its path.
_path = Path(__file__).parents[1] / "results" / "conftest.py"
_spec = importlib.util.spec_from_file_location("results_conftest", _path)
_made = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_made)

Results = _made.Results
results = _made.results
many_seeds = _made.many_seeds

#: What must stay text wherever it is shown.
HOSTILE = "<script>alert(1)</script>"
FAULT = "ValueError: </script><img src=x onerror=alert(2)> & more"


def write(results, spec: RunSpec, *, online, layers=("in", "out"), status="completed", **changes) -> Path:
    """Write a run with a rank and dead units in two layers, measured twice a task."""
    rows = Measurements()
    tasks = range(len(online)) if spec.kind == "continual" else range(10 - len(online), 10)
    for task, value in zip(tasks, online, strict=True):
        rows.add(100 * (task + 1), task, "chance", 0.2)
        rows.add(100 * (task + 1), task, "online_accuracy", value)
        rows.add(100 * (task + 1), task, "heldout_accuracy", value - 0.1)
        if spec.kind == "continual":
            for probe in (0.0, 0.02):
                for index, layer in enumerate(layers):
                    rows.add(100 * task, task, "effective_rank", 4.0 + task + index, layer)
                    rows.add(100 * task, task, "dead_fraction", 0.1 * index + 0.01 * task + probe, layer)
                    rows.add(100 * task, task, "duplicate_fraction", 0.05 * index, layer)
    # A name with a slash nests the directory; what a hostile folder holds is made by hand.
    path = write_record(
        results.root / spec.run_id,
        spec.to_json(),
        spec.run_id,
        {"device": "cpu"},
        results.status(status, **changes),
        rows,
        None,
    )
    target = results.root / "runs" / f"{spec.kind}-s{spec.seed}-{spec.run_id}"
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        path.rename(target)
    shutil.rmtree(results.root / spec.run_id)
    return target


def fill(results) -> None:
    """Write two learning rates of plain learning and two methods, of which one has a run that failed.

    A second protocol has plain learning of a wider network.
    """
    wide = results.component("architectures", "net", width=16)
    m = results.component("methods", "m", track="boundary-free")
    hostile = results.component("methods", HOSTILE, track="boundary-aware")
    for seed in range(3):
        for lr, methods, level, changes in (
            (3e-3, (), 0.5, {}),
            (3e-3, (m,), 0.7, {}),
            (3e-3, (hostile,), 0.6, {}),
            (1e-3, (), 0.65, {}),
            (3e-3, (), 0.55, {"architecture": wide}),
        ):
            spec = results.spec(*methods, seed=seed, lr=lr, **changes)
            values = [level + 0.01 * seed + 0.002 * task for task in range(10)]
            if methods == (hostile,) and seed == 2:
                write(results, spec, online=values[:4], status="failed", error=FAULT)
            else:
                write(results, spec, online=values)
            write(results, spec.reference(), online=[0.8] * 5)


@pytest.fixture(scope="session")
def filled(tmp_path_factory):
    """Return a results folder with a bit of everything, to be read only."""
    made = Results(tmp_path_factory.mktemp("report") / "results")
    fill(made)
    return made


@pytest.fixture(scope="session")
def page(filled) -> Path:
    """Return its page."""
    path = filled.root.parent / "report.html"
    write_report(path, filled.root)
    return path


def many(filled, count: int, points: int, *, layered: bool = True) -> Path:
    """Return the page of ``count`` methods of five seeds each, which repeat one run; curves have so many points."""
    made = summarise(filled.root)
    table = next(each for each in made.tables if len(each.rows) > 1)
    row = next(each for each in table.rows if each.line["method"] == "m")
    rng = np.random.default_rng(0)
    metrics = [f"metric_{index}" for index in range(16)]
    names = tuple(f"layers.{layer}" for layer in range(6))
    rows = []
    for index in range(count):
        line = {**row.line, "method": f"method_with_a_name:rate={index:04}", "retention": 0.5 + index / count / 2}
        group = replace(row.entry.group, runs=row.runs[:1] * 5, scores=row.entry.group.scores[:1] * 5)
        curves = {metric: rng.random((3, points)) for metric in ("online_accuracy", "retention", *metrics)}
        layers = {metric: {layer: rng.random(points) for layer in names} for metric in metrics[:8] if layered}
        lines = rng.random((5, points))
        rows.append(
            Row(replace(row.entry, row={**line, "entry_id": f"{index:012x}"}, group=group), curves, layers, lines)
        )
    table = replace(
        table,
        rows=tuple(rows),
        bins=replace(table.bins, tasks=40, points=points),
        metrics=tuple(rows[0].curves),
        layers=dict.fromkeys(metrics[:8] if layered else (), names),
        fresh={},
    )
    path = filled.root.parent / f"{count}.html"
    path.write_text(render(replace(made, tables=(table,), runs=5 * count), "many"), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def thousand(filled) -> Path:
    """Return the page of a thousand runs of 200 methods."""
    return many(filled, 200, 40)


@pytest.fixture(scope="session")
def ten_thousand(filled) -> Path:
    """Return the page of ten thousand runs of 2,000 methods, thinned as much as there may be."""
    return many(filled, 2000, POINTS[-1], layered=False)


@pytest.fixture(scope="session")
def browser():
    """Return a headless Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with playwright.sync_playwright() as engine:
        running = engine.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield running
        running.close()
