"""Simulations behind the figures in the docstrings of trend, pairs, ranks and verdicts.

``python tests/results/simulate_statistics.py [trend] [pairs] [ranks] [cost]`` prints them, all in about two minutes.
The suite runs small versions of the same laws.
"""

import sys

import numpy as np
from scipy import special

from lopbench.results.pairs import COLLAPSED, Entrant, mass_below, pair_tests
from lopbench.results.statistics import t_interval
from lopbench.results.trend import trend, trend_word
from lopbench.results.verdicts import verdicts

# -- trend

POSITION = (np.arange(40) + 0.5) / 40
REFERENCES = {"all tasks": np.arange(40), "every 4th and late": np.array([*range(0, 32, 4), *range(32, 40)])}
LEVELS = {
    ".6": lambda x: 0.6 + 0 * x,
    ".3 to .6": lambda x: 0.3 + 0.3 * x,
    ".2 to .05": lambda x: 0.2 - 0.15 * x,
    ".08": lambda x: 0.08 + 0 * x,
    ".03": lambda x: 0.03 + 0 * x,
}


def stream(rng, level, position, seeds, slope=0.0):
    """Return scores above chance of learner and reference, ``(seeds, T)``, with S/F 1.1 + slope per tenth."""
    level = np.maximum(level(position) + 0.02 * rng.standard_normal((seeds, position.size)), 0.01)
    noise = 0.02 * rng.standard_normal((2, seeds, position.size))
    return level * (1.1 + 10 * slope * (position - 0.6)) + noise[0], level + noise[1]


def single_ratios(s, f, x):
    return np.polyfit(x, s / f, 1)[0] / 10


def least_squares(s, f, x):
    return np.linalg.lstsq(np.column_stack([f, f * x]), s, rcond=None)[0][1] / 10


def simulate_trend(rng, tables=1500):
    print(
        "trend, S/F constant: sd and bias of one seed's slope; false words and tables without a word at 3, 5, 10 seeds"
    )
    for name, level in LEVELS.items():
        for which, tasks in REFERENCES.items():
            x = POSITION[tasks]
            late = x >= 0.2
            s, f = stream(rng, level, x, 4000)
            found = {
                "this": [trend(a, b, 0.0, x) for a, b in zip(s, f, strict=True)],
                "ratios": [single_ratios(a[late], b[late], x[late]) for a, b in zip(s, f, strict=True)],
                "least squares": [least_squares(a[late], b[late], x[late]) for a, b in zip(s, f, strict=True)],
            }
            words = []
            for seeds in (3, 5, 10):
                false = missing = 0
                for _ in range(tables):
                    slopes = [trend(a, b, 0.0, x) for a, b in zip(*stream(rng, level, x, seeds), strict=True)]
                    missing += any(np.isnan(slopes))
                    false += not any(np.isnan(slopes)) and trend_word(*t_interval(slopes)) in ("losing", "gaining")
                words.append(f"{false / max(tables - missing, 1):.3f} ({missing / tables:.2f})")
            figures = "; ".join(f"{k} {np.nanstd(v):.4f} {np.nanmean(v):+.4f}" for k, v in found.items())
            print(f"  F {name:10s} {which:19s} {figures}; words {' '.join(words)}", flush=True)


# -- pairs


def steady(mean, deviation=0.03):
    return lambda rng, shape: mean + deviation * rng.standard_normal(shape)


def collapsing(mean, rate):
    """Return a law of which a share of seeds is at 0, so that the mean is ``mean * (1 - rate)``."""
    return lambda rng, shape: steady(mean)(rng, shape) * (rng.random(shape) >= rate)


EQUAL_MEANS = {
    "1.00, 1.25 20%": (steady(1.0), collapsing(1.25, 0.2)),
    "1.00, 1.11 10%": (steady(1.0), collapsing(1 / 0.9, 0.1)),
    "1.00, 1.67 40%": (steady(1.0), collapsing(1 / 0.6, 0.4)),
    "1.00, 2.00 50%": (steady(1.0), collapsing(2.0, 0.5)),
    "1.00, 2.50 60%": (steady(1.0), collapsing(2.5, 0.6)),
    ".86 30%, 1.20 50%": (collapsing(0.6 / 0.7, 0.3), collapsing(1.2, 0.5)),
    "both 1.25 20%": (collapsing(1.25, 0.2), collapsing(1.25, 0.2)),
    "both normal, sd .1": (steady(1.0, 0.1), steady(1.0, 0.1)),
    "normal, sd .02, .1": (steady(1.0, 0.02), steady(1.0, 0.1)),
    "1.00, log-normal .5": (
        steady(1.0, 0.0),
        lambda rng, shape: rng.lognormal(-0.125, 0.5, shape),
    ),
}
UNEQUAL_MEANS = {
    "1.2 against .9 40%": (collapsing(0.9, 0.4), steady(1.2)),
    "1.2 against .9 80%": (collapsing(0.9, 0.8), steady(1.2)),
    "1.2 against .5 40%": (collapsing(0.5, 0.4), steady(1.2)),
    "1.2 20% against .5": (steady(0.5), collapsing(1.2, 0.2)),
    "1.2 20% against .1": (steady(0.1), collapsing(1.2, 0.2)),
}


def rejections(rng, laws, seeds, tables, level=0.05):
    """Return shares of tables told apart: by t, bounded, bounded where a collapse is seen, both."""
    a, b = (law(rng, (tables, seeds)) for law in laws)
    seen = ((a < COLLAPSED) | (b < COLLAPSED)).any(axis=1)
    everywhere = np.ones(tables, dtype=bool)
    t, bounded, both = (pair_tests(a, b, where).two_sided <= level for where in (~everywhere, everywhere, seen))
    return t.mean(), bounded.mean(), bounded[seen].mean() if seen.any() else np.nan, both.mean()


def simulate_pairs(rng, tables=20_000):
    for title, laws in (("equal means", EQUAL_MEANS), ("unequal means", UNEQUAL_MEANS)):
        print(f"pairs, {title}: share told apart at 5, 10, 20 seeds by t, bounded, seen, both")
        for name, law in laws.items():
            columns = np.array([rejections(rng, law, seeds, tables) for seeds in (5, 10, 20)]).T
            print(f"  {name:20s} | " + " | ".join(", ".join(f"{x:.3f}" for x in column) for column in columns))
    draws = rng.dirichlet(np.ones(4), 1_000_000) @ [0.7, 0.1, -0.2, -0.9]
    print(f"mass_below {mass_below(np.array([[0.7, 0.1, -0.2, -0.9]]))[0]:.4f}, by drawing {np.mean(draws <= 0):.4f}")


# -- ranks


def p_values(values):
    """Return the two-sided p-values of all pairs ``(N, n, n)`` of ``values``, ``(N, n, S)``, and mean differences."""
    d = values[:, None] - values[:, :, None]
    mean, error = d.mean(axis=-1), d.std(axis=-1, ddof=1) / np.sqrt(d.shape[-1])
    with np.errstate(invalid="ignore"):
        p = 2 * special.stdtr(d.shape[-1] - 1, -np.abs(mean) / error)
    return np.where(mean == 0, 1.0, p), mean


def step_down(p, factors):
    order = np.argsort(p, axis=1)
    corrected = np.maximum.accumulate(np.take_along_axis(p, order, 1) * factors, axis=1)
    told = np.zeros(p.shape, dtype=bool)
    np.put_along_axis(told, order, corrected <= 0.05, axis=1)
    return told


def shaffer_factors(rows):
    """Return Shaffer's factors: the most equalities of means that can hold once i pairs are unequal."""
    possible = [{0}, {0}]
    for k in range(2, rows + 1):
        possible.append({j * (j - 1) // 2 + rest for j in range(1, k + 1) for rest in possible[k - j]})
    pairs = rows * (rows - 1) // 2
    return np.array([max([x for x in possible[rows] if x <= pairs - i] + [1]) for i in range(pairs)])


def corrections(values):
    """Return, for each correction, which pairs are told apart in the eyes of which row, ``(N, n, n)``."""
    p, mean = p_values(values)
    n = p.shape[1]
    first, second = np.triu_indices(n, 1)
    flat = p[:, first, second]
    count = flat.shape[1]

    def square(told):
        full = np.zeros(p.shape, dtype=bool)
        full[:, first, second] = told
        return full | full.transpose(0, 2, 1)

    each = np.zeros(p.shape, dtype=bool)
    for row in range(n):
        others = [k for k in range(n) if k != row]
        each[:, row, others] = step_down(p[:, row, others], np.arange(n - 1, 0, -1))
    order = np.arange(1, count + 1)
    passed = np.sort(flat, axis=1) * count * (1 / order).sum() / order <= 0.05
    last = np.where(passed.any(axis=1), count - np.argmax(passed[:, ::-1], axis=1), 0)
    return {
        "Holm": square(step_down(flat, np.arange(count, 0, -1))),
        "Shaffer": square(step_down(flat, shaffer_factors(n))),
        "Holm, each row": each,
        "BY": square(np.argsort(np.argsort(flat, axis=1), axis=1) < last[:, None]),
    }, mean


TABLES = {
    "7 equal": (np.ones(7), 0.03),
    "14 equal": (np.ones(14), 0.03),
    "14 equal, sd .005 to .1": (np.ones(14), np.geomspace(0.005, 0.1, 14)),
    "7, steps of .03, sd .02": (1 + 0.03 * np.arange(7), 0.02),
    "14, three groups, sd .03": (np.repeat([1.0, 1.1, 1.2], [5, 5, 4]), 0.03),
}


def simulate_ranks(rng, tables=4000):
    print("ranks: tables with a false difference / rows with too narrow a range / real differences found")
    for name, (means, deviation) in TABLES.items():
        for seeds in (5, 10):
            noise = rng.standard_normal((tables, means.size, seeds)) * np.broadcast_to(deviation, means.size)[:, None]
            shared = 0.05 * rng.standard_normal((tables, 1, seeds))
            found, difference = corrections(means[:, None] + noise + shared)
            real = np.sign(means[None, :] - means[:, None])
            cells = []
            for told in found.values():
                false = told & (np.sign(difference) != real)
                power = (told & (real != 0)).sum(axis=(1, 2)).mean() / max((real != 0).sum(), 1)
                cells.append(f"{false.any(axis=(1, 2)).mean():.3f} / {false.any(axis=2).mean():.3f} / {power:.2f}")
            print(f"  | {name} | {seeds} | {' | '.join(cells)} |", flush=True)


def simulate_cost(rng, tables=1000):
    print(
        "cost of added rows equal to the first: of seven rows, steps of .03, sd .02, the share of pairs told apart for"
    )
    print("  ranks, and of six shown to be better than the first for verdicts")
    for seeds in (5, 10):
        for added in (0, 1, 3, 7, 14):
            means = np.array([*(1 + 0.03 * np.arange(7)), *[1.0] * added])
            values = means[:, None] + 0.02 * rng.standard_normal((tables, means.size, seeds))
            told = corrections(values)[0]["Holm"][:, :7, :7].sum() / tables / 42
            shown = 0
            for table in values.tolist():
                first, *others = (Entrant(dict(enumerate(row))) for row in table)
                shown += sum(each.word == "better" for each in verdicts(first, others, range(seeds))[:6])
            print(f"  {seeds} seeds, {added} added: pairs {told:.2f}, verdicts {shown / tables / 6:.2f}")


SIMULATIONS = {"trend": simulate_trend, "pairs": simulate_pairs, "ranks": simulate_ranks, "cost": simulate_cost}

if __name__ == "__main__":
    for wanted in sys.argv[1:] or SIMULATIONS:
        SIMULATIONS[wanted](np.random.default_rng(0))
