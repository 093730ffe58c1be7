"""Which runs train together, and doing them all, one group after the other."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch

from lopbench.core.errors import LopbenchError, ResultsError, UnsupportedError
from lopbench.core.guard import kept
from lopbench.core.interfaces import Scenario, Sink
from lopbench.core.spec import RunSpec, canonical_json
from lopbench.results.record import remove_cut_short
from lopbench.runner.attempts import counted
from lopbench.runner.claims import BusyError
from lopbench.runner.environment import numerics
from lopbench.runner.garbage import cheap_collections, collect
from lopbench.runner.heart import Heart
from lopbench.runner.holder import Holder, Locks
from lopbench.runner.members import reason_of, told
from lopbench.runner.report import Quiet, Reporter, group_label
from lopbench.runner.run import Run
from lopbench.runner.schedule import fresh_lives
from lopbench.runner.session import TakenOverError
from lopbench.runner.shape import shape
from lopbench.runner.survival import is_own, survives
from lopbench.runner.timing import throwaway
from lopbench.runner.tuning import Candidates
from lopbench.runner.unfinished import resumable

#: An entry that is to be tuned, and its data.
_Waiting = tuple[Candidates, object]

#: Most replicas of a group: more gain nothing, while each holds a file open and takes its share of the memory.
MAX_REPLICAS = 300

#: Seconds after which it is looked whether what other processes were at is free: where a lock says so at once, and
#: where claims do after a minute.
LOOK_AGAIN_S, LOOK_AGAIN_AT_CLAIMS_S = 1.0, 10.0


def groups(specs: Sequence[RunSpec], *, data: object, device: torch.device) -> list[list[RunSpec]]:
    """Return ``specs`` in groups that one program can train, in the order of their first members.

    Replicas of a program agree in everything but seed, learning rate and the swept fields of their methods, and stream
    their batches in chunks. Fresh ones also come to the same tasks, which may depend on the learning rate, and on
    whether they are the reference. What no program can train, or not as fast, is a group of its own.
    """
    with kept(code=not all(map(is_own, specs))):
        texts = [_text_of(spec) for spec in specs]
    alike: dict[str, list[RunSpec]] = {}
    for text, spec in zip(texts, specs, strict=True):
        alike.setdefault(text, []).append(spec)
    # A run that is like no other is a group of its own, whether or not it could be one with others.
    several = {text: group for text, group in alike.items() if len(group) > 1}
    together = {text for text, group in several.items() if _can_be_together(group, data=data, device=device)}
    found: dict[str, list[RunSpec]] = {}
    for text, spec in zip(texts, specs, strict=True):
        found.setdefault(text if text in together else spec.run_id, []).append(spec)
    return [part for group in found.values() for part in _parts(group)]


def _parts(group: list[RunSpec]) -> list[list[RunSpec]]:
    """Return a group in parts of about the same size, at most `MAX_REPLICAS`."""
    count = -(-len(group) // MAX_REPLICAS)
    edges = [len(group) * part // count for part in range(count + 1)]
    return [group[start:stop] for start, stop in pairwise(edges)]


def work_off(
    work: Iterable[tuple[Sequence[RunSpec], object]],
    *,
    later: Iterable[tuple[Candidates, object]] = (),
    results: Path,
    device: torch.device,
    reporter: Reporter | None = None,
    checkpoint_s: float = 10.0,
    counts_attempts: bool = False,
    sinks: Sequence[Sink] = (),
    locks: Locks = "flock",
    heart: Heart | None = None,
) -> list[tuple[RunSpec, str]]:
    """Do groups of runs, each with its data, in order, until all have a record; one failure never stops the rest.

    Runs that another process does are passed over, and looked at again when the others are done. So several processes
    in one folder share the work, and resume what one of them leaves behind.

    Runs that were begun together go on together: a group that was stopped resumes with the members it had, and new runs
    make a group of their own. If no run that needs a fresh reference could be done, the reference is skipped.

    Entries that are to be tuned follow when their development runs have records, whoever made these.

    Args:
        work: The groups.
        later: The entries to be tuned, each with its data.
        results: Results folder.
        device: Where the runs train.
        reporter: Is told how it goes.
        checkpoint_s: Seconds between checkpoints.
        counts_attempts: Whether runs that killed workers again and again are set aside, as `attempts.counted` has it.
        sinks: Are told what is measured, as it is.
        locks: How runs are held against other processes, if this one is the first in the folder.
        heart: Shows to others that this process is alive, where it does so already.

    Returns:
        The specs that could not be run, each with the reason.

    Raises:
        ResultsError: If the results folder cannot be written to.
    """
    reporter, left, waiting = reporter or Quiet(), list(work), list(later)
    specs = [spec for group, _ in left for spec in group]
    waits = False
    with cheap_collections(), Holder(results, locks=locks, heart=heart) as holder:
        worker = _Worker(specs, results, holder, device, reporter, checkpoint_s, counts_attempts, sinks)
        while left or waiting:
            busy = [(group, data) for group, data in left if not worker.attempt(group, data)]
            waiting, follows = worker.settle(waiting)
            if busy and not follows and len(busy) == len(left):
                if not waits:
                    reporter.waits(group_label(busy[0][0]))
                waits = True
                time.sleep(LOOK_AGAIN_AT_CLAIMS_S if holder.has_claims else LOOK_AGAIN_S)
            left = [*busy, *follows]
            if not left:
                worker.give_up(waiting)
                break
    remove_cut_short(results)
    return worker.refused


@dataclass
class _Worker:
    """Does groups of runs, and knows what could not be done.

    Args:
        specs: All that is to be done.
        results: Results folder.
        holder: Holds runs against other processes.
        device: Where the runs train.
        reporter: Is told how it goes.
        checkpoint_s: Seconds between checkpoints.
        counts_attempts: Whether runs that killed workers again and again are set aside.
        sinks: Are told what is measured.
    """

    specs: list[RunSpec]
    results: Path
    holder: Holder
    device: torch.device
    reporter: Reporter
    checkpoint_s: float
    counts_attempts: bool
    sinks: Sequence[Sink]

    def __post_init__(self) -> None:
        self.refused: list[tuple[RunSpec, str]] = []  #: What could not be run, each with the reason.
        self._needless: frozenset[str] = frozenset()

    def attempt(self, group: Sequence[RunSpec], data: object) -> bool:
        """Do what a group has to do and return True; False if another process is at it, or has taken it over."""
        wanted = [spec for spec in group if spec.run_id not in self._needless]
        try:
            with self.holder.claimed(wanted) as free:
                for members in _together(self.results, free):
                    collect()
                    try:
                        self._train(members, data)
                    except ResultsError:
                        raise
                    except LopbenchError as error:
                        self.refused += [(spec, reason_of(error)) for spec in members if spec in free]
                        self._needless = _needless(self.specs, [spec for spec, _ in self.refused])
                        self.reporter.note(f"{group_label(members)}: {reason_of(error)}")
        except (BusyError, TakenOverError):
            return False
        return True

    def settle(self, waiting: Sequence[_Waiting]) -> tuple[list[_Waiting], list[tuple[list[RunSpec], object]]]:
        """Return the entries that are still to be tuned, and the groups of those that records have chosen by now.

        All of an entry's runs are grouped, done or not: whoever does this comes to the same groups.
        """
        left, found = [], []
        for entry, data in waiting:
            try:
                specs = entry.followed(self.results)
            except ResultsError as error:
                self._refuse(entry, str(error))
                continue
            if specs is None:
                left.append((entry, data))
                continue
            self.specs += specs
            self.reporter.note(f"{entry.label}: {specs[0].method_label} with {specs[0].optimizer_label} is chosen")
            found += [(group, data) for group in groups(specs, data=data, device=self.device)]
        return left, found

    def give_up(self, waiting: Sequence[_Waiting]) -> None:
        """Refuse entries of which development runs could not be done."""
        for entry, _ in waiting:
            self._refuse(entry, "some runs of its tuning could not be done, so nothing is chosen")

    def _refuse(self, entry: Candidates, reason: str) -> None:
        self.refused.append((entry.base, reason))
        self.reporter.note(f"{entry.label}: {reason}")

    def _train(self, members: Sequence[RunSpec], data: object) -> None:
        with _sentences(members):
            run = Run(
                members,
                results=self.results,
                data=data,
                device=self.device,
                reporter=self.reporter,
                checkpoint_s=self.checkpoint_s,
                sinks=self.sinks,
                is_held=lambda: self.holder.is_valid,
            )
        with counted(self.results, members) if self.counts_attempts else nullcontext():
            run.execute()


def _together(results: Path, free: Sequence[RunSpec]) -> Iterator[Sequence[RunSpec]]:
    """Yield claimed runs as they train together: those that were stopped with the members they had, then the new."""
    stopped = resumable(results, free)
    resumed = {spec.run_id for members in stopped for spec in members}
    new = [spec for spec in free if spec.run_id not in resumed]
    yield from filter(None, [*stopped, new])


@contextmanager
def _sentences(members: Sequence[RunSpec]) -> Iterator[None]:
    """Refuse runs of which a component cannot be set up, whatever it raises: there is nothing yet to be recorded."""
    try:
        yield
    except (LopbenchError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise UnsupportedError(f"{group_label(members)} cannot be set up: {told(error)}") from error


def _text_of(spec: RunSpec) -> str:
    """Return what replicas of a program must have in common; a text of its own for a run that cannot be set up."""
    try:
        return _text(spec)
    except KeyboardInterrupt:
        raise
    except BaseException:  # what is wrong with a spec is told when its turn comes
        return spec.run_id


def _text(spec: RunSpec) -> str:
    """Return what replicas of a program must have in common, the tasks of fresh ones included."""
    value = shape(spec)
    if spec.kind == "fresh":
        scenario = spec.scenario.build()
        assert isinstance(scenario, Scenario)  # the registry checked
        value["lives"] = [[life.start, life.stop] for life in fresh_lives(scenario, spec)]
    return canonical_json(value)


def _can_be_together(group: Sequence[RunSpec], *, data: object, device: torch.device) -> bool:
    replicas = min(len(group), MAX_REPLICAS)
    if not survives(group[:1], data=data, device=device):
        return False
    try:
        with kept(code=not is_own(group[0])), numerics(group[0].numerics, device):
            training = throwaway(group[:1], data=data, device=device)
            if not training.learner.learner.hooks.acting:
                training.learner.learner.turn_on()  # methods that wait will act, too
            return training.programs.why_not(training.learner, training.feed, replicas=replicas) is None
    except KeyboardInterrupt:
        raise
    except BaseException:  # what is wrong with a spec is told when its turn comes
        return False


def _needless(specs: Sequence[RunSpec], refused: Sequence[RunSpec]) -> frozenset[str]:
    """Return the run ids of the fresh references that no run needs any more: those that did could not be done."""
    bad = {spec.run_id for spec in refused}
    used: dict[bool, set[str]] = {True: set(), False: set()}  # by whether its user was refused
    for spec in specs:
        if spec.kind == "continual":
            used[spec.run_id in bad].update((spec.reference().run_id, spec.own_reference().run_id))
    return frozenset(used[True] - used[False])
