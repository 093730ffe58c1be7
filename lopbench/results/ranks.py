"""Ranks as ranges: how high and how low a row can stand, by what the seeds show."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lopbench.results.pairs import Entrant, pair_tests, why_left_out
from lopbench.results.statistics import FEWEST_SEEDS, LEVEL, holm

#: What tables say about their ranks.
RANK_METHOD = (
    f"1 + the number of methods shown to do better: paired t-test over shared seeds, Holm's correction for all pairs, "
    f"{LEVEL:.0%}"
)

# Two results closer than this are the same number computed in another order.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Range:
    """The ranks that a row can have.

    Args:
        low: The best of them: 1 + the number of rows shown to be better.
        high: The worst: the number of rows minus that of rows shown to be worse.
    """

    low: int
    high: int

    def __str__(self) -> str:
        return str(self.low) if self.low == self.high else f"{self.low}-{self.high}"


def rank_ranges(entrants: Sequence[Entrant], seeds: Collection[int]) -> list[Range | None]:
    """Return the range of ranks of each row of a table, among those rows that have all of its seeds.

    A row is shown to be better than another by `pair_tests` over ``seeds``, two-sided at 5% after Holm's correction for
    all pairs of rows, or by being better than one that is. Rows that are both at the ceiling are never told apart;
    their test counts in the correction all the same, so that a mark makes no other difference significant. In at most
    5% of tables is any range too narrow, as far as `pair_tests` holds.

    Corrections were compared by simulation with normal scores (``tests/results/simulate_statistics.py``). Each cell is
    the share of tables with a false difference / of rows whose range is too narrow / of real differences found:

    | table | seeds | Holm, all pairs | Shaffer, all pairs | Holm, each row | Benjamini-Yekutieli |
    |---|---|---|---|---|---|
    | 7 equal rows | 5 | .04 / .01 / - | .04 / .01 / - | .14 / .05 / - | .01 / .00 / - |
    | 14 equal rows | 5 | .05 / .01 / - | .05 / .01 / - | .26 / .05 / - | .01 / .00 / - |
    | 7 rows, steps of .03, sd .02 | 5 | 0 / 0 / .56 | 0 / 0 / .57 | 0 / 0 / .74 | 0 / 0 / .63 |
    | the same | 10 | 0 / 0 / .91 | 0 / 0 / .91 | 0 / 0 / .95 | 0 / 0 / .89 |
    | 14 rows at 1, 1.1, 1.2, sd .03 | 5 | .02 / .00 / .32 | .02 / .00 / .33 | .24 / .03 / .73 | .12 / .02 / .65 |
    | the same | 10 | .05 / .01 / .99 | .05 / .01 / .99 | .26 / .05 / 1 | .15 / .03 / 1 |

    Shaffer's use of the logic between pairs (1986) gains nothing. A family for each row (the marginal confidence sets
    of M. Mogstad et al., 2024, doi:10.1093/restud/rdad006) finds more at 5 seeds, but its ranges contradict each other,
    for a pair can be told apart in the family of one row and not of the other, and a quarter of tables of 14 has a
    false one. Control of the false discovery rate (Benjamini and Yekutieli, 2001) lets more than a tenth of tables have
    one as soon as there are real differences.

    An added row costs all others: to n rows it adds n pairs to correct for. Of the seven rows in steps of .03, the
    share of pairs that are told apart falls from .57 to .52, .44, .31 and .19 at 5 seeds when 1, 3, 7 and 14 rows equal
    to the lowest are added, and at 10 seeds from .92 to .88, .83, .76 and .70. More seeds buy it back; against the
    baseline, `verdicts` lose less.

    Args:
        entrants: The rows of one track under one protocol.
        seeds: What `table_seeds` returned for the protocol.

    Returns:
        Ranges in the order of ``entrants``; None for a row that `why_left_out` has a reason for: it changes no other.
    """
    fit = [index for index, entrant in enumerate(entrants) if why_left_out(entrant, seeds) is None]
    found: list[Range | None] = [None] * len(entrants)
    if not fit:
        return found
    above = _shown(entrants, fit, sorted(seeds))
    for index, better, worse in zip(fit, above.sum(axis=1).tolist(), above.sum(axis=0).tolist(), strict=True):
        found[index] = Range(1 + better, len(fit) - worse)
    return found


def ranks(scores: Sequence[Mapping[int, float]]) -> list[int | None]:
    """Return the rank of each row: one more than the number of rows that are shown to be better.

    A row is shown to be better than another by `paired_test` over the seeds that both have, at 5% after `holm` for all
    pairs of ``scores``, or by being better than one that is: in at most 5% of tables is any difference of ranks due to
    chance. Rows of one rank are never told apart by the test, and rows that it cannot tell apart do not push each other
    down. The rule asks nothing of the order of rows.

    Args:
        scores: For each row the score of each seed, higher is better; finite.

    Returns:
        Ranks from 1, in the order of ``scores``; None for a row of fewer than `FEWEST_SEEDS` seeds, which no test can
        place.
    """
    rows = [index for index, row in enumerate(scores) if len(row) >= FEWEST_SEEDS]
    found: list[int | None] = [None] * len(scores)
    if not rows:
        return found
    seeds = sorted({seed for index in rows for seed in scores[index]})
    values = np.array([[scores[index].get(seed, np.nan) for seed in seeds] for index in rows])  # (rows, S)
    pairs, p_values = _tests(values)
    above = np.zeros((len(rows), len(rows)), dtype=np.bool_)  # (worse, better)
    for (worse, better), p in zip(pairs, holm(p_values), strict=True):
        above[worse, better] = p <= LEVEL
    for middle in range(len(rows)):  # Warshall's transitive closure
        above[above[:, middle]] |= above[middle]
    for index, count in zip(rows, above.sum(axis=1).tolist(), strict=True):
        found[index] = 1 + count
    return found


def _shown(
    entrants: Sequence[Entrant], fit: Sequence[int], seeds: Sequence[int]
) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Return which of the rows ``fit`` are shown to be worse (first axis) than which others (second axis)."""
    values = np.array([[entrants[index].scores[seed] for seed in seeds] for index in fit])  # (n, S)
    collapsed = np.array([entrants[index].collapsed > 0 for index in fit])
    marked = np.array([entrants[index].at_ceiling for index in fit])
    first, second = np.triu_indices(len(fit), 1)
    outcome = pair_tests(values[first], values[second], collapsed[first] | collapsed[second])
    told_apart = np.array(holm(outcome.two_sided.tolist())) <= LEVEL
    up = outcome.better < outcome.worse
    above = np.zeros((len(fit), len(fit)), dtype=np.bool_)
    above[np.where(up, first, second)[told_apart], np.where(up, second, first)[told_apart]] = True
    above[np.ix_(marked, marked)] = False
    for middle in range(len(fit)):  # Warshall's transitive closure
        above[above[:, middle]] |= above[middle]
    above[np.ix_(marked, marked)] = False
    return above


def _tests(values: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> tuple[list[tuple[int, int]], list[float]]:
    """Return all pairs (worse, better) of rows that can be tested, and their p-values by `paired_test`.

    It is that test for one row against all further ones at once, since tables may have hundreds.
    """
    from scipy import special

    pairs: list[tuple[int, int]] = []
    p_values: list[float] = []
    for first in range(len(values) - 1):
        others = values[first + 1 :]
        differences = others - values[first]  # (others, S), NaN where a seed is not shared
        size = np.maximum(np.abs(others), np.abs(values[first]))
        differences[np.abs(differences) <= _ROUNDING * size] = 0.0
        shared = ~np.isnan(differences)
        counts = shared.sum(axis=1)
        testable = np.flatnonzero(counts >= FEWEST_SEEDS)
        differences, shared, counts = differences[testable], shared[testable], counts[testable]
        filled = np.where(shared, differences, 0.0)
        means = filled.sum(axis=1) / counts
        squares = np.where(shared, differences - means[:, None], 0.0) ** 2
        errors = np.sqrt(squares.sum(axis=1) / (counts - 1) / counts)
        with np.errstate(divide="ignore", invalid="ignore"):
            p = 2 * special.stdtr(counts - 1, -np.abs(means) / errors)
        p = np.where(means == 0, 1.0, np.where(errors > 0, p, 0.0))
        for other, mean, value in zip((testable + first + 1).tolist(), means.tolist(), p.tolist(), strict=True):
            pairs.append((first, other) if mean > 0 else (other, first))
            p_values.append(value)
    return pairs, p_values
