"""``lopbench list``: what is installed."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import rich_click as click

from lopbench.cli.baseline import ROW
from lopbench.cli.output import console, format_option, tell, write_json
from lopbench.core.grid import Column, Grid
from lopbench.core.interfaces import KINDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lopbench.core.registry import Registration


#: Least width of a column of summaries.
_SUMMARY = 32

#: What stands behind the summary, in the order in which it goes where there is no room.
_FACTS = ("distribution", "cost", "track")

#: What study files are there for, which plugins bring: the command that reads one, and what it does.
STUDIES = {
    "claims": ("verify", "judges the claim"),
    "figures": ("figure", "draws the figure"),
    "suites": ("run", "runs the suite"),
}


@click.command("list")
@click.argument("kind", metavar="[KIND]", type=click.Choice([*KINDS, *STUDIES]), required=False)
@format_option
def command(kind: str | None, output_format: str) -> None:
    """List the installed components, all of them or one KIND.

    KIND is architectures, cloners, data, executors, methods, metrics, optimizers, scenarios or sinks; or claims,
    figures or suites, which are study files for 'lopbench verify', 'figure' and 'run'.

    'lopbench list methods' also shows the family of each method, its track (whether it acts at the boundaries of
    tasks), and what a step costs in time and memory, as multiples of plain learning. Settings and compositions that
    comparisons use stand under their component. Plugins that could not be loaded stand at the end, with the reason.
    'lopbench show NAME' tells more of one component.
    """
    from lopbench.core.manager import plugins

    if kind in STUDIES:
        _list_studies(kind, output_format)
        return
    loaded = plugins()
    listed: dict[str, list[dict[str, Any]]] = {}
    for each in [kind] if kind else KINDS:
        listed[each] = [
            {
                "name": entry.name,
                "summary": entry.summary,
                "distribution": f"{entry.distribution.name} {entry.distribution.version}",
            }
            for entry in loaded.registry.entries(each)
        ]
    if kind in ("methods", "optimizers"):
        listed[kind] = _with_faces(loaded.registry.entries(kind), listed[kind])
    skipped = [
        {"plugin": each.plugin, "distribution": each.distribution, "reason": each.reason}
        for each in sorted(loaded.skipped, key=lambda each: (each.distribution, each.plugin))
    ]
    if output_format == "json":
        write_json({**listed, "skipped": skipped})
    else:
        if kind is None:
            listed["methods"].insert(0, {key: ROW[key] for key in ("name", "summary")})
        _print(_by_family(listed[kind]) if kind == "methods" else listed, skipped)


def _list_studies(folder: str, output_format: str) -> None:
    """Print the study files of a folder that plugins bring, with what they call themselves."""
    import tomllib

    from lopbench.core.shipped import shipped

    rows = []
    for name, path in shipped(folder).items():
        with path.open("rb") as file:
            rows.append({"name": name, "summary": str(tomllib.load(file).get("title", ""))})
    if output_format == "json":
        write_json({folder: rows})
    else:
        _print({folder: rows}, [])
        verb, what = STUDIES[folder]
        scale = "" if folder == "suites" else "; NAME-paper has runs as published, NAME smaller ones, for two cores"
        tell(console(), f"'lopbench {verb} NAME' {what}{scale}.", "dim")


def _with_faces(entries: Sequence[Registration], rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows with what their classes say; of a class that cannot be imported it is empty."""
    from lopbench.core.errors import LopbenchError
    from lopbench.core.faces import Face, face

    found = []
    for entry, row in zip(entries, rows, strict=True):
        shown = Face({}, None)
        with suppress(LopbenchError):
            shown = face(entry)
        facts = {"family": shown.family, "track": shown.track, "cost": dict(shown.cost)}
        found.append({**row, **(facts if entry.kind == "methods" else {}), "presets": dict(shown.presets)})
    return found


def _by_family(rows: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return methods by family, in the order of families, with plain learning among the controls."""
    from lopbench.core.perturbation import FAMILIES

    found = {f"methods: {family}": [row for row in rows if row["family"] == family] for family in FAMILIES}
    found["methods: control"] = [ROW, *found["methods: control"]]
    found["methods: cannot be imported"] = [row for row in rows if not row["family"]]
    return {heading: each for heading, each in found.items() if each}


def _rows(entries: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """Return the rows of a table, those of settings and compositions under their component."""
    rows = []
    for entry in entries:
        cost = entry.get("cost")
        facts = {
            "track": entry.get("track", ""),
            "cost": f"{cost['time']:g}x, {cost['memory']:g}x mem." if cost else "",
            "distribution": entry.get("distribution", ""),
        }
        rows.append({"name": entry["name"], "summary": entry["summary"], **facts})
        rows += [{"name": name, "summary": text} for name, text in entry.get("presets", {}).items()]
    return rows


def _print(listed: dict[str, list[dict[str, Any]]], skipped: list[dict[str, str]]) -> None:
    from rich.text import Text

    out = console()
    tables = {kind: _rows(entries) for kind, entries in listed.items()}
    rows = [row for each in tables.values() for row in each]
    names, summaries = ([row[key] for row in rows] for key in ("name", "summary"))
    facts = {name: [row.get(name, "") for row in rows] for name in reversed(_FACTS)}
    # One table for all kinds, so that their columns stand under each other.
    table = Grid(
        [
            Column("name", names),
            Column("summary", summaries, least=_SUMMARY, is_prose=True),
            *(Column(name, cells, style="dim") for name, cells in facts.items()),
        ],
        out.width,
        leaving=_FACTS,
        indent=2,
    )
    first = 0
    for kind, each in tables.items():
        out.print(Text(kind, style="bold"))
        out.print(table.rows(first, first + len(each), headed=False) if each else Text("  none", style="dim"))
        out.print()
        first += len(each)
    if table.gone:
        gone = ", ".join(table.gone)
        out.print(Text(f"No room for {gone}: a wider terminal shows more, --format json all.", style="dim"))
    if skipped:
        out.print(Text("plugins that were skipped", style="bold yellow"))
    for entry in skipped:
        out.print(Text(f"  {entry['plugin']} of {entry['distribution']}: {entry['reason']}"))
