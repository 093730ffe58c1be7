"""The course of a run: from its beginning or a checkpoint, task after task, to the end of its schedule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lopbench.core.errors import LopbenchError
from lopbench.runner.checkpoint import Checkpoint, part
from lopbench.runner.members import Members, is_shortage, told
from lopbench.runner.programs import ONE_BY_ONE
from lopbench.runner.report import Reporter, group_label
from lopbench.runner.schedule import Place
from lopbench.runner.session import Clock, Session
from lopbench.runner.setting import Setting
from lopbench.runner.sinks import Sinks
from lopbench.runner.training import Training


class NoneLeftError(Exception):
    """No replica is measured any more."""


class _UnfitError(Exception):
    """A checkpoint that other code than this wrote."""


class Course:
    """Trains and measures the runs of a setting, and saves how far they are.

    Args:
        setting: What is run.
        session: Keeps checkpoints, log and clock.
        results: Results folder.
        reporter: Is told how it goes.
        sinks: Are told what is measured.
    """

    def __init__(self, setting: Setting, session: Session, results: Path, *, reporter: Reporter, sinks: Sinks) -> None:
        self.members = Members(setting.specs, results, log=session.log)
        self.training: Training | None = None
        #: Fills when the user interrupts.
        self.interrupted: Sequence[int] = ()
        self._setting = setting
        self._schedule = setting.schedule
        self._session = session
        self._results = results
        self._reporter = reporter
        self._sinks = sinks
        self._index = 0  #: Place of the current task in the schedule.

    @property
    def steps(self) -> int:
        """Steps taken."""
        within = self.training is not None and self._index < len(self._schedule.places)
        return self._schedule.steps_before(self._index) + (self._current.learner.done if within else 0)

    @property
    def how(self) -> str:
        """How steps are taken."""
        return ONE_BY_ONE if self.training is None else self.training.programs.how

    @property
    def _current(self) -> Training:
        assert self.training is not None
        return self.training

    @property
    def _place(self) -> Place:
        return self._schedule.places[min(self._index, len(self._schedule.places) - 1)]

    @property
    def _where(self) -> str:
        """The current task, as `lopbench.runner.status` reads it in the log."""
        return f"task {self._place.task} of {self._setting.scenario.tasks}"

    # -- from the beginning, or from a checkpoint

    def start(self) -> None:
        """Make the networks, and bring them to where the furthest checkpoint left them, if there is one."""
        checkpoint = self._session.load()
        if checkpoint is not None:
            try:
                self._resume(checkpoint)
            except _UnfitError as error:
                self._session.set_aside(checkpoint.path, str(error))
                checkpoint = None
        if checkpoint is None:
            self.members = Members(self._setting.specs, self._results, log=self._session.log)
            self._index = 0
            self._session.begin(f"{self._where}, step 0", Clock())
            self.training = self._new_training()
            if self._setting.cloner is not None:
                self._setting.rehearse(self.training.learner.learner, self._place)
        runs = self.members.wanted
        self._reporter.started(
            group_label(self._setting.specs),
            self._schedule.steps * runs,
            self.steps * runs,
            runs,
            self._setting.scenario.score,
        )
        within = self._place.steps if self._index == len(self._schedule.places) else self._current.learner.done
        self._sinks.open(self.members.measurements, self._place.first + within if self.steps else 0)

    def _new_training(self) -> Training:
        return Training(self._setting, self._place, reporter=self._reporter, log=self._session.log)

    def _resume(self, checkpoint: Checkpoint) -> None:
        header, tensors = checkpoint.header, checkpoint.tensors
        with _fitting():
            self._index, step = int(header["place"]), int(header["step"])
            clock = Clock(**header["clock"])
            self.members.load(header["members"], part(tensors, "members"))
        self._session.begin(f"{self._where}, step {step}", clock)
        self.training = self._new_training()
        self.training.programs.how = header["how"]
        done = self._index == len(self._schedule.places)  # killed between two records of a group
        at = self._place.steps if done else step
        self.training.load_state_dict(part(tensors, "training"), self._place, at, _fitting())

    def save(self) -> None:
        """Write a checkpoint.

        Raises:
            PublishedError: If the runs are recorded by now.
            TakenOverError: If another process has taken the runs over.
            ResultsError: If it cannot be written.
        """
        tensors = {f"training/{name}": value for name, value in self._current.state_dict().items()}
        tensors.update({f"members/{name}": value for name, value in self.members.state_dict().items()})
        step, members = self._current.learner.done, self.members.to_json()
        header = {"place": self._index, "step": step, "how": self.how, "members": members}
        self._session.save(self.steps, tensors, header)

    # -- training

    def train(self) -> None:
        """Go through the rest of the schedule.

        Raises:
            NoneLeftError: If all replicas have diverged or failed.
        """
        for place in self._schedule.places[self._index :]:
            if self._current.learner.done == 0:
                self._current.begin(place, born=self._index == 0)
                if self._schedule.probed(place, 0):
                    self._diagnose(place)
            self._train_task(place)
            self._end_task(place)
            self._index += 1
            self._current.learner.start_counting(0)

    def _train_task(self, place: Place) -> None:
        """Take the steps of a task that are left; now and then see how it goes, and save."""
        training, session, schedule = self._current, self._session, self._schedule
        learner, seen = training.learner, training.learner.done
        self.members.check(learner.losses, place.first)  # an interrupt does not wait for it
        training.prepare()
        session.train()
        while learner.done < place.steps:
            training.advance(schedule.stretch(place, learner.done))
            step = learner.done
            training.follow(place, step)
            if schedule.turns_on(place, step):
                session.trained()
                training.turn_on()
                training.prepare()
                session.train()
            diagnose = step < place.steps and schedule.probed(place, step)
            if session.is_time_to_look or step == place.steps or diagnose or place.validated(step):
                self._look(place, seen)
                seen = step
                if diagnose:
                    self._diagnose(place)
                if place.validated(step):
                    self._validate()
                if session.is_time_to_save:
                    self.save()
                session.train()
            if self.interrupted:
                self.save()
                raise KeyboardInterrupt

    def _validate(self) -> None:
        """Validate the networks as they are now."""
        for replica in self.members.sound:
            with self.members.fault_of(replica):
                self._current.validate(replica)

    def _look(self, place: Place, since: int) -> None:
        """Note what has diverged in the steps of a task from ``since`` on, and report how it goes."""
        learner, members = self._current.learner, self.members
        members.check(learner.losses[since:], place.first + since)  # waits for the device
        self._session.trained()
        if not members.sound:
            raise NoneLeftError
        score = float(learner.score_so_far()[members.sound].mean())
        tasks = self._setting.scenario.tasks
        self._reporter.advanced((learner.done - since) * members.wanted, place.task, tasks, score)

    # -- measuring

    def _end_task(self, place: Place) -> None:
        training, members = self._current, self.members
        training.keep_best()
        if place.last:  # no later loss would show it
            members.check_weights(training.learner.finite(), place.end)
            if not members.sound:
                raise NoneLeftError
        if not place.measured:
            return
        for replica in members.sound:
            with members.fault_of(replica):
                for name, value in training.scores(replica):
                    members.measurements[replica].add(place.end, place.task, name, value)
        self._diagnose(place)
        _, scores = training.learner.means
        kind = self._setting.scenario.score
        self._session.log(f"{self._where}: online {kind} {float(scores[members.sound].mean()):.4f}")

    def _diagnose(self, place: Place) -> None:
        """Measure the networks as they are now."""
        training, members = self._current, self.members
        step, reports = place.first + training.learner.done, training.learner.reports()
        seen = training.see_together()
        for replica in members.sound:
            add = members.measurements[replica].add
            with members.fault_of(replica):
                for name, layer, value in training.diagnostics(replica, seen):
                    add(step, place.task, name, value, layer)
            for name, values in reports.items():
                add(step, place.task, name, values[replica])
        self._sinks.tell()


@contextmanager
def _fitting() -> Iterator[None]:
    """Tell a checkpoint that other code than this wrote from faults of the run.

    Raises:
        _UnfitError: If what is in it is not what belongs there.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, RuntimeError, AssertionError) as error:
        if isinstance(error, LopbenchError) or is_shortage(error):
            raise
        raise _UnfitError(f"it is of other code than this: {told(error)}") from error
