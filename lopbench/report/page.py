"""The page: one HTML file with its data, style and script inside, which asks nothing of any server.

The tables are HTML, readable without the script; the script sorts and filters them, and draws the figures from the
means that are embedded. All text of the runs goes through a template that escapes it, or into a JSON block in which no
character can end its element; the script puts it on the page as text.
"""

import base64
import hashlib
import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points, version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lopbench.core.manager import build_manager
from lopbench.core.reading import real_path
from lopbench.core.registry import OWN, Registry
from lopbench.report.command import beyond, command
from lopbench.report.rows import Dress, Dresses, Places, has_several_optimizers, key_of, labels_of, names_of
from lopbench.report.summary import RETENTION, Array, Failure, Row, Summary, Table, reason, summarise
from lopbench.results import sensitivity
from lopbench.results.cells import csv_text, of_any_size, two_digits
from lopbench.results.columns import BY_NAME, ERRORS, WITH_INTERVAL, secondary
from lopbench.results.files import write_whole
from lopbench.results.leaderboard import seed_ranges
from lopbench.results.overall import CLIP
from lopbench.results.pairs import FEWEST_RANKED
from lopbench.results.ranks import RANK_METHOD
from lopbench.results.seed_scores import BASE
from lopbench.results.statistics import COVERAGE, INTERVAL_METHOD
from lopbench.results.tables import rank_text

if TYPE_CHECKING:
    from markupsafe import Markup

#: Name of each colour, and what it is on light and on dark paper. Rows have those of `lopbench.results.looks` besides.
PALETTE: Mapping[str, tuple[str, str]] = {
    "paper": ("#ffffff", "#16181c"),
    "ink": ("#1c1d21", "#e7e8ea"),
    "muted": ("#5c6067", "#a2a7af"),
    "rule": ("#d5d8dd", "#3a3e46"),
    "wash": ("#f3f4f6", "#22252b"),
    "accent": ("#0b5fad", "#7dbdf5"),
    "alarm": ("#b3261e", "#ff8a80"),
}

#: Columns that are no numbers.
_TEXTS = ("track", "interval", "verdict")

#: Where a name may be broken into lines.
_BREAKS = re.compile(r"(?<=[_:,+])(?=\S)")

#: Between what the intervals of all tables are drawn; what is further out stands at the edge.
_SHOWN = (-0.25, 2.5)

#: Most sets of results that are named in the heading; of more, the names stand under it.
_MOST_IN_TITLE = 3

#: What is measured of every learner and no plugin brings, in words.
_SCORES = {
    RETENTION: "The learner's score above chance over that of a fresh network, task by task, the score being that of "
    "the headline: 1 is a fresh network.",
    "online_accuracy": "Share of right answers on each batch before it is trained on.",
    "heldout_accuracy": "Share of right answers on samples not seen, at the end of a task.",
    "online_error": "Error on each sample before it is trained on.",
    "heldout_error": "Error on samples not seen, at the end of a task.",
    "online_loss": "Loss on each batch before it is trained on.",
    "validation_accuracy": "Share of right answers on validation samples, of the weights that a task ends with.",
    "validation_error": "Error on validation samples, of the weights that a task ends with.",
    "kept_step": "Steps of the task after which the network had the weights that it ends with.",
}


@dataclass(frozen=True)
class _Column:
    key: str
    heading: str
    meaning: str
    number: bool
    sorted: str | None = None


def write_report(path: str | os.PathLike[str], *results: str | os.PathLike[str]) -> Summary:
    """Write the page of all runs under ``results`` to ``path``, over what is there, and return what it shows.

    The same runs give the same bytes.

    Args:
        path: The HTML file.
        results: Results folders, folders of run directories, or single run directories.

    Raises:
        ResultsError: If there are no runs that can be used, or the file cannot be written.
    """
    summary = summarise(*results)
    names = [real_path(each).name for each in results]
    few = len(names) <= _MOST_IN_TITLE
    title = ", ".join(names) if few else f"{len(names)} sets of results"
    page = render(summary, title, real_path(path).parent, sets=() if few else names)
    write_whole(path, page, "The report")
    return summary


def render(summary: Summary, title: str, folder: Path | None = None, *, sets: Sequence[str] = ()) -> str:
    """Return the page.

    Args:
        summary: What it shows.
        title: Its heading, plain text.
        folder: Where it will be: records below it are linked. None links none.
        sets: Names that stand under the heading.
    """
    from jinja2 import Environment, StrictUndefined

    tables = sorted(summary.tables, key=lambda table: (-len(table.rows), _place(table)))
    dresses = Dresses()
    drawn = [list(zip(dresses.of_rows(table), dresses.of_methods(table), strict=True)) for table in tables]
    palette = {**PALETTE, **dresses.palette}
    style, script = f"{_colours(palette)}\n{_asset('page.css')}", _asset("page.js") + _asset("explore.js")
    scale = _scale([row.line for table in tables for row in table.rows])
    policy = {
        "default-src": "'none'",
        "style-src": _source(style),
        "script-src": _source(script),
        "img-src": "data:",  # the empty icon, without which a browser asks for one
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    shown = [_table(table, index, scale) for index, table in enumerate(tables)]
    places = Places(folder)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True)
    environment.filters["breaks"] = _breakable
    return environment.from_string(_asset("page.html")).render(
        policy="; ".join(f"{key} {value}" for key, value in policy.items()),
        title=title,
        lead=_lead(summary),
        sets=sets,
        style=style,
        script=script,
        data=_script_json(
            {
                "palette": {name: values[0] for name, values in palette.items()},
                "interval": INTERVAL_METHOD,
                "meanings": {metric: _of_metric(metric) for each in tables for metric in (*each.metrics, *each.layers)},
                "tables": [_curves(*each, places) for each in zip(tables, shown, drawn, strict=True)],
                "folders": places.links,
                "csv": csv_text(summary.frame),
            }
        ),
        overall=list(_overall(summary)),
        tables=shown,
        axis=_axis(scale),
        tracks=sorted({str(row.line["track"]) for table in tables for row in table.rows}),
        meanings=list(_meanings(tables)),
        failures=[_failure(failure) for failure in summary.failures],
        problems=[str(problem) for problem in summary.problems],
        stopped=sum(len(failure.runs) for failure in summary.failures),
        version=version("lopbench"),
    )


@cache
def _asset(name: str) -> str:
    return files("lopbench.report").joinpath(name).read_text(encoding="utf-8")


def _breakable(text: str) -> "Markup":
    """Return a text, escaped, that a browser may break after ``_ : ,`` and ``+``, and not inside a word."""
    from markupsafe import Markup

    return Markup("<wbr>").join(_BREAKS.split(str(text)))


def _source(text: str) -> str:
    """Return what allows this very text in a content security policy, and no other."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _colours(palette: Mapping[str, tuple[str, str]]) -> str:
    light, dark = (
        "color-scheme:{};".format(("light", "dark")[index])
        + "".join(f"--{name}:{values[index]};" for name, values in palette.items())
        for index in (0, 1)
    )
    return (
        f":root{{{light}}}\n"
        f"@media (prefers-color-scheme: dark) {{ :root{{{dark}}} }}\n"
        f":root[data-theme=light]{{{light}}}\n:root[data-theme=dark]{{{dark}}}\n"
        f"@media print {{ :root, :root[data-theme]{{{light}}} }}"
    )


def _script_json(value: object) -> str:
    """Return ``value`` as JSON that no parser of HTML takes for anything else."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _lead(summary: Summary) -> str:
    def count(number: int, what: str) -> str:
        return f"{number:,} {what}{'' if number == 1 else 's'}"

    methods = summary.frame["method"].nunique()
    return (
        f"{count(summary.runs, 'run')} of {count(methods, 'method')} and {count(summary.references, 'run')} of fresh "
        f"networks, under {count(len(summary.tables), 'protocol')}. Rows of different protocols do not compare."
        + ("" if summary.layered else " So many runs leave no room for numbers of layers: a page of fewer has them.")
    )


def _place(table: Table) -> tuple[object, ...]:
    line = table.rows[0].line
    return tuple(line[key] for key in ("scenario", "profile", "architecture", "data", "protocol_id"))


def _columns(table: Table) -> list[_Column]:
    """Return the columns of a table, those of which something is known."""
    lines = [row.line for row in table.rows]
    axis = lines[0]["headline"]
    columns = [_Column("method", "method", "", number=False)]
    beside = secondary(axis, lambda name: (line[name] for line in lines))
    for key in ("rank_low", "track", "retention", "interval", *beside, "seeds"):
        if key == "interval":  # it is drawn
            columns.append(_Column(key, "", "", number=False))
            continue
        heading, meaning = BY_NAME[axis if key == "retention" else key].shown(table.score)
        columns.append(_Column(key, heading, meaning, number=key not in _TEXTS))
    return columns


def _meanings(tables: Sequence[Table]) -> Iterator[tuple[str, str]]:
    found: dict[tuple[str, str], None] = {}
    for table in tables:
        for column in _columns(table):
            if column.meaning:
                found.setdefault((column.heading, column.meaning), None)
    yield from found


def _table(table: Table, index: int, scale: tuple[float, float]) -> dict[str, Any]:
    """Return what the template shows of a protocol."""
    line = table.rows[0].line
    columns = _columns(table)
    title = f"{line['scenario']} {line['profile']}, {line['architecture']}"
    names = names_of(table)
    if not has_several_optimizers(table):
        title += f", {line['optimizer']}"
    if line["tuning"]:
        title += f", tuned by {line['tuning']}"
    data = line["data"]
    return {
        "protocol_id": line["protocol_id"],
        "title": title,
        "setting": f"data {data}" if data else "data made by the scenario",
        "procedural": "procedural" in data,
        "text": f"{title} {line['protocol_id']} {data}".lower(),
        "columns": columns,
        "rows": [
            _row(row, table, name, f"r{index}-{number}", columns, scale)
            for number, (row, name) in enumerate(zip(table.rows, names, strict=True))
        ],
        "notes": list(_notes(table)),
        "sensitivity": list(sensitivity.sensitivity_tables(sensitivity.lines(row.entry for row in table.rows))),
    }


def _row(
    row: Row, table: Table, name: str, identity: str, columns: Sequence[_Column], scale: tuple[float, float]
) -> dict[str, Any]:
    line, spec = row.line, row.spec
    notes = [note for note in line["notes"].split("; ") if note]
    return {
        "id": identity,
        "key": key_of(row),
        "method": name,
        "track": line["track"],
        "text": f"{name} {line['track']} {line['notes']}".lower(),
        "cells": [_cell(row, table, column.key, scale) for column in columns[1:]],
        "notes": notes + [f"No option of the command line sets: {what}" for what in beyond(spec)],
        "command": command(spec, seed_ranges(record.spec.seed for record in row.runs)),
        "code": f"Code: {', '.join(filter(None, (f'core with numbers of version {spec.numbers}', row.entry.code)))}.",
        "digest": line["inputs_digest"],
    }


def _runs(row: Row, places: Places) -> list[list[str | int | None]]:
    """Return what the script shows of the runs of a row when it is unfolded, in the order of its columns."""
    return [
        [
            record.spec.seed,
            record.outcome + ("" if record.outcome == "completed" else f": {reason(record)}"),
            _number(row.entry.retentions.get(record.spec.seed, math.nan)),
            _duration(record.status["wall_time_s"]),
            str(record.status["started_utc"])[:10],
            str(record.environment.get("device", "")),
            str(record.environment.get("versions", {}).get("torch", "")),
            str(record.environment.get("commit") or "")[:12],
            record.path.name,
            places.of(record),
        ]
        for record in row.runs
    ]


def _cell(row: Row, table: Table, key: str, scale: tuple[float, float]) -> dict[str, Any]:
    """Return a cell: what sorts it (empty is last), what it shows, and whether it is a number."""
    line = row.line
    cell: dict[str, Any] = {"number": key not in _TEXTS, "value": "", "extra": "", "plot": None}
    if key == "interval":
        if not math.isnan(line["retention"]):
            cell["plot"] = _plot(line, scale)
        return {**cell, "text": ""}
    value = math.nan if line[key] is None else line[key]
    if key == "track":
        return {**cell, "value": value, "text": str(value).removeprefix("boundary-")}
    if key == "verdict":
        return {**cell, "value": value, "text": value or "–"}
    if not math.isnan(value):
        cell["value"] = repr(float(value))
    if key == "rank_low":
        return {**cell, "text": _ranks(line)}
    if key == "seeds":
        stopped = [f"{line[outcome]} {outcome}" for outcome in ("diverged", "failed", "collapsed") if line[outcome]]
        return {**cell, "text": str(value), "extra": ", ".join(stopped)}
    is_error = key in ERRORS and table.score == "error"
    if key in WITH_INTERVAL and not math.isnan(line[f"{key}_low"]):
        low, high = (_number(line[f"{key}_{end}"], is_error=is_error) for end in ("low", "high"))
        cell["extra"] = f"[{low}, {high}]"
    if key == "trend" and line["trend_word"]:
        return {**cell, "text": f"{_number(value)} {line['trend_word']}"}
    return {**cell, "text": _number(value, is_error=is_error)}


def _scale(lines: Sequence[Mapping[Any, Any]]) -> tuple[float, float]:
    """Return the ends of the axis that the intervals of all tables share; it holds chance and the fresh network's 1."""
    ends = [line[key] for line in lines for key in ("retention", "retention_low", "retention_high")]
    low, high = _SHOWN
    known = [min(max(end, low), high) for end in ends if math.isfinite(end)]
    return min((0.0, *known)), max((1.05, *known))


def _axis(scale: tuple[float, float]) -> dict[str, str]:
    """Return where 0 and 1 stand above the intervals."""
    return {"chance": _x(0.0, scale), "fresh": _x(1.0, scale)}


def _x(value: float, scale: tuple[float, float]) -> str:
    """Return where a retention is on the 120 units of an interval."""
    low, high = scale
    return f"{4 + 112 * (min(max(value, low), high) - low) / (high - low):.1f}"


def _plot(line: Mapping[Any, Any], scale: tuple[float, float]) -> dict[str, str]:
    """Return the interval of a row as it is drawn, 120 by 12, beside the fresh network's line."""
    low, high = line["retention_low"], line["retention_high"]
    return {
        "fresh": f"M{_x(1.0, scale)} 0V12",
        "bar": "" if math.isnan(low) else f"M{_x(low, scale)} 6H{_x(high, scale)}",
        "x": _x(line["retention"], scale),
    }


def _notes(table: Table) -> Iterator[str]:
    seeds = [row.line["seeds"] for row in table.rows]
    if max(seeds) > 1:
        yield f"Intervals: {INTERVAL_METHOD}."
        if min(seeds) < 10:
            yield COVERAGE
    unranked = all(row.line["rank_low"] is None for row in table.rows)
    if unranked:
        yield f"No ranks: they take {FEWEST_RANKED} seeds and a ranked profile."
    if not all(row.line["ranked"] for row in table.rows):
        yield "Unranked: this profile is for tests and first contact."
    said: dict[str, list[str]] = {}  # rows of which the same is to be said share a line
    for row, name in zip(table.rows, names_of(table), strict=True):
        near = "at the ceiling" if row.line["at_ceiling"] else ""
        facts = (near, "" if unranked else row.line["rank_note"], row.line["notes"])
        if any(facts):
            said.setdefault("; ".join(filter(None, facts)), []).append(name)
    yield from (f"{'; '.join(names)}: {text}" for text, names in said.items())


def _overall(summary: Summary) -> Iterator[dict[str, Any]]:
    """Yield what the template shows of the methods over all scenarios, one for each profile."""
    low, high = CLIP
    for profile, rows in summary.overall.groupby("profile", sort=False):
        lines = rows.to_dict("records")
        protocols = lines[0]["protocols"]
        count = len(protocols.split(", "))
        yield {
            "title": f"{profile}, {count} scenarios",
            "notes": (
                f"Mean: unweighted, of the retentions in all scenarios, each clipped to [{low:g}, {high:g}]; worst: "
                f"the smallest of them. Rank: those possible within the track, {RANK_METHOD}, of each seed's mean.",
                f"Protocols: {protocols}; where a scenario has several, the one with most methods.",
            ),
            "rows": [
                {
                    "method": line["method"],
                    "track": line["track"].removeprefix("boundary-"),
                    "rank": _ranks(line),
                    "order": _ranks(line).partition("–")[0],
                    "verdict": line["verdict"],
                    "mean": _number(line["mean"]),
                    "worst": _number(line["worst"]),
                    "where": line["worst_scenario"],
                    "scenarios": f"{line['scenarios']} of {count}",
                    "missing": line["missing"],
                }
                for line in lines
            ],
        }


def _failure(failure: Failure) -> dict[str, Any]:
    return {
        "what": failure.what,
        "setting": failure.setting,
        "outcome": failure.outcome,
        "reason": failure.reason,
        "seeds": seed_ranges(seed for seed, _ in failure.runs),
        "runs": failure.runs,
    }


def _of_metric(metric: str) -> str:
    """Return what a metric is, in words; empty where nobody says so."""
    name = metric.removeprefix(BASE).partition(":")[0]
    registry = _built_in()
    told = _SCORES.get(name, "")
    if not told and name in registry.names("metrics"):
        told = registry.get("metrics", name).summary.capitalize() + "."
    return f"Of the base beside the clone. {told}" if metric.startswith(BASE) else told


@cache
def _built_in() -> Registry:
    """Return the components of lopbench itself: other plugins may take seconds to import, for a few words."""
    found = entry_points(group="lopbench")
    return build_manager(entry_points=[each for each in found if each.dist and each.dist.name == OWN]).registry


def _fields(row: Row) -> dict[str, Any]:
    """Return what a row can be grouped and found by: its columns that are texts, and the fields of its components.

    They are named as the factors of tables are, as in "optimizer.lr" and "cbp.replacement_rate".
    """
    columns = ("scenario", "profile", "architecture", "data", "method", "optimizer", "track", "verdict")
    spec = row.spec
    parts = [("scenario", spec.scenario), ("architecture", spec.architecture), ("optimizer", spec.optimizer)]
    parts += [(method.name, method) for method in spec.methods]
    return {
        **{name: str(row.line[name] or "") for name in columns},
        **{f"{name}.{key}": _plain(value) for name, part in parts for key, value in part.fields.items()},
    }


def _plain(value: object) -> str | float | None:
    """Return the value of a field as a page holds it: of a list a text."""
    if isinstance(value, list | tuple):
        return "/".join(map(str, value))
    return value if isinstance(value, str | int | float | None) else str(value)


def _curves(
    table: Table, texts: Mapping[str, Any], drawn: Sequence[tuple[Dress, Dress]], places: Places
) -> dict[str, Any]:
    line = table.rows[0].line
    fields = [_fields(row) for row in table.rows]
    shared = dict(item for item in fields[0].items() if all(item in each.items() for each in fields))
    return {
        "id": line["protocol_id"],
        "title": texts["title"],
        "score": f"online_{table.score}",
        "tasks": table.bins.tasks,
        "span": table.bins.span,
        "metrics": table.metrics,
        "layers": table.layers,
        "fresh": {metric: _encode(curve) for metric, curve in table.fresh.items()},
        "references": table.references,
        "shared": shared,
        "rows": [
            {
                "label": label,
                "look": look,
                "family": family,
                "method": row.line["method"],
                "lr": row.line["lr"],
                "start": row.spec.start,
                "key": key_of(row),
                "fields": {name: value for name, value in each.items() if name not in shared},
                "paired": {str(seed): _json(value) for seed, value in row.entry.retentions.items()},
                "runs": _runs(row, places),
                "lines": "" if row.lines is None else _encode(row.lines),
                "seeds": row.line["seeds"],
                "retention": [_json(row.line[f"retention{end}"]) for end in ("", "_low", "_high")],
                "curves": {metric: _encode(curve) for metric, curve in row.curves.items()},
                "maps": {metric: _encode(_map(row, table, metric)) for metric in row.layers},
            }
            for row, label, (look, family), each in zip(table.rows, labels_of(table), drawn, fields, strict=True)
        ],
    }


def _map(row: Row, table: Table, metric: str) -> Array:
    """Return a metric of a row in each layer of the table, ``(L, B)``, NaN where the row has no such layer."""
    unknown = np.full(len(table.bins.parts), np.nan)
    return np.stack([row.layers[metric].get(layer, unknown) for layer in table.layers[metric]])


def _encode(values: Array) -> str:
    """Return numbers as the base64 of little-endian single precision, row after row: small, and NaN stays NaN."""
    return base64.b64encode(np.ascontiguousarray(values, dtype="<f4").tobytes()).decode()


def _json(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _ranks(line: Mapping[Any, Any]) -> str:
    return rank_text(line["rank_low"], line["rank_high"]).replace("-", "–")


def _number(value: float, *, is_error: bool = False) -> str:
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞"
    if is_error:
        return of_any_size(value)
    return two_digits(value) if abs(value) < 1000 else f"{value:.1e}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
