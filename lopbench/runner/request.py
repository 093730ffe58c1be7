"""What somebody asks for, and the runs that it means."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product
from typing import Any, TypeVar

from lopbench.core.errors import UsageError
from lopbench.core.given import GivenMethod, methods_of, scenario_of, spec_of
from lopbench.core.interfaces import Architecture, Cloner, Component, Metric, Optimizer, Perturbation, Recipe, Scenario
from lopbench.core.manager import plugins
from lopbench.core.seeds import MOST_SEEDS, check_seeds
from lopbench.core.spec import ComponentSpec, RunSpec, build_optimizer, check_start
from lopbench.core.tuning import Tuning
from lopbench.core.windows import MOST_TASKS, first_tasks
from lopbench.runner import tuning
from lopbench.runner.aside import Aside
from lopbench.runner.sweep import Methods, crossed

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be run. Components are texts, as on the command line, or objects.

    Args:
        scenario: The scenario.
        methods: Methods; "none" is the plain learner, and several in a sequence are composed left to right.
        architecture: The architecture; None for the scenario's own.
        cloner: The cloner, for a scenario that clones the learner; None for the scenario's own.
        seeds: Seeds, at least 0.
        optimizers: Optimizers; None for the protocol's own. The control, ``reset``, has the reference's at any rate.
        sweeps: Numeric hyperparameters with the values to run, as in ``lr=0.01,0.001`` for the optimizers and
            ``cbp.replacement_rate=1e-5,1e-4`` for the methods that have this part; several are crossed.
        start: Fraction of the stream after which the methods turn on, in [0, 1].
        profile: Profile of the scenario; None for its default.
        metrics: The diagnostics; None for the default ones.
        tune: How each entry is tuned before it is run, as in ``k=0.1,budget=16,seeds=3`` or as a table; None for not.
    """

    scenario: str | Scenario = "tinyimagenet40"
    methods: Iterable[GivenMethod] = ("none",)
    architecture: str | Architecture | None = None
    cloner: str | Cloner | None = None
    seeds: Iterable[int] = (0,)
    optimizers: Iterable[str | Optimizer | None] = (None,)
    sweeps: Iterable[str] = ()
    start: float = 0.0
    profile: str | None = None
    metrics: Iterable[str | Metric] | None = None
    tune: str | Mapping[str, Any] | Tuning | None = None

    def asked(self) -> Asked:
        """Return the components by value, checked against each other.

        A method, an optimizer or a diagnostic that a plugin cannot make is left out.

        Raises:
            UsageError: If a name, field or value is wrong.
            InvalidInputError: If a value is out of range.
            PluginError: If a plugin cannot make a component without which nothing is left to be run, or nothing of what
                is asked for.
        """
        aside = Aside()
        scenario_spec, scenario = aside.needed(self.scenario, lambda given: _made(scenario_of(given, self.profile)))
        assert isinstance(scenario, Scenario)  # the registry checked
        network = self.architecture or scenario.default_architecture
        architecture, built = aside.needed(network, lambda given: _made(spec_of("architectures", given)))
        assert isinstance(built, Architecture)
        recipe = _recipe(scenario, built)
        given = [*self.methods]
        methods, optimizers = crossed(
            aside.each(given, methods_of, _label),
            aside.each(self.optimizers, lambda each: spec_of("optimizers", each or recipe.optimizer), _label),
            self.sweeps,
            aside,
            missing={name for label, _ in aside.told for name in _names(label)},
        )
        asked = Asked(
            scenario_spec=scenario_spec,
            scenario=scenario,
            architecture=architecture,
            reference=spec_of("optimizers", recipe.reference),
            methods=_unique(methods),
            optimizers=_unique(optimizers),
            cloner=_cloner(self.cloner, scenario, aside),
            metrics=_metrics(self.metrics, scenario, aside),
            seeds=list(dict.fromkeys(islice(self.seeds, MOST_SEEDS + 1))),
            start=self.start,
            aside=tuple(aside.told),
            tuning=None if self.tune is None else Tuning.of(self.tune),
        )
        if asked.tuning is not None and [*self.sweeps]:
            raise UsageError("--sweep and --tune do not go together: tuning has its own values; leave one of them out")
        asked.check()
        return asked


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request whose components are there; the arguments are those of `Request`, by value.

    Args:
        scenario_spec: The scenario by value.
        scenario: The scenario.
        architecture: The architecture.
        reference: The frozen optimizer of the fresh reference.
        methods: The methods, each a composition.
        optimizers: The optimizers.
        cloner: The cloner; None where nothing is cloned.
        metrics: The diagnostics.
        seeds: The seeds.
        start: Fraction of the stream after which the methods turn on.
        aside: What plugins could not make and is left out, each with the reason.
        tuning: How each entry is tuned; None for not.
    """

    scenario_spec: ComponentSpec
    scenario: Scenario
    architecture: ComponentSpec
    reference: ComponentSpec
    methods: Sequence[Methods]
    optimizers: Sequence[ComponentSpec]
    cloner: ComponentSpec | None
    metrics: tuple[ComponentSpec, ...]
    seeds: Sequence[int]
    start: float
    aside: tuple[tuple[str, str], ...]
    tuning: Tuning | None = None

    def check(self) -> None:
        """Refuse what cannot be run.

        Raises:
            UsageError: If there is something.
        """
        check_seeds(self.seeds)
        if not (self.methods and self.seeds and self.optimizers):
            raise UsageError("nothing to run: give at least one method, one seed and one optimizer")
        if self.scenario.tasks < 2:
            raise UsageError(
                f"{self.scenario.name} has {self.scenario.tasks} task: nothing comes before it in which plasticity "
                "could be lost; ask for at least 2"
            )
        if self.scenario.tasks > MOST_TASKS:
            raise UsageError(
                f"{self.scenario.name} has {self.scenario.tasks:,} tasks; a stream has at most {MOST_TASKS:,}"
            )
        check_start(self.start)  # runs without methods do not have it
        for specs in self.methods:
            _check_methods(specs, self.scenario, self.start)
            if len(specs) > 1:
                from lopbench.learner.excluding import check_pairs  # needs torch, and what looks at runs does not

                made = [spec.build() for spec in specs]
                check_pairs([m for m in made if isinstance(m, Perturbation)], build_optimizer(self.reference))
        if self.tuning is not None:
            tuning.check(self.tuning, self.scenario, self.seeds, self.start)
            aware = [spec.name for specs in self.methods for spec in specs if _class_of(spec).has("on_task_start")]
            if aware and first_tasks(self.scenario.tasks, self.tuning.k) == 1:
                raise UsageError(
                    f"method {aware[0]!r} acts between tasks, and the first {self.tuning.k:.0%} of the stream, which "
                    f"tuning uses, is one of {self.scenario.tasks} tasks. Tune with k={2 / self.scenario.tasks:.2g}"
                )
            control = next((spec.name for specs in self.methods for spec in specs if _is_control(spec)), None)
            if control is not None:
                raise UsageError(
                    f"method {control!r} is the control, which has the optimizer of the reference and nothing to tune; "
                    "run it without --tune"
                )

    def specs(self, data: Mapping[str, Any] | None) -> tuple[RunSpec, ...]:
        """Return the continual runs that are meant, on ``data`` by name and content hash."""
        return tuple(
            RunSpec(
                scenario=self.scenario_spec,
                architecture=self.architecture,
                optimizer=optimizer,
                reference_optimizer=self.reference,
                methods=method,
                seed=seed,
                metrics=self.metrics,
                data=data,
                cloner=self.cloner,
                start=self.start if method else 0.0,
            )
            for optimizer, seed, method in self._combinations()
        )

    def _combinations(self) -> Iterator[tuple[ComponentSpec, int, Methods]]:
        """Yield optimizers, seeds and methods, crossed.

        The control is the reference at each task, and so has its optimizer at all of them, whichever is asked for.
        """
        controls = [any(map(_is_control, method)) for method in self.methods]
        methods = list(zip(self.methods, controls, strict=True))
        for optimizer, seed, (method, is_control) in product(self.optimizers, self.seeds, methods):
            if not is_control:
                yield optimizer, seed, method
            elif optimizer is self.optimizers[0]:
                yield self.reference, seed, method


def _unique(items: Iterable[T]) -> list[T]:
    """Return the items without repetition, in order."""
    found: list[T] = []
    for item in items:
        if item not in found:
            found.append(item)
    return found


def _made(spec: ComponentSpec) -> tuple[ComponentSpec, Component]:
    """Return a component by value, and itself."""
    return spec, spec.build()


def _recipe(scenario: Scenario, architecture: Architecture) -> Recipe:
    """Return how the protocol trains an architecture."""
    recipe = scenario.recipe(architecture.name)
    return recipe.transformers if recipe.transformers is not None and architecture.transformer else recipe


def _cloner(given: str | Cloner | None, scenario: Scenario, aside: Aside) -> ComponentSpec | None:
    if scenario.growth is None:
        if given is not None:
            raise UsageError(
                f"--cloner {given}: {scenario.name} clones nothing; leave it out, or choose a scenario that does, such "
                "as cloning"
            )
        return None
    return aside.needed(given or scenario.growth.cloner, lambda each: spec_of("cloners", each))


def _metrics(given: Iterable[str | Metric] | None, scenario: Scenario, aside: Aside) -> tuple[ComponentSpec, ...]:
    def named(each: str | Metric) -> ComponentSpec:
        spec, metric = _made(spec_of("metrics", each))
        assert isinstance(metric, Metric)  # the registry checked
        if metric.needs_clones and scenario.growth is None:
            raise UsageError(
                f"metric {spec.name!r} compares clones, and {scenario.name} clones nothing; leave it out, or "
                "choose a scenario that does, such as cloning"
            )
        return spec

    if given is not None:
        return tuple(aside.each(given, named, _label))

    def default(name: str) -> ComponentSpec | None:
        loaded = plugins().registry.get("metrics", name).load()
        assert issubclass(loaded, Metric)  # the registry checked
        return ComponentSpec.parse("metrics", name) if loaded.default else None

    chosen = filter(None, aside.each(plugins().registry.names("metrics"), default))
    return (*chosen, *(ComponentSpec.parse("metrics", text) for text in scenario.extra_metrics))


def _label(given: GivenMethod | Optimizer | Metric | None) -> str:
    """Return what the user called a method, an optimizer or a diagnostic."""
    if isinstance(given, str):
        return given
    return "+".join(map(_label, given)) if isinstance(given, Sequence) else type(given).__name__


def _names(label: str) -> list[str]:
    """Return the names of the methods of a label."""
    return [part.partition(":")[0].strip() for part in label.split("+")]


def _class_of(spec: ComponentSpec) -> type[Perturbation]:
    found = plugins().registry.get("methods", spec.name).load()
    assert issubclass(found, Perturbation)  # the registry checked
    return found


def _is_control(spec: ComponentSpec) -> bool:
    return _class_of(spec).control


def _check_methods(specs: Sequence[ComponentSpec], scenario: Scenario, start: float) -> None:
    """Refuse methods that need boundaries where there are none, cannot start later, or stand alone and do not."""
    for spec in specs:
        method = _class_of(spec)
        if method.has("on_task_start") and not scenario.boundaries:
            raise UsageError(
                f"method {spec.name!r} acts at task boundaries, and {scenario.name} is a stream without any; choose "
                "one that acts at steps"
            )
        if method.control and (start or len(specs) > 1):
            raise UsageError(
                f"method {spec.name!r} is the control, the fresh reference at each task; run it without other methods "
                "and without --from"
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
