"""The tuning of entries: configurations, the development runs that choose one of them, and the runs of that one."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from lopbench.core.errors import ResultsError, UsageError
from lopbench.core.interfaces import Optimizer, Perturbation, Scenario
from lopbench.core.manager import plugins
from lopbench.core.spec import ComponentSpec, RunSpec
from lopbench.core.tuning import OPTIMIZER, Configuration, Tuning, TuningLog, best, configured, untuned
from lopbench.core.windows import first_tasks
from lopbench.results.group import seed_ranges, seeds_in_words
from lopbench.results.record import is_recorded, read_record, record_path
from lopbench.results.tuned import development_score
from lopbench.runner.references import with_references
from lopbench.runner.schedule import Schedule

#: Values of fields, by ``optimizer.FIELD`` or ``METHOD.FIELD``.
Values = Mapping[str, Any]


def rates(base: float, count: int) -> list[float]:
    """Return ``count`` learning rates in half decades around ``base``: first it, then the nearest, the lower before.

    Around 1e-3 or 3e-3 these are 1e-3, 3e-3 and their multiples by powers of ten.
    """
    halves = sorted(range(-count, count + 1), key=lambda half: (abs(half), half > 0))
    return [_rate(base, half) for half in halves[:count]]


def _rate(base: float, half: int) -> float:
    decades, odd = divmod(half, 2)
    step = 10 / 3 if f"{base:e}".startswith("3.0") else 3.0
    return float(f"{base * 10.0**decades * (step if odd else 1.0):.6g}")


def configurations(tuning: Tuning, methods: Sequence[ComponentSpec], optimizer: ComponentSpec) -> tuple[Values, ...]:
    """Return the configurations of an entry, as many as the budget, each with a learning rate.

    The settings of the methods' grids are crossed with learning rates around the optimizer's, from the middle outwards,
    until there are enough. Methods without a grid, and plain learning, spend the budget on the grid of the optimizer. A
    field whose value is not its default is not tuned.

    Args:
        tuning: What is asked.
        methods: The methods.
        optimizer: The optimizer, whose learning rate is the first.

    Raises:
        UsageError: If the grids have more settings than the budget.
        LopbenchError: If a component refuses a value of its grid.
    """
    settings = _settings([(part.name, part) for part in methods])
    if settings == [{}]:
        settings = _settings([(OPTIMIZER, optimizer)])
    if len(settings) > tuning.budget:
        named = "+".join(part.label() for part in methods) or optimizer.label()
        raise UsageError(
            f"the grid of {named} has {len(settings)} settings, more than the budget of {tuning.budget} "
            "configurations. Give a larger budget, or give one of its fields a value: then that field is not tuned"
        )
    count = -(-tuning.budget // len(settings))
    tried = [
        {f"{OPTIMIZER}.lr": rate, **setting}
        for rate in rates(optimizer.fields["lr"], count)
        for setting in settings
    ]  # fmt: skip
    return tuple(tried[: tuning.budget])


def _settings(parts: Sequence[tuple[str, ComponentSpec]]) -> list[dict[str, Any]]:
    """Return all combinations of the values in the grids of components."""
    grids: dict[str, list[Any]] = {}
    for owner, part in parts:
        cls = plugins().registry.get(part.kind, part.name).load()
        assert issubclass(cls, Perturbation | Optimizer)  # the registry checked
        shown = part.face()
        for field, values in cls.grid.items():
            default = None if shown is None else shown.defaults.get(field)
            if part.fields.get(field, default) == default:
                grids[f"{owner}.{field}"] = [_recorded(part, field, value) for value in values]
    return [dict(zip(grids, values, strict=True)) for values in itertools.product(*grids.values())]


def _recorded(part: ComponentSpec, field: str, value: object) -> Any:
    """Return a value of a field as specs have it; the component is made with it, which checks it."""
    plain = list(value) if isinstance(value, tuple) else value
    made = ComponentSpec.of(part.kind, replace(part, fields={**part.fields, field: plain}).build())
    return made.fields.get(field, plain)


@dataclass(frozen=True)
class Candidates:
    """An entry before its tuning. Records of its development runs will choose one of its configurations.

    Args:
        tuning: What is asked.
        base: Its run on the first of its seeds, as it was asked for.
        seeds: The seeds of the runs of the chosen configuration.
        values: The configurations.
    """

    tuning: Tuning
    base: RunSpec
    seeds: tuple[int, ...]
    values: tuple[Values, ...]

    @classmethod
    def of(cls, tuning: Tuning, specs: Iterable[RunSpec]) -> list[Candidates]:
        """Return the entries of runs that were asked for, in order.

        Raises:
            UsageError: If a grid has more settings than the budget.
            LopbenchError: If a component refuses a value of its grid.
        """
        entries: dict[str, list[RunSpec]] = {}
        for spec in specs:
            entries.setdefault(spec.entry_id, []).append(spec)
        found: dict[tuple[str, str], Candidates] = {}
        for runs in entries.values():
            made = cls(
                tuning,
                runs[0],
                tuple(each.seed for each in runs),
                configurations(tuning, runs[0].methods, runs[0].optimizer),
            )
            other = found.setdefault(made._family, made)
            if other is not made:
                raise UsageError(
                    f"{made.base.method_label} would be tuned twice, around {other.base.optimizer_label} and around "
                    f"{made.base.optimizer_label}, and a table has one row of it. Name one of these optimizers"
                )
        return list(found.values())

    @cached_property
    def _family(self) -> tuple[str, str]:
        """What is the same whichever configuration is chosen: the protocol, and the entry without the tuned fields."""
        names = Configuration(self.values[0], ()).names
        methods, optimizer = untuned(self.base.methods, self.base.optimizer, names)
        return self.base.protocol_id, replace(self.base, methods=methods, optimizer=optimizer).entry_id

    @property
    def label(self) -> str:
        """Name of the entry in messages."""
        return f"{self.base.method_label} with {self.base.optimizer_label}, tuned by {self.tuning.label}"

    @cached_property
    def development(self) -> tuple[tuple[RunSpec, ...], ...]:
        """The development runs of each configuration, by seed."""
        return tuple(
            tuple(self.base.development(self.tuning.k, values, seed) for seed in self.tuning.development_seeds)
            for values in self.values
        )

    @property
    def runs(self) -> list[RunSpec]:
        """The development runs."""
        return [spec for runs in self.development for spec in runs]

    @property
    def unsettled(self) -> list[RunSpec]:
        """The runs of the entry before one is chosen: as it was asked for, with an empty log, which no record has.

        They are as many as those of the chosen configuration will be, and take as long.
        """
        log = TuningLog(self.tuning, "", 0, (), 0)
        return [replace(self.base, seed=seed, tuning=log) for seed in self.seeds]

    def followed(self, results: Path) -> list[RunSpec] | None:
        """Return what `settle` does, and the runs of fresh networks that only these runs need.

        Raises:
            ResultsError: As `settle`.
        """
        specs = self.settle(results)
        return None if specs is None else with_references(specs, shared=False)

    def settle(self, results: Path) -> tuple[RunSpec, ...] | None:
        """Return the runs of the configuration that development runs choose; None while one of these has no record.

        The choice depends on their records alone, so that all workers in a folder come to the same runs.

        Raises:
            ResultsError: If a record is damaged, or no configuration completed.
        """
        if not all(is_recorded(results, spec) for spec in self.runs):
            return None
        scenario = _scenario(self.base)
        tried = tuple(
            Configuration(values, tuple(_score(results, spec, scenario.score) for spec in runs))
            for values, runs in zip(self.values, self.development, strict=True)
        )
        place = best(tried, scenario.score)
        if place is None:
            raise ResultsError(
                f"each of the {self.tuning.budget} configurations diverged or failed on a development seed, so none "
                "can be chosen; tune around a lower learning rate, or with a larger budget"
            )
        steps = sum(Schedule.of(scenario, spec).steps for spec in self.runs)
        log = TuningLog(self.tuning, scenario.score, steps, tried, place)
        chosen = tuned(self.base, log)
        return tuple(replace(chosen, seed=seed) for seed in self.seeds)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "tuning": self.tuning.to_json(),
            "base": self.base.to_json(),
            "seeds": list(self.seeds),
            "values": [dict(values) for values in self.values],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Candidates:
        """Return what `to_json` returned.

        Raises:
            KeyError, TypeError, LopbenchError: If it did not.
        """
        base = RunSpec.from_json(value["base"])
        return cls(Tuning.of(value["tuning"]), base, tuple(value["seeds"]), tuple(value["values"]))


def tuned(asked: RunSpec, log: TuningLog) -> RunSpec:
    """Return a run that was asked for, with the configuration that a log of its tuning chose."""
    methods, optimizer = configured(asked.methods, asked.optimizer, log.configurations[log.chosen].values)
    return replace(asked, methods=methods, optimizer=optimizer, tuning=log)


def check(tuning: Tuning, scenario: Scenario, seeds: Iterable[int], start: float) -> None:
    """Refuse what cannot be tuned in this way.

    Raises:
        UsageError: If a seed is a development seed, or methods act only after the part of the stream that tuning uses.
    """
    both = sorted(set(seeds) & set(tuning.development_seeds))
    if both:
        raise UsageError(
            f"seed {both[0]} is a development seed, since {seeds_in_words(seed_ranges(tuning.development_seeds))} "
            "choose configurations. Run on other seeds"
        )
    if start and tuning.k <= start:
        raise UsageError(
            f"methods turn on after {start:.0%} of the stream, and tuning uses its first {tuning.k:.0%}, in which they "
            "do nothing. Leave out --from, or tune with k=1"
        )
    growth = scenario.growth
    if growth is not None and first_tasks(scenario.tasks, tuning.k) <= growth.task:
        raise UsageError(
            f"{scenario.name} clones the learner before task {growth.task}, and the first {tuning.k:.0%} of the "
            "stream, which tuning uses, ends before that. Tune with k=1"
        )


def _score(results: Path, spec: RunSpec, score: str) -> float | None:
    return development_score(read_record(record_path(results, spec)), score)


def _scenario(spec: RunSpec) -> Scenario:
    built = spec.scenario.build()
    assert isinstance(built, Scenario)  # the registry checked
    return built
