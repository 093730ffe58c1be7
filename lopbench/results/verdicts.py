"""Verdicts: whether a row does better than its baseline, and whether it is as good."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lopbench.results.pairs import FEWEST_RANKED, Entrant, pair_tests, why_left_out
from lopbench.results.statistics import FEWEST_SEEDS, LEVEL, holm

#: What tables say about their verdicts.
VERDICT_METHOD = (
    f"paired t-test over seeds against the baseline, Holm's correction for the verdicts of the track, {LEVEL:.0%}; "
    "where seeds collapse, a test of the mean of bounded differences"
)

#: Retention by which a row may be worse and still count as not worse.
MARGIN = 0.02

#: What a comparison adds where seeds of either row collapsed.
COLLAPSE_NOTE = "seeds collapsed: the interval does not hold, a test of bounded differences was made"

#: What a verdict adds where seeds of the baseline alone collapsed: the interval of the row itself holds.
BASELINE_COLLAPSE_NOTE = "seeds of the baseline collapsed: the verdict is of a test of bounded differences"

Word = Literal["better", "worse", "not shown"]


@dataclass(frozen=True)
class Verdict:
    """What the seeds show of a row against its baseline.

    Args:
        word: "better", "worse" or "not shown".
        p_holm: Two-sided p-value, corrected for all verdicts of the table.
        note: What holds the verdict back, or what to know about it; empty for nothing.
    """

    word: Word
    p_holm: float
    note: str


def verdicts(baseline: Entrant, entrants: Sequence[Entrant], seeds: Collection[int]) -> list[Verdict | None]:
    """Return whether each row does better or worse than the baseline.

    The tests are those of `pair_tests`, two-sided at 5% after Holm's correction for these verdicts alone: one test for
    each row, where ranks take one for each pair of rows. Among n rows a p-value of ``.05 / n`` is always enough. So
    what is shown of a method against the baseline mostly outlives other entries: of six methods better by .03 to .18,
    sd .02, a share of .88 is shown at 5 seeds, and .83, .78, .73 and .66 when 1, 3, 7 and 14 rows equal to the baseline
    are added; at 10 seeds .98, and .96, .94, .91 and .89 (``tests/results/simulate_statistics.py``). In at most 5% of
    tables is any verdict wrong, as far as `pair_tests` holds.

    Args:
        baseline: What to compare with.
        entrants: The rows of one track under the same protocol, without the baseline.
        seeds: What `table_seeds` returned for the protocol.

    Returns:
        Verdicts in the order of ``entrants``; None for a row that `why_left_out` has a reason for, and for all if it
        has one for the baseline. Such a row changes no other verdict.
    """
    found: list[Verdict | None] = [None] * len(entrants)
    fit = [index for index, entrant in enumerate(entrants) if why_left_out(entrant, seeds) is None]
    if not fit or why_left_out(baseline, seeds) is not None:
        return found
    order = sorted(seeds)
    values = np.array([[entrants[index].scores[seed] for seed in order] for index in fit])  # (n, S)
    base = np.broadcast_to([baseline.scores[seed] for seed in order], values.shape)
    collapse = np.array([baseline.unstable or entrants[index].unstable for index in fit])
    outcome = pair_tests(base, values, collapse)
    corrected = holm(outcome.two_sided.tolist())
    for k, index in enumerate(fit):
        notes = [COLLAPSE_NOTE if entrants[index].unstable else BASELINE_COLLAPSE_NOTE] if collapse[k] else []
        word: Word = "not shown"
        if baseline.at_ceiling and entrants[index].at_ceiling:
            notes.append("both at the ceiling")
        elif corrected[k] <= LEVEL:
            word = "better" if outcome.better[k] < outcome.worse[k] else "worse"
        found[index] = Verdict(word, corrected[k], "; ".join(notes))
    return found


def not_worse(baseline: Entrant, other: Entrant, margin: float = MARGIN) -> float:
    """Return the p-value of ``other`` being not worse than ``baseline`` by ``margin``, over the seeds that both have.

    It is the test of `verdicts` with the margin added to every difference (non-inferiority), two-sided as there: the
    value is at most 5% where the 95% interval of the difference lies above ``-margin``. So no evidence of a difference
    is not taken for evidence of none.

    Args:
        baseline: What to compare with.
        other: What may be as good.
        margin: Retention that may be lost, at least 0.

    Returns:
        The p-value, to be corrected where there are several; NaN below `FEWEST_SEEDS` shared seeds, or below
        `FEWEST_RANKED` where seeds collapsed.
    """
    shared = sorted(baseline.scores.keys() & other.scores.keys())
    collapse = np.array([baseline.unstable or other.unstable])
    if len(shared) < (FEWEST_RANKED if collapse[0] else FEWEST_SEEDS):
        return math.nan
    first, second = (np.array([[row.scores[seed] for seed in shared]]) for row in (baseline, other))
    return min(1.0, 2 * float(pair_tests(first, second, collapse, margin).better[0]))
