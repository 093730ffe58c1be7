"""Runs a spec: trains through its tasks, measures, checkpoints, and publishes the record."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from lopbench.core import rng
from lopbench.core.errors import LopbenchError, ResultsError, UnsupportedError
from lopbench.core.interfaces import Architecture, ChunkedBatches, Cloner, Metric, Perturbation, Scenario, Stream, Task
from lopbench.core.profile import Profile
from lopbench.core.spec import RunSpec, build_optimizer
from lopbench.data.cache import cache_directory
from lopbench.learner.compiling import cache_compiled
from lopbench.learner.learner import StackLearner, stacked_method
from lopbench.learner.program import Program, why_not
from lopbench.results.record import Measurements, Outcome, record_path, write_record
from lopbench.runner import environment
from lopbench.runner.base import Base
from lopbench.runner.checkpoint import load_checkpoint, part, save_checkpoint
from lopbench.runner.measure import diagnostics, task_scores
from lopbench.runner.report import Quiet, Reporter, group_label, label
from lopbench.runner.schedule import Place, edges, places, switch_step, unroll
from lopbench.runner.unfinished import CHECKPOINT, LOG, folder_of, make_folder, unwritable

#: Seconds between looks at the clock's consequences: progress, divergence, checkpoint. It changes no number.
LOOK_S = 0.25

#: Steps in all from which on a program is compiled: that takes up to a minute, and saves about a minute over these.
COMPILE_STEPS = 100_000

#: Most samples, of all replicas together, and most steps that are made ahead of a program's calls.
BLOCK_SAMPLES, BLOCK_STEPS = 200_000, 2_000


#: Steps that are taken between two looks at the clock by who only takes the time.
_TIMED = 16


class _NoneLeftError(Exception):
    """No replica is measured any more."""


@dataclass
class _Progress:
    """Where the run stands; with the tensors of the learner, all that a checkpoint holds."""

    place: int = 0  #: Index into the sequence of tasks.
    step: int = 0  #: Steps taken in this task.
    train_time_s: float = 0.0
    wall_time_s: float = 0.0
    sessions: int = 0
    started_utc: str = ""
    on: bool = False  #: Whether methods that start in the middle of the stream have turned on.
    how: str = "one by one"  #: How steps are taken: it can change the last digits.


class Run:
    """The runs of one spec, or of several that are replicas of one program, in a results folder.

    Args:
        specs: What to run; several differ in nothing but seed, learning rate and swept fields of their methods.
        results: Results folder.
        data: The data set of the scenario, loaded.
        device: Where to train.
        reporter: Is told how it goes.
        checkpoint_s: Seconds between checkpoints.

    Raises:
        DataError: If the data set cannot feed the scenario.
    """

    def __init__(
        self,
        specs: Sequence[RunSpec],
        *,
        results: Path,
        data: object,
        device: torch.device,
        reporter: Reporter | None = None,
        checkpoint_s: float = 10.0,
    ) -> None:
        self.specs = tuple(specs)
        self.spec = spec = specs[0]
        self._replicas = range(len(specs))
        self.results = results
        self.device = device
        self.reporter = reporter or Quiet()
        self.checkpoint_s = checkpoint_s
        scenario, architecture = spec.scenario.build(), spec.architecture.build()
        metrics = [metric.build() for metric in spec.metrics]
        assert isinstance(scenario, Scenario)
        assert isinstance(architecture, Architecture)
        self.scenario = scenario
        self.architecture = architecture
        self.methods = [stacked_method(each) for each in zip(*map(methods_of, specs), strict=True)]
        cloner = None if spec.cloner is None else spec.cloner.build()
        assert cloner is None or isinstance(cloner, Cloner)
        #: A fresh reference is as wide as the base.
        self.cloner = cloner if spec.kind == "continual" else None
        self.base: Base | None = None  #: What was cloned, from then on.
        self.metrics = [(s.label(), m) for s, m in zip(spec.metrics, metrics, strict=True) if isinstance(m, Metric)]
        #: Replicas of one seed see one stream.
        self.streams: dict[int, Stream] = {
            seed: scenario.stream(seed, data=data, device=device) for seed in dict.fromkeys(s.seed for s in specs)
        }
        self.stream = self.streams[spec.seed]
        self.places = places(scenario, spec)
        self._begins = edges(scenario)
        self.switch = switch_step(scenario, spec)
        self.progress = _Progress()
        self.measurements = [Measurements() for _ in specs]
        self.diverged_at: list[int | None] = [None] * len(specs)
        #: What went wrong in measuring a replica.
        self.faults: list[str | None] = [None] * len(specs)
        #: Runs of these that are not recorded yet: others were, before the rest was stopped.
        self.wanted = sum(not record_path(results, each).exists() for each in specs)
        self._program: Program | None = None
        self._no_program = False  #: Whether steps are known to be none.
        self._block = 1  #: Most steps made ahead of the program's calls.
        self._partial = folder_of(results, specs)
        self._checkpoint, self._log = self._partial / CHECKPOINT, self._partial / LOG
        self._began = self._saved = time.perf_counter()
        self._interrupts: list[int] = []
        self._earlier_s = 0.0  #: Wall time of earlier sessions.

    # -- the whole run

    def execute(self) -> list[tuple[Outcome, Path]]:
        """Run to the end, resuming from a checkpoint if there is one, and publish the records.

        Returns:
            How each run ended and the directory of its record.

        Raises:
            ResultsError: If the results folder cannot be written to or its checkpoint is damaged.
            UnsupportedError: If a component cannot serve the others, or memory runs out.
            DataError: If the data set cannot feed the scenario.
        """
        make_folder(self.results, self.specs)
        self._began = self._saved = time.perf_counter()
        with _interrupts_put_off() as self._interrupts:
            ended = self._to_records()
        counts = Counter(outcome for outcome, _ in ended)
        one = len(ended) == 1
        status = ended[0][0] if len(counts) == 1 else ", ".join(f"{count} {each}" for each, count in counts.items())
        self.reporter.finished(group_label(self.specs), status, ended[0][1] if one else ended[0][1].parent)
        return ended

    def _to_records(self) -> list[tuple[Outcome, Path]]:
        try:
            outcome, failure = self._outcome()
        except LopbenchError:
            if not self._checkpoint.exists():
                shutil.rmtree(self._partial, ignore_errors=True)
            raise
        self._write_log(outcome + (f": {failure}" if failure else ""))
        if len(self.specs) > 1 and outcome == "completed":
            self._save()  # killed between two records, it has only to write the rest
        count = len(self.specs)
        where = environment.describe(self.device) | {"replicas": count, "steps": self.progress.how}
        cost = {
            # Its share of what the replicas took together.
            "wall_time_s": self._wall_time_s() / count,
            "train_time_s": self.progress.train_time_s / count,
            "steps": self._done,
            "peak_bytes": environment.peak_bytes(self.device),
            "state_bytes": (self.learner.state_bytes() if hasattr(self, "learner") else 0) // count,
            "started_utc": self.progress.started_utc,
            "sessions": self.progress.sessions,
        }
        ended = [
            self._publish(replica, *self._verdict(replica, outcome, failure), where=where, cost=cost)
            for replica in self._replicas
        ]
        shutil.rmtree(self._partial, ignore_errors=True)  # the records are out: what stays behind is only untidy
        return ended

    def _verdict(self, replica: int, outcome: Outcome, failure: str | None) -> tuple[Outcome, str | None]:
        """Return how one replica ended, which is as all did unless it had ended before."""
        step, fault = self.diverged_at[replica], self.faults[replica]
        if step is not None:
            return "diverged", _not_finite(step)
        return (outcome, failure) if fault is None else ("failed", fault)

    def _publish(
        self,
        replica: int,
        outcome: Outcome,
        failure: str | None,
        *,
        where: Mapping[str, object],
        cost: Mapping[str, object],
    ) -> tuple[Outcome, Path]:
        """Write the record of one replica, unless it is there."""
        spec = self.specs[replica]
        path = record_path(self.results, spec)
        if not path.exists():
            status = {"status": outcome, "error": failure, "diverged_at": self.diverged_at[replica], **cost}
            measured = self.measurements[replica]
            path = write_record(self.results, spec.to_json(), spec.run_id, where, status, measured, self._log)
        return outcome, path

    def _outcome(self) -> tuple[Outcome, str | None]:
        """Train to the end; returns how that went and what failed. Single replicas may have diverged.

        Raises:
            LopbenchError: If the fault is not the run's: there will be no record, and a checkpoint stays.
        """
        try:
            if self.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(self.device)
            with environment.numerics(self.spec.numerics, self.device):
                self._start()
                self._train()
        except _NoneLeftError:
            return self._verdict(-1, "failed", None)  # each has a verdict of its own
        except LopbenchError:
            raise
        except (MemoryError, torch.OutOfMemoryError) as error:
            # Says nothing about the method, and may end well elsewhere: no record, which would be for good.
            reason = str(error).partition(". ")[0]
            raise UnsupportedError(
                f"{group_label(self.specs)} does not fit into the memory of {self.device} ({reason}); make room, "
                "or choose another device or a smaller network."
            ) from error
        except Exception as error:
            self._write_log(_without_folders(traceback.format_exc()))
            return "failed", _told(error)
        return "completed", None

    def _start(self) -> None:
        """Make the learner, and bring it to where the checkpoint left it if there is one."""
        checkpoint = load_checkpoint(self._checkpoint)
        with self._fitting():
            if checkpoint is not None:
                self.progress = _Progress(**checkpoint[1]["progress"])
        progress = self.progress
        self._earlier_s = progress.wall_time_s
        progress.sessions += 1
        progress.started_utc = progress.started_utc or _now()
        self._write_log(f"session {progress.sessions} starts at task {self._place.task}, step {progress.step}")
        with self._fitting():
            if checkpoint is not None:
                self.diverged_at, self.faults = list(checkpoint[1]["diverged_at"]), list(checkpoint[1]["faults"])
        self.learner = self.new_learner()
        if self.cloner is not None and checkpoint is None:
            self._rehearse()
        with self._fitting():
            if checkpoint is not None:
                self._restore(checkpoint[0])
        steps, runs = sum(place.steps for place in self.places), self.wanted
        self.reporter.started(group_label(self.specs), steps * runs, self._done * runs, runs)

    def _wall_time_s(self) -> float:
        return self._earlier_s + time.perf_counter() - self._began

    @property
    def _done(self) -> int:
        """Number of steps taken."""
        return sum(place.steps for place in self.places[: self.progress.place]) + self.progress.step

    @property
    def _place(self) -> Place:
        return self.places[min(self.progress.place, len(self.places) - 1)]

    def _write_log(self, message: str) -> None:
        try:
            with self._log.open("a") as file:
                file.write(f"{_now()} {message}\n")
        except OSError as error:
            raise unwritable(self.results, error) from error

    @property
    def is_chunked(self) -> bool:
        """Whether a program can be fed: one takes the batches of many steps at once."""
        batches = self.stream.task(self._place.task).batches()
        # Batches of several sizes make no program yet.
        return self.cloner is None and isinstance(batches, ChunkedBatches) and len(batches.sizes) == 1

    @cached_property
    def example(self) -> Tensor:
        """A batch of the stream's inputs, ``(N, *input_shape)``."""
        return next(self.stream.task(self.places[0].task).batches())[0]

    def new_learner(self, *, clones: tuple[Sequence[nn.Module], Profile] | None = None) -> StackLearner:
        """Return a learner as it is before the task that the run has come to.

        Args:
            clones: Cloned networks to start from, and what is a clone of what in them.
        """

        def build(generator: torch.Generator) -> nn.Module:
            architecture = self.architecture if clones is None else self.architecture.widened(self._factor)
            return architecture.build(self.stream.input_shape, self.stream.outputs, generator=generator)

        return StackLearner(
            build=build,
            seeds=[spec.seed for spec in self.specs],
            methods=self.methods,
            optimizer=build_optimizer(self.spec.optimizer),
            rates=[spec.optimizer.fields["lr"] for spec in self.specs],
            reference_optimizer=build_optimizer(self.spec.reference_optimizer),
            example=self.example,
            tokens=self.stream.inputs == "tokens",
            outputs=self.stream.outputs,
            head=self.architecture.head,
            layers=self.architecture.layers,
            device=self.device,
            dtype=torch.float64 if self.spec.numerics.dtype == "float64" else torch.float32,
            init_index=self._place.origin,
            waiting=(self._begins[self._place.origin] if self.spec.kind == "fresh" else 0) < self.switch,
            clones=clones,
        )

    def turn_to_first(self) -> None:
        """Take up the first task without crossing a boundary, for a look at its steps."""
        self._turn_to(self._place.task)
        for learner in (self.learner,) if self.base is None else (self.base.learner, self.learner):
            learner.turn_to(self._place.task, self.tasks)

    def why_no_program(self) -> str | None:
        """Return why the steps of the learner cannot be a program, None if they can."""
        if not self.is_chunked:
            return "the batches of many steps cannot be had at once"
        return why_not(self.learner, self.tasks[0], self._first_batches())

    def _clone(self) -> None:
        """Put a clone in the learner's place; the learner goes on beside it."""
        self.base, self.learner = Base(self.learner), self._clone_of(self.learner)

    def _clone_of(self, learner: StackLearner) -> StackLearner:
        assert self.cloner is not None
        example = torch.zeros(2, *self.stream.input_shape, dtype=learner.dtype, device=self.device)
        generator = rng.derive(self.spec.seed, "clone")
        wide, profile = self.cloner.clone(learner.network.module, self._factor, example=example, generator=generator)
        return self.new_learner(clones=([wide], profile))

    def _rehearse(self) -> None:
        """Clone the learner and turn the methods on, for nothing, so that what cannot be is told before training.

        Raises:
            UnsupportedError: If the network cannot be cloned, or a method cannot serve the clone.
        """
        clone = self._clone_of(self.learner)
        clone.turn_on()
        if clone.nursery.has_rows:
            self.architecture.widened(self._factor)

    @property
    def _factor(self) -> int:
        """Clones of each unit."""
        return 1 if self.scenario.growth is None else self.scenario.growth.factor

    # -- training

    def _train(self) -> None:
        for place in self.places[self.progress.place :]:
            if self.progress.step == 0:
                self._begin_task(place)
            self._train_task(place)
            self._end_task(place)
            self.progress.place, self.progress.step = self.progress.place + 1, 0

    def _begin_task(self, place: Place) -> None:
        if place.new and self.progress.place:
            acted = bool(self.learner.hooks.acting)
            self.learner = self.new_learner()
            if bool(self.learner.hooks.acting) != acted:
                self._program = None  # it is one of other methods
        growth = self.scenario.growth
        cloning = self.cloner is not None and growth is not None and place.task == growth.task
        if cloning:
            self._clone()
            self._write_log(f"cloned by {self.spec.cloner and self.spec.cloner.label()}")
        self._turn_to(place.task)
        for learner in (self.learner,) if self.base is None else (self.base.learner, self.learner):
            learner.begin_task(
                place.task,
                self.tasks,
                first=place.new,
                reset_optimizer=self.scenario.optimizer_policy == "reset",
                zero_head=self.scenario.head_policy == "zero",
            )
        self._start_counting()
        if self.switch == place.first:
            self._turn_on()
        # Where all tasks are of one problem, the network was measured at the end of the last one.
        if place.measured and (place.new or cloning or growth is None):
            self._diagnose(place, 0)

    def _start_counting(self) -> None:
        """Make room for the losses and scores of a task's steps."""
        shape = (self._place.steps, len(self.specs))
        self.losses = torch.zeros(shape, dtype=torch.float64, device=self.device)
        self.scores = torch.zeros_like(self.losses)
        if self.base is not None:
            self.base.start_counting(self._place.steps)

    def _turn_to(self, index: int) -> None:
        """Take up the streams of task ``index``."""
        by_seed = {seed: stream.task(index) for seed, stream in self.streams.items()}
        self.batches = {seed: task.batches() for seed, task in by_seed.items()}
        self.tasks: list[Task] = [by_seed[spec.seed] for spec in self.specs]

    def _turn_on(self) -> None:
        """Let the methods act from now on, if they have waited."""
        if self.spec.kind == "continual" and self.switch:
            self.learner.turn_on()
            self.progress.on, self._program = True, None
            self._write_log(f"{self.spec.method_label}: on")

    def _train_task(self, place: Place) -> None:
        first, steps, every = place.first, place.steps, self.scenario.probe_every
        losses, scores = self.losses, self.scores
        looked, reported = time.perf_counter(), self.progress.step
        total = scores[:reported].sum(dim=0)
        self._check(losses[:reported], first)  # an interrupt does not wait for it
        while self.progress.step < steps:
            if self._program is None and self.is_chunked and not self._no_program:
                began = time.perf_counter()
                self._try_program()
                looked += time.perf_counter() - began  # it is no training time
            step = self.progress.step
            stops = [steps, *([step + every - step % every] if every else []), self.switch - first]
            count = min(stop for stop in stops if stop > step) - step
            loss, score = self._advance(count)
            self.progress.step = stop = step + len(loss)
            losses[step:stop], scores[step:stop] = loss, score
            if stop < steps and first + stop == self.switch:
                self._turn_on()
            diagnose = place.measured and every and stop % every == 0 and stop < steps
            now = time.perf_counter()
            if now - looked > LOOK_S or stop == steps or diagnose:
                self._check(losses[reported:stop], first + reported)
                now = time.perf_counter()  # the check has waited for the device
                self.progress.train_time_s += now - looked
                if not self._sound:
                    raise _NoneLeftError
                total += scores[reported:stop].sum(dim=0)
                mean = float(total[self._sound].mean()) / stop
                self.reporter.advanced((stop - reported) * self.wanted, place.task, self.scenario.tasks, mean)
                reported = stop
                if diagnose:
                    self._diagnose(place, stop)
                if now - self._saved > self.checkpoint_s:
                    self._save()
                looked = time.perf_counter()
            if self._interrupts:
                self._save()
                raise KeyboardInterrupt

    def _advance(self, count: int) -> tuple[Tensor, Tensor]:
        """Take up to ``count`` steps; returns loss and score of each, ``(steps, R)``."""
        if self._program is None:
            batches = {seed: next(stream) for seed, stream in self.batches.items()}
            if self.base is not None:
                self.base.step(self.progress.step, batches[self.spec.seed], self.tasks[0])
            taken = self.learner.step([batches[spec.seed] for spec in self.specs])
            return taken.losses.unsqueeze(0), taken.scores.unsqueeze(0)
        chunks = {seed: cast(ChunkedBatches, each).take(min(count, self._block)) for seed, each in self.batches.items()}
        inputs, targets = (
            torch.stack([chunks[spec.seed][0][part] for spec in self.specs], dim=1) for part in (0, 1)
        )  # (steps, R, N, ...)
        taken = self._program.advance(self.learner, [(inputs, targets)])
        return taken.losses, taken.scores

    def _try_program(self) -> None:
        """Let a program take the steps from here on, if they can be one."""
        try:
            self._program = self._new_program(compiled=self.is_long)
        except UnsupportedError as error:
            if len(self.specs) > 1:  # they are together for the sake of a program
                raise
            self._no_program = True
            self._write_log(f"steps one by one: {error}")
        else:
            self._write_log(f"a {self.progress.how} of {self._program.unroll} steps a call")

    @property
    def is_long(self) -> bool:
        """Whether the run is long enough to be worth a compiled program."""
        return sum(place.steps for place in self.places) >= COMPILE_STEPS

    def _new_program(self, *, compiled: bool) -> Program:
        """Return the program that takes the steps from here on."""
        replicas, name = len(self.specs), group_label(self.specs)
        batches = self._first_batches()
        # Where nothing is compiled, longer calls save nothing, and take longer to trace.
        per_call = unroll(self.scenario, self.spec) if compiled else 1
        samples = replicas * batches[0][0].shape[1]
        self._block = max(1, min(BLOCK_STEPS, BLOCK_SAMPLES // samples) // per_call) * per_call
        with _compiler() if compiled else nullcontext():
            program = Program(
                self.learner,
                self.tasks[0],
                batches,
                unroll=per_call,
                compiled=compiled,
                announce=lambda: self.reporter.note(f"{name}: compiling, about a minute where it was not done before"),
            )
        if program.compile_s:
            self.reporter.note(f"{name}: compiled in {program.compile_s:.0f} s")
        elif program.compile_error:
            self.reporter.note(f"{name}: no compiled program here, and so slower: {program.compile_error}")
        self.progress.how = "program" if program.compile_s is None else "compiled program"
        return program

    def _first_batches(self) -> list[tuple[Tensor, Tensor]]:
        """Return the first batch of the task for all replicas alike, ``(R, N, ...)``, for its shape."""
        batches = self.stream.task(self._place.task).batches()
        replicas = len(self.specs)
        return [
            (x.expand(replicas, *x.shape[1:]), y.expand(replicas, *y.shape[1:]))
            for x, y in cast(ChunkedBatches, batches).take(1)
        ]

    def _check(self, losses: Tensor, first: int) -> None:
        """Note which replicas have diverged; ``losses`` are those of the stream's steps from ``first`` on."""
        finite = losses.isfinite()
        if bool(finite.all()):
            return
        for replica in (~finite.all(dim=0)).nonzero().flatten().tolist():
            if replica in self._sound:
                self.diverged_at[replica] = first + int((~finite[:, replica]).nonzero()[0])
                if len(self.specs) > 1:
                    self._write_log(f"{label(self.specs[replica])}: diverged")

    @property
    def _sound(self) -> list[int]:
        """The replicas that are still measured."""
        return [r for r in self._replicas if self.diverged_at[r] is None and self.faults[r] is None]

    def _end_task(self, place: Place) -> None:
        if not place.measured:
            return
        step, index, kind = place.end, place.task, self.scenario.score
        losses, scores = self.losses.mean(dim=0), self.scores.mean(dim=0)
        for replica in self._sound:
            add, task = self.measurements[replica].add, self.tasks[replica]
            with self._fault_of(replica):
                add(step, index, "chance", task.chance)
                found = task_scores(self.learner, replica, task, losses=losses, scores=scores, kind=kind)
                for name, value in (*found, *(self.base.task_scores(task, kind) if self.base is not None else ())):
                    add(step, index, name, value)
        self._diagnose(place, place.steps)
        mean = float(scores[self._sound].mean())
        self._write_log(f"task {index}: online {kind} {mean:.4f}")

    def _diagnose(self, place: Place, done: int) -> None:
        """Measure the networks after ``done`` steps of a task."""
        step, index = place.first + done, place.task
        for replica in self._sound:
            add, task = self.measurements[replica].add, self.tasks[replica]
            with self._fault_of(replica):
                for name, layer, value in diagnostics(self.learner, replica, task, self.metrics):
                    add(step, index, name, value, layer)
                if self.base is not None:
                    for name, layer, value in self.base.diagnostics(done, task, self.metrics):
                        add(step, index, name, value, layer)

    @contextmanager
    def _fault_of(self, replica: int) -> Iterator[None]:
        """Let what goes wrong in measuring a replica end this replica only, if there are others."""
        try:
            yield
        except (LopbenchError, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            if self._sound == [replica]:
                raise
            self.faults[replica] = _told(error)
            self._write_log(f"{label(self.specs[replica])}: {_without_folders(traceback.format_exc())}")

    # -- checkpoints

    def _save(self) -> None:
        self.progress.wall_time_s = self._wall_time_s()
        tensors = {f"learner/{name}": value for name, value in self.learner.state_dict().items()}
        for seed, batches in self.batches.items():
            tensors.update({f"batches/{seed}/{name}": value for name, value in batches.state_dict().items()})
        tensors.update(losses=self.losses[: self.progress.step], scores=self.scores[: self.progress.step])
        if self.base is not None:
            tensors.update({f"base/{name}": value for name, value in self.base.state_dict().items()})
        for replica, measurements in enumerate(self.measurements):
            arrays = measurements.to_arrays()
            tensors.update({f"measurements/{replica}/{k}": torch.from_numpy(v) for k, v in arrays.items()})
        header = {"progress": vars(self.progress), "diverged_at": self.diverged_at, "faults": self.faults}
        save_checkpoint(self._checkpoint, tensors, header)
        self._saved = time.perf_counter()

    @contextmanager
    def _fitting(self) -> Iterator[None]:
        """Say what to do about a checkpoint that other code than this wrote."""
        try:
            yield
        except (LookupError, TypeError, ValueError, RuntimeError) as error:
            raise ResultsError(
                f"The checkpoint {self._checkpoint} is of other code than this ({type(error).__name__}: {error}); "
                "delete it to start that run from its beginning."
            ) from error

    def _restore(self, tensors: Mapping[str, Tensor]) -> None:
        place = self._place
        growth = self.scenario.growth
        if self.cloner is not None and growth is not None and place.task >= growth.task:
            self._clone()  # of other values, which are replaced
        if self.progress.on:
            self.learner.turn_on()
        self._turn_to(place.task)
        self.learner.begin_task(place.task, self.tasks, first=True, reset_optimizer=False, zero_head=False)
        self.learner.load_state_dict(part(tensors, "learner"))
        for seed, batches in self.batches.items():
            batches.load_state_dict(part(tensors, f"batches/{seed}"))
        self._start_counting()
        self.losses[: self.progress.step] = tensors["losses"].to(self.device)
        self.scores[: self.progress.step] = tensors["scores"].to(self.device)
        if self.base is not None:
            self.base.load_state_dict(part(tensors, "base"))
        for replica in range(len(self.specs)):
            arrays = {name: value.numpy() for name, value in part(tensors, f"measurements/{replica}").items()}
            self.measurements[replica] = Measurements.from_arrays(arrays)


@contextmanager
def _interrupts_put_off() -> Iterator[list[int]]:
    """Yield a list that fills when the user interrupts, so that the step in hand can be finished and saved.

    A second interrupt is not put off. Nothing changes outside the main thread, or where the program has its own way.
    """
    caught: list[int] = []
    usual = signal.default_int_handler
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is not usual:
        yield caught
        return

    def catch(number: int, frame: object) -> None:
        caught.append(number)
        signal.signal(signal.SIGINT, usual)

    signal.signal(signal.SIGINT, catch)
    try:
        yield caught
        if caught:  # after the last step: the run is done, those behind it are not
            raise KeyboardInterrupt
    finally:
        signal.signal(signal.SIGINT, usual)


def seconds_per_step(
    specs: Sequence[RunSpec], *, data: object, device: torch.device, limit_s: float = 0.5
) -> tuple[float, bool]:
    """Return the seconds that a step of ``specs``, all together, takes here, and whether it will be compiled.

    A throw-away learner takes steps of the first task for about ``limit_s`` seconds, the first ones not counted, batch
    preparation included. They are never compiled, and so take longer than those that will be. Nothing is written, and
    no run is changed by it.

    Raises:
        UnsupportedError: If a method cannot serve the architecture, or the architecture the scenario.
        DataError: If the data set cannot feed the scenario.
    """
    run = Run(specs, results=Path(), data=data, device=device)
    with environment.numerics(run.spec.numerics, device):
        run.learner = run.new_learner()
        if run.cloner is not None:
            run._clone()
            run.learner.turn_on()
        run.turn_to_first()
        run._start_counting()
        if run.is_chunked and run.why_no_program() is None:
            run._program = run._new_program(compiled=False)
        run._advance(_TIMED)[0].tolist()  # reading the loss waits for the device
        began, steps = time.perf_counter(), 0
        while time.perf_counter() - began < limit_s:
            steps += len(run._advance(_TIMED)[0].tolist())
        return (time.perf_counter() - began) / steps, run.is_long and run._program is not None


@contextmanager
def _compiler() -> Iterator[None]:
    """Keep what is compiled for other processes, and from the user what torch finds missing on the way."""
    cache_compiled(str(cache_directory() / "compiled"))
    logger = logging.getLogger("torch.utils.cpp_extension")  # where CUDA_HOME is set, it warns that there is no GPU
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _not_finite(step: int) -> str:
    return f"the loss was not finite at step {step}"


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _without_folders(trace: str) -> str:
    """Return a traceback whose files are named from where they are imported: records are published."""
    for folder in sorted(filter(None, sys.path), key=len, reverse=True):
        trace = trace.replace(f'File "{folder}{os.sep}', 'File "')
    return trace


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def methods_of(spec: RunSpec) -> list[Perturbation]:
    """Return the methods of a spec, built."""
    return [method for method in (each.build() for each in spec.methods) if isinstance(method, Perturbation)]
