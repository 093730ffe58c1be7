"""Runs a spec: trains through its tasks, measures, checkpoints, and publishes the record."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import filelock
import torch
from torch import Tensor

from lopbench.core.errors import LopbenchError, ResultsError, UnsupportedError
from lopbench.core.interfaces import Architecture, Metric, Perturbation, Scenario, Stream
from lopbench.core.spec import RunSpec
from lopbench.learner.learner import StackLearner
from lopbench.results.record import Measurements, Outcome, record_path, write_record
from lopbench.runner import environment
from lopbench.runner.checkpoint import load_checkpoint, save_checkpoint

#: Seconds between looks at the clock's consequences: progress, divergence, checkpoint. It changes no number.
LOOK_S = 0.25


class Reporter(Protocol):
    """Is told how runs go."""

    def started(self, label: str, steps: int, done: int) -> None:
        """Say that a run of ``steps`` steps starts, or resumes after ``done`` of them."""

    def advanced(self, steps: int, task: int, tasks: int, score: float) -> None:
        """Say that ``steps`` more were taken; ``score`` is the online score of the current task so far."""

    def finished(self, label: str, status: str, path: Path) -> None:
        """Say that a run ended and where its record is."""

    def note(self, message: str) -> None:
        """Pass on a message."""


class Quiet:
    """A reporter that says nothing."""

    def started(self, label: str, steps: int, done: int) -> None:
        """Say nothing."""

    def advanced(self, steps: int, task: int, tasks: int, score: float) -> None:
        """Say nothing."""

    def finished(self, label: str, status: str, path: Path) -> None:
        """Say nothing."""

    def note(self, message: str) -> None:
        """Say nothing."""


class _DivergedError(Exception):
    """The loss of the run is no longer finite."""

    def __init__(self, step: int) -> None:
        super().__init__(f"the loss was not finite at step {step}")
        self.step = step


@dataclass
class _Progress:
    """Where the run stands; with the tensors of the learner, all that a checkpoint holds."""

    place: int = 0  #: Index into the sequence of tasks.
    step: int = 0  #: Steps taken in this task.
    train_time_s: float = 0.0
    wall_time_s: float = 0.0
    sessions: int = 0
    started_utc: str = ""


def label(spec: RunSpec) -> str:
    """Return what people call the run."""
    text = f"{spec.method_label}, {spec.architecture_label}, seed {spec.seed}"
    if spec.kind == "continual":
        return text
    return f"fresh reference of {text}" if spec == spec.reference() else f"from fresh: {text}"


class Run:
    """One run of one spec in a results folder.

    Args:
        spec: What to run.
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
        spec: RunSpec,
        *,
        results: Path,
        data: object,
        device: torch.device,
        reporter: Reporter | None = None,
        checkpoint_s: float = 10.0,
    ) -> None:
        self.spec = spec
        self.results = results
        self.device = device
        self.reporter = reporter or Quiet()
        self.checkpoint_s = checkpoint_s
        scenario, architecture = spec.scenario.build(), spec.architecture.build()
        methods = [method.build() for method in spec.methods]
        metrics = [metric.build() for metric in spec.metrics]
        assert isinstance(scenario, Scenario)
        assert isinstance(architecture, Architecture)
        self.scenario = scenario
        self.architecture = architecture
        self.methods = [m for m in methods if isinstance(m, Perturbation)]
        self.metrics = [(s.label(), m) for s, m in zip(spec.metrics, metrics, strict=True) if isinstance(m, Metric)]
        self.stream: Stream = scenario.stream(spec.seed, data=data, device=device)
        self.places = list(scenario.late_tasks if spec.kind == "fresh" else range(scenario.tasks))
        self.progress = _Progress()
        self.measurements = Measurements()
        self._partial = results / ".partial" / spec.run_id
        self._checkpoint = self._partial / "checkpoint.safetensors"
        self._log = self._partial / "log.txt"
        self._began = self._saved = time.perf_counter()
        self._interrupts: list[int] = []
        self._earlier_s = 0.0  #: Wall time of earlier sessions.

    # -- the whole run

    def execute(self) -> tuple[Outcome, Path]:
        """Run to the end, resuming from a checkpoint if there is one, and publish the record.

        Returns:
            How the run ended and the directory of its record.

        Raises:
            ResultsError: If the results folder cannot be written to or its checkpoint is damaged.
            UnsupportedError: If a component cannot serve the others, or memory runs out.
            DataError: If the data set cannot feed the scenario.
        """
        try:
            self._partial.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(self.results, error) from error
        self._began = self._saved = time.perf_counter()
        with _interrupts_put_off() as self._interrupts:
            outcome, path = self._to_record()
        self.reporter.finished(label(self.spec), outcome, path)
        return outcome, path

    def _to_record(self) -> tuple[Outcome, Path]:
        try:
            outcome, failure, diverged_at = self._outcome()
        except LopbenchError:
            if not self._checkpoint.exists():
                shutil.rmtree(self._partial, ignore_errors=True)
            raise
        self._write_log(outcome + (f": {failure}" if failure else ""))
        path = write_record(
            self.results,
            self.spec.to_json(),
            self.spec.run_id,
            environment.describe(self.device),
            {
                "status": outcome,
                "error": failure,
                "wall_time_s": self._wall_time_s(),
                "train_time_s": self.progress.train_time_s,
                "steps": self.progress.place * self.scenario.steps_per_task + self.progress.step,
                "peak_bytes": environment.peak_bytes(self.device),
                "state_bytes": self.learner.state_bytes() if hasattr(self, "learner") else 0,
                "started_utc": self.progress.started_utc,
                "sessions": self.progress.sessions,
                "diverged_at": diverged_at,
            },
            self.measurements,
            self._log,
        )
        shutil.rmtree(self._partial, ignore_errors=True)  # the record is out: what stays behind is only untidy
        return outcome, path

    def _outcome(self) -> tuple[Outcome, str | None, int | None]:
        """Train to the end; returns how that went, what failed, and the step at which the loss stopped being finite.

        Raises:
            LopbenchError: If the fault is not the run's: there will be no record, and a checkpoint stays.
        """
        try:
            if self.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(self.device)
            with environment.numerics(self.spec.numerics, self.device):
                self._start()
                self._train()
        except _DivergedError as error:
            return "diverged", str(error), error.step
        except LopbenchError:
            raise
        except (MemoryError, torch.OutOfMemoryError) as error:
            # Says nothing about the method, and may end well elsewhere: no record, which would be for good.
            raise UnsupportedError(
                f"{label(self.spec)} does not fit into the memory of {self.device} ({str(error).partition('. ')[0]}); "
                "make room, or choose another device or a smaller network."
            ) from error
        except Exception as error:
            self._write_log(_without_folders(traceback.format_exc()))
            return "failed", f"{type(error).__name__}: {error}", None
        return "completed", None, None

    def _start(self) -> None:
        """Make the learner, and bring it to where the checkpoint left it if there is one."""
        checkpoint = load_checkpoint(self._checkpoint)
        with self._fitting():
            if checkpoint is not None:
                self.progress = _Progress(**checkpoint[1]["progress"])
        progress, steps = self.progress, self.scenario.steps_per_task
        self._earlier_s = progress.wall_time_s
        progress.sessions += 1
        progress.started_utc = progress.started_utc or _now()
        self._write_log(f"session {progress.sessions} starts at task {self._task_index}, step {progress.step}")
        self.learner = self._new_learner()
        with self._fitting():
            if checkpoint is not None:
                self._restore(checkpoint[0])
        done = progress.place * steps + progress.step
        self.reporter.started(label(self.spec), len(self.places) * steps, done)

    def _wall_time_s(self) -> float:
        return self._earlier_s + time.perf_counter() - self._began

    @property
    def _task_index(self) -> int:
        return self.places[min(self.progress.place, len(self.places) - 1)]

    def _write_log(self, message: str) -> None:
        try:
            with self._log.open("a") as file:
                file.write(f"{_now()} {message}\n")
        except OSError as error:
            raise _unwritable(self.results, error) from error

    def _new_learner(self) -> StackLearner:
        """Return a learner as it is before the task that the run has come to."""
        fresh = self.spec.kind == "fresh"
        return StackLearner(
            build=lambda generator: self.architecture.build(
                self.stream.input_shape, self.stream.outputs, generator=generator
            ),
            seeds=[self.spec.seed],
            methods=self.methods,
            optimizer=self.spec.optimizer,
            reference_optimizer=self.spec.reference_optimizer,
            input_shape=self.stream.input_shape,
            outputs=self.stream.outputs,
            layers=self.architecture.layers,
            device=self.device,
            dtype=torch.float64 if self.spec.numerics.dtype == "float64" else torch.float32,
            init_index=self._task_index if fresh else 0,
        )

    # -- training

    def _train(self) -> None:
        steps = self.scenario.steps_per_task
        for place in range(self.progress.place, len(self.places)):
            index = self.places[place]
            if self.progress.step == 0:
                self._begin_task(place, index)
            self._train_task(index)
            self._end_task(index, (index + 1) * steps)
            self.progress.place, self.progress.step = place + 1, 0

    def _begin_task(self, place: int, index: int) -> None:
        if self.spec.kind == "fresh" and place:
            self.learner = self._new_learner()
        self.task = self.stream.task(index)
        self.learner.begin_task(
            index,
            first=place == 0 or self.spec.kind == "fresh",
            reset_optimizer=self.scenario.optimizer_policy == "reset",
            zero_head=self.scenario.head_policy == "zero",
        )
        self.batches = self.task.batches()
        self.losses, self.scores = self._empty_curves()
        self._diagnose(index, index * self.scenario.steps_per_task)

    def _empty_curves(self) -> tuple[Tensor, Tensor]:
        shape = (self.scenario.steps_per_task, 1)
        losses = torch.zeros(shape, dtype=torch.float64, device=self.device)
        return losses, torch.zeros_like(losses)

    def _train_task(self, index: int) -> None:
        steps, every = self.scenario.steps_per_task, self.scenario.probe_every
        learner, batches, tasks = self.learner, self.batches, [self.task]
        losses, scores = self.losses, self.scores
        looked, reported = time.perf_counter(), self.progress.step
        while self.progress.step < steps:
            step = self.progress.step
            loss, score = learner.step([next(batches)], tasks)
            losses[step], scores[step] = loss, score
            self.progress.step = step = step + 1
            diagnose = every and step % every == 0 and step < steps
            now = time.perf_counter()
            if now - looked > LOOK_S or step == steps or diagnose:
                finite = losses[:step].isfinite().all(dim=1)
                diverged = not bool(finite.all())
                now = time.perf_counter()  # the check has waited for the device
                self.progress.train_time_s += now - looked
                if diverged:
                    raise _DivergedError(index * steps + int((~finite).nonzero()[0]))
                self.reporter.advanced(step - reported, index, self.scenario.tasks, float(scores[:step].mean()))
                reported = step
                if diagnose:
                    self._diagnose(index, index * steps + step)
                if now - self._saved > self.checkpoint_s:
                    self._save()
                looked = time.perf_counter()
            if self._interrupts:
                self._save()
                raise KeyboardInterrupt

    def _end_task(self, index: int, step: int) -> None:
        add = self.measurements.add
        add(step, index, "chance", self.task.chance)
        add(step, index, "online_accuracy", float(self.scores.mean()))
        add(step, index, "online_loss", float(self.losses.mean()))
        for name, value in self.learner.evaluate(0, self.task).items():
            add(step, index, name, value)
        self._diagnose(index, step)
        self._write_log(f"task {index}: online accuracy {float(self.scores.mean()):.4f}")

    def _diagnose(self, index: int, step: int) -> None:
        if not self.metrics:
            return
        probe = self.learner.probe(0, self.task)
        for name, metric in self.metrics:
            if metric.scope == "network":
                self.measurements.add(step, index, name, metric.compute(probe))
            else:
                for layer in probe.layers:
                    self.measurements.add(step, index, name, metric.compute(layer), layer.name)

    # -- checkpoints

    def _save(self) -> None:
        self.progress.wall_time_s = self._wall_time_s()
        tensors = {f"learner/{name}": value for name, value in self.learner.state_dict().items()}
        tensors.update({f"batches/{name}": value for name, value in self.batches.state_dict().items()})
        tensors.update(losses=self.losses, scores=self.scores)
        arrays = self.measurements.to_arrays()
        tensors.update({f"measurements/{name}": torch.from_numpy(column) for name, column in arrays.items()})
        save_checkpoint(self._checkpoint, tensors, {"progress": vars(self.progress)})
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
        index = self._task_index
        self.task = self.stream.task(index)
        self.learner.begin_task(index, first=True, reset_optimizer=False, zero_head=False)
        self.learner.load_state_dict(_part(tensors, "learner"))
        self.batches = self.task.batches()
        self.batches.load_state_dict(_part(tensors, "batches"))
        self.losses, self.scores = tensors["losses"].to(self.device), tensors["scores"].to(self.device)
        arrays = {name: value.numpy() for name, value in _part(tensors, "measurements").items()}
        self.measurements = Measurements.from_arrays(arrays)


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


def seconds_per_step(spec: RunSpec, *, data: object, device: torch.device, limit_s: float = 0.5) -> float:
    """Return the seconds that a training step of ``spec`` takes here, batch preparation included.

    A throw-away learner takes steps of the first task for about ``limit_s`` seconds, the first one not counted.
    Nothing is written, and no run is changed by it.

    Raises:
        UnsupportedError: If a method cannot serve the architecture, or the architecture the scenario.
        DataError: If the data set cannot feed the scenario.
    """
    run = Run(spec, results=Path(), data=data, device=device)
    with environment.numerics(spec.numerics, device):
        learner, task = run._new_learner(), run.stream.task(0)
        batches = task.batches()
        learner.step([next(batches)], [task])[0].tolist()  # reading the loss waits for the device
        began, steps = time.perf_counter(), 0
        while time.perf_counter() - began < limit_s:
            learner.step([next(batches)], [task])[0].tolist()
            steps += 1
        return (time.perf_counter() - began) / steps


def _without_folders(trace: str) -> str:
    """Return a traceback whose files are named from where they are imported: records are published."""
    for folder in sorted(filter(None, sys.path), key=len, reverse=True):
        trace = trace.replace(f'File "{folder}{os.sep}', 'File "')
    return trace


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _unwritable(results: Path, error: OSError) -> ResultsError:
    return ResultsError(
        f"The results folder {results} cannot be written to: {error.strerror or error}. Make room or choose another "
        "with --results, then run the same command again."
    )


def _part(tensors: Mapping[str, Tensor], section: str) -> dict[str, Tensor]:
    prefix = section + "/"
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


@contextmanager
def claimed(results: Path, spec: RunSpec, reporter: Reporter) -> Iterator[bool]:
    """Hold the run of ``spec`` against other processes; yields False if its record is there already.

    Raises:
        ResultsError: If the folder cannot be written to.
    """
    if record_path(results, spec).exists():
        yield False
        return
    folder = results / ".partial"
    path = folder / f"{spec.run_id}.lock"
    lock = filelock.FileLock(path)
    try:
        try:
            _acquire(lock, folder, blocking=False)
        except filelock.Timeout:
            reporter.note(f"waiting for another process to finish {label(spec)}")
            _acquire(lock, folder, blocking=True)
    except OSError as error:
        raise _unwritable(results, error) from error
    try:
        yield not record_path(results, spec).exists()
    finally:
        with suppress(OSError):
            # Without a checkpoint beside it the run is over, and no two processes can be at it again.
            if not (folder / spec.run_id).exists():
                path.unlink()
        lock.release()
        with suppress(OSError):
            folder.rmdir()  # if it is empty


def _acquire(lock: filelock.BaseFileLock, folder: Path, *, blocking: bool) -> None:
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(blocking=blocking)
        except FileNotFoundError:  # another process has just removed the empty folder
            continue
        return


def execute(
    specs: Sequence[RunSpec],
    *,
    results: Path,
    data: object,
    device: torch.device,
    reporter: Reporter | None = None,
    checkpoint_s: float = 10.0,
) -> list[tuple[RunSpec, str]]:
    """Run every spec that has no record yet; one failure never stops the rest.

    A fresh reference that only runs which could not be done would have used is left out.

    Returns:
        The specs that could not be run, each with the reason.

    Raises:
        ResultsError: If the results folder cannot be written to.
    """
    reporter = reporter or Quiet()
    refused: list[tuple[RunSpec, str]] = []
    learners = [spec for spec in specs if spec.kind == "continual"]
    for spec in specs:
        users = [run for run in learners if spec in (run.reference(), run.own_reference())]
        if users and all(run in [other for other, _ in refused] for run in users):
            continue
        with claimed(results, spec, reporter) as free:
            if not free:
                continue
            try:
                Run(
                    spec, results=results, data=data, device=device, reporter=reporter, checkpoint_s=checkpoint_s
                ).execute()
            except ResultsError:
                raise
            except LopbenchError as error:
                refused.append((spec, str(error)))
                reporter.note(f"{label(spec)}: {error}")
    return refused
