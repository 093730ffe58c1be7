"""What comparisons are made of: rows of run records or of a leaderboard's CSV, as the user names them."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lopbench.core.errors import InvalidInputError, LopbenchError, ResultsError, UsageError
from lopbench.core.registry import suggest
from lopbench.core.spec import SCHEMA_VERSION, RunSpec, parse_methods
from lopbench.results.cells import csv_lines, original
from lopbench.results.leaderboard import Board, board
from lopbench.results.packed import SUFFIX
from lopbench.results.record import Record
from lopbench.results.seed_scores import Axis, SeedScores, near_ceiling
from lopbench.results.statistics import Sample

if TYPE_CHECKING:
    import pandas as pd

#: What rows can be compared by: columns of `leaderboard`.
Score = Literal["retention", "trainability", "generalisation", "lifetime_online"]

#: The method that a single folder or CSV is compared with, unless another is named.
BASELINE = "none"

#: What a table says of a row's protocol: the id decides whether rows compare, the others tell why they do not.
IDENTITY = ("protocol_id", "scenario", "profile", "architecture", "data")
_NUMBERS = ("retention", "retention_low", "retention_high")
_COUNTS = ("schema_version", "seeds", "unpaired", "diverged", "failed")
#: What a row knows of itself besides.
_FACTS = (*IDENTITY, "optimizer", "entry_id", "track")
_NEEDED = (*_FACTS, *_NUMBERS, *_COUNTS, "method", "inputs_digest")


@dataclass(frozen=True, eq=False)
class Row:
    """One method under one protocol, from runs or from a line of a CSV.

    Args:
        source: The folder or file.
        facts: The columns of `IDENTITY`, "optimizer", "entry_id" and "track".
        is_alone: Whether its source has the method with one optimizer only in this protocol.
        method: Label of the method.
        runs: The runs by seed; empty if they are not at hand.
        seeds: What each of them comes to.
        line: The numbers of a CSV; None if there are runs.
    """

    source: str
    facts: Mapping[str, str]
    method: str
    runs: Mapping[int, Record] = field(default_factory=dict)
    seeds: Mapping[int, SeedScores] = field(default_factory=dict)
    line: Mapping[str, Any] | None = None
    is_alone: bool = True

    def __str__(self) -> str:
        return f"{self.name} of {self.source}"

    @property
    def name(self) -> str:
        """The method, with its optimizer where that tells rows apart."""
        return self.method if self.is_alone else f"{self.method} with {self.optimizer}"

    @property
    def optimizer(self) -> str:
        """Label of the optimizer."""
        return self.facts["optimizer"]

    @property
    def protocol_id(self) -> str:
        """What rows must share to be compared with it."""
        return self.facts["protocol_id"]

    @cached_property
    def spec(self) -> RunSpec | None:
        """The spec of one of its runs, None if there are none."""
        return next((record.spec for record in self.runs.values()), None)

    @cached_property
    def of_errors(self) -> bool:
        """Whether the online score is an error."""
        return any(record.per_task("online_error") for record in self.runs.values())

    @cached_property
    def same(self) -> object:
        """A key that two rows share if they are made of the same runs."""
        if self.line is not None:
            return self.line["inputs_digest"]
        return frozenset((record.run_id, record.content_digest) for record in self.runs.values())

    @property
    def stopped(self) -> Iterator[str]:
        """Which runs did not complete, in words."""
        for outcome in ("diverged", "failed"):
            if self.line is not None:
                if self.line[outcome]:
                    yield f"{self.line[outcome]} {outcome}"
            else:
                seeds = [seed for seed, record in self.runs.items() if record.outcome == outcome]
                if seeds:
                    yield f"{outcome}: {seeds_text(seeds)}"

    def scores(self, score: Score) -> dict[int, float]:
        """Return the score of each seed; NaN where there is none, as without a fresh reference."""
        return {seed: _of(found, score, self.axis) for seed, found in self.seeds.items()}

    @property
    def axis(self) -> Axis:
        """The headline of its scenario."""
        return "trainability" if self.spec is None else self.spec.headline

    def at_ceiling(self, score: Score) -> bool:
        """Return whether the row is so near the ceiling that it is not told apart from others that are."""
        if score == "lifetime_online":
            return False
        return near_ceiling(self.seeds.values(), self.axis if score == "retention" else score)

    def without(self, score: Score, seeds: Iterable[int]) -> str | None:
        """Return which seeds have no score and why, in words; None if all have one."""
        scores = self.scores(score)
        missing = [seed for seed in seeds if not math.isfinite(scores[seed])]
        if not missing:
            return None
        reasons = {self.seeds[seed].note or "not measured" for seed in missing}
        return f"{self}: no {score}, left out: {seeds_text(missing)} ({', '.join(sorted(reasons))})"

    def sample(self, score: Score) -> Sample | None:
        """Return what is known of the score without pairing seeds, None if nothing."""
        if self.line is None:
            finite = [value for value in self.scores(score).values() if math.isfinite(value)]
            return Sample.of(finite) if finite else None
        seeds = self.line["seeds"] - self.line["unpaired"]
        mean, low, high = (self.line[key] for key in _NUMBERS)
        if seeds < 1 or math.isnan(mean):
            return None
        return Sample.from_interval(mean, low, high, seeds)


@dataclass(frozen=True)
class Source:
    """What the user named.

    Args:
        name: The folder or file.
        rows: All rows of it.
        method: The method of it that was asked for, None for all.
        problems: Why records were left out.
    """

    name: str
    rows: tuple[Row, ...]
    method: str | None
    problems: tuple[ResultsError, ...] = ()

    @property
    def chosen(self) -> list[Row]:
        """The rows of the method that was asked for, all if none was."""
        return [row for row in self.rows if self.method is None or row.method == self.method]


def load(text: str) -> Source:
    """Read ``PATH`` or ``PATH:METHOD``, the path being a results folder, a packed set, a run directory or a CSV.

    Nothing that is read is executed. Records that a leaderboard leaves out are left out.

    Raises:
        UsageError: If the path or the method does not exist.
        ResultsError: If there are no rows, the CSV is damaged, or two rows have one label.
    """
    path, method = _split(text)
    problems: tuple[ResultsError, ...] = ()
    if path.is_dir() or path.suffix == SUFFIX:
        made = board(path)
        rows, problems = tuple(_from_board(path, made)), made.problems
    else:
        rows = tuple(_from_csv(path))
    return Source(str(path), rows, None if method is None else label_of(method, rows, str(path)), problems)


def lines(frame: "pd.DataFrame") -> list[dict[str, Any]]:
    """Return the rows of a frame by column name."""
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def seeds_text(seeds: Sequence[int]) -> str:
    """Return seeds in words."""
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _split(text: str) -> tuple[Path, str | None]:
    """Split PATH or PATH:METHOD where the path exists, since methods contain colons and paths may."""
    if Path(text).exists():
        return Path(text), None
    for index, character in enumerate(text):
        if character == ":" and index and Path(text[:index]).exists():
            method = text[index + 1 :].strip()
            if not method:
                raise UsageError(f"{text!r} names no method; write {text}none, or leave out the colon for all methods.")
            return Path(text[:index]), method
    raise UsageError(
        f"{text} does not exist; give a results folder, a packed set, a run directory or a leaderboard's CSV."
    )


def label_of(text: str, rows: Iterable[Row], name: str) -> str:
    """Return the label that the rows of the source ``name`` use for the method ``text``.

    Raises:
        UsageError: If there is no row of that method.
    """
    known = sorted({row.method for row in rows})
    if text in known:
        return text
    with suppress(LopbenchError):  # of a plugin that is not installed here only the recorded label is known
        label = "+".join(method.label() for method in parse_methods(text)) or BASELINE
        if label in known:
            return label
    raise UsageError(f"{name} has no method {text!r}.{suggest(text, known)} Its methods: {', '.join(known)}.")


def _from_board(path: Path, made: Board) -> Iterator[Row]:
    labels: dict[tuple[str, ...], Row] = {}
    for entry in made.entries:
        facts = {key: str(entry.row[key]) for key in _FACTS}
        runs = {record.seed: record for record in entry.runs}
        scores = {record.seed: found for record, found in zip(entry.group.runs, entry.group.scores, strict=True)}
        row = Row(str(path), facts, str(entry.row["method"]), runs, scores)
        if labels.setdefault((row.protocol_id, row.method, row.optimizer), row) is not row:
            raise ResultsError(
                f"{row.method} in {path} stands for two versions of its code under one protocol; "
                "put the runs of one of them into a folder of their own."
            )
    yield from _named(labels.values())


def _named(rows: Iterable[Row]) -> Iterator[Row]:
    """Yield the rows of a source, with their optimizers in their names where these tell rows apart."""
    found = list(rows)
    count = Counter((row.protocol_id, row.method) for row in found)
    for row in found:
        yield replace(row, is_alone=count[row.protocol_id, row.method] == 1)


def _of(found: SeedScores, score: Score, headline: Axis) -> float:
    if score == "lifetime_online":
        return found.lifetime_online
    return found.retentions[headline if score == "retention" else score]


def _from_csv(path: Path) -> Iterator[Row]:
    found: dict[tuple[str, ...], Row] = {}
    for number, cells in csv_lines(path, _NEEDED)[1]:
        row = _line(path, number, cells)
        other = found.setdefault((row.protocol_id, row.method, row.optimizer), row)
        if other.same != row.same:
            raise ResultsError(
                f"{path} has {row.method} under protocol {row.protocol_id} twice, from different runs; "
                "make the table again with 'lopbench leaderboard' over all their folders."
            )
    if not found:
        raise ResultsError(f"{path} has no rows.")
    yield from _named(found.values())


def _line(path: Path, number: int, cells: Mapping[str, str | None]) -> Row:
    """Return the row that a line of a CSV holds, its numbers checked."""
    where = f"{path}, line {number}"
    texts: dict[str, str] = {}
    for column in _NEEDED:
        cell = cells.get(column)
        if cell is None:
            raise ResultsError(f"{where} ends before the column {column!r}; the file was cut off or edited.")
        texts[column] = original(cell)
    line: dict[str, Any] = {"inputs_digest": texts["inputs_digest"]}
    for column in (*_COUNTS, *_NUMBERS):
        text = texts[column]
        try:
            value = math.nan if text == "" and column in _NUMBERS else float(text)
        except ValueError:
            raise ResultsError(f"{where}: {column} is {text!r}, not a number.") from None
        if math.isinf(value) or (column in _COUNTS and not (value >= 0 and value == int(value))):
            raise ResultsError(f"{where}: {column} is {text!r}, which it cannot be.")
        line[column] = int(value) if column in _COUNTS else value
    if line["schema_version"] > SCHEMA_VERSION:
        raise ResultsError(
            f"{where} has schema version {line['schema_version']}, this lopbench reads up to {SCHEMA_VERSION}; "
            "upgrade lopbench."
        )
    for column in ("protocol_id", "method"):
        if not texts[column]:
            raise ResultsError(f"{where} has no {column}.")
    row = Row(str(path), {key: texts[key] for key in _FACTS}, texts["method"], line=line)
    try:
        row.sample("retention")
    except InvalidInputError as error:
        raise ResultsError(f"{where}: {error}.") from error
    return row
