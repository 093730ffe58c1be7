"""``lopbench list``: what is installed."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import rich_click as click

from lopbench.cli.output import console, format_option, write_json
from lopbench.core.interfaces import KINDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lopbench.core.registry import Registration


#: What study files are there for, which plugins bring.
_STUDIES = ("claims", "figures")


@click.command("list")
@click.argument("kind", type=click.Choice([*KINDS, *_STUDIES]), required=False)
@format_option
def command(kind: str | None, output_format: str) -> None:
    """List the installed components, all of them or one KIND.

    'claims' and 'figures' are study files, for 'lopbench verify' and 'lopbench figure'.
    Of methods alone it also tells family and track: what they are, and whether they act at the boundaries of tasks.
    Plugins that could not be loaded stand at the end, with the reason. 'lopbench show NAME' tells more of one.
    """
    from lopbench.core.manager import plugins

    if kind in _STUDIES:
        _list_studies(kind, output_format)
        return
    loaded = plugins()
    listed: dict[str, list[dict[str, str]]] = {}
    for each in [kind] if kind else KINDS:
        listed[each] = [
            {
                "name": entry.name,
                "summary": entry.summary,
                "distribution": f"{entry.distribution.name} {entry.distribution.version}",
            }
            for entry in loaded.registry.entries(each)
        ]
    if kind == "methods":
        listed[kind] = _with_families(loaded.registry.entries(kind), listed[kind])
    skipped = [
        {"plugin": each.plugin, "distribution": each.distribution, "reason": each.reason}
        for each in sorted(loaded.skipped, key=lambda each: (each.distribution, each.plugin))
    ]
    if output_format == "json":
        write_json({**listed, "skipped": skipped})
    else:
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


def _with_families(entries: Sequence[Registration], rows: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Return the rows of methods with what their classes say; empty of one that cannot be imported."""
    from lopbench.core.errors import LopbenchError
    from lopbench.core.faces import face

    found = []
    for entry, row in zip(entries, rows, strict=True):
        family = track = ""
        with suppress(LopbenchError):
            found_face = face(entry)
            family, track = found_face.family, found_face.track
        found.append({**row, "family": family, "track": track})
    return found


def _by_family(rows: Sequence[dict[str, str]]) -> dict[str, list[dict[str, str]]]:
    """Return methods by family, in the order of families, with plain learning among the controls."""
    from lopbench.core.perturbation import FAMILIES

    none = {"name": "none", "summary": "plain learning, without any method", "track": "boundary-free"}
    found = {f"methods: {family}": [row for row in rows if row["family"] == family] for family in FAMILIES}
    found["methods: control"] = [none, *found["methods: control"]]
    found["methods: cannot be imported"] = [row for row in rows if not row["family"]]
    return {heading: each for heading, each in found.items() if each}


def _print(listed: dict[str, list[dict[str, str]]], skipped: list[dict[str, str]]) -> None:
    from rich.table import Table
    from rich.text import Text

    out = console()
    # One width for all tables, so that the columns of the kinds stand under each other.
    width = max((len(entry["name"]) for entries in listed.values() for entry in entries), default=0)
    for kind, entries in listed.items():
        out.print(Text(kind, style="bold"))
        table = Table.grid(padding=(0, 2))
        table.add_column(min_width=width + 2, no_wrap=True)
        table.add_column()
        for _ in range(1 + any("track" in entry for entry in entries)):
            table.add_column(style="dim", no_wrap=True)
        for entry in entries:
            facts = [entry[key] for key in ("track", "distribution") if key in entry]
            table.add_row(Text(f"  {entry['name']}"), Text(entry["summary"]), *map(Text, facts))
        out.print(table if entries else Text("  none", style="dim"))
        out.print()
    if skipped:
        out.print(Text("plugins that were skipped", style="bold yellow"))
    for entry in skipped:
        out.print(Text(f"  {entry['plugin']} of {entry['distribution']}: {entry['reason']}"))
