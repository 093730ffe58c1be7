"""Tests between the rows of a table: which of two does better, from the seeds that both have.

Where seeds collapse, the test for a bounded difference (`pair_tests`) shows little at few seeds. Share of tables
in which it finds a real difference:

| rows | 5 seeds | 10 | 20 |
|---|---|---|---|
| 1.2 against .9 of which 40% collapse | .05 | .94 | 1.00 |
| 1.2 against .9 of which 80% collapse | .52 | 1.00 | 1.00 |
| 1.2 against .5 of which 40% collapse | 1.00 | 1.00 | 1.00 |
| 1.2 of which 20% collapse, seen, against .5 | .00 | .63 | .91 |
| 1.2 of which 20% collapse against .1 | .94 | 1.00 | 1.00 |
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lopbench.core.text import counted

#: Retention below which a seed counts as collapsed: four fifths of what a fresh network has are lost.
COLLAPSED = 0.2

#: Fewest seeds that a row is ranked or judged by.
FEWEST_RANKED = 5

# Two results closer than this are the same number computed in another order.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Entrant:
    """A row of a table, as far as it is compared with others.

    Args:
        scores: The retention of each seed, higher is better; finite.
        at_ceiling: Whether it is so near the ceiling that nothing can be shown to be better.
        hidden_collapse: Whether a seed collapsed that the scores do not show, as in one of several scenarios.
    """

    scores: Mapping[int, float]
    at_ceiling: bool = False
    hidden_collapse: bool = False

    @property
    def collapsed(self) -> int:
        """Number of seeds below `COLLAPSED`."""
        return sum(value < COLLAPSED for value in self.scores.values())

    @property
    def unstable(self) -> bool:
        """Whether any seed has collapsed, so that scores are not roughly normal."""
        return self.hidden_collapse or self.collapsed > 0


def table_seeds(baseline: Entrant | None, entrants: Sequence[Entrant]) -> frozenset[int]:
    """Return the seeds that a row of a table must have to be compared: those of its baseline.

    A row of other seeds changes nothing then, be they fewer or more. Without a baseline of at least `FEWEST_RANKED`
    seeds they are the seeds that most rows have, of those with as many; of two such sets the larger one.

    Returns:
        The seeds; none if no row has enough.
    """
    if baseline is not None and len(baseline.scores) >= FEWEST_RANKED:
        return frozenset(baseline.scores)
    sets = [frozenset(entrant.scores) for entrant in entrants if len(entrant.scores) >= FEWEST_RANKED]
    return max(sets, key=lambda seeds: (sets.count(seeds), len(seeds), sorted(seeds)), default=frozenset())


def why_left_out(entrant: Entrant, seeds: Collection[int]) -> str | None:
    """Return why a row is not compared with the others of its table, in words; None if it is.

    Args:
        entrant: The row.
        seeds: What `table_seeds` returned.
    """
    count = len(entrant.scores)
    if count < FEWEST_RANKED:
        return f"unranked: {counted(count, 'seed')} with a retention, ranks take {FEWEST_RANKED}"
    missing = len(set(seeds) - entrant.scores.keys())
    return f"unranked: lacks {missing} of the {counted(len(seeds), 'seed')} of the table" if missing else None


@dataclass(frozen=True)
class Outcome:
    """What the tests of some pairs of rows found, ``(P,)`` each.

    Args:
        better: One-sided p-values of the second row being better than the first.
        worse: One-sided p-values of its being worse.
    """

    better: NDArray[np.float64]
    worse: NDArray[np.float64]

    @property
    def two_sided(self) -> NDArray[np.float64]:
        """P-values of the two being different."""
        return np.asarray(np.minimum(1.0, 2 * np.minimum(self.better, self.worse)))


def pair_tests(
    first: NDArray[np.float64], second: NDArray[np.float64], collapse: NDArray[np.bool_], margin: float = 0.0
) -> Outcome:
    """Test pairs of rows on their seeds: Student's paired t-test, or `mass_below` where seeds collapse.

    The t-test takes differences for roughly normal, as `statistics.paired_test` says. Where a seed of either row has
    collapsed they are not, and the pair is tested for the mean of a bounded difference, whatever its law. The bound is
    that of N. Gaffke, 2005, as E. Learned-Miller and P. S. Thomas, arXiv:1905.06208, describe it: the quantile of the
    mean under random weights, spread evenly (Dirichlet), with one more value at the worst that can be. That it holds
    for all laws is their conjecture, and not proved. Deviation: the worst that can be is not known beforehand. It is
    taken to be one more seed in which the better row is at 0 and the other at the best it was seen at. So a row of
    which all seeds are alike is not safe from a collapse that none of them showed, but a row is not taken to do better
    than it ever did.

    False positives, two-sided at 5%, of equal means of unlike laws at 5, 10 and 20 seeds. "t" and "bounded" are one of
    the two tests on all tables, "seen" is the bounded test on those tables that show a collapse, "both" is this
    function on all tables. "1.25, 20%" is a row at 1.25 of which 20% of seeds collapse to 0; all have noise of sd .03
    (``tests/results/simulate_statistics.py``, 20,000 tables):

    | rows | t | bounded | seen | both |
    |---|---|---|---|---|
    | 1.00 against 1.25, 20% | .331 .114 .079 | .000 .000 .013 | .000 .000 .001 | .324 .107 .013 |
    | 1.00 against 1.11, 10% | .586 .356 .123 | .000 .000 .000 | .000 .000 .000 | .585 .354 .120 |
    | 1.00 against 1.67, 40% | .089 .059 .069 | .012 .005 .019 | .013 .001 .019 | .089 .005 .019 |
    | 1.00 against 2.00, 50% | .064 .056 .043 | .032 .012 .025 | .033 .012 .025 | .064 .012 .025 |
    | 1.00 against 2.50, 60% | .092 .061 .072 | .092 .019 .026 | .083 .019 .026 | .092 .019 .026 |
    | .86, 30% against 1.20, 50% | .062 .051 .049 | .033 .011 .020 | .034 .011 .020 | .039 .011 .020 |
    | both 1.25, 20% | .012 .039 .051 | .001 .002 .016 | .001 .002 .016 | .006 .003 .016 |
    | both normal, sd .1 | .050 .051 .050 | .000 .000 .000 | - | .050 .051 .050 |
    | constant against log-normal, sigma .5 | .084 .079 .068 | .000 .002 .006 | .000 .007 .005 | .083 .077 .065 |

    The bounded test has too many only where a row collapses more often than not and five seeds show nothing else. What
    "both" has too much is from tables in which no seed collapsed although it could have: five seeds miss a collapse of
    one in five in 33% of cases, ten in 11%, twenty in 1%. No test sees what is not there, and one that is right about
    the mean even so takes 14 seeds to tell any 1.25 from 1.00. Tables therefore say how large a rate of collapse their
    seeds leave open (`unseen_collapse`).

    Args:
        first: Scores of the first row of each pair, ``(P, S)``, S at least 3.
        second: Scores of the second rows, ``(P, S)``, of the same seeds.
        collapse: Whether a seed of either row has collapsed, ``(P,)``.
        margin: What is added to the differences before they are tested. With .02, ``better`` are the p-values of the
            second row being not worse than the first by .02.
    """
    size = np.maximum(np.abs(first), np.abs(second))
    difference = snapped(second - first, size)
    difference = snapped(difference + margin, np.maximum(size, abs(margin)))
    better, worse = _t_tests(difference)
    if collapse.any():
        a, b, seen = first[collapse], second[collapse], difference[collapse]
        lowest = np.minimum(np.minimum(a.min(axis=1), b.min(axis=1)), 0.0)
        better[collapse] = mass_below(np.column_stack([seen, lowest - a.max(axis=1) + margin]))
        worse[collapse] = mass_below(-np.column_stack([seen, b.max(axis=1) - lowest + margin]))
    return Outcome(better, worse)


def snapped(values: NDArray[np.float64], size: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return differences of numbers, each 0 where it is what rounding leaves of two that are the same.

    Args:
        values: The differences.
        size: The larger absolute value of the two numbers, of the same shape.
    """
    return np.where(np.abs(values) <= _ROUNDING * size, 0.0, values)


def unseen_collapse(seeds: int) -> float:
    """Return the largest rate of collapse that ``seeds`` without one leave open at 95%: ``1 - .05^(1 / seeds)``."""
    return 1 - math.pow(0.05, 1 / seeds)


def mass_below(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probability that a randomly weighted mean of each row of ``values``, ``(P, n)``, is at most 0.

    The weights are at least 0, add up to 1 and are spread evenly (Dirichlet with all parameters 1). With u one of the
    values above 0 and -v one of those at most 0, the probability is a mean of two that have one value less,

        P(all) = (v P(all without u) + u P(all without -v)) / (u + v),

    and 1 where no value is above 0, 0 where all are. That is the recursion of divided differences (C. de Boor,
    A Practical Guide to Splines, ch. IX) for the truncated power ``max(-x, 0)^(n - 1)``, whose divided difference over
    the values P is, up to its sign. All terms are positive, so that rounding cannot add up.
    """
    x = np.sort(values, axis=1)
    pairs, size = x.shape
    found = np.zeros((pairs, size + 1))  # column k: with the first k values, all at most 0, and the u taken so far
    found[:, 1:] = 1.0
    for column in range(size):
        for k in range(column):
            rows = np.flatnonzero((x[:, column] > 0) & (x[:, k] <= 0))
            u, v = x[rows, column], -x[rows, k]
            found[rows, k + 1] = (v * found[rows, k + 1] + u * found[rows, k]) / (u + v)
    return np.take_along_axis(found, (x <= 0).sum(axis=1)[:, None], axis=1)[:, 0]


def _t_tests(difference: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the one-sided p-values of the mean of each row, ``(P, S)``, being above and below 0."""
    from scipy import special

    seeds = difference.shape[1]
    mean = difference.mean(axis=1)
    error = difference.std(axis=1, ddof=1) / math.sqrt(seeds)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(mean == 0, 0.0, mean / error)  # infinite where all differences are the same
    return np.asarray(special.stdtr(seeds - 1, -t)), np.asarray(special.stdtr(seeds - 1, t))
