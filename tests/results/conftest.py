"""Small synthetic runs, written through the real functions."""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lopbench.core.spec import ComponentSpec, RunSpec
from lopbench.core.windows import scored_tasks
from lopbench.results.record import Measurements, write_record

TASKS = 10
STEPS = 100


def component(kind: str, name: str, track: str | None = None, version: int = 1, **fields: Any) -> ComponentSpec:
    return ComponentSpec(kind, name, version, "tests", fields, track)


def make_spec(
    *methods: ComponentSpec, seed: int = 0, lr: float = 3e-3, profile: str = "lite", **changes: Any
) -> RunSpec:
    spec = RunSpec(
        scenario=component("scenarios", "toy", tasks=TASKS, steps_per_task=STEPS, profile=profile),
        architecture=component("architectures", "net", width=8),
        optimizer=ComponentSpec.parse("optimizers", f"adam:lr={lr}"),
        reference_optimizer=ComponentSpec.parse("optimizers", "adam:lr=1e-3"),
        methods=methods,
        seed=seed,
        metrics=(),
        data={"name": "toy-images", "content_hash": "0123456789abcdef"},
    )
    return replace(spec, **changes)


def make_status(status: str = "completed", **changes: Any) -> dict[str, Any]:
    return {
        "status": status,
        "error": None,
        "wall_time_s": 12.0,
        "train_time_s": 10.0,
        "steps": 1000,
        "peak_bytes": 2_000_000,
        "state_bytes": 1_000_000,
        "started_utc": "2025-01-01T00:00:00Z",
        "sessions": 1,
        "diverged_at": None,
        **changes,
    }


def fill(
    online: Mapping[int, float],
    heldout: Mapping[int, float] | None = None,
    chance: float = 0.2,
    *,
    score: str = "accuracy",
    metrics: Mapping[str, Mapping[int, float]] | None = None,
    whole: Mapping[str, Mapping[int, float]] | None = None,
) -> Measurements:
    rows = Measurements()
    for task, value in online.items():
        rows.add(STEPS * (task + 1), task, "chance", chance)
        rows.add(STEPS * (task + 1), task, f"online_{score}", value)
    for task, value in (heldout or {}).items():
        rows.add(STEPS * (task + 1), task, f"heldout_{score}", value)
    for metric, values in (metrics or {}).items():
        for task, value in values.items():
            rows.add(STEPS * (task + 1), task, metric, value, "hidden")
    for metric, values in (whole or {}).items():
        for task, value in values.items():
            rows.add(STEPS * (task + 1), task, metric, value)
    return rows


class Results:
    """A results folder under test."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.component = component
        self.spec = make_spec
        self.status = make_status
        self.fill = fill

    def add(
        self,
        spec: RunSpec,
        online: Mapping[int, float] | float,
        heldout: Mapping[int, float] | None = None,
        *,
        status: str = "completed",
        chance: float = 0.2,
        environment: Mapping[str, Any] | None = None,
        root: Path | None = None,
        score: str = "accuracy",
        metrics: Mapping[str, Mapping[int, float]] | None = None,
        whole: Mapping[str, Mapping[int, float]] | None = None,
        **status_changes: Any,
    ) -> Path:
        """Write a run; one number for ``online`` stands for all tasks of its kind."""
        if not isinstance(online, Mapping):
            count = spec.scenario.fields.get("tasks", TASKS)
            tasks = range(count) if spec.kind == "continual" else scored_tasks(count, spec.start)
            online = dict.fromkeys(tasks, online)
        return write_record(
            root or self.root,
            spec.recorded(),
            spec.run_id,
            environment or {"device": "cpu"},
            make_status(status, **status_changes),
            fill(online, heldout, chance, score=score, metrics=metrics, whole=whole),
            None,
        )


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results(tmp_path / "results")


@pytest.fixture
def many_seeds(results: Results) -> Callable[..., None]:
    """Return a function that writes one run for each value, with references at 0.8."""

    def write(values: list[float], *methods: ComponentSpec, **changes: Any) -> None:
        for seed, value in enumerate(values):
            spec = make_spec(*methods, seed=seed, **changes)
            results.add(spec, value)
            results.add(spec.reference(), 0.8)

    return write


@pytest.fixture(scope="session")
def simulate() -> ModuleType:
    """The laws and simulations behind the figures in docstrings."""
    path = Path(__file__).with_name("simulate_statistics.py")
    spec = importlib.util.spec_from_file_location("simulate_statistics", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
