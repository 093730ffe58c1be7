"""Ranks as ranges: how high and how low a row can stand, by what the seeds show."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from lopbench.results.pairs import Entrant, pair_tests, why_left_out
from lopbench.results.statistics import LEVEL, holm

#: What tables say about their ranks.
RANK_METHOD = (
    "from 1 + the number of methods shown to be better to the number of all minus those shown to be worse; paired "
    f"t-test over the seeds of the table, Holm's correction for all pairs, {LEVEL:.0%}; where seeds collapse, a test "
    "of the mean of bounded differences"
)


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


def _shown(
    entrants: Sequence[Entrant], fit: Sequence[int], seeds: Sequence[int]
) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Return which of the rows ``fit`` are shown to be worse (first axis) than which others (second axis)."""
    values = np.array([[entrants[index].scores[seed] for seed in seeds] for index in fit])  # (n, S)
    unstable = np.array([entrants[index].unstable for index in fit])
    marked = np.array([entrants[index].at_ceiling for index in fit])
    first, second = np.triu_indices(len(fit), 1)
    outcome = pair_tests(values[first], values[second], unstable[first] | unstable[second])
    told_apart = np.array(holm(outcome.two_sided.tolist())) <= LEVEL
    up = outcome.better < outcome.worse
    above = np.zeros((len(fit), len(fit)), dtype=np.bool_)
    above[np.where(up, first, second)[told_apart], np.where(up, second, first)[told_apart]] = True
    above[np.ix_(marked, marked)] = False
    for middle in range(len(fit)):  # Warshall's transitive closure
        above[above[:, middle]] |= above[middle]
    above[np.ix_(marked, marked)] = False
    return above
