"""``lopbench show``: all about one component."""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
import types
import typing
from typing import TYPE_CHECKING, Any, Literal

import rich_click as click

from lopbench.cli.output import console, format_option, write_json
from lopbench.cli.plugins import plugin_option
from lopbench.core.errors import UsageError
from lopbench.core.grid import Column, Grid, indented
from lopbench.core.interfaces import Component, DataSet, Optimizer, Perturbation, Scenario

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from lopbench.core.registry import Registration


#: Least widths of the columns of types and of descriptions.
_TYPE, _DESCRIPTION = 12, 24

#: Least width of the columns of a table in a docstring.
_CELL = 8

#: What a docstring says of deviations: up to a paragraph that is no item of the list.
_DEVIATIONS = re.compile(r"Deviations?\b[^:\n]*:\s*(.*?)(?=\n\n(?!- )|\Z)", re.DOTALL)


@click.command("show")
@click.argument("name")
@plugin_option
@format_option
def command(name: str, output_format: str) -> None:
    """Show component NAME: source, equation, deviations from it, validation, needs, cost, fields, profiles, track.

    If several kinds of component have that name, each is shown. Each part of a composition, as in layernorm+l2, is
    shown. The name none is plain learning.
    """
    from lopbench.cli import baseline
    from lopbench.core.manager import plugins

    registry = plugins().registry
    parts = [part.strip() for part in name.split("+")]
    _refuse_study(name)
    kinds = {part: [baseline.NAME] if part == baseline.NAME else registry.kinds(part) for part in parts}
    described = [
        baseline.described() if kind == baseline.NAME else describe(registry.get(kind, part))
        for part in parts
        for kind in kinds[part]
    ]
    if output_format == "json":
        write_json(described)
    else:
        for component in described:
            _print(component)


def _refuse_study(name: str) -> None:
    """Raise if a name is that of a study file that plugins bring, with the commands that read it.

    Raises:
        UsageError: If it is.
    """
    from lopbench.cli.list import STUDIES
    from lopbench.core.shipped import shipped

    found = [f"'lopbench {verb} {name}' {what}" for folder, (verb, what) in STUDIES.items() if name in shipped(folder)]
    if found:
        raise UsageError(f"{name} is no component but a study file: {', '.join(found)}.")


def describe(entry: Registration) -> dict[str, Any]:
    """Return what is known of a registered component, as JSON values.

    Raises:
        PluginError: If the component cannot be imported.
    """
    from lopbench.core.fields import Bounds, bounds, types_of
    from lopbench.core.spec import format_value

    cls = entry.load()
    documented = _arguments(cls)
    fields = []
    kinds, limits = types_of(cls), bounds(cls)
    for field in dataclasses.fields(cls):
        if field.init:
            required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            default = field.default_factory() if callable(field.default_factory) else field.default
            limit = limits.get(field.name, Bounds())
            text = "/".join(map(format_value, default)) if isinstance(default, tuple) else format_value(default)
            fields.append(
                {
                    "name": field.name,
                    "type": type_text(kinds[field.name]),
                    "bounds": str(limit),
                    "swept": limit.swept,
                    "default": None if required else text,
                    "description": documented.get(field.name, ""),
                }
            )
    described: dict[str, Any] = {
        "kind": entry.kind,
        "name": entry.name,
        "summary": entry.summary,
        "distribution": f"{entry.distribution.name} {entry.distribution.version}",
        "version": cls.version,
        "source": inspect.cleandoc(sys.modules[cls.__module__].__doc__ or ""),
        "description": _prose(cls),
        "equation": cls.equation,
        "deviations": _deviations(cls),
        "validated": list(cls.validated),
        "exempt": dict(cls.exempt),
        "fields": fields,
        "presets": dict(cls.presets),
    }
    if issubclass(cls, Perturbation):
        described["family"] = cls.family
        described["track"] = cls.track_of()
        described["needs"] = _needs(cls)
        described["cost"] = dict(cls.cost)
    if issubclass(cls, Optimizer | Perturbation):
        described["grid"] = {field: list(map(_plain, values)) for field, values in cls.grid.items()}
    if issubclass(cls, Scenario):
        described["default_profile"] = cls.default_profile
        described["profiles"] = {profile: _plain_fields(values) for profile, values in cls.profiles.items()}
    if issubclass(cls, DataSet):
        described["terms"] = cls.terms
        described["stand_in"] = cls.stand_in
        described["files"] = [{"url": file.url, "size_bytes": file.size_bytes} for file in cls.files]
    return described


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _plain_fields(values: Mapping[str, object]) -> dict[str, object]:
    return {field: _plain(value) for field, value in values.items()}


def _written(value: object) -> str:
    return "/".join(map(str, value)) if isinstance(value, list) else str(value)


def type_text(annotation: object) -> str:
    """Return a field's type as a user reads it: "number", "a | b", "whole number | none"."""
    origin = typing.get_origin(annotation)
    if origin is Literal:
        return " | ".join(map(str, typing.get_args(annotation)))
    if origin in (typing.Union, types.UnionType):
        return " | ".join(map(type_text, typing.get_args(annotation)))
    if origin is tuple:
        return f"{type_text(typing.get_args(annotation)[0])}/..."
    names: dict[object, str] = {
        bool: "true | false",
        int: "whole number",
        float: "number",
        str: "text",
        types.NoneType: "none",
    }
    return names.get(annotation, str(annotation))


def _arguments(cls: type[Component]) -> dict[str, str]:
    """Return what the ``Args`` sections of the class and its bases say of each field; the class has the last word."""
    documented: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        section = re.search(r"^Args:\n((?:[ ]+.*\n?|\n)+)", _docstring(base), re.MULTILINE)
        if section is None:
            continue
        for match in re.finditer(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", section[1], re.MULTILINE):
            documented[match[1]] = " ".join(match[2].split())
    return documented


def _prose(cls: type[Component]) -> str:
    """Return the class's docstring without its sections."""
    return re.split(r"^(?:Args|Raises|Attributes):$", _docstring(cls), maxsplit=1, flags=re.MULTILINE)[0].strip()


def _reflowed(text: str) -> str:
    """Return a text with paragraphs and items on a line each, for a terminal to break; what else is indented stays."""
    items = re.sub(r"^- .*(?:\n {2,}(?!- ).*)+", lambda item: re.sub(r"\n +", " ", item[0]), text, flags=re.MULTILINE)
    return re.sub(r"(?<=\S)\n(?=[^\s|*-])", " ", re.sub(r"\n{3,}", "\n\n", items))


def _quoted(text: str) -> str:
    """Return a docstring's text with the quotes of code as a terminal has them."""
    return text.replace("``", "`")


def _print_prose(text: str, out: Console) -> None:
    """Print paragraphs, and tables in Markdown among them as tables."""
    for number, block in enumerate(text.split("\n\n")):
        if number:
            out.print()
        columns = _columns(block)
        if columns and Grid(columns, out.width, indent=2).has_blocks:  # of which the first line would have no heading
            name = columns[0]
            columns[0] = dataclasses.replace(name, cells=[f"{name.heading} {cell}" for cell in name.cells])
        out.print(Grid(columns, out.width, indent=2).rows() if columns else indented([block], out.width))


def _columns(block: str) -> list[Column]:
    """Return the columns of a table in Markdown; none if a block of text is something else, or its rows differ."""
    lines = block.split("\n")
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines]
    is_table = len(rows) > 2 and all(line.startswith("|") for line in lines)
    if not is_table or len({len(row) for row in rows}) > 1:
        return []
    found = []
    for heading, _, *cells in zip(*rows, strict=True):
        styles = ["bold" if cell.startswith("**") else "" for cell in cells]
        texts = [cell.strip("*") for cell in cells]
        found.append(Column(heading, texts, least=_CELL, is_prose=True, styles=styles))
    return found


def _docstring(cls: type) -> str:
    # Not inspect.getdoc, which would inherit the interface's text; a dataclass without one gets its signature as text.
    text = cls.__dict__.get("__doc__") or ""
    return "" if text.startswith(f"{cls.__name__}(") else inspect.cleandoc(text)


def _deviations(cls: type[Component]) -> list[str]:
    """Return what module and class say of deviations from the paper and from the authors' code, one by one."""
    found: list[str] = []
    for text in (inspect.cleandoc(sys.modules[cls.__module__].__doc__ or ""), _prose(cls)):
        for match in _DEVIATIONS.finditer(text):
            found += [" ".join(item.split()) for item in re.split(r"(?:^|\n)- ", match[1]) if item.strip()]
    return found


def _needs(cls: type[Perturbation]) -> list[str]:
    """Return what a method asks for beyond a step of training."""
    declared = {
        "task boundaries": cls.has("on_task_start"),
        "data of the task that begins": cls.uses_data,
        "replayed data": cls.uses_replay,
        "a network changed as it is built": cls.has("configure"),
        "memory of its own": cls.has("begin"),
        "steps one by one": not cls.as_program,
    }
    return [need for need, asked in declared.items() if asked]


def _print(component: dict[str, Any]) -> None:
    from rich.text import Text

    out = console()
    out.print(Text.assemble((component["name"], "bold"), f"  {component['summary']}"))
    facts = [component["kind"].removesuffix("s"), f"version {component['version']}", component["distribution"]]
    if "track" in component:
        facts += [f"family {component['family']}", f"track {component['track']}"]
    out.print(Text(", ".join(facts), style="dim"))
    for text in (component["description"], component["source"]):
        told = _DEVIATIONS.sub("", text).strip()  # deviations come below
        if told:
            out.print()
            _print_prose(_reflowed(_quoted(told)), out)
    ledger = {
        "equation": [component["equation"]] if component["equation"] else [],
        "deviations": component["deviations"],
        "validated against": component["validated"],
        "needs": component.get("needs", []),
        "tuned over": [f"{name}: {', '.join(map(_written, each))}" for name, each in component.get("grid", {}).items()],
        "cost": _cost(component.get("cost", {})),
        "stands in comparisons as": [f"{text}: {summary}" for text, summary in component["presets"].items()],
        "exempt from": [f"{name}: {reason}" for name, reason in component["exempt"].items()],
        **_of_data(component),
    }
    for heading, items in ledger.items():
        if items:
            out.print()
            out.print(Text(heading, style="bold"))
            out.print(indented([f"- {_quoted(item)}" for item in items], out.width))
    if component["fields"]:
        out.print()
        out.print(Text("fields", style="bold"))
        fields = component["fields"]
        columns = [
            Column("name", [each["name"] for each in fields]),
            Column("default", ["(required)" if each["default"] is None else f"= {each['default']}" for each in fields]),
            Column("type", [_kind_of(each) for each in fields], least=_TYPE, is_prose=True, style="dim"),
            Column("description", [_quoted(each["description"]) for each in fields], least=_DESCRIPTION, is_prose=True),
        ]
        out.print(Grid(columns, out.width, indent=2).rows(headed=False))
    if "profiles" in component:
        out.print()
        out.print(Text("profiles", style="bold"))
        profiles = component["profiles"]
        marks = [f"{each} (default)" if each == component["default_profile"] else each for each in profiles]
        values = [", ".join(f"{key}={_written(value)}" for key, value in each.items()) for each in profiles.values()]
        columns = [Column("profile", marks), Column("values", values, least=_DESCRIPTION, is_prose=True)]
        out.print(Grid(columns, out.width, indent=2).rows(headed=False))
    out.print()


def _kind_of(field: Mapping[str, Any]) -> str:
    """Return what may stand in a field."""
    return f"{field['type']} {field['bounds']}".strip() + (", swept" if field["swept"] else "")


def _cost(cost: Mapping[str, float]) -> list[str]:
    """Return in words what a method costs, beside plain learning."""
    words = {
        "time": "the time of a step",
        "memory": "its memory",
        "program": "the time of a sample in a compiled program",
    }
    return [f"{cost[key]:g} times {what}" for key, what in words.items() if key in cost]


def _of_data(component: dict[str, Any]) -> dict[str, list[str]]:
    """Return what there is to say of a data set, by heading."""
    if "terms" not in component:
        return {}
    sizes = [(file["url"], file["size_bytes"]) for file in component["files"]]
    return {
        "terms": [component["terms"]],
        "files": [url if size is None else f"{url} ({size:,} bytes)" for url, size in sizes],
        "stand-in where it is absent": [component["stand_in"]] if component["stand_in"] else [],
    }
