"""Leaderboards for people: as tables in a terminal, in Markdown and in LaTeX, and as CSV."""

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lopbench.results.cells import csv_text
from lopbench.results.files import write_whole
from lopbench.results.overall import CLIP
from lopbench.results.pairs import COLLAPSED, FEWEST_RANKED, unseen_collapse
from lopbench.results.ranks import RANK_METHOD, Range
from lopbench.results.score import ERROR_RETENTION_CAP, NEAR_CEILING
from lopbench.results.statistics import COVERAGE, INTERVAL_METHOD
from lopbench.results.verdicts import VERDICT_METHOD

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

#: The columns that tables show beside the retention, and their headings.
_SECONDARY: Mapping[str, str] = {
    "retention_before": "before",
    "heldout_retention": "held-out",
    "self_retention": "self",
    "lifetime_online": "online",
    "late_early": "late/early",
    "speed": "speed",
    "memory": "mem.",
}
#: Their headings where the score is an error.
_OF_ERRORS: Mapping[str, str] = {"lifetime_online": "error", "late_early": "early/late"}

#: Verdicts as a terminal shows them, which has little room.
_SIGNS: Mapping[str, str] = {"better": "+", "worse": "\N{MINUS SIGN}", "not shown": "?"}

_PROCEDURAL = "Procedural images, not a real data set: compare these numbers with no others."

#: What LaTeX would take for commands.
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


#: Columns of names as the command line takes them.
_NAMES = ("method", "optimizer")


@dataclass(frozen=True)
class _Table:
    """A table in no format yet: rank, method and track come first, what follows are numbers.

    Args:
        title: What all rows share.
        headings: One for each column.
        rows: Cells.
        notes: What a reader should know.
        warning: What nobody must miss, None for nothing.
    """

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str]
    warning: str | None = None


def to_csv(frame: "pd.DataFrame", path: str | os.PathLike[str]) -> None:
    """Write a leaderboard with all its columns; floats keep all their digits, NaN is empty.

    A text that a spreadsheet would run as a formula gets an apostrophe in front.

    Raises:
        ResultsError: If the file cannot be written.
    """
    write_whole(path, csv_text(frame), "The leaderboard")


def render(frame: "pd.DataFrame", console: "Console", overall: "pd.DataFrame | None" = None) -> None:
    """Print a leaderboard as one table for each protocol, with notes under it.

    Args:
        frame: What `leaderboard` returned, or its CSV read again.
        console: Where to print; from 80 columns on all numbers are whole.
        overall: Methods over all scenarios, as `Board` has them; their tables come last.
    """
    from rich.table import Table
    from rich.text import Text

    for each in _tables(frame, overall):
        table = Table(title=Text(each.title), title_justify="left", box=None, padding=(0, 1, 0, 0), pad_edge=False)
        for heading in each.headings:
            narrow = re.sub(r"([-/])| ", r"\1\n", heading)
            if heading in _NAMES:
                table.add_column(heading, overflow="fold")
            else:
                left = heading in ("track", "retention")
                table.add_column(narrow, justify="left" if left else "right", no_wrap=True)
        for row in each.rows:
            table.add_row(*(Text(_SIGNS.get(cell, cell.removeprefix("boundary-"))) for cell in row))
        console.print(table)
        if "to none" in each.headings:
            console.print(Text("To none: + is shown to be better, \N{MINUS SIGN} worse, ? neither."), style="dim")
        for note in each.notes:
            console.print(Text(note), style="dim")
        if each.warning:
            console.print(Text(each.warning), style="bold yellow")


def markdown(frame: "pd.DataFrame", overall: "pd.DataFrame | None" = None) -> str:
    """Return a leaderboard in Markdown, as `render` prints it: for each protocol a heading line, a table, and notes.

    Args:
        frame: What `leaderboard` returned, or its CSV read again.
        overall: Methods over all scenarios.
    """
    lines: list[str] = []
    for each in _tables(frame, overall):
        lines += [_markdown(each.title), "", f"| {' | '.join(each.headings)} |", "|" + "---|" * len(each.headings)]
        for row in each.rows:
            cells = [
                _code(cell) if heading in _NAMES else cell for heading, cell in zip(each.headings, row, strict=True)
            ]
            lines.append(f"| {' | '.join(cells)} |")
        lines += ["", *(f"- {_markdown(note)}" for note in each.notes)]
        if each.warning:
            lines.append(f"- **{each.warning}**")
        lines.append("")
    return "\n".join(lines)


def latex(frame: "pd.DataFrame", overall: "pd.DataFrame | None" = None) -> str:
    """Return a leaderboard as LaTeX tables in the style of the package ``booktabs``, their notes in the captions.

    Args:
        frame: What `leaderboard` returned, or its CSV read again.
        overall: Methods over all scenarios.
    """
    lines: list[str] = []
    for each in _tables(frame, overall):
        notes = [f"{each.title}.", *each.notes, *([each.warning] if each.warning else [])]
        alignment = "".join("l" if heading in (*_NAMES, "track", "retention") else "r" for heading in each.headings)
        lines += [r"\begin{table}", r"\centering", rf"\caption{{{_latex(' '.join(notes))}}}"]
        lines += [rf"\begin{{tabular}}{{{alignment}}}", r"\toprule"]
        lines += [rf"{' & '.join(map(_latex, each.headings))} \\", r"\midrule"]
        lines += [rf"{' & '.join(map(_latex, row))} \\" for row in each.rows]
        lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}", ""]
    return "\n".join(lines)


def _tables(frame: "pd.DataFrame", overall: "pd.DataFrame | None") -> Iterator[_Table]:
    for protocol_id, rows in frame.groupby("protocol_id", sort=False):
        columns = _secondary(rows)
        optimizer = ["optimizer"] if _is_of_several(rows) else []
        yield _Table(
            title=_title(rows),
            headings=("#", "method", *optimizer, "track", "retention", *columns.values(), "seeds"),
            rows=[
                (
                    rank_text(row["rank_low"], row["rank_high"]),
                    str(row["method"]),
                    *(str(row[column]) for column in optimizer),
                    str(row["track"]),
                    _with_interval(row["retention"], row["retention_low"], row["retention_high"]),
                    *(_cell(row, column) for column in columns),
                    str(row["seeds"]),
                )
                for _, row in rows.iterrows()
            ],
            notes=list(_notes(str(protocol_id), rows)),
            warning=_PROCEDURAL if "procedural" in str(rows.iloc[0]["data"]) else None,
        )
    if overall is not None:
        for profile, rows in overall.groupby("profile", sort=False):
            yield _Table(
                title=f"All scenarios, {profile}",
                headings=("#", "method", "track", "mean", "to none", "worst", "worst in", "scenarios"),
                rows=[
                    (
                        rank_text(row["rank_low"], row["rank_high"]),
                        row["method"],
                        row["track"],
                        _number(row["mean"]),
                        row["verdict"] or "-",
                        _number(row["worst"]),
                        row["worst_scenario"],
                        str(row["scenarios"]),
                    )
                    for _, row in rows.iterrows()
                ],
                notes=list(_overall_notes(rows)),
            )


def _title(rows: "pd.DataFrame") -> str:
    """Return what all rows of a table share."""
    row = rows.iloc[0]
    optimizer = f", {row['optimizer']}" if not _is_of_several(rows) else ""
    data = f", data {row['data']}" if _is_text(row["data"]) else ""
    return f"{row['scenario']} {row['profile']}, {row['architecture']}{optimizer}{data}"


def _is_of_several(rows: "pd.DataFrame") -> bool:
    """Return whether the rows of a table have several optimizers."""
    return rows["optimizer"].nunique() > 1


def _secondary(rows: "pd.DataFrame") -> dict[str, str]:
    """Return the columns that the table of a protocol shows beside the retention, and their headings."""
    headings = {"verdict": "to none", **_SECONDARY, **(_OF_ERRORS if rows.iloc[0]["score"] == "error" else {})}
    if rows["retention_before"].isna().all():
        del headings["retention_before"]
    if not rows["verdict"].map(_is_text).any():
        del headings["verdict"]
    return headings


def _cell(row: "pd.Series[Any]", column: str) -> str:
    if column == "verdict":
        return row["verdict"] if _is_text(row["verdict"]) else "-"
    value = float(row[column])
    if row["score"] == "error" and column == "lifetime_online" and math.isfinite(value):
        return f"{value:.3f}" if 0.01 <= value < 1000 else f"{value:.1e}"  # an error has any size
    return _number(value)


def _number(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.2f}" if abs(value) < 1000 else f"{value:.1e}"


def _is_text(value: object) -> bool:
    """Tell text from the empty, which a CSV that was read again holds as NaN."""
    return isinstance(value, str) and value != ""


def _with_interval(value: float, low: float, high: float) -> str:
    return _number(value) if math.isnan(low) else f"{value:.2f} [{low:.2f}, {high:.2f}]"


def rank_text(low: Any, high: Any) -> str:
    """Return a range of ranks as tables show it: "2", "1-3", or "-" for a row without."""
    import pandas as pd

    return "-" if pd.isna(low) else str(Range(int(low), int(high)))


def _notes(protocol_id: str, rows: "pd.DataFrame") -> Iterator[str]:
    fewest, most = int(rows["seeds"].min()), int(rows["seeds"].max())
    covered = list(dict.fromkeys(map(str, rows["coverage"])))
    if len(covered) == 1:
        seeds = _seeds(covered[0])
    else:
        seeds = f"{fewest} to {most} seeds" if fewest < most else f"{most} seeds each"
    if rows.iloc[0]["score"] == "error":
        scale = (
            f"the fresh network's error over the learner's, at most {ERROR_RETENTION_CAP:g}, 0 is a run that stopped"
        )
    else:
        scale = "1 is a fresh network, 0 is chance"
    yield f"Protocol {protocol_id}, {seeds}. Retention: {scale}; {INTERVAL_METHOD}."
    if rows["retention_before"].notna().any():
        yield "Before: the retention in the last tasks before the method turned on."
    same = " with the same optimizer" if _is_of_several(rows) else ""
    track = "Track: knows of task boundaries (aware) or not (free)."
    yield f"{track} Speed and memory are multiples of those of none{same}."
    yield from _standing_notes(rows)
    if fewest < 10 and most > 1:
        yield COVERAGE
    if not rows["ranked"].all():
        yield "Unranked: this profile is for tests and first contact."
    usual = max(covered, key=list(map(str, rows["coverage"])).count)
    some_ranked = rows["rank_low"].notna().any()
    names = rows["method"] + (" with " + rows["optimizer"] if _is_of_several(rows) else "")
    columns = ("coverage", "collapsed", "seeds", "at_ceiling", "rank_note", "notes")
    for name, coverage, collapsed, count, near, rank_note, note in zip(names, *(rows[c] for c in columns), strict=True):
        facts = (
            "" if str(coverage) == usual else _seeds(str(coverage)),
            f"{collapsed} of {count} seeds collapsed" if collapsed else "",
            "at the ceiling" if near else "",
            rank_note if some_ranked and _is_text(rank_note) else "",
            note if _is_text(note) else "",
        )
        text = "; ".join(filter(None, facts))
        if text:
            yield f"{name}: {text}"
    if len(covered) > 1:
        yield f"All others: {_seeds(usual)}."


def _standing_notes(rows: "pd.DataFrame") -> Iterator[str]:
    """Yield how ranks and verdicts are made, as far as the table has any."""
    if rows["rank_low"].notna().any():
        yield f"#: ranks that are possible within the track: {RANK_METHOD}."
        fewest = int(rows.loc[rows["rank_low"].notna(), "seeds"].min())
        yield (
            f"{fewest} seeds without a collapse (retention below {COLLAPSED:g}) leave a rate of "
            f"{unseen_collapse(fewest):.0%} possible, under which neither ranks nor intervals hold."
        )
    elif rows["ranked"].all():
        yield f"#: no ranks, which take {FEWEST_RANKED} seeds."
    if rows["verdict"].map(_is_text).any():
        yield f"Verdict to none{_baseline(rows)}: {VERDICT_METHOD}."
    if rows["ceiling"].notna().any():
        top = float(rows["ceiling"].mean())
        yield (
            f"Ceiling: {top:.2f}, the retention of a learner that is always right; rows above {NEAR_CEILING:.0%} of it "
            "are not told apart."
        )


def _baseline(rows: "pd.DataFrame") -> str:
    """Return of which optimizer the plain learning is that others were judged against, as `place` chose it."""
    plain = rows[rows["method"] == "none"]
    if len(plain) < 2:
        return ""
    chosen, best = (plain.sort_values(by, na_position="first").iloc[-1] for by in (["seeds", "retention"], "retention"))
    text = f" with {chosen['optimizer']}, the best of those with most seeds"
    if best["retention"] > chosen["retention"]:
        text += f" (with {best['optimizer']} it has {best['retention']:.2f} over {best['seeds']})"
    return text


def _seeds(coverage: str) -> str:
    return f"seed {coverage}" if coverage.isdecimal() else f"seeds {coverage}"


def _overall_notes(rows: "pd.DataFrame") -> Iterator[str]:
    low, high = CLIP
    yield (
        f"Mean: unweighted, of the retentions in all scenarios, each clipped to [{low:g}, {high:g}]; worst: the "
        "smallest of them."
    )
    yield f"Protocols: {rows.iloc[0]['protocols']}; where a scenario has several, the one with most methods."
    if rows["rank_low"].notna().any():
        yield f"#: ranks that are possible within the track: {RANK_METHOD}; of each seed's mean over the scenarios."
    if rows["verdict"].map(_is_text).any():
        yield f"Verdict to none: {VERDICT_METHOD}."
    for method, missing, note in zip(rows["method"], rows["missing"], rows["rank_note"], strict=True):
        if missing:
            yield f"{method}: unranked, no retention in {missing}"
        elif note:
            yield f"{method}: {note}"


def _code(text: str) -> str:
    """Return ``text`` as code in a cell of a Markdown table."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence, space = "`" * (longest + 1), " " if longest else ""
    return f"{fence}{space}{text}{space}{fence}".replace("|", "\\|")


def _markdown(text: str) -> str:
    """Return ``text`` such that Markdown shows it as it is."""
    return re.sub(r"([\\`*\[\]<>|])", r"\\\1", text.replace("&", "&amp;"))


def _latex(text: str) -> str:
    """Return ``text`` such that LaTeX shows it as it is."""
    return "".join(_LATEX.get(character, character) for character in text)
