"""The runs that train together: what was measured of each, and how each ends."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import lopbench
from lopbench.core import text
from lopbench.core.errors import LopbenchError
from lopbench.core.spec import RunSpec
from lopbench.results.idle import Idle
from lopbench.results.record import Measurements, Outcome, is_recorded, read_record, record_path, write_record
from lopbench.runner.checkpoint import part
from lopbench.runner.report import label

#: Longest traceback that a record keeps, in characters.
_MOST_TRACE = 20_000

#: What an operating system says where memory, disk or descriptors ran out.
_SHORT = {errno.ENOMEM, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE}

#: Where our own code lies.
_OURS = Path(lopbench.__file__).resolve().parent


class Members:
    """The runs of some replicas. Each may end before the others, by divergence or a fault in measuring it.

    Args:
        specs: What is run, in the order of the replicas.
        results: Results folder.
        log: Takes lines for the log.
    """

    def __init__(self, specs: Sequence[RunSpec], results: Path, *, log: Callable[[str], None]) -> None:
        self.specs = tuple(specs)
        self._results = results
        self._log = log
        self.measurements = [Measurements() for _ in specs]
        #: The step whose loss was not finite, of each replica.
        self.diverged_at: list[int | None] = [None] * len(specs)
        #: Whether it was the weights after that number of steps that were not finite.
        self.broken = [False] * len(specs)
        #: What went wrong in measuring a replica.
        self.faults: list[str | None] = [None] * len(specs)

    @property
    def wanted(self) -> int:
        """Number of runs that are not recorded yet."""
        return sum(not is_recorded(self._results, spec) for spec in self.specs)

    @property
    def sound(self) -> list[int]:
        """The replicas that are still measured."""
        return [r for r in range(len(self.specs)) if self.diverged_at[r] is None and self.faults[r] is None]

    def check(self, losses: Tensor, first: int) -> None:
        """Note which replicas have diverged; ``losses`` ``(steps, R)`` are those of the steps from ``first`` on."""
        finite = losses.isfinite()
        if not bool(finite.all()):
            for replica in (~finite.all(dim=0)).nonzero().flatten().tolist():
                self._diverge(replica, first + int((~finite[:, replica]).nonzero()[0]))

    def check_weights(self, finite: Tensor, steps: int) -> None:
        """Note which replicas have weights that are not ``finite`` ``(R,)`` after so many steps, all of their lives."""
        if not bool(finite.all()):
            for replica in (~finite).nonzero().flatten().tolist():
                self.broken[replica] = replica in self.sound
                self._diverge(replica, steps)

    def _diverge(self, replica: int, step: int) -> None:
        if replica in self.sound:
            self.diverged_at[replica] = step
            if len(self.specs) > 1:
                self._log(f"{label(self.specs[replica])}: diverged")

    @contextmanager
    def fault_of(self, replica: int) -> Iterator[None]:
        """Let what goes wrong in measuring a replica end this replica only, if there are others."""
        try:
            yield
        except (LopbenchError, KeyboardInterrupt):
            raise
        except BaseException as error:
            if is_shortage(error) or is_ours(error) or self.sound == [replica]:
                raise
            self.faults[replica] = told(error)
            self._log(f"{label(self.specs[replica])}: {trace_of(error)}")

    def verdict(self, replica: int, outcome: Outcome, failure: str | None) -> tuple[Outcome, str | None]:
        """Return how one replica ended, which is as all did unless it had ended before."""
        step, fault = self.diverged_at[replica], self.faults[replica]
        if step is not None:
            what = "weights were not finite after" if self.broken[replica] else "loss was not finite at"
            return "diverged", f"the {what} step {step}"
        return (outcome, failure) if fault is None else ("failed", fault)

    def publish(
        self,
        outcome: Outcome,
        failure: str | None,
        *,
        environment: Mapping[str, object],
        cost: Mapping[str, object],
        idle: Sequence[Idle | None] | None,
        log: Path,
    ) -> list[tuple[Outcome, Path]]:
        """Write the records that are not there; returns how each run ended, and the directory of its record.

        Args:
            outcome: How the runs ended that had not ended before.
            failure: What went wrong.
            environment: Where they ran.
            cost: What each of them took.
            idle: Why each method changed nothing, None where it did; None of runs in which none had to.
            log: The log.
        """
        ended = []
        for replica, spec in enumerate(self.specs):
            path, (how, why) = record_path(self._results, spec), self.verdict(replica, outcome, failure)
            if not is_recorded(self._results, spec):
                status = {"status": how, "error": why, "diverged_at": self.diverged_at[replica], **cost}
                status["idle"] = idle if how == "completed" else None
                measured = self.measurements[replica]
                path = write_record(self._results, spec.recorded(), spec.run_id, environment, status, measured, log)
            ended.append((how, path))
        return ended

    def published(self) -> list[tuple[Outcome, Path]]:
        """Return how the runs ended that others have recorded meanwhile, and the directories of the records."""
        paths = [record_path(self._results, spec) for spec in self.specs]
        return [(read_record(path).outcome, path) for path in paths]

    # -- checkpoints

    def to_json(self) -> dict[str, Any]:
        """Return how the replicas fare, as JSON values."""
        return {"diverged_at": self.diverged_at, "broken": self.broken, "faults": self.faults}

    def state_dict(self) -> dict[str, Tensor]:
        """Return what was measured, as named tensors."""
        found = {}
        for replica, measurements in enumerate(self.measurements):
            arrays = measurements.to_arrays()
            found.update({f"{replica}/{name}": torch.from_numpy(value) for name, value in arrays.items()})
        return found

    def load(self, value: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Restore what `to_json` and `state_dict` returned."""
        self.diverged_at, self.broken = list(value["diverged_at"]), list(value["broken"])
        self.faults = list(value["faults"])
        for replica in range(len(self.specs)):
            arrays = {name: tensor.numpy() for name, tensor in part(tensors, str(replica)).items()}
            self.measurements[replica] = Measurements.from_arrays(arrays)


# -- what went wrong


def is_shortage(error: BaseException) -> bool:
    """Return whether something ran out that may be there another time, which says nothing about the run.

    An error that was raised because of such a one, as of a metric that finds no memory, is one, too.
    """
    chain = [error]
    while (cause := chain[-1].__cause__) is not None and cause not in chain:
        chain.append(cause)
    return any(map(_ran_out, chain))


def _ran_out(error: BaseException) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno in _SHORT
    # What torch raises where the memory of the CPU does not suffice.
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in text.text_of(error)


def is_ours(error: BaseException) -> bool:
    """Return whether an assertion of ours failed, and not one of a plugin."""
    if not isinstance(error, AssertionError):
        return False
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and Path(frames[-1].filename).is_relative_to(_OURS)


def told(error: BaseException) -> str:
    """Return an error in words that a record can keep."""
    return text.told(error).encode(errors="backslashreplace").decode()


def reason_of(error: LopbenchError) -> str:
    """Return a sentence of ours, no longer than a record would keep: a plugin may have written it."""
    return text.text_of(error)[: text.MOST_TEXT]


def trace_of(error: BaseException) -> str:
    """Return a traceback whose files are named from where they are imported: records are published."""
    try:
        trace = "".join(traceback.format_exception(error))[-_MOST_TRACE:]
    except KeyboardInterrupt:
        raise
    except BaseException:  # its text cannot be had
        trace = "".join(traceback.format_tb(error.__traceback__))[-_MOST_TRACE:] + told(error)
    for folder in sorted(filter(None, sys.path), key=len, reverse=True):
        trace = trace.replace(f'File "{folder}{os.sep}', 'File "')
    return trace
