"""Ranks that rows share where the data cannot tell them apart."""

from collections.abc import Mapping, Sequence

import numpy as np

from lopbench.results.statistics import FEWEST_SEEDS, LEVEL, holm

#: What tables say about their ranks.
RANK_METHOD = (
    f"1 + the number of methods shown to do better: paired t-test over shared seeds, Holm's correction for all pairs, "
    f"{LEVEL:.0%}"
)

# Two results closer than this are the same number computed in another order.
_ROUNDING = 1e-9


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
