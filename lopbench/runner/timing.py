"""How long a step takes here."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from time import perf_counter  # by name, so that no plugin that replaces it makes this go on for ever
from typing import Self

import torch

from lopbench.core.spec import RunSpec
from lopbench.learner.probing import Seen
from lopbench.runner import environment
from lopbench.runner.report import Quiet
from lopbench.runner.schedule import Place
from lopbench.runner.setting import Setting
from lopbench.runner.training import Training

#: Batch of steps that are timed at once.
_TIMED = 16


def throwaway(specs: Sequence[RunSpec], *, data: object, device: torch.device) -> Training:
    """Return the networks of runs as they are before their first step, to be looked at.

    Raises:
        UnsupportedError: If a method cannot serve the architecture, or the architecture the scenario.
        DataError: If the data set cannot feed the scenario.
    """
    with environment.numerics(specs[0].numerics, device):
        setting = Setting.of(specs, data=data, device=device)
        place = setting.schedule.places[0]
        training = Training(setting, place, reporter=Quiet(), log=lambda message: None)
        if setting.cloner is not None:
            training.clone(place)
            training.learner.learner.turn_on()
        training.turn_to(place)
        return training


@dataclass(frozen=True)
class Timing:
    """A throw-away learner in its first task, whose steps are timed; none of them is compiled.

    Args:
        training: The learner.
        place: The task.
    """

    training: Training
    place: Place

    @classmethod
    @contextmanager
    def of(cls, specs: Sequence[RunSpec], *, data: object, device: torch.device) -> Iterator[Self]:
        """Yield what times the steps of ``specs``, all together, numbers as those of the runs.

        Raises:
            UnsupportedError: If a method cannot serve the architecture, or the architecture the scenario.
            DataError: If the data set cannot feed the scenario.
        """
        training = throwaway(specs, data=data, device=device)
        with environment.numerics(training.setting.spec.numerics, device):
            training.programs.seek(training.learner, training.feed, compiled=False)
            timing = cls(training, training.setting.schedule.places[0])
            timing._take()  # the first ones are slower
            yield timing

    def seconds_per_step(self, limit_s: float, most: float = math.inf) -> float:
        """Take steps for about ``limit_s`` seconds or ``most`` steps, batches included, and return what one took."""
        began, steps = perf_counter(), self._take()
        while perf_counter() - began < limit_s and steps < most:
            steps += self._take()
        return (perf_counter() - began) / steps

    def seconds_beside_steps(self) -> float:
        """Return about how many seconds a run takes beside its steps: what it does there is done once here.

        What it does for each replica is timed with one.
        """
        training = self.training
        seen: list[list[Seen] | None] = []
        replicas, schedule = training.learner.learner.replicas, training.setting.schedule
        score_s = replicas * _seconds(lambda: list(training.scores(0)))
        look_s = _seconds(lambda: seen.extend(training.see_together()))
        look_s += replicas * _seconds(lambda: list(training.diagnostics(0, seen)))
        validate_s = replicas * _seconds(lambda: training.validate(0)) if schedule.validations else 0.0
        begin_s = _seconds(lambda: training.turn_to(self.place))
        measured = sum(place.measured for place in schedule.places)
        beside_s = begin_s * len(schedule.places) + score_s * measured + look_s * schedule.looks
        return beside_s + validate_s * schedule.validations

    def _take(self) -> int:
        """Take some steps of the task, over and over again; returns how many."""
        learner = self.training.learner
        if learner.done == self.place.steps:
            self.training.turn_to(self.place)
        before = learner.done
        self.training.advance(min(_TIMED, self.place.steps - before))
        learner.losses[before:].tolist()  # reading the loss waits for the device
        return learner.done - before


def seconds_per_step(
    specs: Sequence[RunSpec], *, data: object, device: torch.device, limit_s: float = 0.5
) -> tuple[float, bool]:
    """Return the seconds that a step of ``specs``, all together, takes here, and whether it will be compiled.

    A throw-away learner takes steps of the first task for about ``limit_s`` seconds, but no more than a run has, the
    first ones not counted, batch preparation included. Of small networks a step has its share of what is done beside
    the steps, such as diagnostics. Steps are never compiled: where those of the runs will be, the time is what such
    programs took elsewhere, if that is less. Nothing is written, and no run is changed by it.

    Raises:
        UnsupportedError: If a method cannot serve the architecture, or the architecture the scenario.
        DataError: If the data set cannot feed the scenario.
    """
    with Timing.of(specs, data=data, device=device) as timing:
        training = timing.training
        steps = training.setting.schedule.steps
        per_step, beside = timing.seconds_per_step(limit_s, most=steps), 0.0
        # What large networks do beside their steps is little, and takes long to time.
        if per_step < limit_s / _TIMED:
            with suppress(Exception):  # what a metric raises is told when its turn comes
                beside = timing.seconds_beside_steps() / steps
        if not training.programs.is_made:
            return per_step + beside, False
        work = training.programs.work(training.learner, training.feed)
        if not work.is_long:
            return per_step + beside, False
        if work.on_cpu and can_compile():
            per_step = min(per_step, work.compiled_s(training.learner.learner.state_bytes()))
        return per_step + beside, True


def _seconds(function: Callable[[], object]) -> float:
    began = perf_counter()
    function()
    return perf_counter() - began


def can_compile() -> bool:
    """Return whether there is a C++ compiler, with which programs are compiled on a CPU."""
    return shutil.which(os.environ.get("CXX", "g++")) is not None
