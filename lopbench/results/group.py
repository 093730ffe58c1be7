"""The runs behind one row of a leaderboard, and what they come to."""

import hashlib
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from lopbench.core.manager import UNPUBLISHED
from lopbench.core.spec import RunSpec
from lopbench.core.windows import late_window
from lopbench.results.idle import idle_notes
from lopbench.results.pairs import Entrant
from lopbench.results.record import Outcome, Record
from lopbench.results.score import Score
from lopbench.results.seed_scores import AXES, Axis, SeedScores, near_ceiling, reference_name
from lopbench.results.statistics import interval, t_interval
from lopbench.results.tasks import late_count, task_count
from lopbench.results.trend import trend_word
from lopbench.results.tuned import UNCHECKED

#: What must agree in the environment of two runs for their speed and memory to be compared, and what absence means.
HARDWARE: Mapping[str, object] = {"device": None, "threads": None, "replicas": 1}

_TRACKS = ("boundary-free", "boundary-aware", "replay")  # a composition competes in the last track of its parts


@dataclass(frozen=True, eq=False)
class Group:
    """The runs of one entry under one protocol.

    Args:
        runs: They, at least one.
        scores: What each comes to.
        score: What the scenario scores.
        baseline: Runs of plain learning with the same optimizer.
        left_out: Seeds that a row could have had besides, by the reason why it has not.
    """

    runs: Sequence[Record]
    scores: Sequence[SeedScores]
    score: Score
    baseline: Sequence[Record]
    left_out: Mapping[str, Iterable[int]]

    @property
    def spec(self) -> RunSpec:
        """The spec of one of the runs."""
        return self.runs[0].spec

    @property
    def protocol_id(self) -> str:
        """The id of their protocol."""
        return self.runs[0].protocol_id

    @property
    def headline(self) -> Axis:
        """The axis that the scenario goes by."""
        return self.runs[0].recipe.headline

    @property
    def track(self) -> str:
        """In which track the methods compete; "control" of the control, which competes in none."""
        if self.spec.is_control:
            return "control"
        tracks = [method.track or "unknown" for method in self.spec.methods]
        unknown = [track for track in tracks if track not in _TRACKS]
        return "unknown" if unknown else max(tracks, key=_TRACKS.index, default=_TRACKS[0])

    @property
    def reference(self) -> str:
        """What a retention of 1 stands for: "fresh network" or "base"."""
        return reference_name(self.runs[0])

    @property
    def is_checked(self) -> bool:
        """Whether all development runs agree with the log of its tuning; True of what was not tuned."""
        return not list(self.left_out.get(UNCHECKED, ()))

    @property
    def coverage(self) -> str:
        """The seeds, as ``--seeds`` reads them."""
        return seed_ranges(record.seed for record in self.runs)

    @property
    def code(self) -> str:
        """Versions and origins of the methods."""
        return ", ".join(f"{part.name} version {part.version} of {part.origin}" for part in self.spec.methods)

    @property
    def data(self) -> str:
        """Name and start of the content hash of the data set, empty for none."""
        if self.spec.data is None:
            return ""
        return f"{self.spec.data.get('name', '?')}@{str(self.spec.data.get('content_hash', '?'))[:12]}"

    # -- numbers

    @cached_property
    def retentions(self) -> dict[int, float]:
        """The headline's retention of each seed that has one."""
        return self.on_axis(self.headline)

    def on_axis(self, axis: Axis) -> dict[int, float]:
        """Return the retention on an axis of each seed that has one."""
        values = ((record.seed, s.retentions[axis]) for record, s in zip(self.runs, self.scores, strict=True))
        return {seed: value for seed, value in values if not math.isnan(value)}

    def entrant(self, axis: Axis) -> Entrant:
        """Return the row as ranks and verdicts on an axis see it."""
        return Entrant(self.on_axis(axis), self.at_ceiling(axis))

    def at_ceiling(self, axis: Axis) -> bool:
        """Return whether the row is too near the ceiling of an axis to be told apart from others that are."""
        return near_ceiling(self.scores, axis)

    def retention(self, axis: Axis) -> float:
        """Return the mean retention over seeds."""
        return self.mean(self.on_axis(axis).values())

    @cached_property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """95% intervals over seeds of the retention on each axis, and of other scores; NaN where there is none."""
        return {
            **{axis: _interval(self.on_axis(axis).values()) for axis in AXES},
            "error_above_fresh": _interval(s.error_above_fresh for s in self.scores),
            "forgetting": _interval(s.forgetting for s in self.scores),
        }

    @property
    def trend(self) -> float:
        """Mean trend over seeds."""
        return self.mean(s.trend for s in self.scores)

    @cached_property
    def trend_interval(self) -> tuple[float, float]:
        """The 95% interval of the trend over seeds, NaN where there is none."""
        known = [s.trend for s in self.scores if not math.isnan(s.trend)]
        return t_interval(known) if known else (math.nan, math.nan)

    @property
    def trend_word(self) -> str:
        """What the interval of the trend shows, empty without a trend."""
        return "" if math.isnan(self.trend) else trend_word(*self.trend_interval)

    @property
    def speed(self) -> float:
        """Steps a second as a multiple of those of the baseline."""
        return _relative(self.runs, self.baseline, _steps_per_s)

    @property
    def memory(self) -> float:
        """Bytes of state as a multiple of those of the baseline."""
        return _relative(self.runs, self.baseline, _state_bytes)

    @staticmethod
    def mean(values: Iterable[float]) -> float:
        """Return the mean of the values that are not NaN; NaN if all are."""
        known = [value for value in values if not math.isnan(value)]
        return math.fsum(known) / len(known) if known else math.nan

    def count(self, outcome: Outcome) -> int:
        """Return the number of runs that ended so."""
        return sum(record.outcome == outcome for record in self.runs)

    # -- what to know of it

    @property
    def notes(self) -> Iterator[str]:
        """What a reader should know of the runs before using the row."""
        seeds_by_note: dict[str, list[int]] = defaultdict(list)
        for record, s in zip(self.runs, self.scores, strict=True):
            for text in filter(None, (s.note, None if record.outcome == "completed" else record.outcome)):
                seeds_by_note[text].append(record.seed)
        for reason, seeds in self.left_out.items():
            seeds_by_note[reason] += seeds
        for text, found in sorted(seeds_by_note.items()):
            if found:
                yield f"{text}: seed{'s' if len(found) > 1 else ''} {', '.join(map(str, sorted(found)))}"
        count = task_count(self.runs[0])
        if self.spec.start * count > late_window(count, late_count(self.runs[0])).start:
            yield "on in a part of the late tasks only"
        origins = [part.origin for part in (*self.spec.methods, self.spec.optimizer)]
        unpublished = [origin.removeprefix(f"{UNPUBLISHED} ") for origin in origins if origin.startswith(UNPUBLISHED)]
        if unpublished:
            yield f"{UNPUBLISHED}: {', '.join(unpublished)}"
        yield from idle_notes(self.runs)

    @property
    def inputs_digest(self) -> str:
        """SHA-256 over all runs behind the row, references included."""
        used = {record.run_id: record for s in self.scores for record in s.used}
        inputs = "".join(f"{run_id} {used[run_id].measurements_digest}\n" for run_id in sorted(used))
        return hashlib.sha256(inputs.encode()).hexdigest()


def _interval(values: Iterable[float]) -> tuple[float, float]:
    """Return the 95% interval of the mean of the values that are not NaN; NaN if all are, or one is infinite."""
    known = [value for value in values if not math.isnan(value)]
    return interval(known) if known and all(map(math.isfinite, known)) else (math.nan, math.nan)


def seed_ranges(seeds: Iterable[int]) -> str:
    """Return seeds in short, as ``--seeds`` reads them: "0-4,7"."""
    found: list[list[int]] = []
    for seed in sorted(set(seeds)):
        if found and seed == found[-1][1] + 1:
            found[-1][1] = seed
        else:
            found.append([seed, seed])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in found)


def seeds_in_words(ranges: str) -> str:
    """Return what `seed_ranges` gives with the noun: "seed 3", "seeds 0-4,7"."""
    return f"seed {ranges}" if ranges.isdecimal() else f"seeds {ranges}"


def _steps_per_s(record: Record) -> float:
    seconds = record.status["train_time_s"]
    return record.status["steps"] / seconds if seconds > 0 else math.nan


def _state_bytes(record: Record) -> float:
    return record.status["state_bytes"] or math.nan


def _relative(runs: Iterable[Record], baseline: Iterable[Record], quantity: Callable[[Record], float]) -> float:
    """Return the mean ratio of a quantity to its mean in the completed ``baseline`` runs on the same hardware."""
    known: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for record in baseline:
        if record.outcome == "completed":
            known[_hardware(record)].append(quantity(record))
    usual = {hardware: Group.mean(quantities) for hardware, quantities in known.items()}
    return Group.mean(
        quantity(record) / usual.get(_hardware(record), math.nan) for record in runs if record.outcome == "completed"
    )


def _hardware(record: Record) -> tuple[str, ...]:
    return tuple(repr(record.environment.get(key, absent)) for key, absent in HARDWARE.items())
