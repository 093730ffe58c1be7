"""Verdicts on claims: whether the seeds show that a number lies in its claimed range, or outside, or neither.

The tests are those of the leaderboard (`pair_tests`), two-sided at 5%. A claim agrees if each of its numbers is shown
to lie in its range, by a test at the full level. If one of them lies outside, its own test is wrong in at most 2.5% of
cases, and so is the verdict (J. O. Berger, 1982, doi:10.1080/00401706.1982.10487790). A claim disagrees if one of its
numbers is shown to lie outside, after Holm's correction for their number. In all other cases the seeds cannot tell.

Share of studies with a false verdict, at 5, 10 and 20 seeds (2,000 studies each, ``tests/results/simulate_claims.py``).
The mean is 1, seeds below .2 have collapsed, and the claims are that it is at least 1, at most 1, .95 to 1, and that
three equal entries stand in an order:

| law of the seeds | agrees: at least 1 | at most 1 | .95 to 1 | in order | disagrees: in order |
|---|---|---|---|---|---|
| normal, sd .1 | .032 .025 .024 | .026 .026 .019 | .000 .000 .001 | .000 .000 .000 | .029 .021 .028 |
| log-normal, sigma .5 | .005 .005 .006 | .077 .079 .058 | .000 .000 .000 | .000 .000 .000 | .014 .019 .022 |
| 20% collapse | .333 .097 .013 | .007 .005 .013 | .000 .000 .000 | .000 .000 .000 | .004 .000 .006 |
| 40% collapse | .076 .007 .021 | .009 .012 .019 | .000 .000 .000 | .000 .000 .000 | .021 .002 .009 |
| 60% collapse | .007 .015 .020 | .086 .007 .018 | .000 .000 .000 | .000 .000 .000 | .160 .011 .011 |

A rank correlation of at least 0, of columns that have nothing to do with each other, agrees in .033, .024 and .029 of
studies with 3, 5 and 10 seeds over 5 entries, and in .025, .021 and .021 over 8 (3,000 studies each).

So verdicts hold for roughly normal numbers. The rates that are too high are those of `pair_tests`: five seeds may by
chance show no collapse, or nothing but collapses. Verdicts on retentions therefore say how large a rate of collapse
their seeds leave open.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lopbench.results.pairs import FEWEST_RANKED, Entrant, pair_tests, snapped
from lopbench.results.statistics import FEWEST_SEEDS, LEVEL, MOST_SEEDS, holm, needed_seeds
from lopbench.results.verdicts import COLLAPSE_NOTE

Word = Literal["agrees", "disagrees", "cannot tell"]


@dataclass(frozen=True)
class Finding:
    """What the seeds show of one number.

    Args:
        value: Its mean over seeds; NaN without seeds.
        seeds: Number of seeds.
        p_inside: Two-sided p-value for the claimed range; NaN if no test can be made.
        p_outside: Two-sided p-value for what lies outside of it.
        needed_seeds: Number of seeds that would decide, if the true value is this one. None if these seeds decide, if
            more than 1000 are needed, or if it cannot be computed.
        note: Why no test was made, or what to know about it; empty for nothing.
    """

    value: float
    seeds: int
    p_inside: float
    p_outside: float
    needed_seeds: int | None
    note: str


def find(
    values: Sequence[float],
    low: float,
    high: float,
    *,
    base: Sequence[float] | None = None,
    collapse: bool = False,
    at_ceiling: bool = False,
) -> Finding:
    """Return what the seeds show of a number that is claimed to lie in a range.

    Args:
        values: The number of each seed, ``(S,)``, finite.
        low: The least value with which the claim holds; may be minus infinity.
        high: The largest value; may be infinite.
        base: What is subtracted from it, of the same seeds; 0 if None. A difference that is 0 in all seeds is not shown
            to be at least 0: who claims that means more.
        collapse: Whether a seed collapsed, so that the numbers are not roughly normal.
        at_ceiling: Whether both sides of a difference are too near the ceiling of the score to be told apart. Then
            only a range around 0 can be shown.
    """
    size = len(values)
    second = np.array([values], dtype=np.float64)
    first = np.zeros_like(second) if base is None else np.array([base], dtype=np.float64)
    differences = (second - first)[0]
    value = math.fsum(differences) / size if size else math.nan
    fewest = FEWEST_RANKED if collapse else FEWEST_SEEDS
    notes = [COLLAPSE_NOTE] if collapse else []
    if size < fewest:
        notes.append(f"a test needs at least {fewest} seeds")
        return Finding(value, size, math.nan, math.nan, fewest if size else None, "; ".join(notes))
    inside, outside = [], []
    for bound, up in ((low, True), (high, False)):
        if math.isfinite(bound):
            found = pair_tests(first, second, np.array([collapse]), margin=-bound)
            above, below = float(found.better[0]), float(found.worse[0])
            if base is None and not snapped(second - bound, np.maximum(np.abs(second), abs(bound))).any():
                inside.append(0.0)  # no seed differs from a bound, which is in the range
                outside.append(1.0)
                continue
            inside.append(above if up else below)
            outside.append(below if up else above)
    p_inside, p_outside = min(1.0, 2 * max(inside)), min(1.0, 2 * min(outside))
    if at_ceiling:
        notes.append("both at the ceiling")
        p_inside, p_outside = (p_inside if low < 0 < high else 1.0), 1.0
    needed = None
    if min(p_inside, p_outside) > LEVEL and not (collapse or at_ceiling):
        distance = min((value - bound for bound in (low, high) if math.isfinite(bound)), key=abs)
        needed = needed_seeds(distance, float(differences.std(ddof=1)))
        if needed is None:
            notes.append(f"more than {MOST_SEEDS} seeds would be needed")
    return Finding(value, size, p_inside, p_outside, needed, "; ".join(notes))


def verdict(findings: Sequence[Finding]) -> Word:
    """Return whether a claim holds, from what the seeds show of each of its numbers; at least one."""
    if all(found.p_inside <= LEVEL for found in findings):  # NaN is not
        return "agrees"
    corrected = holm([found.p_outside for found in findings])
    return "disagrees" if any(p <= LEVEL for p in corrected) else "cannot tell"


def unstable(entrants: Collection[Mapping[int, float]]) -> bool:
    """Return whether a seed collapsed in any of several rows of retentions."""
    return any(Entrant(scores).unstable for scores in entrants)


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Return Spearman's rank correlation of two numbers over some entries; NaN if one is the same."""
    from scipy import stats

    if len(set(first)) == 1 or len(set(second)) == 1:
        return math.nan
    return float(stats.spearmanr(first, second).statistic)
