"""Leaderboards: from run records to one row for each protocol and method.

Rows are derived, never stored beside the runs; `inputs_digest` says which runs a row came from.
"""

import hashlib
import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lopbench.core.errors import ResultsError
from lopbench.core.spec import SCHEMA_VERSION, RunSpec, canonical_json, digest
from lopbench.results.record import Record, find_records
from lopbench.results.score import (
    ERROR_RETENTION_CAP,
    before_window,
    error_late_early,
    error_retention,
    late_early,
    late_window,
    lifetime,
    retention,
)
from lopbench.results.statistics import INTERVAL_METHOD, interval
from lopbench.results.tasks import Floors, Score, task_count, task_scores

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

#: What must agree in the environment of two runs for their speed and memory to be compared.
HARDWARE_KEYS = ("device", "threads", "replicas")

COLUMNS = (
    "protocol_id",
    "family",
    "scenario",
    "profile",
    "architecture",
    "optimizer",
    "lr",
    "method",
    "track",
    "seeds",
    "score",
    "retention",
    "retention_low",
    "retention_high",
    "retention_before",
    "heldout_retention",
    "self_retention",
    "lifetime_online",
    "late_early",
    "speed",
    "memory",
    "diverged",
    "failed",
    "unpaired",
    "data",
    "ranked",
    "notes",
    "schema_version",
    "inputs_digest",
)

#: The columns that tables show beside the retention, and their headings.
_SECONDARY: Mapping[str, str] = {
    "retention_before": "before",
    "heldout_retention": "held-out",
    "self_retention": "self",
    "lifetime_online": "online",
    "late_early": "late/early",
    "speed": "speed",
    "memory": "mem.",
}
#: Their headings where the score is an error.
_OF_ERRORS: Mapping[str, str] = {"lifetime_online": "error", "late_early": "early/late"}

_PROCEDURAL = "Procedural images, not a real data set: compare these numbers with no others."

_TRACKS = ("boundary-free", "boundary-aware", "replay")  # a composition competes in the last track of its parts


@dataclass(frozen=True)
class _Scores:
    """What one seed comes to; NaN where something is missing, ``note`` saying what is missing for its retention."""

    retention: float
    retention_before: float
    heldout_retention: float
    self_retention: float
    lifetime_online: float
    late_early: float
    note: str | None
    used: tuple[Record, ...]


def leaderboard(*paths: str | os.PathLike[str]) -> "pd.DataFrame":
    """Return the leaderboard of all runs under ``paths``: one row for each protocol and method.

    A protocol fixes scenario, data, architecture, optimizer, metrics, numerics, versions; runs of different protocols
    or of different code are never pooled. A row's numbers are means over seeds. A diverged or failed run counts, at
    chance or with an infinite error from where it stopped. A seed whose fresh reference has no completed run counts in
    no retention and is reported in ``unpaired``.

    Columns besides the names:
        family: Hash of the protocol without its optimizer: rows that differ in the learning rate share it.
        lr: Learning rate.
        track: "boundary-free", "boundary-aware" or "replay", as the method declared when it ran.
        seeds: Number of runs.
        score: "accuracy" or "error": what the scenario measures a learner by.
        retention, retention_low, retention_high: Plasticity retention on the late tasks and its 95% interval
            (`interval`): of accuracies as `retention` says, of errors as `error_retention` does.
        retention_before: The same on the last tasks before the method turned on (`before_window`); NaN if it was on
            from the beginning.
        heldout_retention: The same of the held-out score at the end of each task; NaN if that was not measured.
        self_retention: Retention against this method and optimizer on fresh networks; NaN if no such runs are there.
        lifetime_online: Mean over all tasks of the online accuracy, in [0, 1], or of the online error, infinite if a
            run stopped.
        late_early: Online accuracy on the late tasks over that on as many first ones; the error on these first ones
            over that on the late ones. Below 1 the learner got worse.
        speed, memory: Training steps per second, and bytes of parameters, buffers, optimizer and method, as multiples
            of those of ``none`` in the same protocol where device, threads and replicas agree; NaN without such runs.
        diverged, failed, unpaired: Numbers of runs.
        data: Name and start of the content hash of the data set.
        ranked: False for the smoke profile.
        notes: What a reader should know before using the row.
        inputs_digest: SHA-256 over the ids of all runs behind the row, references included, and their measurements.

    Args:
        paths: Results folders, folders of run directories, or single run directories.

    Returns:
        The rows, protocol by protocol: first ``reset``, the control that scores 1 by construction, then by falling
        retention.

    Raises:
        ResultsError: If there are no runs, a record is damaged or incomplete, or a run stands there twice with
            different measurements.
    """
    import pandas as pd

    records = _unique(find_records(*paths))
    by_id = {record.run_id: record for record in records}
    floors = Floors(records)
    rows: dict[tuple[str, str, float], list[Record]] = defaultdict(list)
    baselines: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        spec = record.spec
        if spec.kind == "continual":
            rows[spec.protocol_id, canonical_json(record.spec_json["methods"]), spec.start].append(record)
            if not spec.methods:
                baselines[spec.protocol_id].append(record)
    if not rows:
        raise ResultsError(
            f"There are no runs in {', '.join(map(str, paths))}; 'lopbench run --results DIR' makes some."
        )
    made = [(_row(runs, by_id, floors, baselines[protocol]), runs[0].spec) for (protocol, *_), runs in rows.items()]
    _tell_code_apart(made)
    made.sort(key=_order)
    return pd.DataFrame([row for row, _ in made], columns=list(COLUMNS))


def to_csv(frame: "pd.DataFrame", path: str | os.PathLike[str]) -> None:
    """Write a leaderboard with all its columns; floats keep all their digits, NaN is empty.

    Raises:
        ResultsError: If the file cannot be written.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        frame.to_csv(partial, index=False, lineterminator="\n")
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise ResultsError(f"The leaderboard cannot be written to {path}: {error.strerror or error}.") from error


def render(frame: "pd.DataFrame", console: "Console") -> None:
    """Print a leaderboard as one table for each protocol, with notes under it.

    Args:
        frame: What `leaderboard` returned, or its CSV read again.
        console: Where to print; from 80 columns on all numbers are whole.
    """
    from rich.table import Table
    from rich.text import Text

    for protocol_id, rows in frame.groupby("protocol_id", sort=False):
        first = rows.iloc[0]
        table = Table(
            title=Text(_title(first)),
            title_justify="left",
            box=None,
            padding=(0, 1, 0, 0),
            pad_edge=False,
        )
        columns = _secondary(rows)
        table.add_column("method", overflow="fold")
        table.add_column("track", no_wrap=True)
        table.add_column("retention", no_wrap=True)
        for heading in (*columns.values(), "seeds"):
            narrow = heading.replace("-", "-\n").replace("/", "/\n")
            table.add_column(narrow, justify="right", no_wrap=True)
        for _, row in rows.iterrows():
            table.add_row(
                Text(str(row["method"])),
                Text(str(row["track"]).removeprefix("boundary-")),
                Text(_with_interval(row["retention"], row["retention_low"], row["retention_high"])),
                *(_cell(row, column) for column in columns),
                str(row["seeds"]),
            )
        console.print(table)
        for note in _notes(str(protocol_id), rows):
            console.print(Text(note), style="dim")
        if _is_procedural(first):
            console.print(Text(_PROCEDURAL), style="bold yellow")


def markdown(frame: "pd.DataFrame") -> str:
    """Return a leaderboard in Markdown, as `render` prints it: for each protocol a heading line, a table, and notes.

    Args:
        frame: What `leaderboard` returned, or its CSV read again.
    """
    lines: list[str] = []
    for protocol_id, rows in frame.groupby("protocol_id", sort=False):
        columns = _secondary(rows)
        headings = ("method", "track", "retention", *columns.values(), "seeds")
        lines += [_title(rows.iloc[0]), "", f"| {' | '.join(headings)} |", "|" + "---|" * len(headings)]
        for _, row in rows.iterrows():
            cells = (
                f"`{row['method']}`",
                str(row["track"]),
                _with_interval(row["retention"], row["retention_low"], row["retention_high"]),
                *(_cell(row, column) for column in columns),
                str(row["seeds"]),
            )
            lines.append(f"| {' | '.join(cells)} |")
        lines += ["", *(f"- {note}" for note in _notes(str(protocol_id), rows))]
        if _is_procedural(rows.iloc[0]):
            lines.append(f"- **{_PROCEDURAL}**")
        lines.append("")
    return "\n".join(lines)


def _scores(record: Record, by_id: Mapping[str, Record], floors: Floors) -> _Scores:
    score, tasks = floors.score(record), range(task_count(record))
    late, before = late_window(len(tasks)), before_window(len(tasks), record.spec.start)
    online = task_scores(record, f"online_{score}", tasks, floors.of(record, tasks))
    fresh, own = (_completed(spec, by_id) for spec in (record.spec.reference(), record.spec.own_reference()))
    value = _retention(record, fresh, "online", score, late)
    note = None
    if fresh is None:
        note = "no completed fresh reference"
    elif math.isnan(value):
        note = "fresh reference not above chance"
    return _Scores(
        retention=value,
        retention_before=_retention(record, fresh, "online", score, before),
        heldout_retention=_retention(record, fresh, "heldout", score, late),
        self_retention=_retention(record, own, "online", score, late),
        lifetime_online=lifetime(online),
        late_early=error_late_early(online) if score == "error" else late_early(online),
        note=note,
        used=tuple(r for r in (record, fresh, own) if r is not None),
    )


def _retention(
    record: Record, reference: Record | None, where: Literal["online", "heldout"], score: Score, tasks: range
) -> float:
    """Return the retention of one run on ``tasks``, NaN if there are none or no reference that measured the score."""
    metric = f"{where}_{score}"
    if not tasks or reference is None or not reference.per_task(metric):
        return math.nan
    fresh = task_scores(reference, metric, tasks, {})
    if score == "error":
        return error_retention(task_scores(record, metric, tasks, dict.fromkeys(tasks, math.inf)), fresh)
    chance = task_scores(reference, "chance", tasks, {})
    learner = task_scores(record, metric, tasks, dict(zip(tasks, chance.tolist(), strict=True)))
    return retention(learner, fresh, chance)


def _completed(spec: RunSpec, by_id: Mapping[str, Record]) -> Record | None:
    """Return the record of a reference; one that did not complete would flatter the learner and is none."""
    record = by_id.get(spec.run_id)
    return record if record is not None and record.outcome == "completed" else None


def _row(
    runs: Sequence[Record], by_id: Mapping[str, Record], floors: Floors, baseline: Sequence[Record]
) -> dict[str, Any]:
    spec = runs[0].spec
    scores = [_scores(record, by_id, floors) for record in runs]
    paired = [s.retention for s in scores if s.note is None]
    low, high = interval(paired) if paired else (math.nan, math.nan)
    seeds_by_note: dict[str, list[int]] = defaultdict(list)
    for record, s in zip(runs, scores, strict=True):
        for text in filter(None, (s.note, None if record.outcome == "completed" else record.outcome)):
            seeds_by_note[text].append(record.spec.seed)
    notes = [
        f"{text}: seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, sorted(seeds)))}"
        for text, seeds in sorted(seeds_by_note.items())
    ]
    count = task_count(runs[0])
    if spec.start * count > late_window(count).start:
        notes.append("on in a part of the late tasks only")
    used = {record.run_id: record for s in scores for record in s.used}
    inputs = "".join(f"{run_id} {used[run_id].measurements_digest}\n" for run_id in sorted(used))
    return {
        "protocol_id": spec.protocol_id,
        "family": digest({key: part for key, part in spec.protocol().items() if key != "optimizer"}, 12),
        "scenario": spec.scenario.name,
        "profile": spec.profile,
        "architecture": spec.architecture_label,
        "optimizer": spec.optimizer_label,
        "lr": spec.optimizer.lr,
        "method": spec.method_label,
        "track": _track(spec),
        "seeds": len(runs),
        "score": floors.score(runs[0]),
        "retention": _mean(paired),
        "retention_low": low,
        "retention_high": high,
        "retention_before": _mean(s.retention_before for s in scores),
        "heldout_retention": _mean(s.heldout_retention for s in scores),
        "self_retention": _mean(s.self_retention for s in scores),
        "lifetime_online": _mean(s.lifetime_online for s in scores),
        "late_early": _mean(s.late_early for s in scores),
        "speed": _relative(runs, baseline, _steps_per_s),
        "memory": _relative(runs, baseline, _state_bytes),
        "diverged": sum(record.outcome == "diverged" for record in runs),
        "failed": sum(record.outcome == "failed" for record in runs),
        "unpaired": len(runs) - len(paired),
        "data": _provenance(spec),
        "ranked": spec.profile.partition("+")[0] != "smoke",
        "notes": "; ".join(notes),
        "schema_version": SCHEMA_VERSION,
        "inputs_digest": hashlib.sha256(inputs.encode()).hexdigest(),
    }


def _unique(records: Iterable[Record]) -> list[Record]:
    """Drop copies of a run; refuse two runs of one spec that came out differently."""
    found: dict[str, Record] = {}
    for record in records:
        other = found.setdefault(record.run_id, record)
        if (other.outcome, other.measurements_digest) != (record.outcome, record.measurements_digest):
            raise ResultsError(
                f"{other.path} and {record.path} are the same run with different results; leave one of them out."
            )
    return list(found.values())


def _track(spec: RunSpec) -> str:
    tracks = [method.track or "unknown" for method in spec.methods]
    unknown = [track for track in tracks if track not in _TRACKS]
    return "unknown" if unknown else max(tracks, key=_TRACKS.index, default=_TRACKS[0])


def _provenance(spec: RunSpec) -> str:
    if spec.data is None:
        return ""
    return f"{spec.data.get('name', '?')}@{str(spec.data.get('content_hash', '?'))[:12]}"


def _steps_per_s(record: Record) -> float:
    seconds = record.status["train_time_s"]
    return record.status["steps"] / seconds if seconds > 0 else math.nan


def _state_bytes(record: Record) -> float:
    return record.status["state_bytes"] or math.nan


def _relative(runs: Iterable[Record], baseline: Iterable[Record], quantity: Callable[[Record], float]) -> float:
    """Return the mean ratio of a quantity to its mean in the completed ``baseline`` runs on the same hardware."""
    usual: dict[str, list[float]] = defaultdict(list)
    for record in baseline:
        if record.outcome == "completed":
            usual[_hardware(record)].append(quantity(record))
    return _mean(quantity(record) / _mean(usual[_hardware(record)]) for record in runs if record.outcome == "completed")


def _hardware(record: Record) -> str:
    return canonical_json([record.environment.get(key) for key in HARDWARE_KEYS])


def _mean(values: Iterable[float]) -> float:
    """Return the mean of the values that are known, NaN if none is."""
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan


def _tell_code_apart(made: Iterable[tuple[dict[str, Any], RunSpec]]) -> None:
    """Note versions and origins in rows that only the code of their methods tells apart."""
    same: dict[tuple[str, str], list[tuple[dict[str, Any], RunSpec]]] = defaultdict(list)
    for row, spec in made:
        same[row["protocol_id"], row["method"]].append((row, spec))
    for group in same.values():
        if len(group) > 1:
            for row, spec in group:
                code = ", ".join(
                    f"{method.name} version {method.version} of {method.origin}" for method in spec.methods
                )
                row["notes"] = "; ".join(filter(None, (row["notes"], f"code: {code}")))


def _order(entry: tuple[dict[str, Any], RunSpec]) -> tuple[object, ...]:
    row, spec = entry
    is_control = [method.name for method in spec.methods] == ["reset"]
    value = row["retention"]
    rank = (1, 0.0) if math.isnan(value) else (0, -value)
    return (row["protocol_id"], not is_control, rank, row["method"], row["inputs_digest"])


def _title(row: "pd.Series[Any]") -> str:
    """Return what all rows of a table share, from one of them."""
    data = f", data {row['data']}" if _is_text(row["data"]) else ""
    return f"{row['scenario']} {row['profile']}, {row['architecture']}, {row['optimizer']}{data}"


def _is_procedural(row: "pd.Series[Any]") -> bool:
    return "procedural" in str(row["data"])


def _secondary(rows: "pd.DataFrame") -> dict[str, str]:
    """Return the columns that the table of a protocol shows beside the retention, and their headings."""
    headings = {**_SECONDARY, **(_OF_ERRORS if rows.iloc[0]["score"] == "error" else {})}
    if rows["retention_before"].isna().all():
        del headings["retention_before"]
    return headings


def _cell(row: "pd.Series[Any]", column: str) -> str:
    value = float(row[column])
    if row["score"] == "error" and column == "lifetime_online" and math.isfinite(value):
        return f"{value:.3f}" if 0.01 <= value < 1000 else f"{value:.1e}"  # an error has any size
    return _number(value)


def _number(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.2f}" if abs(value) < 1000 else f"{value:.1e}"


def _is_text(value: object) -> bool:
    """Tell text from the empty, which a CSV that was read again holds as NaN."""
    return isinstance(value, str) and value != ""


def _with_interval(value: float, low: float, high: float) -> str:
    return _number(value) if math.isnan(low) else f"{value:.2f} [{low:.2f}, {high:.2f}]"


def _notes(protocol_id: str, rows: "pd.DataFrame") -> Iterator[str]:
    fewest, most = rows["seeds"].min(), rows["seeds"].max()
    seeds = f"{most} seed{'s' if most > 1 else ''}" if fewest == most else f"{fewest} to {most} seeds"
    if rows.iloc[0]["score"] == "error":
        scale = (
            f"the fresh network's error over the learner's, at most {ERROR_RETENTION_CAP:g}, 0 is a run that stopped"
        )
    else:
        scale = "1 is a fresh network, 0 is chance"
    yield f"Protocol {protocol_id}, {seeds}. Retention: {scale}; {INTERVAL_METHOD}."
    if rows["retention_before"].notna().any():
        yield "Before: the retention in the last tasks before the method turned on."
    yield "Track: knows of task boundaries (aware) or not (free). Speed and memory are multiples of those of none."
    if most > 1:
        yield "These runs do not tell apart methods whose intervals overlap."
    if fewest < 5:
        yield "With fewer than 5 seeds the intervals are too narrow: at 3 they cover the mean in 75% of cases at best."
    if not rows["ranked"].all():
        yield "Unranked: this profile is for tests and first contact."
    for method, note in zip(rows["method"], rows["notes"], strict=True):
        if _is_text(note):
            yield f"{method}: {note}"
