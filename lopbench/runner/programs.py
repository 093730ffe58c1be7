"""Has the steps of a learner taken by programs, where they can be one."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from lopbench.core.errors import UnsupportedError
from lopbench.learner.compiling import cache_compiled
from lopbench.learner.program import Program, why_not
from lopbench.runner.feed import Feed
from lopbench.runner.report import Reporter, group_label
from lopbench.runner.schedule import MAX_UNROLL
from lopbench.runner.scored import ScoredLearner
from lopbench.runner.setting import Setting
from lopbench.runner.shape import compiled_folder, mark
from lopbench.runner.worth import Work, work

#: Most samples, of all replicas together, most bytes of them as they are stored, and most steps, that are made ahead of
#: a program's calls. Measured on 16 seeds of permuted MNIST at batch 16, cores with caches of 2 MiB: making a batch of
#: 8-bit images takes 11 us where 4 to 16 MiB are made at once, and 20 us where it is 64; a step with it takes 99 us at
#: 8 and 10 MiB, and 102 us at 4 and 16.
BLOCK_SAMPLES, BLOCK_BYTES, BLOCK_STEPS = 200_000, 8 * 2**20, 2_000

ONE_BY_ONE = "one by one"


class Programs:
    """The program that takes the steps of a learner, made when it is first needed.

    Args:
        setting: What is run.
        reporter: Is told of compiling.
    """

    def __init__(self, setting: Setting, reporter: Reporter) -> None:
        self._setting = setting
        self._reporter = reporter
        self._program: Program | None = None
        self._sought = False
        self._periods = 1  #: Most periods made ahead of the program's calls.
        #: How steps are taken: it can change the last digits.
        self.how = ONE_BY_ONE

    @property
    def is_made(self) -> bool:
        """Whether a program takes the steps."""
        return self._program is not None

    def work(self, scored: ScoredLearner, feed: Feed, *, replicas: int | None = None) -> Work:
        """Return what the steps are, of ``replicas`` replicas or of those that there are."""
        count = len(self._setting.specs) if replicas is None else replicas
        return work(scored.learner, feed.first()[0][0], steps=self._setting.schedule.steps, replicas=count)

    def forget(self) -> None:
        """Make another program when one is needed: the steps are others now."""
        self._program, self._sought = None, False

    def why_not(self, scored: ScoredLearner, feed: Feed, *, replicas: int) -> str | None:
        """Return why ``replicas`` replicas are not to be one program, None if they are; a step is traced to find out.

        Args:
            scored: One of them.
            feed: What it is fed.
            replicas: How many there are.
        """
        if self._setting.cloner is not None:
            return "a base is trained beside the learner"
        if not _comes_in_chunks(feed):
            return "the batches of many steps cannot be had at once"
        if not self.work(scored, feed, replicas=replicas).is_for_a_program:
            return "steps of this size, or as few of them, are faster one by one"
        return why_not(scored.learner, feed.tasks[0], feed.first(), scored.training)

    def seek(self, scored: ScoredLearner, feed: Feed, *, compiled: bool | None = None) -> str | None:
        """Let a program take the steps from here on, if they can be one and it pays; returns what came of it, once.

        Args:
            scored: The learner.
            feed: What it is fed.
            compiled: Whether to compile; None to do so where it pays.

        Raises:
            UnsupportedError: If they cannot, and there are several replicas, which are together for its sake.
        """
        if self._sought or self._setting.cloner is not None or not _comes_in_chunks(feed):
            return None
        self._sought = True
        work = self.work(scored, feed)
        if work.replicas == 1 and not work.is_for_a_program:
            return None
        compiled = work.is_long if compiled is None else compiled
        try:
            self._program = self._make(scored, feed, compiled=compiled)
        except UnsupportedError as error:
            if len(self._setting.specs) > 1:
                raise
            return f"steps one by one: {error}"
        return f"a {self.how} of {self._program.unroll} steps a call"

    def advance(self, scored: ScoredLearner, feed: Feed, count: int) -> bool:
        """Have up to ``count`` steps taken; returns False, having done nothing, where no program can take them."""
        program, period = self._program, feed.period
        if program is None or period is None or scored.done % period or count < program.unroll:
            return False
        steps = min(count, self._periods * period)
        scored.advance(program, feed.take(steps // program.unroll * program.unroll // period))
        return True

    def _make(self, scored: ScoredLearner, feed: Feed, *, compiled: bool) -> Program:
        period = feed.period
        assert period is not None
        batches, name = feed.first(), group_label(self._setting.specs)
        # Where nothing is compiled, longer calls save nothing, and take longer to trace.
        per_call = self._setting.schedule.unroll(period, feed.every) if compiled else period
        samples = sum(x.shape[0] * x.shape[1] for x, _ in batches)
        size = sum(x.nbytes for x, _ in batches)
        periods = min(BLOCK_SAMPLES // samples, BLOCK_BYTES // size, BLOCK_STEPS // period)
        calls = periods * period // per_call
        self._periods = max(1, calls) * per_call // period
        with _compiler() if compiled else nullcontext():
            program = Program(
                scored.learner,
                feed.tasks[0],
                batches,
                unroll=per_call,
                compiled=compiled,
                announce=lambda: self._reporter.note(f"{name}: compiling, about a minute where it was not done before"),
                metrics=scored.training,
            )
        if program.compile_s:
            mark(self._setting.specs)
            self._reporter.note(f"{name}: compiled in {program.compile_s:.0f} s")
        elif program.compile_error:
            self._reporter.note(f"{name}: no compiled program here, and so slower: {program.compile_error}")
        self.how = "program" if program.compile_s is None else "compiled program"
        return program


def _comes_in_chunks(feed: Feed) -> bool:
    """Return whether the batches of a call can be had at once."""
    return feed.period is not None and feed.period <= MAX_UNROLL


@contextmanager
def _compiler() -> Iterator[None]:
    """Keep what is compiled for other processes, and from the user what torch finds missing on the way."""
    cache_compiled(compiled_folder())
    logger = logging.getLogger("torch.utils.cpp_extension")  # where CUDA_HOME is set, it warns that there is no GPU
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
