"""How long a study will take, and how much room its records."""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lopbench.core.errors import ResultsError
from lopbench.core.spec import RunSpec, canonical_json
from lopbench.results.record import Record, read_record, record_path
from lopbench.runner.study import Study

#: Seconds that a worker takes to start.
START_S = 4.0

#: Most records of runs that differ in little more than their seed that are read.
_MOST_ALIKE = 8

#: Bytes of a record where none of its like is known.
_RECORD_BYTES = 50_000


@dataclass(frozen=True)
class Forecast:
    """How long a study will take.

    Args:
        seconds: Time of all pending runs, one group after the other.
        most: Whether it is an upper bound: programs will be compiled, and no word of it that this was done before.
        longest: Time of the group that takes longest.
        groups: Number of groups, which are shared among workers.
        record_bytes: Bytes of the records to come.
    """

    seconds: float
    most: bool
    longest: float = 0.0
    groups: int = 1
    record_bytes: float = 0.0

    @classmethod
    def of_all(cls, forecasts: Iterable[Forecast | None]) -> Forecast | None:
        """Return the forecast of several studies together, None if there is none of any."""
        known = [each for each in forecasts if each is not None]
        if not known:
            return None
        return cls(
            seconds=sum(each.seconds for each in known),
            most=any(each.most for each in known),
            longest=max(each.longest for each in known),
            groups=sum(each.groups for each in known),
            record_bytes=sum(each.record_bytes for each in known),
        )

    def on(self, workers: int, crowding: float = 1.0) -> float:
        """Return the seconds that so many workers take, which start at once.

        Args:
            workers: Their number.
            crowding: How many times as long a step takes while the others take theirs.
        """
        return crowding * max(self.seconds / min(workers, self.groups), self.longest) + START_S


def forecast(study: Study, *, limit_s: float = 1.5, threads: int | None = None) -> Forecast | None:
    """Return how long the pending runs will take, None if none of them can even start; about ``limit_s`` seconds.

    A group of runs takes the time that its steps took in records of the same methods, protocol, hardware and number of
    replicas, or else take now, timed once for all groups of which these agree; where they will be compiled, what such
    programs took elsewhere. Once ``limit_s`` is over, a group is taken for as slow as the slowest of those timed that
    are of its kind and train several replicas, or one, as it does. What follows the tuning of an entry is foretold as
    if the entry were not tuned.

    Args:
        study: The study.
        limit_s: Seconds that it may take.
        threads: CPU threads of those who do the runs; those of this process if None.
    """
    with using_threads(threads):
        recorded, record_bytes = _recorded(study)
        steps_of = study.steps_by_id
        groups = (*study.groups, *study.groups_following)  # which takes seconds where methods are many
        timings, compiling, times = _Timings(study, limit_s), _Compiling(), []
        for group in groups:
            workload = _workload(group[0], len(group))
            step = _Step(recorded[workload]) if workload in recorded else timings.step(group, workload)
            if step is not None:
                start = compiling.seconds(group) if step.is_compiled else 0.0
                times.append(steps_of[group[0].run_id] * step.seconds + start)
    if not times:
        return None
    return Forecast(sum(times), compiling.is_new, max(times), len(times), record_bytes * study.runs)


class _Step(NamedTuple):
    """What a step of a group takes."""

    seconds: float
    is_compiled: bool = False  #: Whether it will be taken by a compiled program.


class _Timings:
    """What steps of a study's groups take now.

    Args:
        study: The study.
        limit_s: Seconds after which nothing more is timed.
    """

    def __init__(self, study: Study, limit_s: float) -> None:
        import torch

        self._data, self._device, self._limit_s = study.images, torch.device(study.device), limit_s
        self._timed: dict[tuple[str, str], _Step] = {}  #: By kind and workload.
        self._slowest: dict[tuple[str, bool], _Step] = {}  #: By kind, and by whether several replicas train together.
        self._began = time.perf_counter()

    def step(self, group: Sequence[RunSpec], workload: str) -> _Step | None:
        """Return what a step of ``group``, which is such a workload, takes; None if it cannot start."""
        # Fresh networks do other things beside their steps; those of a tuning may be too few to be compiled.
        sort = (group[0].kind, len(group) > 1)
        key = group[0].kind, workload
        if key not in self._timed:
            is_over = time.perf_counter() - self._began >= self._limit_s
            if is_over and sort in self._slowest:
                return self._slowest[sort]
            step = self._take(group)
            if step is None:
                return None
            self._timed[key] = step
            self._slowest[sort] = max(step, self._slowest.get(sort, step))
        return self._timed[key]

    def _take(self, group: Sequence[RunSpec]) -> _Step | None:
        from lopbench.runner.survival import survives
        from lopbench.runner.timing import seconds_per_step

        if not survives(group, data=self._data, device=self._device, limit_s=self._limit_s / 4):
            return None
        try:
            return _Step(*seconds_per_step(group, data=self._data, device=self._device, limit_s=self._limit_s / 8))
        except KeyboardInterrupt:
            raise
        except BaseException:  # whatever a plugin raises is told when its turn comes; other runs may go well
            return None


class _Compiling:
    """What it takes to have the programs of a study."""

    def __init__(self) -> None:
        self._had: set[Path] = set()
        self.is_new = False  #: Whether some are of those that were not compiled before, as far as is known.

    def seconds(self, group: Sequence[RunSpec]) -> float:
        """Return the seconds until the program of a group is there."""
        from lopbench.runner.shape import mark_of
        from lopbench.runner.worth import COMPILE_S, LOAD_S

        mark = mark_of(group)
        if mark in self._had:  # as that of a run is that of its reference
            return 0.0
        self._had.add(mark)
        if mark.exists():
            return LOAD_S
        self.is_new = True
        return COMPILE_S


@contextmanager
def using_threads(count: int | None) -> Iterator[None]:
    """Let torch use so many threads for the duration."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _workload(spec: RunSpec, replicas: int) -> str:
    """Return what must agree for a step to take about as long; optimizers and metrics cost little."""
    return canonical_json([spec.protocol(), [method.name for method in spec.methods], replicas])


def _recorded(study: Study) -> tuple[dict[str, float], float]:
    """Return what records tell of the pending runs.

    Returns:
        The seconds that a step of all replicas took on this hardware, by workload; and the bytes of a record.
    """
    import torch

    from lopbench.runner.environment import describe

    here = describe(torch.device(study.device))
    steps: Counter[str] = Counter()
    seconds: dict[str, float] = defaultdict(float)
    sizes = []
    for record in _alike(study):
        sizes.append(_size(record.path))
        if all(record.environment.get(key) == here[key] for key in ("device", "threads")):
            replicas = record.environment.get("replicas", 1)
            workload = _workload(record.spec, replicas)
            steps[workload] += record.status["steps"]
            seconds[workload] += record.status["wall_time_s"] * replicas
    known = {workload: seconds[workload] / count for workload, count in steps.items() if count}
    return known, sum(sizes) / len(sizes) if sizes else _RECORD_BYTES


def _alike(study: Study) -> Iterator[Record]:
    """Yield a few records of runs whose names differ from those of the pending ones only in the seed.

    Names say nothing of fields and learning rates; `_workload` does.
    """
    stems = {_stem(spec.directory_name) for spec in study.pending}
    found: dict[str, list[str]] = defaultdict(list)
    folder = record_path(study.results, study.pending[0]).parent
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            stem = _stem(entry.name)
            if stem in stems:
                found[stem].append(entry.name)
    for names in found.values():
        # Spread over all that there are, which may be of several numbers of replicas.
        for name in sorted(names)[:: -(-len(names) // _MOST_ALIKE)]:
            with suppress(ResultsError):  # a damaged record is the leaderboard's business
                yield read_record(folder / name)


def _stem(name: str) -> str:
    """Return the name of a record's directory without seed and run id."""
    return name.rpartition("-s")[0]


def _size(path: Path) -> int:
    try:
        return sum(each.stat().st_size for each in path.iterdir())
    except OSError:
        return _RECORD_BYTES
