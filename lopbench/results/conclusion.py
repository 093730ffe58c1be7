"""What a table comes to in words: the sentences with which a run ends."""

import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from lopbench.core.text import counted
from lopbench.results.pairs import FEWEST_RANKED

if TYPE_CHECKING:
    import pandas as pd

#: Most methods of a protocol that have a sentence each; more are told together.
_MOST_SENTENCES = 4


def in_words(frame: "pd.DataFrame") -> list[str]:
    """Return what the rows of a leaderboard say about each method against plain learning, a sentence a line.

    Numbers are retentions, that of plain learning last. Fewer than five seeds give no verdict, and the sentence says
    with which seeds to repeat the runs.

    Args:
        frame: What `leaderboard` returned.
    """
    return [line for _, rows in frame.groupby("protocol_id", sort=False) for line in _protocol(rows)]


def _protocol(rows: "pd.DataFrame") -> Iterator[str]:
    first = rows.iloc[0]
    if not first["ranked"]:
        profile = str(first["profile"]).partition("+")[0]
        yield f"These numbers mean nothing: the profile {profile} is so short that it only shows that everything works."
        return
    several = rows["optimizer"].nunique() > 1
    known = [_Row(row, several=several) for _, row in rows.iterrows() if row["track"] != "control"]
    for each in known:
        if math.isnan(each.retention):
            yield f"{each.name} has no retention: {each.note or 'its fresh reference is missing'}."
    known = [each for each in known if not math.isnan(each.retention)]
    baseline = max((each for each in known if each.is_plain), key=lambda each: each.weight, default=None)
    others = [each for each in known if each is not baseline]
    if baseline is None or not others:
        yield from (each.alone(first["reference"]) for each in known)
        if baseline is None and known:
            yield "Whether that is more than plain learning keeps is not known: add --method none."
    elif len(others) <= _MOST_SENTENCES:
        yield from (each.against(baseline) for each in others)
    else:
        yield from _together(others, baseline)


class _Row:
    """A row of a leaderboard, with or without a retention.

    Args:
        row: Its columns.
        several: Whether the optimizer tells it from others.
    """

    def __init__(self, row: "pd.Series[Any]", *, several: bool) -> None:
        self.name = f"{row['method']} with {row['optimizer']}" if several else str(row["method"])
        self.is_plain = row["method"] == "none"
        self.retention = float(row["retention"])
        self.seeds = int(row["seeds"])
        self.weight = self.seeds, self.retention
        self.verdict = str(row["verdict"] or "")
        self.rank_note = str(row["rank_note"] or "")
        self.note = str(row["notes"] or "")
        self.coverage = str(row["coverage"])

    def alone(self, reference: str) -> str:
        """Return the sentence for a row that is compared with nothing."""
        kept = f"{self.name} keeps {_number(self.retention)} of what a {reference} learns"
        return f"{kept} (1 is a {reference}, 0 is chance){self.caveat}."

    def against(self, baseline: "_Row") -> str:
        """Return the sentence that compares the row with plain learning."""
        ours, theirs = _number(self.retention), _number(baseline.retention)
        numbers = f"{ours} against {theirs}"
        if self.verdict == "not shown":
            why = f" ({self.rank_note})" if self.rank_note else ""
            return f"{self.name} and {baseline.name} cannot be told apart: {numbers} over {self.seeds} seeds{why}."
        if not self.verdict and ours == theirs:
            return f"{self.name} keeps as much as {baseline.name}: {ours}{self.caveat}."
        said = self.verdict or ("better" if self.retention > baseline.retention else "worse")
        told = f"{self.name} keeps {'more' if said == 'better' else 'less'} than {baseline.name}: {numbers}"
        if self.verdict:
            return f"{told}, shown over {self.seeds} seeds."
        return f"{told}{self.caveat or (f'; no verdict ({self.rank_note})' if self.rank_note else '')}."

    @property
    def caveat(self) -> str:
        """A warning that the seeds are few, with what to do; empty if they are enough."""
        if self.seeds >= FEWEST_RANKED:
            return ""
        first = int((re.match(r"\d+", self.coverage) or ["0"])[0])
        more = f"repeat with --seeds {first}-{first + FEWEST_RANKED - 1}"
        return f"; {'one seed' if self.seeds == 1 else counted(self.seeds, 'seed')}, may be chance; {more}"


def _together(others: list[_Row], baseline: _Row) -> Iterator[str]:
    """Yield a sentence each for the rows that are better, worse, not told apart, and not judged."""
    for verdict, said in (
        ("better", f"Shown to keep more than {baseline.name}"),
        ("worse", f"Shown to keep less than {baseline.name}"),
        ("not shown", f"Cannot be told apart from {baseline.name}"),
        ("", f"Without a verdict against {baseline.name}"),
    ):
        found = sorted((each for each in others if each.verdict == verdict), key=lambda each: -each.retention)
        if found:
            caveat = next((each.caveat for each in found if not verdict and each.caveat), "")
            listed = ", ".join(f"{each.name} {_number(each.retention)}" for each in found)
            yield f"{said} ({_number(baseline.retention)}): {listed}{caveat}."


def _number(value: float) -> str:
    """Return a retention with two digits, and no sign if it rounds to zero."""
    return f"{round(value, 2) + 0.0:.2f}"
