"""Claims with their verdicts, from the rows of a leaderboard: each with its numbers and their intervals."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lopbench.core.grid import Column, Grid
from lopbench.results.claims import Claim, EntryName, Link
from lopbench.results.group import Group, seed_ranges, seeds_in_words
from lopbench.results.judging import Finding, Word, find, rank_correlation, unstable, verdict
from lopbench.results.pairs import unseen_collapse
from lopbench.results.per_seed import Quantity
from lopbench.results.seed_scores import AXES
from lopbench.results.statistics import LEVEL
from lopbench.results.tuned import UNCHECKED
from lopbench.results.verdicts import COLLAPSE_NOTE

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

#: The columns of `frame`: a row for each number of a claim.
COLUMNS = (
    "claim",
    "text",
    "source",
    "test",
    "verdict",
    "number",
    "claimed",
    "value",
    "low",
    "high",
    "seeds",
    "p_inside",
    "p_outside",
    "needed_seeds",
    "notes",
    "deviation",
)

#: Least width of the column of numbers. Their names are long, and a narrower column would break them after each word.
_LEAST_NUMBER = 40

_STYLES = {"agrees": "green", "disagrees": "red", "cannot tell": "yellow"}


@dataclass(frozen=True)
class Asked:
    """An entry of a study as a claim names it.

    Args:
        group: Its runs; None if there are none.
        seeds: The seeds that the study asks for.
    """

    group: Group | None
    seeds: Collection[int]


@dataclass(frozen=True)
class Number:
    """One number of a claim.

    Args:
        link: What the number is, and its claimed range.
        finding: What the seeds show of it.
        low: Low end of its 95% interval over seeds; NaN if it has none.
        high: High end of that interval.
    """

    link: Link
    finding: Finding
    low: float
    high: float


@dataclass(frozen=True)
class Judged:
    """A claim with its verdict.

    Args:
        claim: The claim.
        numbers: Its numbers, in order.
        word: The verdict.
    """

    claim: Claim
    numbers: tuple[Number, ...]
    word: Word

    @property
    def needed_seeds(self) -> int | None:
        """Number of seeds that would decide the claim; None if it is decided, or if that is unknown for a number."""
        open_numbers = [each.finding for each in self.numbers if not _is_told(each.finding)]
        needed = [found.needed_seeds for found in open_numbers]
        if self.word != "cannot tell" or None in needed:
            return None
        return max((each for each in needed if each is not None), default=None)


def judge(claim: Claim, asked: Mapping[EntryName, Asked]) -> Judged:
    """Return a claim with its verdict.

    Seeds that have no run yet are left out. If a run has no value, because it stopped or failed or lacks a reference,
    the number is not judged: the mean of the other seeds would be too good.

    Args:
        claim: The claim.
        asked: The entries that it names.
    """
    numbers = tuple(_number(link, [asked[name] for name in link.entries]) for link in claim.links)
    return Judged(claim, numbers, verdict([each.finding for each in numbers]))


def frame(judged: Sequence[Judged]) -> pd.DataFrame:
    """Return the numbers of claims, each a row, in the columns `COLUMNS`."""
    import pandas as pd

    rows = [
        {
            "claim": index,
            "text": each.claim.text,
            "source": each.claim.source,
            "test": each.claim.test,
            "verdict": each.word,
            "number": number.link.what,
            "claimed": number.link.range,
            "value": number.finding.value,
            "low": number.low,
            "high": number.high,
            "seeds": number.finding.seeds,
            "p_inside": number.finding.p_inside,
            "p_outside": number.finding.p_outside,
            "needed_seeds": number.finding.needed_seeds,
            "notes": number.finding.note,
            "deviation": each.claim.deviation,
        }
        for index, each in enumerate(judged, start=1)
        for number in each.numbers
    ]
    made = pd.DataFrame(rows, columns=list(COLUMNS))
    made["needed_seeds"] = made["needed_seeds"].astype("Int64")
    return made


def to_json(judged: Sequence[Judged]) -> list[dict[str, Any]]:
    """Return claims as JSON values, each with the list of its numbers; NaN is null."""
    found: list[dict[str, Any]] = []
    own = ("text", "source", "test", "verdict", "deviation")
    for row in json.loads(frame(judged).to_json(orient="records", double_precision=15)):
        if row["claim"] > len(found):
            needed = judged[len(found)].needed_seeds
            found.append({**{key: row[key] for key in own}, "needed_seeds": needed, "numbers": []})
        found[-1]["numbers"].append({key: value for key, value in row.items() if key not in (*own, "claim")})
    return found


def render(judged: Sequence[Judged], console: Console) -> None:
    """Print claims with their numbers and verdicts, and notes under them."""
    from rich.text import Text

    numbers = [number for each in judged for number in each.numbers]
    columns = [
        Column("number", [each.link.what for each in numbers], least=_LEAST_NUMBER),
        Column("claimed", [each.link.range for each in numbers]),
        Column("value", [_with_interval(each) for each in numbers]),
        Column("seeds", [str(each.finding.seeds) for each in numbers], right=True),
        Column("needed", [_needed(each.finding) for each in numbers], right=True),
    ]
    # One table for all claims, so that their columns stand under each other.
    table, first = Grid(columns, console.width, indent=3), 0
    for index, each in enumerate(judged, start=1):
        told = f": {each.claim.text} ({each.claim.source})"
        console.print(Text.assemble(f"{index}  ", (each.word, _STYLES[each.word]), told))
        last = first + len(each.numbers)
        console.print(table.rows(first, last, headed=table.has_blocks or index == 1))
        first = last
    for index, each in enumerate(judged, start=1):
        for note in _notes(each):
            console.print(Text(f"{index}: {note}"), style="dim")
    console.print(
        Text(
            "Value: mean over seeds, with its 95% interval, a bootstrap. Verdict: the tests of the leaderboard, "
            "two-sided at 5%, for each claim by itself; over few seeds they may show less than the interval. A claim "
            "agrees if all of its numbers are shown to lie in their claimed ranges. Needed: number of seeds that would "
            "decide in 80% of cases, if the true value is the one shown."
        ),
        style="dim",
    )


def _number(link: Link, asked: Sequence[Asked]) -> Number:
    """Return a number of a claim, as far as there are runs."""
    groups = [each.group for each in asked if each.group is not None]
    notes = [*_missing(link.entries, asked), *_unchecked(link.entries, asked)]
    if len(groups) < len(asked):
        return Number(link, Finding(math.nan, 0, math.nan, math.nan, None, "; ".join(notes)), math.nan, math.nan)
    # Only the seeds that the study asks for; the folder may hold more.
    rows = [_rows(link.quantities, group, each.seeds) for group, each in zip(groups, asked, strict=True)]
    seeds = sorted(set.intersection(*(set(row) for part in rows for row in part)))
    voids = sorted(
        {
            seed
            for group, part, each in zip(groups, rows, asked, strict=True)
            for seed in _runs(group, each.seeds)
            if any(seed not in row for row in part)
        }
    )
    first, second = _sides(link, rows, seeds)
    undefined = [seed for seed, value in zip(seeds, first, strict=True) if math.isnan(value)]
    if undefined:  # of a correlation, which has nothing to subtract
        first = [value for value in first if not math.isnan(value)]
    values = [x - y for x, y in zip(first, second or [0.0] * len(first), strict=True)]
    quantity = link.quantities[0]
    collapse = quantity.is_retention and not link.is_correlation and unstable([row for part in rows for row in part])
    finding = find(first, link.low, link.high, base=second, collapse=collapse, at_ceiling=_at_ceiling(link, groups))
    if voids:
        notes.append(
            f"there is no value of {seeds_in_words(seed_ranges(voids))}, where a run stopped, lacks a reference or "
            "does not measure it; the mean of the others would be too good, so it is not judged"
        )
    if undefined:
        notes.append(
            f"there is no correlation of {seeds_in_words(seed_ranges(undefined))}, where a column is the same for all "
            "entries, so it is not judged"
        )
    if voids or undefined:
        finding = replace(finding, p_inside=math.nan, p_outside=math.nan, needed_seeds=None)
    finding = replace(finding, note="; ".join(filter(None, (*notes, finding.note))))
    low, high = quantity.interval(values) if values else (math.nan, math.nan)
    return Number(link, finding, low, high)


def _runs(group: Group, seeds: Collection[int]) -> list[int]:
    return [record.seed for record in group.runs if record.seed in seeds]


def _rows(quantities: Sequence[Quantity], group: Group, seeds: Collection[int]) -> list[dict[int, float]]:
    """Return each quantity of a row by seed."""
    found = (quantity.values(group) for quantity in quantities)
    return [{seed: value for seed, value in each.items() if seed in seeds} for each in found]


def _sides(
    link: Link, rows: Sequence[Sequence[Mapping[int, float]]], seeds: Sequence[int]
) -> tuple[list[float], list[float] | None]:
    """Return the number of each seed, a correlation NaN where it has none, and what is subtracted; None for nothing."""
    if link.is_correlation:
        pairs = ([[part[which][seed] for part in rows] for which in (0, 1)] for seed in seeds)
        return [rank_correlation(*pair) for pair in pairs], None
    first = [rows[0][0][seed] for seed in seeds]
    return first, [rows[1][0][seed] for seed in seeds] if len(rows) > 1 else None


def _at_ceiling(link: Link, groups: Sequence[Group]) -> bool:
    """Return whether both sides of a difference of retentions are too near the ceiling to be told apart."""
    quantity = link.quantities[0]
    if link.is_correlation or len(groups) < 2 or quantity.of is not None:
        return False
    if quantity.name == "retention":
        return all(group.at_ceiling(group.headline) for group in groups)
    return any(axis == quantity.name and all(group.at_ceiling(axis) for group in groups) for axis in AXES)


def _missing(names: Sequence[EntryName], asked: Sequence[Asked]) -> Iterator[str]:
    for name, each in zip(names, asked, strict=True):
        missing = set(each.seeds).difference(() if each.group is None else _runs(each.group, each.seeds))
        if missing:
            yield f"{name}: there is no record of {seeds_in_words(seed_ranges(missing))}"


def _unchecked(names: Sequence[EntryName], asked: Sequence[Asked]) -> Iterator[str]:
    for name, each in zip(names, asked, strict=True):
        if each.group is not None and not each.group.is_checked:
            yield f"{name}: {UNCHECKED}"


def _needed(found: Finding) -> str:
    return "" if _is_told(found) or found.needed_seeds is None else str(found.needed_seeds)


def _is_told(found: Finding) -> bool:
    return found.p_inside <= LEVEL or found.p_outside <= LEVEL  # NaN is not


def _notes(judged: Judged) -> Iterator[str]:
    if judged.claim.deviation:
        yield f"different from the source: {judged.claim.deviation}"
    yield from dict.fromkeys(f"{each.link.what}: {each.finding.note}" for each in judged.numbers if each.finding.note)
    seeds = [each.finding.seeds for each in judged.numbers if each.link.quantities[0].is_retention]
    collapsed = any(COLLAPSE_NOTE in each.finding.note for each in judged.numbers)
    if judged.word != "cannot tell" and not collapsed and seeds and min(seeds):
        yield (
            f"none of {min(seeds)} seeds collapsed. Up to {unseen_collapse(min(seeds)):.0%} of all seeds may still do "
            "so, and then the verdict does not hold"
        )


def _with_interval(number: Number) -> str:
    value = number.finding.value
    if math.isnan(value):
        return "-"
    return f"{value:.4g}" if math.isnan(number.low) else f"{value:.4g} [{number.low:.4g}, {number.high:.4g}]"
