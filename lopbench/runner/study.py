"""Many runs: what a request expands to, what of it is done, and doing the rest."""

from __future__ import annotations

import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

from lopbench.core.errors import ResultsError, UsageError
from lopbench.core.interfaces import Metric, Perturbation, Samples, Scenario
from lopbench.core.manager import plugins
from lopbench.core.spec import (
    ComponentSpec,
    RunSpec,
    canonical_json,
    check_start,
    parse_methods,
    parse_scenario,
)
from lopbench.data import Progress, load_data
from lopbench.results.record import record_path
from lopbench.runner.report import Reporter
from lopbench.runner.schedule import Schedule
from lopbench.runner.sweep import crossed

T = TypeVar("T")

#: Free space below which a study is not started: room for a checkpoint, its successor and the record.
MIN_FREE_BYTES = 200 * 2**20


@dataclass(frozen=True, eq=False)
class Study:
    """A request, expanded.

    Args:
        results: Results folder.
        specs: The continual runs that were asked for.
        pending: The runs still to be done, fresh references included, in the order in which they are done.
        steps: Training steps of each pending run.
        finished: Number of runs, references included, that have a record already.
        images: The data set, None if the scenario generates its samples.
        device: Where the runs train, as torch writes it.
    """

    results: Path
    specs: tuple[RunSpec, ...]
    pending: tuple[RunSpec, ...]
    steps: tuple[int, ...]
    finished: int
    images: Samples | None
    device: str

    @property
    def scenario(self) -> Scenario:
        """The scenario."""
        built = self.specs[0].scenario.build()
        assert isinstance(built, Scenario)
        return built


def plan(
    *,
    scenario: str = "tinyimagenet40",
    methods: Iterable[str] = ("none",),
    architecture: str | None = None,
    cloner: str | None = None,
    seeds: Iterable[int] = (0,),
    optimizers: Iterable[str | None] = (None,),
    sweeps: Iterable[str] = (),
    start: float = 0.0,
    profile: str | None = None,
    metrics: Iterable[str] | None = None,
    data: str = "auto",
    data_dir: Path | None = None,
    device: str = "auto",
    results: Path | str = "results",
    progress: Progress | None = None,
) -> Study:
    """Expand a request to runs and find out which of them are done; trains nothing.

    Args:
        scenario: Scenario spec, as on the command line.
        methods: Method specs; "none" is the plain learner.
        architecture: Architecture spec; None for the scenario's own.
        cloner: Cloner spec, for a scenario that clones the learner; None for the scenario's own.
        seeds: Seeds, at least 0.
        optimizers: Optimizer specs; None for the protocol's own.
        sweeps: Numeric hyperparameters with the values to run, as in ``lr=0.01,0.001`` for the optimizers and
            ``cbp.replacement_rate=1e-5,1e-4`` for the methods that have this part; several are crossed.
        start: Fraction of the stream after which the methods turn on, in [0, 1].
        profile: Profile of the scenario; None for its default.
        metrics: Metric specs; None for the default diagnostics.
        data: "auto", the scenario's data set where it is found and else its stand-in, if it has one; the name of that
            data set, whose absence is then an error; or "procedural", the stand-in.
        data_dir: Where to look for the data set first.
        device: "auto", "cpu", "cuda" or "cuda:1".
        results: Results folder.
        progress: Is told of decoding.

    Raises:
        UsageError: If a name, field or value is wrong, or the device does not exist.
        DataError: If the data set is absent or damaged.
    """
    results = Path(results)
    scenario_spec = parse_scenario(scenario, profile)
    built = scenario_spec.build()
    assert isinstance(built, Scenario)
    architecture_spec = ComponentSpec.parse("architectures", architecture or built.default_architecture)
    recipe = built.recipe(architecture_spec.name)
    reference = ComponentSpec.parse("optimizers", recipe.reference)
    swept_methods, swept_optimizers = crossed(
        [parse_methods(text) for text in methods],
        [ComponentSpec.parse("optimizers", text or recipe.optimizer) for text in optimizers],
        sweeps,
    )
    parsed_methods, parsed_optimizers = _unique(swept_methods), _unique(swept_optimizers)
    cloner_spec = _cloner(cloner, built)
    chosen_metrics = _metrics(metrics, built)
    seeds = _unique(seeds)
    if any(seed < 0 for seed in seeds):
        raise UsageError(f"seeds must be at least 0, got {min(seeds)}")
    if not (parsed_methods and seeds and parsed_optimizers):
        raise UsageError("nothing to run: give at least one method, one seed and one optimizer")
    check_start(start)  # runs without methods do not have it
    for methods_spec in parsed_methods:
        _check_methods(methods_spec, built, start)
    device = _device(device)
    streamed = built.data
    images = None if streamed is None else load_data(data, wanted=streamed, data_dir=data_dir, progress=progress)
    core = version("lopbench")
    specs = tuple(
        RunSpec(
            scenario=scenario_spec,
            architecture=architecture_spec,
            optimizer=optimizer,
            reference_optimizer=reference,
            methods=method,
            seed=seed,
            metrics=chosen_metrics,
            data=None if images is None else {"name": images.name, "content_hash": images.content_hash},
            core=core,
            cloner=cloner_spec,
            start=start if method else 0.0,
        )
        for optimizer in parsed_optimizers
        for seed in seeds
        for method in parsed_methods
    )
    # A seed's references follow its runs: the number asked for comes first, and several methods share one reference.
    runs = (run for spec in specs for run in (spec, spec.reference(), spec.own_reference()))
    wanted = list({run.run_id: run for run in runs}.values())
    pending = tuple(spec for spec in wanted if not record_path(results, spec).exists())
    return Study(
        results=results,
        specs=specs,
        pending=pending,
        steps=tuple(Schedule.of(built, spec).steps for spec in pending),
        finished=len(wanted) - len(pending),
        images=images,
        device=device,
    )


def execute(study: Study, reporter: Reporter | None = None, *, checkpoint_s: float = 10.0) -> list[tuple[RunSpec, str]]:
    """Do what is pending; returns the specs that could not be run, each with the reason.

    Raises:
        ResultsError: If the results folder cannot be written to or is nearly full.
    """
    import torch

    from lopbench.runner import groups
    from lopbench.runner.unfinished import tidy

    tidy(study.results)
    if not study.pending:
        return []
    existing = next(folder for folder in (study.results, *study.results.resolve().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if free < MIN_FREE_BYTES:
        raise ResultsError(
            f"The results folder {study.results} has {free / 2**20:.0f} MiB free and needs {MIN_FREE_BYTES >> 20}; "
            "make room or choose another with --results."
        )
    return groups.execute(
        study.pending,
        results=study.results,
        data=study.images,
        device=torch.device(study.device),
        reporter=reporter,
        checkpoint_s=checkpoint_s,
    )


@dataclass(frozen=True)
class Forecast:
    """How long a study will take.

    Args:
        seconds: Time of all pending runs.
        most: Whether it is an upper bound: the time was taken of steps that will be compiled, and so be faster.
    """

    seconds: float
    most: bool


def forecast(study: Study, *, limit_s: float = 1.5) -> Forecast | None:
    """Return how long the pending runs will take, None if none of them can even start; about ``limit_s`` seconds.

    A group of runs takes the time that its steps took in records of the same methods, protocol, hardware and number of
    replicas, or else take now. Once ``limit_s`` is over, groups are taken for as slow as the slowest of those timed.
    """
    import torch

    from lopbench.runner.groups import groups
    from lopbench.runner.timing import seconds_per_step

    device = torch.device(study.device)
    recorded = _recorded_seconds(study)
    steps_of = dict(zip((spec.run_id for spec in study.pending), study.steps, strict=True))
    together = groups(study.pending, data=study.images, device=device)
    began = time.perf_counter()
    known, slowest, most = [], 0.0, False
    for group in together:
        steps = steps_of[group[0].run_id]
        seconds = recorded.get(_workload(group[0], len(group)))
        if seconds is None and (slowest == 0 or time.perf_counter() - began < limit_s):
            try:
                seconds, compiled = seconds_per_step(group, data=study.images, device=device, limit_s=limit_s / 8)
            except Exception:  # whatever a plugin raises is told when its turn comes; other runs may go well
                continue
            slowest, most = max(slowest, seconds), most or compiled
        known.append((steps, seconds))
    if not known:
        return None
    return Forecast(sum(steps * (slowest if seconds is None else seconds) for steps, seconds in known), most)


def _workload(spec: RunSpec, replicas: int) -> str:
    """Return what must agree for a step to take about as long; optimizers and metrics cost little."""
    left_out = ("optimizer", "metrics")
    protocol = {key: part for key, part in spec.protocol().items() if key not in left_out}
    return canonical_json([protocol, [method.name for method in spec.methods], replicas])


def _recorded_seconds(study: Study) -> dict[str, float]:
    """Return the seconds that a step of all replicas took on this hardware, by workload."""
    import torch

    from lopbench.results.record import find_records
    from lopbench.runner.environment import describe

    try:
        records = find_records(study.results) if study.results.is_dir() else []
    except ResultsError:  # a damaged record is the leaderboard's business
        records = []
    here = describe(torch.device(study.device))
    steps: Counter[str] = Counter()
    seconds: dict[str, float] = defaultdict(float)
    for record in records:
        if all(record.environment.get(key) == here[key] for key in ("device", "threads")):
            replicas = record.environment.get("replicas", 1)
            workload = _workload(record.spec, replicas)
            steps[workload] += record.status["steps"]
            seconds[workload] += record.status["wall_time_s"] * replicas
    return {workload: seconds[workload] / count for workload, count in steps.items() if count}


def _unique(items: Iterable[T]) -> list[T]:
    """Return the items without repetition, in order."""
    found: list[T] = []
    for item in items:
        if item not in found:
            found.append(item)
    return found


def _cloner(text: str | None, scenario: Scenario) -> ComponentSpec | None:
    if scenario.growth is None:
        if text is not None:
            raise UsageError(
                f"--cloner {text}: {scenario.name} clones nothing; leave it out, or choose a scenario that does, such "
                "as cloning"
            )
        return None
    return ComponentSpec.parse("cloners", text or scenario.growth.cloner)


def _metrics(texts: Iterable[str] | None, scenario: Scenario) -> tuple[ComponentSpec, ...]:
    if texts is not None:
        named = tuple(ComponentSpec.parse("metrics", text) for text in texts)
        for spec in named:
            metric = spec.build()
            assert isinstance(metric, Metric)  # the registry checked
            if metric.needs_clones and scenario.growth is None:
                raise UsageError(
                    f"metric {spec.name!r} compares clones, and {scenario.name} clones nothing; leave it out, or "
                    "choose a scenario that does, such as cloning"
                )
        return named
    registry = plugins().registry
    chosen = []
    for entry in registry.entries("metrics"):
        loaded = entry.load()
        assert issubclass(loaded, Metric)  # the registry checked
        if loaded.default:
            chosen.append(ComponentSpec.parse("metrics", entry.name))
    return (*chosen, *(ComponentSpec.parse("metrics", text) for text in scenario.extra_metrics))


def _check_methods(specs: Sequence[ComponentSpec], scenario: Scenario, start: float) -> None:
    """Refuse methods that need boundaries where there are none, or cannot start later."""
    for spec in specs:
        method = spec.build()
        assert isinstance(method, Perturbation)
        if method.has("on_task_start") and not scenario.boundaries:
            raise UsageError(
                f"method {spec.name!r} acts at task boundaries, and {scenario.name} is a stream without any; choose "
                "one that acts at steps"
            )
        if start and scenario.growth is not None:
            raise UsageError(
                f"method {spec.name!r} acts on the clone from its beginning in {scenario.name}; leave out --from"
            )
        if start and method.has("configure"):
            raise UsageError(
                f"method {spec.name!r} is built into the network and cannot turn on in the middle of a stream; leave "
                "out --from"
            )


def _device(name: str) -> str:
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"device {name!r} cannot be used: {reason}; try --device cpu") from None
    return str(torch.device(name))
