"""Comparisons: whether one method does better than another, or that the runs cannot tell.

Rows compare where their protocols are the same; what differs is named. Where both sides have runs, seeds are paired:
the same seed has the same tasks, batches and initialisation whatever the method.
"""

import math
import os
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lopbench.core.errors import ResultsError, UsageError
from lopbench.core.grid import LEAST_NAME, Column, Grid
from lopbench.core.spec import canonical_json
from lopbench.core.windows import late_window
from lopbench.results.cells import csv_text, two_digits
from lopbench.results.files import write_whole
from lopbench.results.pairs import FEWEST_RANKED, Entrant, pair_tests
from lopbench.results.seed_scores import AXES
from lopbench.results.sources import BASELINE, IDENTITY, Row, Score, Source, label_of, lines, load, seeds_text
from lopbench.results.statistics import (
    COVERAGE,
    FEWEST_SEEDS,
    FEWEST_SEEDS_FROM_INTERVAL,
    INTERVAL_METHOD,
    LEVEL,
    MOST_SEEDS,
    POWER,
    detectable,
    holm,
    interval,
    needed_seeds,
    probability_of_improvement,
    unpaired_test,
)
from lopbench.results.tasks import late_count, task_count
from lopbench.results.verdicts import COLLAPSE_NOTE, MARGIN, not_worse

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

COLUMNS = (
    "protocol_id",
    "scenario",
    "profile",
    "score",
    "baseline_source",
    "baseline",
    "baseline_optimizer",
    "source",
    "method",
    "optimizer",
    "pairing",
    "seeds",
    "baseline_value",
    "value",
    "difference",
    "difference_low",
    "difference_high",
    "improvement",
    "improvement_low",
    "improvement_high",
    "p_value",
    "p_holm",
    "p_not_worse",
    "verdict",
    "needed_seeds",
    "notes",
)

# Two results closer than this are the same number computed in another order.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Difference:
    """A difference between compared rows other than the method, such as a version.

    Args:
        field: Its name, as in "versions.torch".
        values: Each value, and the rows that have it.
    """

    field: str
    values: Mapping[str, tuple[str, ...]]

    def __str__(self) -> str:
        return f"{self.field}: " + "; ".join(f"{value} ({_some(rows)})" for value, rows in self.values.items())


@dataclass(frozen=True)
class LeftOut:
    """A row that could not be compared.

    Args:
        row: Which one.
        reason: Why; names the fields in which the protocols differ.
        refused: Whether there is a row to compare it with, but under another protocol.
    """

    row: str
    reason: str
    refused: bool


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    Args:
        rows: One for each pair, with the columns that `compare` explains.
        differences: In what else the compared rows differ: versions, hardware, code of the methods.
        left_out: Rows that were compared with nothing.
        problems: Why records were left out.
        notes: What a reader should know before using the rows.
    """

    rows: "pd.DataFrame"
    differences: tuple[Difference, ...]
    left_out: tuple[LeftOut, ...]
    problems: tuple[ResultsError, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values; NaN is null."""
        rows = [{key: _plain(value) for key, value in row.items()} for row in lines(self.rows)]
        return {
            "rows": rows,
            "differences": [
                {"field": d.field, "values": {k: list(v) for k, v in d.values.items()}} for d in self.differences
            ],
            "left_out": [{"row": x.row, "reason": x.reason, "refused": x.refused} for x in self.left_out],
            "problems": list(map(str, self.problems)),
            "notes": list(self.notes),
        }


def compare(*sources: str | os.PathLike[str], score: Score = "retention") -> Comparison:
    """Compare methods: the rows of the further sources with those of the first, or those of one with its ``none``.

    A source is a results folder, a run directory or a leaderboard's CSV; ``SOURCE:METHOD`` is one method of it. With a
    single source, all its methods are compared with the one named, or with ``none``. With several, the first is the
    baseline: where it names a method or has just one, all rows of the others are compared with that one, and else each
    with the row of the same method: within a protocol, and with the same optimizer where there are several.

    With runs on both sides, seeds that both have are paired, and on each seed all tasks. Where there is only a CSV,
    or no shared seed, the two means are compared as if they were independent.

    Columns of ``rows`` besides the names:
        pairing: "seeds", or "none" where only the means could be compared.
        seeds: Number of paired seeds; without pairing the smaller number of the two.
        baseline_value, value: Means of the score over these seeds.
        difference, difference_low, difference_high: ``value - baseline_value``, and its 95% interval: `interval` over
            seeds, or Welch's without pairing.
        improvement, improvement_low, improvement_high: Probability of improvement and its 95% interval over seeds: the
            share of seeds and tasks (the late ones, for a retention) on which the method does better than the baseline,
            ties counting half; NaN without pairing. A task that a run did not finish is worse than one it did.
        p_value, p_holm: Two-sided p-value of `pair_tests` or `unpaired_test`, and the same corrected by `holm` for all
            rows of the comparison; NaN where there are too few seeds for a test. Where a retention collapsed in a seed
            of either row, a test of bounded differences takes the place of Student's, and five seeds.
        p_not_worse: P-value of the retention being `not_worse` than the baseline's by .02, corrected by `holm` for all
            rows; NaN as above, without pairing, and for other scores.
        verdict: "better", "worse", "not worse" or "no evidence", at 5% of ``p_holm`` or else of ``p_not_worse``. Two
            rows at the ceiling are not called different.
        needed_seeds: Where there is no evidence, `needed_seeds` at 5% divided by the number of tests; missing if it
            cannot be told or is more than 1000, as ``notes`` says.

    Args:
        sources: What to compare, at least one.
        score: The column of `leaderboard` to compare by. Lower is better for "lifetime_online" where it is an error.

    Raises:
        UsageError: If a source or a method does not exist, or a CSV is asked for a score other than the retention.
        ResultsError: If nothing compares, naming the fields that differ; if a CSV is damaged; or if one label stands
            for several versions of a method's code.
    """
    loaded = [load(os.fspath(source)) for source in sources]
    pairs, left_out = _match(loaded)
    if not pairs:
        refused = [each for each in left_out if each.refused] or left_out
        if not refused:
            named = _some([str(source) for source in sources])
            raise ResultsError(f"{named} give no two rows to compare; name another method or source.")
        raise ResultsError(f"Nothing compares: {refused[0].row} {refused[0].reason}.")
    rows = [_Pair(baseline, row, score).result() for baseline, row in pairs]
    tests = sum(not math.isnan(row["p_value"]) for row in rows)
    families = (holm([row[key] for row in rows]) for key in ("p_value", "p_not_worse"))
    for row, different, as_good in zip(rows, *families, strict=True):
        _judge(row, different, as_good, tests)
    compared = list(dict.fromkeys(row for pair in pairs for row in pair))
    return Comparison(
        rows=_frame(rows),
        differences=tuple(_differences(compared)),
        left_out=tuple(left_out),
        problems=tuple({str(each): each for source in loaded for each in source.problems}.values()),
        notes=tuple(_notes(rows, compared, tests)),
    )


def _frame(rows: Sequence[Mapping[str, Any]]) -> "pd.DataFrame":
    """Return rows as a frame, protocol by protocol, and within each by falling difference."""
    import pandas as pd

    made = pd.DataFrame(rows)
    made["needed_seeds"] = made["needed_seeds"].astype("Int64")
    order = {protocol: index for index, protocol in enumerate(dict.fromkeys(made["protocol_id"]))}
    made["_order"] = made["protocol_id"].map(order)
    made = made.sort_values(["_order", "difference"], ascending=[True, False], kind="stable", na_position="last")
    return made[list(COLUMNS)].reset_index(drop=True)


def protocol_differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Return the fields in which two protocols (`RunSpec.protocol`) differ: dotted name to both values as JSON.

    Components in a list go by their names, as in "metrics.dead_fraction.version"; what only one of them has is
    "(none)" in the other. If a component has another name, only its name is returned.
    """
    x, y = dict(_flat("", a)), dict(_flat("", b))
    found = {
        key: (x.get(key, "(none)"), y.get(key, "(none)"))
        for key in dict.fromkeys((*x, *y))
        if x.get(key, "(none)") != y.get(key, "(none)")
    }
    others = {key.removesuffix(".name") for key in found if key.endswith(".name")}
    return {key: values for key, values in found.items() if not _belongs(key, others)}


def to_csv(frame: "pd.DataFrame", path: str | os.PathLike[str]) -> None:
    """Write the rows of a comparison; floats keep all their digits, NaN is empty.

    A text that a spreadsheet would run as a formula gets an apostrophe in front.

    Raises:
        ResultsError: If the file cannot be written.
    """
    write_whole(path, csv_text(frame), "The comparison")


def render(comparison: Comparison, console: "Console") -> None:
    """Print a comparison: first what differs, then one table for each protocol, then what was left out and notes."""
    from rich.text import Text

    for difference in comparison.differences:
        console.print(Text(f"Differs: {difference}", style="yellow"))
    if not comparison.differences:
        console.print(Text("Differs: nothing that was recorded, except the methods."))
    for protocol_id, rows in comparison.rows.groupby("protocol_id", sort=False):
        first = rows.iloc[0]
        against, names = rows["baseline"], rows["method"]
        if len({*rows["optimizer"], *rows["baseline_optimizer"]}) > 1:
            is_same = against.nunique() == 1 and (rows["optimizer"] == rows["baseline_optimizer"]).all()
            against = against + (" with the same optimizer" if is_same else " with " + rows["baseline_optimizer"])
            names = names + " with " + rows["optimizer"]
        sides = against, names
        if len({*rows["source"], *rows["baseline_source"]}) > 1:
            sides = against + " of " + rows["baseline_source"], names + " of " + rows["source"]
        one_baseline = sides[0].nunique() == 1  # then the title has it, and the table more room
        baseline = f", against {sides[0].iloc[0]}" if one_baseline else ""
        console.print(Text(f"{first['scenario']} {first['profile']}, {first['score']}{baseline}", style="italic"))
        columns = _columns(list(lines(rows)), list(sides[1]), [] if one_baseline else list(sides[0]))
        Grid.or_whole_blocks(columns, console.width, leaving=["P of better"], gap=1).show(console)
        console.print(Text(f"Protocol {protocol_id}."), style="dim")
        for name, notes in zip(names, rows["notes"], strict=True):
            if notes:
                console.print(Text(f"{name}: {notes}"), style="dim")
    for each in comparison.left_out:
        console.print(Text(f"Not compared: {each.row} {each.reason}.", style="yellow"))
    for problem in comparison.problems:
        console.print(Text(f"Left out: {problem}", style="yellow"))
    for note in comparison.notes:
        console.print(Text(note), style="dim")


def _columns(rows: Sequence[Mapping[str, Any]], methods: Sequence[str], against: Sequence[str]) -> list[Column]:
    """Return the columns of the table of a protocol; what rows are compared with has none where it is empty."""
    differences = [_with_interval(row["difference"], row["difference_low"], row["difference_high"]) for row in rows]
    verdicts = [_verdict(row) for row in rows]
    styles = [{"better": "green", "worse": "red"}.get(row["verdict"], "") for row in rows]
    return [
        Column("method", methods, least=LEAST_NAME),
        Column("against", against, least=LEAST_NAME),
        Column("value", [_number(row["value"]) for row in rows], right=True),
        Column("baseline", [_number(row["baseline_value"]) for row in rows], right=True, broken="base-\nline"),
        Column("difference", differences, right=True),
        Column("P of better", [_number(row["improvement"]) for row in rows], right=True, broken="P of\nbetter"),
        Column("p", [_p_text(row["p_holm"]) for row in rows], right=True),
        Column("seeds", [str(row["seeds"]) for row in rows], right=True),
        Column("verdict", verdicts, least=len("no evidence,"), styles=styles),
    ]


def _match(sources: Sequence[Source]) -> tuple[list[tuple[Row, Row]], list[LeftOut]]:
    """Return the pairs of baseline and row to compare, and the rows that have no counterpart."""
    if not sources:
        raise UsageError("There is nothing to compare; give a results folder or a leaderboard's CSV.")
    first, others = sources[0], list(sources[1:])
    method = first.method
    if not others:
        method = method or label_of(BASELINE, first.rows, first.name)
        others = [Source(first.name, first.rows, None)]
    elif method is None and len(labels := {row.method for row in first.rows}) == 1:
        method = labels.pop()
    pairs: list[tuple[Row, Row]] = []
    left_out: list[LeftOut] = []
    for row in (row for source in others for row in source.chosen):
        wanted = row.method if method is None else method
        if row.source == first.name and row.method == wanted:
            continue  # itself
        counterparts = [each for each in first.rows if each.method == wanted]
        near = [each for each in counterparts if each.protocol_id == row.protocol_id]
        alike = [each for each in near if each.optimizer == row.optimizer]
        if len(partners := alike or near) == 1:
            pairs.append((partners[0], row))
        elif near:
            names = ", ".join(each.optimizer for each in near)
            reason = f"has {row.optimizer}, and {first.name} has {wanted} with {names}: keep the runs of one of them"
            left_out.append(LeftOut(_in_protocol(row), reason, refused=True))
        elif counterparts:
            left_out.append(LeftOut(_in_protocol(row), _refusal(row, counterparts), refused=True))
        else:
            left_out.append(LeftOut(str(row), f"has no counterpart: {first.name} has no {wanted}", refused=False))
    return pairs, left_out


def _in_protocol(row: Row) -> str:
    return f"{row} under {row.protocol_id}"


def _refusal(row: Row, counterparts: Iterable[Row]) -> str:
    """Return in which fields the protocol of the most similar counterpart is another."""
    found = [(other, _fields_apart(other, row)) for other in counterparts]
    other, fields = min(found, key=lambda entry: len(entry[1]))
    apart = "; ".join(f"{name} is {theirs} here and {ours} there" for name, (ours, theirs) in fields.items())
    if not fields:
        apart = "protocol_id; a CSV does not say what that is made of, and results folders do"
    return f"does not compare with {_in_protocol(other)}, the nearest, which differs in its protocol: {apart}"


def _fields_apart(a: Row, b: Row) -> dict[str, tuple[str, str]]:
    if a.spec is not None and b.spec is not None:
        return protocol_differences(a.spec.protocol(), b.spec.protocol())
    columns = [key for key in IDENTITY if key != "protocol_id"]
    return {
        key: (a.facts[key] or "(none)", b.facts[key] or "(none)") for key in columns if a.facts[key] != b.facts[key]
    }


def _belongs(key: str, components: Container[str]) -> bool:
    """Return whether a dotted name is one of ``components`` or a part of one other than its name."""
    parts = key.split(".")
    inside = any(".".join(parts[:count]) in components for count in range(1, len(parts)))
    return key in components or (inside and not key.endswith(".name"))


def _flat(name: str, value: object) -> Iterator[tuple[str, str]]:
    """Yield the leaves of JSON values under dotted names."""
    dot = f"{name}." if name else ""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _flat(f"{dot}{key}", part)
    elif isinstance(value, list) and value and all(isinstance(part, Mapping) and "name" in part for part in value):
        count: dict[str, int] = defaultdict(int)
        for part in value:
            key = str(part["name"])
            count[key] += 1
            label = key if count[key] == 1 else f"{key}#{count[key]}"  # a metric may stand there twice
            yield from _flat(f"{dot}{label}", part)
    else:
        yield name, canonical_json(value)


@dataclass(frozen=True)
class _Pair:
    """A baseline, what is compared with it, and by which score."""

    baseline: Row
    row: Row
    score: Score

    def result(self) -> dict[str, Any]:
        """Return the row of the comparison, without its verdict."""
        if self.score != "retention":
            for side in (self.baseline, self.row):
                if side.line is not None:
                    raise UsageError(
                        f"{side.source} has intervals of the retention only; "
                        f"give results folders to compare by {self.score}."
                    )
        shared = sorted(self.baseline.runs.keys() & self.row.runs.keys())
        facts = self.row.facts
        return {
            "protocol_id": facts["protocol_id"],
            "scenario": facts["scenario"],
            "profile": facts["profile"],
            "score": self.score,
            "baseline_source": self.baseline.source,
            "baseline": self.baseline.method,
            "baseline_optimizer": self.baseline.optimizer,
            "source": self.row.source,
            "method": self.row.method,
            "optimizer": self.row.optimizer,
            "_lower_is_better": self.score == "lifetime_online" and (self.baseline.of_errors or self.row.of_errors),
            **(self._paired(shared) if shared else self._unpaired()),
        }

    def _paired(self, shared: Sequence[int]) -> dict[str, Any]:
        """Return the numbers over the seeds that both sides have."""
        before, after = self.baseline.scores(self.score), self.row.scores(self.score)
        scored = [seed for seed in shared if math.isfinite(before[seed]) and math.isfinite(after[seed])]
        a, b = [before[seed] for seed in scored], [after[seed] for seed in scored]
        differences = [0.0 if math.isclose(x, y, rel_tol=_ROUNDING) else y - x for x, y in zip(a, b, strict=True)]
        improvements = [self._improvement(seed) for seed in scored]
        low, high = interval(differences) if scored else (math.nan, math.nan)
        improvement_low, improvement_high = interval(improvements) if scored else (math.nan, math.nan)
        notes = [*self._common_notes()]
        alone = sorted(self.baseline.runs.keys() ^ self.row.runs.keys())
        if alone:
            notes.append(f"on one side only, left out: {seeds_text(alone)}")
        notes += filter(None, (side.without(self.score, shared) for side in (self.baseline, self.row)))
        first, second = (Entrant(dict(zip(scored, side, strict=True))) for side in (a, b))
        collapse = self.score != "lifetime_online" and (first.unstable or second.unstable)
        fewest = FEWEST_RANKED if collapse else FEWEST_SEEDS
        if collapse:
            notes.append(COLLAPSE_NOTE)
        if len(scored) < fewest:
            notes.append(f"a test needs at least {fewest} shared seeds")
        p_value = math.nan
        if len(scored) >= fewest:
            p_value = float(pair_tests(np.array([a]), np.array([b]), np.array([collapse])).two_sided[0])
        return {
            "pairing": "seeds",
            "seeds": len(scored),
            "baseline_value": _mean(a),
            "value": _mean(b),
            "difference": _mean(differences),
            "difference_low": low,
            "difference_high": high,
            "improvement": _mean(improvements),
            "improvement_low": improvement_low,
            "improvement_high": improvement_high,
            "p_value": p_value,
            "p_not_worse": math.nan if self.score == "lifetime_online" else not_worse(first, second),
            "_at_ceiling": self.baseline.at_ceiling(self.score) and self.row.at_ceiling(self.score),
            "_deviation": float(np.std(differences, ddof=1)) if len(scored) >= fewest and not collapse else math.nan,
            "notes": "; ".join(notes),
        }

    def _unpaired(self) -> dict[str, Any]:
        """Return the numbers that two means with their standard errors give."""
        a, b = self.baseline.sample(self.score), self.row.sample(self.score)
        low, high, p_value = unpaired_test(a, b) if a and b else (math.nan, math.nan, math.nan)
        from_csv = [side.source for side in (self.baseline, self.row) if side.line is not None]
        notes = [*self._common_notes()]
        if not from_csv:
            notes.append("no shared seed: the means were compared, not paired")
        if math.isnan(p_value):
            fewest = FEWEST_SEEDS_FROM_INTERVAL if from_csv else FEWEST_SEEDS
            notes.append(f"a test of means{' of a CSV' if from_csv else ''} needs at least {fewest} seeds on each side")
        seeds = min(a.seeds, b.seeds) if a and b else 0
        # Of one seed's difference, had both sides that many seeds.
        deviation = math.hypot(*(x.standard_error * math.sqrt(x.seeds) for x in (a, b))) if a and b else math.nan
        return {
            "pairing": "none",
            "seeds": seeds,
            "baseline_value": a.mean if a else math.nan,
            "value": b.mean if b else math.nan,
            "difference": b.mean - a.mean if a and b else math.nan,
            "difference_low": low,
            "difference_high": high,
            "improvement": math.nan,
            "improvement_low": math.nan,
            "improvement_high": math.nan,
            "p_value": p_value,
            "p_not_worse": math.nan,
            "_at_ceiling": self.baseline.at_ceiling(self.score) and self.row.at_ceiling(self.score),
            "_deviation": deviation,
            "notes": "; ".join(notes),
        }

    def _common_notes(self) -> Iterator[str]:
        if self.baseline.same == self.row.same:
            yield "the same runs on both sides"
        for side in (self.row, self.baseline):
            for text in side.stopped:
                yield f"{side}: {text}"
        optimizers = [side.optimizer for side in (self.row, self.baseline)]
        if optimizers[0] != optimizers[1]:
            yield f"of different optimizers: {optimizers[0]} against {optimizers[1]}"
        tracks = [side.facts["track"] for side in (self.row, self.baseline)]
        if tracks[0] != tracks[1] and "control" not in tracks:
            yield f"of different tracks: {tracks[0]} against {tracks[1]}"

    def _improvement(self, seed: int) -> float:
        """Return the probability of improvement over the tasks of one seed; what was not finished is worst."""
        runs = self.baseline.runs[seed], self.row.runs[seed]
        kind = "error" if self.baseline.of_errors or self.row.of_errors else "accuracy"
        axis = self.row.axis if self.score == "retention" else self.score
        metric = f"{'online' if axis == 'lifetime_online' else AXES[axis]}_{kind}"
        count = task_count(runs[0])
        tasks = range(count) if self.score == "lifetime_online" else late_window(count, late_count(runs[0]))
        sign = -1.0 if kind == "error" else 1.0
        tables = [run.per_task(metric) for run in runs]
        a, b = ([sign * found[task] if task in found else -math.inf for task in tasks] for found in tables)
        return probability_of_improvement(a, b)


def _judge(row: dict[str, Any], different: float, as_good: float, tests: int) -> None:
    """Add the verdict to a row, in place, and how many seeds would give one where there is none."""
    deviation, difference = row.pop("_deviation"), row["difference"]
    lower_is_better, at_ceiling = row.pop("_lower_is_better"), row.pop("_at_ceiling")
    row["p_holm"], row["p_not_worse"], row["needed_seeds"] = different, as_good, None
    if at_ceiling:
        row["notes"] = "; ".join(filter(None, (row["notes"], "both at the ceiling")))
    elif different <= LEVEL:
        row["verdict"] = "better" if (difference > 0) != lower_is_better else "worse"
        return
    row["verdict"] = "not worse" if as_good <= LEVEL else "no evidence"
    if at_ceiling:
        return
    if not math.isnan(deviation) and difference != 0:
        row["needed_seeds"] = needed_seeds(difference, deviation, LEVEL / max(tests, 1))
        if row["needed_seeds"] is None:
            row["notes"] = "; ".join(filter(None, (row["notes"], f"more than {MOST_SEEDS} seeds would be needed")))


def _differences(rows: Sequence[Row]) -> Iterator[Difference]:
    """Yield the differences in environment and in the code of the methods."""
    one_source = len({row.source for row in rows}) == 1
    unknown = dict.fromkeys(row.source for row in rows if row.line is not None)
    if unknown:
        yield Difference("versions, hardware", {"not known": tuple(unknown)})
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        values: dict[str, set[str]] = defaultdict(set)
        for record in row.runs.values():
            for key, value in _flat("", record.environment):
                values[key].add(value.strip('"'))
            for method in record.spec.methods:
                values[f"{method.name}.version"].add(str(method.version))
                values[f"{method.name}.origin"].add(method.origin)
        name = row.method if one_source else str(row)
        for key, texts in values.items():
            text = ", ".join(sorted(texts))
            if name not in found[key][text]:
                found[key][text].append(name)
    for key, by_value in found.items():
        if len(by_value) > 1:
            yield Difference(key, {value: tuple(names) for value, names in by_value.items()})


def _notes(rows: Sequence[Mapping[str, Any]], compared: Sequence[Row], tests: int) -> Iterator[str]:
    files = list(dict.fromkeys(row.source for row in compared if row.line is not None))
    if files:
        yield (
            f"From a CSV ({_some(files)}): seeds cannot be paired, so means were compared by Welch's t-test, with "
            "standard errors read off the intervals, which shows less than pairing. Give results folders for more."
        )
    yield (
        "Difference: the method's value minus that of the row it is compared with; "
        f"{INTERVAL_METHOD}{', Welch without pairing' if any(row['pairing'] == 'none' for row in rows) else ''}. "
        "P of better: share of seeds and tasks on which the method does better, ties half."
    )
    yield (
        f"Verdict: two-sided t-test over seeds at {LEVEL:.0%}, p corrected by Holm's method for {tests} "
        f"test{'' if tests == 1 else 's'}. It assumes that differences between seeds are normal; where seeds "
        "collapse, a test of bounded differences takes its place."
    )
    if any(not math.isnan(row["p_not_worse"]) for row in rows):
        yield (f"Not worse: the same test with a margin of {MARGIN:g}, p corrected by Holm's method separately.")
    if any(row["verdict"] == "no evidence" for row in rows):
        yield (
            "No evidence is not evidence of no difference. Needed seeds: to tell a difference in "
            f"{POWER:.0%} of cases, if it is as large as these few seeds say."
        )
    paired = [row["seeds"] for row in rows if row["pairing"] == "seeds" and not math.isnan(row["p_value"])]
    if paired and min(paired) < 10:
        times = detectable(min(paired), LEVEL / tests)
        yield (
            f"With {min(paired)} seeds a difference has to be up to {times:.1f} times its standard deviation over "
            f"seeds to show. {COVERAGE}"
        )


def _verdict(row: Mapping[str, Any]) -> str:
    needed = row["needed_seeds"]
    return row["verdict"] if _plain(needed) is None else f"{row['verdict']}, needs about {needed} seeds"


def _plain(value: Any) -> Any:
    """Return a cell of a frame as a JSON value."""
    import pandas as pd

    if pd.isna(value):
        return None
    return value.item() if isinstance(value, np.generic) else value


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3g}" if abs(value) >= 1000 else two_digits(value)


def _with_interval(value: float, low: float, high: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:+.3f}" if math.isnan(low) else f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"


def _p_text(value: float) -> str:
    return "-" if math.isnan(value) else "<0.001" if value < 0.001 else f"{value:.3f}"


def _some(names: Sequence[str]) -> str:
    """Return names in words, the first three of many."""
    return ", ".join(names) if len(names) <= 4 else f"{', '.join(names[:3])} and {len(names) - 3} more"
