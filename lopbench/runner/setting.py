"""What the specs of runs that train together ask for, built: components, streams, and learners as they are born."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Generator, Tensor, nn

from lopbench.core import rng
from lopbench.core.errors import UnsupportedError
from lopbench.core.interfaces import (
    ActingBatches,
    Architecture,
    Batches,
    Cloner,
    Metric,
    Perturbation,
    Scenario,
    Stream,
)
from lopbench.core.profile import Profile
from lopbench.core.spec import RunSpec, build_optimizer
from lopbench.learner.learner import StackLearner, stacked_method
from lopbench.runner.schedule import Place, Schedule


@dataclass(frozen=True, eq=False, kw_only=True)
class Setting:
    """The components that runs share, and the streams of their seeds.

    Args:
        specs: What is run; several differ in nothing but seed, learning rate and swept fields of their methods.
        device: Where to train.
        scenario: The scenario.
        schedule: What a run does, step by step.
        architecture: What is trained.
        methods: The methods, each of all replicas.
        cloner: What clones the learner; None where it is not cloned. A fresh network is as wide as a clone.
        metrics: The diagnostics, by label.
        streams: The stream of each seed.
    """

    specs: tuple[RunSpec, ...]
    device: torch.device
    scenario: Scenario
    schedule: Schedule
    architecture: Architecture
    methods: tuple[Perturbation, ...]
    cloner: Cloner | None
    metrics: tuple[tuple[str, Metric], ...]
    streams: dict[int, Stream]

    @classmethod
    def of(cls, specs: Sequence[RunSpec], *, data: object, device: torch.device) -> Setting:
        """Build what ``specs`` ask for.

        Args:
            specs: What is run.
            data: The data set of the scenario, loaded.
            device: Where to train.

        Raises:
            DataError: If the data set cannot feed the scenario.
            UnsupportedError: If the architecture reads other inputs than the stream gives.
        """
        spec = specs[0]
        scenario, architecture = spec.scenario.build(), spec.architecture.build()
        assert isinstance(scenario, Scenario)
        assert isinstance(architecture, Architecture)
        cloner = None if spec.cloner is None or spec.kind == "fresh" else spec.cloner.build()
        assert cloner is None or isinstance(cloner, Cloner)
        metrics = [(each.label(), each.build()) for each in spec.metrics]
        seeds = dict.fromkeys(each.seed for each in specs)
        made = cls(
            specs=tuple(specs),
            device=device,
            scenario=scenario,
            schedule=Schedule.of(scenario, spec),
            architecture=architecture,
            methods=tuple(stacked_method(each) for each in zip(*map(methods_of, specs), strict=True)),
            cloner=cloner,
            metrics=tuple((label, metric) for label, metric in metrics if isinstance(metric, Metric)),
            streams={seed: scenario.stream(seed, data=data, device=device) for seed in seeds},
        )
        made._check_inputs()
        return made

    @property
    def spec(self) -> RunSpec:
        """The spec of the first replica."""
        return self.specs[0]

    @property
    def stream(self) -> Stream:
        """The stream of the first replica."""
        return self.streams[self.spec.seed]

    @cached_property
    def example(self) -> tuple[Tensor, Tensor]:
        """A batch of the stream, inputs ``(N, *input_shape)`` and targets."""
        return next(self.stream.task(self.schedule.places[0].task).batches())

    def _check_inputs(self) -> None:
        name, reads, given = self.architecture.name, self.architecture.reads, self.stream.inputs
        if reads == "observations" and given == "numbers":
            batches = self.stream.task(self.schedule.places[0].task).batches()
            if isinstance(batches, ActingBatches) or type(batches).observe is not Batches.observe:
                return
            why = f"{name} reads what an agent observes, and no agent acts in {self.scenario.name}"
        elif reads != given:
            why = f"{name} reads {reads}, and {self.scenario.name} gives {given}"
        else:
            return
        other = self.scenario.default_architecture.partition(":")[0]
        raise UnsupportedError(f"{why}; use an architecture for {given}, such as {other}")

    @property
    def factor(self) -> int:
        """Clones of each unit where the learner is cloned."""
        return 1 if self.scenario.growth is None else self.scenario.growth.factor

    def new_learner(self, place: Place, *, clones: tuple[Sequence[nn.Module], Profile] | None = None) -> StackLearner:
        """Return a learner as it is born before ``place``.

        Args:
            place: Where in the stream.
            clones: Cloned networks to start from, and what is a clone of what in them.

        Raises:
            UnsupportedError: If a method cannot serve the network, or the architecture the stream.
        """

        def build(generator: Generator) -> nn.Module:
            is_wide = clones is not None or self.spec.kind == "fresh"
            architecture = self.architecture.widened(self.factor) if is_wide and self.factor > 1 else self.architecture
            return architecture.build(self.stream.input_shape, self.stream.outputs, generator=generator)

        return StackLearner(
            build=build,
            seeds=[spec.seed for spec in self.specs],
            methods=self.methods,
            optimizer=build_optimizer(self.spec.optimizer),
            rates=[spec.optimizer.fields["lr"] for spec in self.specs],
            reference_optimizer=build_optimizer(self.spec.reference_optimizer),
            example=self.example[0],
            targets=self.example[1],
            tokens=self.stream.inputs == "tokens",
            outputs=self.stream.outputs,
            head=self.architecture.head,
            layers=self.architecture.layers,
            device=self.device,
            dtype=torch.float64 if self.spec.numerics.dtype == "float64" else torch.float32,
            init_index=place.origin,
            age=max(0, place.first - self.schedule.switch),
            waiting=self.schedule.waits(place),
            clones=clones,
        )

    def clone_of(self, learner: StackLearner, place: Place) -> StackLearner:
        """Return a learner that starts from a clone of ``learner``, which is left as it is.

        Raises:
            UnsupportedError: If the network cannot be cloned.
        """
        assert self.cloner is not None
        example = torch.zeros(2, *self.stream.input_shape, dtype=learner.dtype, device=self.device)
        generator = rng.derive(self.spec.seed, "clone")
        wide, profile = self.cloner.clone(learner.network.module, self.factor, example=example, generator=generator)
        return self.new_learner(place, clones=([wide], profile))

    def rehearse(self, learner: StackLearner, place: Place) -> None:
        """Clone a learner and turn the methods on, for nothing, so that what cannot be is told before training.

        Raises:
            UnsupportedError: If the network cannot be cloned, or a method cannot serve the clone.
        """
        clone = self.clone_of(learner, place)
        clone.turn_on()
        if clone.nursery.has_rows:  # units may be reset
            self.architecture.widened(self.factor)


def methods_of(spec: RunSpec) -> list[Perturbation]:
    """Return the methods of a spec, built."""
    return [method for method in (each.build() for each in spec.methods) if isinstance(method, Perturbation)]
