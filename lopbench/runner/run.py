"""Runs a spec to its record, however it ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from lopbench.core.errors import LopbenchError, UnsupportedError
from lopbench.core.guard import left_alone
from lopbench.core.interfaces import Sink
from lopbench.core.spec import RunSpec
from lopbench.results.idle import Idle, idle_sentences
from lopbench.results.record import Outcome
from lopbench.runner import environment, interrupts
from lopbench.runner.course import Course, NoneLeftError
from lopbench.runner.idle import idle_methods
from lopbench.runner.members import is_ours, is_shortage, told, trace_of
from lopbench.runner.report import Quiet, Reporter, group_label
from lopbench.runner.session import PublishedError, Session, TakenOverError
from lopbench.runner.setting import Setting
from lopbench.runner.sinks import Sinks
from lopbench.runner.survival import is_own


class Run:
    """The runs of one spec, or of several that are replicas of one program, in a results folder.

    Args:
        specs: What to run; several differ in nothing but seed, learning rate and swept fields of their methods.
        results: Results folder.
        data: The data set of the scenario, loaded.
        device: Where to train.
        reporter: Is told how it goes.
        checkpoint_s: Seconds between checkpoints.
        sinks: Are told what is measured, as it is.
        is_held: Whether no other process has taken the runs over.

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
        sinks: Sequence[Sink] = (),
        is_held: Callable[[], bool] = lambda: True,
    ) -> None:
        self.specs = tuple(specs)
        #: Whether code of others takes part, which may replace code.
        self._has_others = not is_own(specs[0], *sinks)
        with environment.numerics(specs[0].numerics, device), left_alone(_who(specs[0]), code=self._has_others):
            self.setting = Setting.of(specs, data=data, device=device)
        #: What runs, as it is now: files may be edited until the end.
        self._where = environment.describe(device) | environment.origins(self.setting.spec)
        self._reporter = reporter or Quiet()
        self._session = Session(specs, results, reporter=self._reporter, checkpoint_s=checkpoint_s, is_held=is_held)
        self._sinks = Sinks(sinks, specs, results, reporter=self._reporter)
        self._course = Course(self.setting, self._session, results, reporter=self._reporter, sinks=self._sinks)

    def execute(self) -> list[tuple[Outcome, Path]]:
        """Run to the end, resuming from a checkpoint if there is one, and publish the records.

        Returns:
            How each run ended and the directory of its record.

        Raises:
            ResultsError: If the results folder cannot be written to.
            UnsupportedError: If a component cannot serve the others, or memory or disk space runs out.
            TakenOverError: If another process has taken the run over.
            DataError: If the data set cannot feed the scenario.
        """
        self._session.open()
        with interrupts.put_off() as self._course.interrupted, self._sinks:
            try:
                ended = self._to_records()
            except PublishedError:
                ended = self._course.members.published()
            except TakenOverError:
                if self._course.interrupted:  # which would be lost: what was taken over is not all there is to do
                    raise KeyboardInterrupt from None
                raise
            except LopbenchError:
                self._session.abandon()
                raise
            self._session.close()
            self._sinks.close([outcome for outcome, _ in ended])
        counts = Counter(outcome for outcome, _ in ended)
        status = ended[0][0] if len(counts) == 1 else ", ".join(f"{count} {each}" for each, count in counts.items())
        path = ended[0][1] if len(ended) == 1 else ended[0][1].parent
        self._reporter.finished(group_label(self.specs), status, path)
        return ended

    def _to_records(self) -> list[tuple[Outcome, Path]]:
        outcome, failure = self._outcome()
        session, course, count = self._session, self._course, len(self.specs)
        session.log(outcome + (f": {failure}" if failure else ""))
        if count > 1 and outcome == "completed":
            course.save()  # killed between two records, it has only to write the rest
        training = course.training
        cost = {
            # Its share of what the replicas took together.
            "wall_time_s": session.wall_time_s / count,
            "train_time_s": session.clock.train_time_s / count,
            "steps": course.steps,
            "peak_bytes": environment.peak_bytes(self.setting.device),
            "state_bytes": 0 if training is None else training.learner.learner.state_bytes() // count,
            "started_utc": session.clock.started_utc,
            "sessions": session.clock.sessions,
        }
        session.check()
        where = {**self._where, "replicas": count, "steps": course.how}
        idle = self._tell_of_idle() if outcome == "completed" else None
        return course.members.publish(outcome, failure, environment=where, cost=cost, idle=idle, log=session.log_file)

    def _tell_of_idle(self) -> list[Idle | None] | None:
        """Return why each method changed nothing, and tell of it; None for fresh networks, which live for a task."""
        training, spec = self._course.training, self.setting.spec
        if training is None or spec.kind != "continual":
            return None
        idle = idle_methods(training.learner.learner, self.setting.schedule)
        for sentence in idle_sentences(spec, idle):
            self._session.log(sentence)
            self._reporter.note(f"{group_label(self.specs)}: {sentence}")
        return idle

    def _outcome(self) -> tuple[Outcome, str | None]:
        """Train to the end; returns how that went and what failed. Single replicas may have diverged.

        Raises:
            LopbenchError: If the fault is not the run's: there will be no record, and a checkpoint stays.
        """
        try:
            if self.setting.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(self.setting.device)
            with (
                environment.numerics(self.setting.spec.numerics, self.setting.device),
                left_alone(_who(self.setting.spec), code=self._has_others),
            ):
                if not self._train():
                    return self._course.members.verdict(-1, "failed", None)  # each has a verdict of its own
        except (LopbenchError, PublishedError, TakenOverError, KeyboardInterrupt):
            raise
        except BaseException as error:  # a plugin may raise anything, and ends its own run at most
            if is_shortage(error):
                raise self._short(error) from error
            if is_ours(error):
                raise UnsupportedError(
                    f"{group_label(self.specs)} cannot be run, and that is a fault of lopbench ({told(error)}); "
                    "please report it"
                ) from error
            self._session.log(trace_of(error))
            return "failed", told(error)
        return "completed", None

    def _train(self) -> bool:
        """Train to the end; returns False if all replicas have diverged or failed before."""
        try:
            self._course.start()
            self._course.train()
        except NoneLeftError:
            return False
        return True

    def _short(self, error: BaseException) -> UnsupportedError:
        # Says nothing about the method, and may end well elsewhere: no record, which would be for good.
        reason = str(error).partition(". ")[0].partition("\n")[0]
        return UnsupportedError(
            f"{group_label(self.specs)} does not fit into the memory of {self.setting.device}, or into another limit "
            f"of this machine ({reason}); make room, or choose another device or a smaller network."
        )


def _who(spec: RunSpec) -> str:
    """Return what a run is of, as sentences about what it left changed begin."""
    used = (spec.scenario, spec.architecture, spec.optimizer, *spec.metrics)
    others = [each.name for each in used if each.origin != "lopbench"]
    beside = f" (or {', '.join(others)}, which it uses)" if others else ""
    return f"method {spec.method_label!r}{beside}: "
