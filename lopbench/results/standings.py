"""Where the rows of one table stand: ranks within the track, and verdicts against the baseline."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lopbench.results.pairs import Entrant, table_seeds, why_left_out
from lopbench.results.ranks import rank_ranges
from lopbench.results.verdicts import verdicts

#: What `place` fills in, and what stands there for a row that it does not see.
UNPLACED: dict[str, Any] = {"rank_low": None, "rank_high": None, "verdict": "", "rank_note": ""}


@dataclass(frozen=True)
class Standing:
    """A row of a table that is to be placed.

    Args:
        row: Its columns; has "track".
        entrant: Its scores.
        is_baseline: Whether it is plain learning.
    """

    row: dict[str, Any]
    entrant: Entrant
    is_baseline: bool


def place(table: Sequence[Standing]) -> None:
    """Fill in where each row of a table stands, in place.

    Columns:
        rank_low, rank_high: `rank_ranges` within the track, over `table_seeds`; None for an unranked row.
        verdict: "better", "worse" or "not shown", of `verdicts` against the baseline, which may be of another track;
            empty for the baseline, and where there is none. Of several rows of plain learning, with other optimizers,
            the baseline is the one of most seeds, and then of the highest mean: a method has to beat the best of them.
        rank_note: Why the row is unranked, or what to know about its verdict.

    Args:
        table: All rows of one protocol that are ranked at all.
    """
    chosen = _baseline(table)
    baseline = None if chosen is None else chosen.entrant
    seeds = table_seeds(baseline, [each.entrant for each in table])
    for each in table:
        each.row.update(UNPLACED, rank_note=why_left_out(each.entrant, seeds) or "")
    for track in dict.fromkeys(each.row["track"] for each in table):
        group = [each for each in table if each.row["track"] == track]
        for each, ranks in zip(group, rank_ranges([each.entrant for each in group], seeds), strict=True):
            if ranks is not None:
                each.row.update(rank_low=ranks.low, rank_high=ranks.high)
        if baseline is not None:
            others = [each for each in group if each is not chosen]
            for each, verdict in zip(others, verdicts(baseline, [x.entrant for x in others], seeds), strict=True):
                if verdict is not None:
                    each.row.update(verdict=verdict.word, rank_note=verdict.note)


def _baseline(table: Sequence[Standing]) -> Standing | None:
    """Return the row of plain learning that others are judged against."""

    def weight(each: Standing) -> tuple[int, float]:
        scores = each.entrant.scores.values()
        return len(scores), math.fsum(scores) / max(1, len(scores))

    return max((each for each in table if each.is_baseline), key=weight, default=None)
