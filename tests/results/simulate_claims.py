"""Simulations behind the figures in the docstring of judging.

``python tests/results/simulate_claims.py`` prints them, in about a minute. The suite runs a small version of it.
"""

import sys
from itertools import pairwise

import numpy as np

from lopbench.results.judging import find, unstable, verdict


def normal(rng, shape):
    return 1 + 0.1 * rng.standard_normal(shape)


def skewed(rng, shape):
    return rng.lognormal(-0.125, 0.5, shape)


def collapsing(rate):
    return lambda rng, shape: (1 / (1 - rate) + 0.03 * rng.standard_normal(shape)) * (rng.random(shape) >= rate)


#: Laws of a number whose mean is 1; seeds below .2 have collapsed.
LAWS = {
    "normal, sd .1": normal,
    "log-normal, sigma .5": skewed,
    "20% collapse": collapsing(0.2),
    "40% collapse": collapsing(0.4),
    "60% collapse": collapsing(0.6),
}


def shares(rng, law, seeds, studies):
    """Return the shares of studies that agree with a mean of at least 1, of at most 1, and of .95 to 1."""
    ranges = ((1.0, np.inf), (-np.inf, 1.0), (0.95, 1.0))
    count = np.zeros(len(ranges))
    for values in law(rng, (studies, seeds)):
        collapse = unstable([dict(enumerate(values))])
        count += [verdict([find(values, low, high, collapse=collapse)]) == "agrees" for low, high in ranges]
    return count / studies


def order(rng, law, seeds, studies):
    """Return the shares of studies that agree and disagree with an order of three equal entries."""
    words = []
    for rows in law(rng, (studies, 3, seeds)):
        links = [
            find(first, 0.0, np.inf, base=second, collapse=unstable([dict(enumerate(first)), dict(enumerate(second))]))
            for first, second in pairwise(rows)
        ]
        words.append(verdict(links))
    return words.count("agrees") / studies, words.count("disagrees") / studies


def main(studies=4000):
    rng = np.random.default_rng(0)
    for name, law in LAWS.items():
        columns = np.array([[*shares(rng, law, n, studies), *order(rng, law, n, studies)] for n in (5, 10, 20)]).T
        cells = [" ".join(f"{share:.3f}".lstrip("0") for share in column) for column in columns]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
