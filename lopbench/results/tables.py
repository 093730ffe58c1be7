"""Leaderboards for people: as tables in a terminal, in Markdown and in LaTeX, and as CSV."""

import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lopbench.core.text import counted
from lopbench.core.tuning import Tuning
from lopbench.results.cells import csv_text, of_any_size, two_digits, with_interval
from lopbench.results.columns import BY_NAME, ERRORS, WITH_INTERVAL, secondary
from lopbench.results.files import write_whole
from lopbench.results.group import seed_ranges, seeds_in_words
from lopbench.results.layout import Table, in_html, in_latex, in_markdown, legend, printed, said_of
from lopbench.results.overall import CLIP
from lopbench.results.pairs import COLLAPSED, FEWEST_RANKED, unseen_collapse
from lopbench.results.ranks import RANK_METHOD, Range
from lopbench.results.score import NEAR_CEILING
from lopbench.results.seed_scores import AXES
from lopbench.results.statistics import COVERAGE, INTERVAL_METHOD
from lopbench.results.trend import FEWEST_TASKS, REACH, WARM_UP
from lopbench.results.verdicts import VERDICT_METHOD

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

#: What a terminal has no room for; other formats have it.
_WIDE = ("error_above_fresh", "forgetting", "lifetime_online", "late_early", "memory")

#: What a terminal of fewer columns has no room for either, where optimizers stand in the table.
_WIDE_OF_SEVERAL, _ROOMY = ("speed", "fresh_retention", "self_retention"), 110

#: Verdicts and trends as a terminal shows them, which has little room.
_SIGNS: Mapping[str, str] = {
    "better": "+",
    "worse": "\N{MINUS SIGN}",
    "not shown": "?",
    "losing": "\N{DOWNWARDS ARROW}",
    "gaining": "\N{UPWARDS ARROW}",
    "level": "=",
    "unclear": "?",
}

#: An optimizer of which nothing but the rate is said.
_RATE = re.compile(r"(\w+):lr=([^,:]+)")

#: Columns beside the headline that a terminal shows whatever its width.
_STAYING = ("verdict", "trend", *AXES)

_PROCEDURAL = "Procedural images, not a real data set: compare these numbers with no others."

_VERDICT_SIGNS = "To none: + is shown to be better, \N{MINUS SIGN} worse, ? neither."
_TREND = "Trend: change of the learner's score over that of a {reference} per tenth of the stream"
_TREND_SIGNS = "\N{DOWNWARDS ARROW} is losing, \N{UPWARDS ARROW} gaining, = level, ? unclear"


def to_csv(frame: "pd.DataFrame", path: str | os.PathLike[str]) -> None:
    """Write a leaderboard with all its columns; floats keep all their digits, NaN is empty.

    A text that a spreadsheet would run as a formula gets an apostrophe in front.

    Raises:
        ResultsError: If the file cannot be written.
    """
    write_whole(path, csv_text(frame), "The leaderboard")


def render(
    frame: "pd.DataFrame", console: "Console", overall: "pd.DataFrame | None" = None, *, told: bool = False
) -> None:
    """Print a leaderboard as one table for each protocol, with notes under it, and what their words mean at the end.

    Args:
        frame: What `leaderboard` returned, or its CSV read again.
        console: Where to print; from 80 columns on all numbers are whole.
        overall: Methods over all scenarios, as `Board` has them; their tables come last.
        told: Whether the warning about data that are not real was shown already.
    """
    printed(list(_tables(frame, overall, wide=False, width=console.width)), console, told=told)


def markdown(frame: "pd.DataFrame", overall: "pd.DataFrame | None" = None, *, explained: bool = True) -> str:
    """Return a leaderboard in Markdown, as `render` prints it: for each protocol a heading line, a table, and notes.

    Args:
        frame: What `leaderboard` returned, or its CSV read again.
        overall: Methods over all scenarios.
        explained: Whether what their words mean follows, as `explanation` returns it.
    """
    return in_markdown(list(_tables(frame, overall, wide=True)), explained=explained)


def explanation(frames: Iterable["pd.DataFrame"]) -> list[str]:
    """Return what the words in the Markdown of some leaderboards mean, one thing a line."""
    return legend(table for frame in frames for table in _tables(frame, None, wide=True))


def latex(frame: "pd.DataFrame", overall: "pd.DataFrame | None" = None) -> str:
    """Return a leaderboard as LaTeX tables in the style of the package ``booktabs``, their notes in the captions.

    Args:
        frame: What `leaderboard` returned, or its CSV read again.
        overall: Methods over all scenarios.
    """
    return in_latex(list(_tables(frame, overall, wide=True)))


def html(frame: "pd.DataFrame", overall: "pd.DataFrame | None" = None) -> str:
    """Return a leaderboard as tables in HTML, to stand in a page.

    Args:
        frame: What `leaderboard` returned, or its CSV read again.
        overall: Methods over all scenarios.
    """
    return in_html(list(_tables(frame, overall, wide=True)))


def _tables(frame: "pd.DataFrame", overall: "pd.DataFrame | None", *, wide: bool, width: int = 0) -> Iterator[Table]:
    """Yield the tables of all protocols and of all scenarios; ``width`` is that of a terminal, if not ``wide``."""
    for protocol_id, rows in frame.groupby("protocol_id", sort=False):
        columns = _secondary(rows, wide=wide, width=width)
        rule = "" if wide else _rule(rows)
        optimizer = [] if not _is_of_several(rows) else ["lr" if rule else "optimizer"]
        seeds = ["seeds"] if rows["seeds"].nunique() > 1 else []
        ranked = rows["rank_low"].notna().any()
        score = str(rows.iloc[0]["score"])
        yield Table(
            title=_title(rows, rule),
            headings=(
                *(*(["#"] if ranked else []), "method", *optimizer, "track", str(rows.iloc[0]["headline"])),
                *(_heading(name, score) for name in columns),
                *seeds,
            ),
            rows=[
                (
                    *([rank_text(row["rank_low"], row["rank_high"])] if ranked else []),
                    str(row["method"]),
                    *([str(row["optimizer"]).removeprefix(f"{rule}:lr=")] if optimizer else []),
                    str(row["track"]) if wide else str(row["track"]).removeprefix("boundary-"),
                    _with_interval(row["retention"], row["retention_low"], row["retention_high"]),
                    *(_cell(row, column, wide=wide) for column in columns),
                    *(str(row[column]) for column in seeds),
                )
                for _, row in rows.iterrows()
            ],
            notes=list(_notes(str(protocol_id), rows)),
            legend=list(_legend(rows, wide=wide)),
            meanings=_meanings(rows, columns),
            warning=_PROCEDURAL if "procedural" in str(rows.iloc[0]["data"]) else None,
            controls=_controls(rows),
            leaving=[_heading(name, score) for name in reversed(columns) if name not in _STAYING],
        )
    if overall is not None:
        for profile, rows in overall.groupby("profile", sort=False):
            yield _overall_table(str(profile), rows, wide=wide)


def _overall_table(profile: str, rows: "pd.DataFrame", *, wide: bool) -> Table:
    return Table(
        title=f"All scenarios, {profile}",
        headings=("#", "method", "track", "mean", "to none", "worst", "worst in", "scenarios"),
        rows=[
            (
                rank_text(row["rank_low"], row["rank_high"]),
                row["method"],
                row["track"] if wide else row["track"].removeprefix("boundary-"),
                _number(row["mean"]),
                _word(row["verdict"], wide=wide),
                _number(row["worst"]),
                row["worst_scenario"],
                str(row["scenarios"]),
            )
            for _, row in rows.iterrows()
        ],
        notes=list(_overall_notes(rows)),
        legend=list(_overall_legend(rows, wide=wide)),
        controls=_controls(rows),
    )


def _controls(rows: "pd.DataFrame") -> frozenset[int]:
    return frozenset(place for place, track in enumerate(rows["track"]) if track == "control")


def _rule(rows: "pd.DataFrame") -> str:
    """Return the name of optimizers that differ in nothing but their rate, empty where they differ otherwise."""
    rules = {match and match[1] for match in map(_RATE.fullmatch, rows["optimizer"].astype(str))}
    return str(*rules) if len(rules) == 1 and None not in rules else ""


def _title(rows: "pd.DataFrame", rule: str) -> str:
    """Return what all rows of a table share; ``rule`` is that of their optimizers, of which it shows the rates."""
    row = rows.iloc[0]
    optimizer = f", {row['optimizer']}" if not _is_of_several(rows) else f", {rule}" if rule else ""
    data = f", data {row['data']}" if _is_text(row["data"]) else ""
    tuned = f", tuned by {row['tuning']}" if _is_text(row["tuning"]) else ""
    return f"{row['scenario']} {row['profile']}, {row['architecture']}{optimizer}{data}{tuned}"


def _is_of_several(rows: "pd.DataFrame") -> bool:
    """Return whether the rows of a table have several optimizers."""
    return rows["optimizer"].nunique() > 1


def _secondary(rows: "pd.DataFrame", *, wide: bool, width: int) -> list[str]:
    """Return the columns that the table of a protocol shows beside the headline, those of which something is known."""
    several = _is_of_several(rows)
    crowded = _WIDE_OF_SEVERAL if several and width < _ROOMY else ("speed",) if several else ()
    left_out = () if wide else (*_WIDE, *crowded)
    names = secondary(str(rows.iloc[0]["headline"]), lambda name: rows[name])
    known = [name for name in names if name not in left_out]
    if wide:
        known = [each for name in known for each in ((name, f"{name}_rank_low") if name in AXES else (name,))]
        known = [name for name in known if not name.endswith("_rank_low") or rows[name].notna().any()]
    return known


def _heading(name: str, score: str) -> str:
    return f"# {name.removesuffix('_rank_low')}" if name.endswith("_rank_low") else BY_NAME[name].shown(score)[0]


def _cell(row: "pd.Series[Any]", name: str, *, wide: bool) -> str:
    if name == "verdict":
        return _word(row["verdict"], wide=wide)
    if name.endswith("_rank_low"):
        return rank_text(row[name], row[name.replace("_low", "_high")])
    value = float(row[name])
    if name == "trend" and not math.isnan(value):
        text = _with_interval(value, row["trend_low"], row["trend_high"]) if wide else _number(value)
        return f"{text} {_word(row['trend_word'], wide=wide)}"
    shown = of_any_size if row["score"] == "error" and name in ERRORS and math.isfinite(value) else _number
    if wide and name in WITH_INTERVAL:
        return with_interval(value, row[f"{name}_low"], row[f"{name}_high"], shown)
    return shown(value)


def _word(value: object, *, wide: bool) -> str:
    """Return the word of a verdict or trend, or in a terminal the sign for it; for none "-" among words alone."""
    if not _is_text(value):
        return "-" if wide else ""  # among signs it would look like "worse"
    return str(value) if wide else _SIGNS[str(value)]


def _number(value: float) -> str:
    if math.isnan(value):
        return "-"
    return two_digits(value) if abs(value) < 1000 else f"{value:.1e}"


def _is_text(value: object) -> bool:
    """Tell text from the empty, which a CSV that was read again holds as NaN."""
    return isinstance(value, str) and value != ""


def _with_interval(value: float, low: float, high: float) -> str:
    return _number(value) if math.isnan(low) else with_interval(value, low, high)


def rank_text(low: Any, high: Any) -> str:
    """Return a range of ranks as tables show it: "2", "1-3", or "-" for a row without."""
    import pandas as pd

    return "-" if pd.isna(low) else str(Range(int(low), int(high)))


def _notes(protocol_id: str, rows: "pd.DataFrame") -> Iterator[str]:
    """Yield what is particular about the table of a protocol and about its rows."""
    fewest, most = int(rows["seeds"].min()), int(rows["seeds"].max())
    covered = list(dict.fromkeys(map(str, rows["coverage"])))
    if len(covered) == 1:
        seeds = seeds_in_words(covered[0])
    else:
        seeds = f"{fewest} to {most} seeds" if fewest < most else f"{counted(most, 'seed')} each"
    ceiling = f", ceiling {float(rows['ceiling'].mean()):.2f}" if rows["ceiling"].notna().any() else ""
    yield f"Protocol {protocol_id}, {seeds}{ceiling}."
    if _is_text(rows.iloc[0]["tuning"]):
        yield _tuning_note(Tuning.of(str(rows.iloc[0]["tuning"])), rows)
    yield from _baseline(rows)
    if not rows["ranked"].all():
        yield "Unranked: this profile is for tests and first contact."
    usual = max(covered, key=list(map(str, rows["coverage"])).count)
    some_ranked = bool(rows["rank_low"].notna().any())
    names = rows["method"] + (" with " + rows["optimizer"] if _is_of_several(rows) else "")
    lines = zip(names, rows.to_dict("records"), strict=True)
    yield from said_of((name, _said_of_row(row, usual, some_ranked=some_ranked)) for name, row in lines)
    if len(covered) > 1:
        yield f"All others: {seeds_in_words(usual)}."


def _said_of_row(row: Mapping[Any, Any], usual: str, *, some_ranked: bool) -> str:
    """Return what is particular about a row; ``usual`` are the seeds that most rows have."""
    facts = (
        "" if str(row["coverage"]) == usual else seeds_in_words(str(row["coverage"])),
        f"{row['collapsed']} of {counted(int(row['seeds']), 'seed')} collapsed" if row["collapsed"] else "",
        "at the ceiling" if row["at_ceiling"] else "",
        row["rank_note"] if some_ranked and _is_text(row["rank_note"]) else "",
        row["notes"] if _is_text(row["notes"]) else "",
    )
    return "; ".join(filter(None, facts))


def _tuning_note(tuning: Tuning, rows: "pd.DataFrame") -> str:
    """Return how the entries of a table were tuned, and what that cost."""
    seeds = seeds_in_words(seed_ranges(tuning.development_seeds))
    part = (
        "the whole stream: an oracle"
        if tuning.k == 1
        else f"the first {100 * tuning.k:g}% of the stream, in whole tasks"
    )
    return (
        f"Tuned: each row is the best of {tuning.budget} configurations, of its method's grid and of learning rates, "
        f"by mean online score on {part}, {seeds}; {int(rows['tuning_steps'].max()):,} steps at most."
    )


def _baseline(rows: "pd.DataFrame") -> Iterator[str]:
    """Yield the optimizer of the plain learning that others were judged against, as `place` chose it among several."""
    plain = rows[rows["method"] == "none"]
    if len(plain) < 2 or not rows["verdict"].map(_is_text).any():
        return
    chosen, best = (plain.sort_values(by, na_position="first").iloc[-1] for by in (["seeds", "retention"], "retention"))
    text = f"To none: none with {chosen['optimizer']}, the best of those with most seeds"
    if best["retention"] > chosen["retention"]:
        text += f" (with {best['optimizer']} it has {best['retention']:.2f} over {best['seeds']})"
    yield f"{text}."


def _meanings(rows: "pd.DataFrame", columns: Sequence[str]) -> Mapping[str, str]:
    """Return what the headings of a table mean, those that take a few words."""
    score = str(rows.iloc[0]["score"])
    names = [name for name in (str(rows.iloc[0]["headline"]), *columns) if name in BY_NAME]
    meanings = {_heading(name, score): BY_NAME[name].brief for name in names}
    meanings["track"] = "knows of task boundaries (aware) or not (free)"
    if (rows["track"] == "control").any():
        meanings["control"] = "scores 1 by construction"
    is_same = _is_of_several(rows) and not _is_text(rows.iloc[0]["tuning"])
    costs = [name for name in ("speed", "memory") if name in columns]
    if costs:
        are = "multiples of those of none" if len(costs) > 1 else "a multiple of that of none"
        meanings[" and ".join(costs)] = are + (" with the same optimizer" if is_same else "")
    return {heading: meaning for heading, meaning in meanings.items() if meaning}


def _legend(rows: "pd.DataFrame", *, wide: bool) -> Iterator[str]:
    """Yield how scores, trends, ranks and verdicts are made, as far as the table has any."""
    headline, reference = str(rows.iloc[0]["headline"]).capitalize(), rows.iloc[0]["reference"]
    intervals = f"; {INTERVAL_METHOD}" if rows["retention_low"].notna().any() else ""
    yield f"{headline}: 1 is a {reference}, 0 is chance{intervals}."
    if rows["retention_before"].notna().any():
        yield "Before: the retention in the last tasks before the method turned on."
    if rows["fragility"].notna().any():
        yield "Fragility: the retention of the oracle, tuned on the whole stream, minus this one."
    if rows["trend"].isna().all():
        yield (
            f"No trend: it takes fresh networks on {FEWEST_TASKS} tasks after the first {WARM_UP:.0%} of the stream, "
            f"over {REACH:.0%} of it, that are above chance."
        )
    else:
        trend = _TREND.format(reference=reference)
        yield f"{trend}, the first {WARM_UP:.0%} left out{'' if wide else f'; {_TREND_SIGNS}'}."
    if rows["rank_low"].notna().any():
        yield f"#: ranks that are possible within the track: {RANK_METHOD}."
        fewest = int(rows.loc[rows["rank_low"].notna(), "seeds"].min())
        yield (
            f"Collapse: a retention below {COLLAPSED:g}. Where none of {fewest} seeds collapsed, up to "
            f"{unseen_collapse(fewest):.0%} of all seeds still may; neither ranks nor intervals hold if so many do."
        )
    elif rows["ranked"].all():
        yield f"No ranks and no verdicts: they take {FEWEST_RANKED} seeds."
    yield from _verdict_legend(rows, wide=wide)
    if rows["ceiling"].notna().any():
        yield (
            f"Ceiling: the score of a learner that is always right; rows above {NEAR_CEILING:.0%} of it are not told "
            "apart."
        )
    if int(rows["seeds"].min()) < 10 and int(rows["seeds"].max()) > 1:
        yield COVERAGE


def _verdict_legend(rows: "pd.DataFrame", *, wide: bool) -> Iterator[str]:
    if rows["verdict"].map(_is_text).any():
        if not wide:
            yield _VERDICT_SIGNS
        yield f"Verdict to none: {VERDICT_METHOD}."


def _overall_notes(rows: "pd.DataFrame") -> Iterator[str]:
    yield f"Protocols: {rows.iloc[0]['protocols']}; where a scenario has several, the one with most methods."
    facts = zip(rows["method"], rows["missing"], rows["rank_note"], strict=True)
    yield from said_of(
        (method, f"unranked, no retention in {missing}" if missing else note) for method, missing, note in facts
    )


def _overall_legend(rows: "pd.DataFrame", *, wide: bool) -> Iterator[str]:
    low, high = CLIP
    yield (
        f"Mean: unweighted, of the retentions in all scenarios, each clipped to [{low:g}, {high:g}]; worst: the "
        "smallest of them."
    )
    if rows["rank_low"].notna().any():
        yield f"#: ranks that are possible within the track: {RANK_METHOD}; over all scenarios of each seed's mean."
    yield from _verdict_legend(rows, wide=wide)
