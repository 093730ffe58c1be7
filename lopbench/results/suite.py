"""Methods over the scenarios of a suite: mean and worst retention, ranks over scenarios, and the performance profile.

A cell is a scenario and a seed. A method that lacks cells has no mean and no rank; its worst retention is of the cells
that it has.
"""

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lopbench.core.errors import ResultsError
from lopbench.results.cells import with_interval
from lopbench.results.layout import Table, said_of
from lopbench.results.overall import CLIP, Entry, apart, table_of
from lopbench.results.ranks import Range
from lopbench.results.statistics import LEVEL, RESAMPLES, tail
from lopbench.results.tuned import UNCHECKED

if TYPE_CHECKING:
    import pandas as pd

#: Fewest methods with all cells for which there are ranks.
FEWEST_ENTRIES = 3

#: Fewest scenarios in which one method can be shown to be better: of fewer, more than 5% of the signs agree by chance.
FEWEST_SCENARIOS = 6

#: Retentions at which tables show the profile.
SHOWN = (0.5, 0.8, 1.0)

#: Retentions at which JSON has it.
TAUS = tuple(round(0.02 * step, 2) for step in range(61))

#: Ends of the names of columns: of a value, and of the low and the high end of its band.
_ENDS = ("", "_low", "_high")

#: Most patterns of signs that are tried. If there are more, as many are drawn.
_MOST_SIGNS = 4096

# Bands and drawn signs are functions of the values: every table drawn from the same runs shows the same digits.
_SEED = 20_160_901

#: What tables say about their ranks.
RANKS = (
    "from 1 + the number of methods shown to be better to the number of all minus those shown to be worse; difference "
    f"of means over scenarios, signs of scenarios exchanged (wild bootstrap), step-down for all pairs, {LEVEL:.0%}"
)


@dataclass(frozen=True)
class Cell:
    """A protocol of a suite.

    Args:
        scenario: Name of the scenario.
        profile: Its profile.
        seeds: The seeds that an entry must have.
    """

    scenario: str
    profile: str
    seeds: frozenset[int]


@dataclass(frozen=True)
class Suite:
    """A named set of scenarios.

    Args:
        name: Its name.
        cells: Its protocols, at least one.
        tuning: How entries are tuned, as tables have it; empty for not at all.
        study: How ``lopbench run`` calls it, where that is not its name.
    """

    name: str
    cells: tuple[Cell, ...]
    tuning: str
    study: str = ""


@dataclass(frozen=True, eq=False)
class Member:
    """A method of a suite.

    Args:
        entry: Its row in the first scenario that it has.
        scores: Its clipped retentions, by scenario and seed, of the seeds of the suite.
        missing: Names of the scenarios in which it lacks seeds.
        unchecked: Names of those in which it counts for nothing instead, since the log of its tuning is not checked.
    """

    entry: Entry
    scores: Mapping[str, Mapping[int, float]]
    missing: tuple[str, ...]
    unchecked: tuple[str, ...]

    @property
    def is_whole(self) -> bool:
        """Whether it has all cells."""
        return not (self.missing or self.unchecked)

    @property
    def means(self) -> dict[str, float]:
        """Its mean over seeds in each scenario."""
        return {name: math.fsum(found.values()) / len(found) for name, found in self.scores.items()}

    @property
    def mean(self) -> float:
        """The unweighted mean over the scenarios; NaN if cells are missing."""
        return math.fsum(self.means.values()) / len(self.scores) if self.is_whole else math.nan


def members(suite: Suite, entries: Iterable[Entry]) -> list[Member]:
    """Return the methods of a suite: first those with all cells, from the highest mean to the lowest, then the others.

    Args:
        suite: The suite.
        entries: Rows of a leaderboard.

    Raises:
        ResultsError: If no row is of the suite, a method has several rows in a scenario, or methods are of different
            tables there.
    """
    found: dict[str, dict[str, Entry]] = defaultdict(dict)
    tables: dict[str, Entry] = {}
    wanted = {(cell.scenario, cell.profile): cell for cell in suite.cells}
    for entry in entries:
        row = entry.row
        if (row["scenario"], row["profile"]) not in wanted or row["tuning"] != suite.tuning or entry.is_control:
            continue
        other = found[row["method_id"]].setdefault(row["scenario"], entry)
        if other is not entry:
            raise ResultsError(
                f"{row['method']} has several rows in {row['scenario']}, and a suite takes one. {_apart(other, entry)}"
            )
        first = tables.setdefault(row["scenario"], entry)
        if table_of(first) != table_of(entry):
            raise ResultsError(
                f"{first.row['method']} and {row['method']} are not of one table in {row['scenario']}, and a suite "
                f"compares them. {_apart(first, entry)}"
            )
    if not found:
        tuned = f" tuned by {suite.tuning}" if suite.tuning else ""
        raise ResultsError(
            f"There are no runs of the suite {suite.name!r}{tuned} here; 'lopbench run {suite.study or suite.name}' "
            "makes them."
        )
    made = [_member(suite, by_scenario) for by_scenario in found.values()]
    return sorted(made, key=lambda member: (not member.is_whole, -_known(member.mean), _name(member)))


def _apart(one: Entry, other: Entry) -> str:
    """Return what two rows of a scenario differ in, and what to do."""
    named = apart(one, other, ("architecture", "optimizer", "data"))
    return f"They differ in {named or 'their protocols'}. Name a folder with one of them."


def _member(suite: Suite, by_scenario: Mapping[str, Entry]) -> Member:
    scores, missing = {}, []
    unchecked = tuple(name for name, entry in by_scenario.items() if not entry.group.is_checked)
    for cell in suite.cells:
        entry = by_scenario.get(cell.scenario)
        if cell.scenario in unchecked:
            continue
        found = {} if entry is None else entry.retentions
        kept = {seed: min(max(found[seed], CLIP[0]), CLIP[1]) for seed in sorted(cell.seeds) if seed in found}
        if kept:
            scores[cell.scenario] = kept
        if len(kept) < len(cell.seeds):
            missing.append(cell.scenario)
    return Member(next(iter(by_scenario.values())), scores, tuple(missing), unchecked)


# -- ranks


def rank_ranges(means: NDArray[np.float64]) -> list[Range]:
    """Return the ranges of ranks of methods over scenarios.

    The sample is one of scenarios. A method is shown to be better than another if the mean of their differences is
    larger than what exchanging the two at random in each scenario gives. All methods are exchanged together, by one
    sign for each scenario. A difference has to exceed the largest one of all pairs in all but 5% of the patterns of
    signs (the wild bootstrap of R. Y. Liu, 1988, doi:10.1214/aos/1176351062, with the hypothesis imposed). Two
    equal methods can be exchanged whatever the law of their scores, so for them the level is exact; for more it is
    a bootstrap's, and simulated below. Pairs that are told apart leave the maximum, and the others are tested again
    (step-down: J. P. Romano and M. Wolf, 2005, doi:10.1198/016214504000000539).

    Simulated with 20 equal methods, 6, 7 or 10 scenarios, and scores that are normal, clipped at 1.2, or collapse in
    one of five seeds, in 1,000 suites each: no method was called best, and some pair was told apart in 2 to 5% of the
    suites (``tests/results/test_suite.py`` repeats that with fewer).

    Args:
        means: Mean of the clipped retentions of each method in each scenario, ``(n, scenarios)``.
    """
    count, scenarios = means.shape
    signs = _signs(scenarios)
    first, second = np.triu_indices(count, 1)
    difference = means[first] - means[second]  # (pairs, scenarios)
    observed = np.abs(difference.mean(axis=1))
    exchanged = np.abs(difference @ signs.T) / scenarios  # (pairs, signs)
    told = np.zeros(len(first), dtype=np.bool_)
    while not told.all():
        largest = exchanged[~told].max(axis=0)
        # The share of signs with a difference as large is the p-value; rounding must not make equal ones smaller.
        p_values = (largest[None, :] >= observed[~told, None] - 1e-12).mean(axis=1)
        new = p_values <= LEVEL
        if not new.any():
            break
        told[np.flatnonzero(~told)[new]] = True
    better = np.where(difference.mean(axis=1) > 0, first, second)[told]
    worse = np.where(difference.mean(axis=1) > 0, second, first)[told]
    return [Range(1 + int((worse == place).sum()), count - int((better == place).sum())) for place in range(count)]


def _signs(scenarios: int) -> NDArray[np.float64]:
    """Return all patterns of signs, or a sample where they are too many, ``(patterns, scenarios)``."""
    if 2**scenarios <= _MOST_SIGNS:
        return np.array(list(itertools.product((1.0, -1.0), repeat=scenarios)))
    drawn = np.random.default_rng(_SEED).choice((1.0, -1.0), (_MOST_SIGNS - 1, scenarios))
    return np.vstack([np.ones(scenarios), drawn])


# -- means and profiles over seeds


def profile(scores: Mapping[str, Mapping[int, float]], taus: Sequence[float] = TAUS) -> NDArray[np.float64]:
    """Return the performance profile of a method with its 95% band, ``(3, taus)``: share, low end and high end.

    It is the share of cells with a retention of at least tau, each scenario with the same weight (R. Agarwal et al.,
    2021, arXiv:2108.13264v4, Section 4.2; E. D. Dolan and J. J. More, 2002). The band is the percentile interval of a
    bootstrap of seeds within each scenario.

    Args:
        scores: Clipped retentions by scenario and seed.
        taus: The values of tau.
    """
    bounds = np.asarray(taus)

    def share(values: NDArray[np.float64]) -> NDArray[np.float64]:  # (..., seeds) -> (..., taus)
        return np.asarray((values[..., None] >= bounds - 1e-12).mean(axis=-2))

    return _over_seeds(scores, share)


def mean_band(scores: Mapping[str, Mapping[int, float]]) -> NDArray[np.float64]:
    """Return the mean over scenarios with its 95% interval, ``(3,)``, by a bootstrap of seeds within each scenario."""
    return _over_seeds(scores, lambda values: np.asarray(values.mean(axis=-1, keepdims=True)))[:, 0]


def _over_seeds(scores: Mapping[str, Mapping[int, float]], of: Any) -> NDArray[np.float64]:
    """Return the mean over scenarios of a statistic of their seeds, and both ends of its interval.

    The ends are NaN if a scenario has one seed. The tails are expanded, as in `lopbench.results.statistics.interval`,
    for the scenario with fewest seeds. Simulated coverage of the mean of six scenarios at 3, 5 and 10 seeds, normal:
    97, 98 and 97% where all are as noisy, 85, 92 and 95% where one has all the noise.
    """
    draws = np.random.default_rng(_SEED)
    here, resampled = [], []
    for _, found in sorted(scores.items()):
        values = np.array([found[seed] for seed in sorted(found)])
        here.append(of(values))
        resampled.append(of(values[draws.integers(len(values), size=(RESAMPLES, len(values)))]))
    mean = np.mean(here, axis=0)
    fewest = min(map(len, scores.values()))
    if fewest < 2:
        return np.array([mean, *np.full((2, *mean.shape), math.nan)])
    low, high = np.quantile(np.mean(resampled, axis=0), [tail(fewest), 1 - tail(fewest)], axis=0)
    # Sums of other orders differ in their last digits, and an end beyond the mean is one that no bar can have.
    return np.array([mean, np.minimum(low, mean), np.maximum(high, mean)])


# -- tables


def suite_frame(suite: Suite, found: Sequence[Member]) -> "pd.DataFrame":
    """Return a row for each method of a suite, in their order.

    Columns besides the names:
        rank_low, rank_high: `rank_ranges` within the track. Methods that lack cells have none, and no method has one
            where fewer than `FEWEST_ENTRIES` have all cells, or of fewer than `FEWEST_SCENARIOS` scenarios.
        mean, mean_low, mean_high: Unweighted mean of the clipped retentions over scenarios, and its interval over
            seeds; missing where cells are.
        worst, worst_scenario: The lowest mean of a scenario, and the scenario.
        at_least_0.5, at_least_0.5_low, at_least_0.5_high and so on: The performance profile at 0.5, and its band.
        scenarios, missing: Number of scenarios that it has with all seeds, and names of the others.
        unchecked: Names of those that count for nothing instead, since the log of its tuning is not checked.
    """
    import pandas as pd

    ranks = _ranks(found, len(suite.cells))
    rows = []
    for member, rank in zip(found, ranks, strict=True):
        means = member.means
        worst = min(means, key=lambda name: means[name], default="")
        band = mean_band(member.scores) if member.is_whole else np.full(3, math.nan)
        shares = profile(member.scores, SHOWN) if member.is_whole else np.full((3, len(SHOWN)), math.nan)
        rows.append(
            {
                "suite": suite.name,
                "method": _name(member),
                "method_id": member.entry.row["method_id"],
                "track": member.entry.row["track"],
                "tuning": suite.tuning,
                "rank_low": None if rank is None else rank.low,
                "rank_high": None if rank is None else rank.high,
                **dict(zip(("mean", "mean_low", "mean_high"), band.tolist(), strict=True)),
                "worst": means.get(worst, math.nan),
                "worst_scenario": worst,
                **{
                    f"at_least_{tau:g}{end}": float(share)
                    for end, line in zip(_ENDS, shares, strict=True)
                    for tau, share in zip(SHOWN, line, strict=True)
                },
                "scenarios": len(suite.cells) - len(member.missing) - len(member.unchecked),
                "missing": ", ".join(member.missing),
                "unchecked": ", ".join(member.unchecked),
            }
        )
    return pd.DataFrame(rows).astype({"rank_low": "Int64", "rank_high": "Int64"})


def _ranks(found: Sequence[Member], scenarios: int) -> list[Range | None]:
    """Return the range of ranks of each method within its track; None of those that have none."""
    ranks: list[Range | None] = [None] * len(found)
    whole = [place for place, member in enumerate(found) if member.is_whole]
    if len(whole) < FEWEST_ENTRIES or scenarios < FEWEST_SCENARIOS:
        return ranks
    tracks: dict[str, list[int]] = defaultdict(list)
    for place in whole:
        tracks[found[place].entry.row["track"]].append(place)
    for places in tracks.values():
        means = np.array([[value for _, value in sorted(found[place].means.items())] for place in places])
        for place, rank in zip(places, rank_ranges(means), strict=True):
            ranks[place] = rank
    return ranks


def profile_lines(found: Iterable[Member]) -> list[dict[str, Any]]:
    """Return the performance profiles of the methods that have all cells, as JSON values."""
    lines = []
    for member in found:
        if member.is_whole:
            share, low, high = profile(member.scores).tolist()
            lines.append({"method": _name(member), "tau": list(TAUS), "share": share, "low": low, "high": high})
    return lines


def suite_table(suite: Suite, frame: "pd.DataFrame", *, wide: bool) -> Table:
    """Return the table of a suite; ``frame`` is what `suite_frame` returned."""
    import pandas as pd

    rows = []
    for _, row in frame.iterrows():
        mean, low, high = row["mean"], row["mean_low"], row["mean_high"]
        rows.append(
            (
                "-" if pd.isna(row["rank_low"]) else str(Range(int(row["rank_low"]), int(row["rank_high"]))),
                row["method"],
                row["track"] if wide else row["track"].removeprefix("boundary-"),
                "-" if math.isnan(mean) else with_interval(mean, low, high),
                "-" if math.isnan(row["worst"]) else f"{row['worst']:.2f}",
                row["worst_scenario"],
                *(_share(row, f"at_least_{tau:g}", wide=wide) for tau in SHOWN),
                f"{row['scenarios']}/{len(suite.cells)}",
            )
        )
    tuned = f", tuned by {suite.tuning}" if suite.tuning else ""
    return Table(
        title=f"Suite {suite.name}{tuned}",
        headings=("#", "method", "track", "mean", "worst", "worst in", *(f">={tau:g}" for tau in SHOWN), "scenarios"),
        rows=rows,
        notes=list(_notes(suite, frame)),
    )


def _share(row: "pd.Series[Any]", name: str, *, wide: bool) -> str:
    share, low, high = (float(row[f"{name}{end}"]) for end in _ENDS)
    if math.isnan(share):
        return "-"
    return f"{share:.0%} [{low:.0%}, {high:.0%}]" if wide and not math.isnan(low) else f"{share:.0%}"


def _notes(suite: Suite, frame: "pd.DataFrame") -> Iterator[str]:
    low, high = CLIP
    yield (
        f"Mean: unweighted mean over scenarios of the seeds' retentions, each clipped to [{low:g}, {high:g}]; 95% "
        "interval (bootstrap of seeds within scenarios). Worst: the lowest mean of a scenario, of those that there are."
    )
    yield ">=: share of cells with at least this retention (performance profile); a cell is a scenario and a seed."
    yield "Scenarios of the suite: " + ", ".join(
        f"{cell.scenario} {cell.profile} ({len(cell.seeds)} seeds)" for cell in suite.cells
    )
    whole = int((frame["scenarios"] == len(suite.cells)).sum())
    if frame["rank_low"].notna().any():
        yield f"#: ranks that are possible within the track: {RANKS}."
    elif whole < FEWEST_ENTRIES:
        have = "has" if whole == 1 else "have"
        yield f"#: there are no ranks; they take {FEWEST_ENTRIES} methods with all cells, and {whole} {have} them."
    else:
        yield f"#: there are no ranks; they take {FEWEST_SCENARIOS} scenarios."
    for column, said in (("missing", "no, or too few, seeds in"), ("unchecked", f"{UNCHECKED}: in")):
        named = zip(frame["method"], frame[column], strict=True)
        yield from said_of((method, f"{said} {names}" if names else "") for method, names in named)


def _name(member: Member) -> str:
    return member.entry.spec.family.method_label


def _known(value: float) -> float:
    return 0.0 if math.isnan(value) else value
