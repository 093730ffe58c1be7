"""The JSON Schemas (draft 7) of a record's files, ``schemas/*.json``; the reader refuses what they refuse.

They are those of schema version `SCHEMA_VERSION`, and ``spec-1.json`` that of the specs of version 1, which are still
read. A key that may be absent was added without a new version: records from before it mean what its description says of
its absence.
"""

import json
from collections.abc import Callable
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Literal

from lopbench.core.spec import SCHEMA_VERSION

if TYPE_CHECKING:
    from fastjsonschema import JsonSchemaValueException

__all__ = ["SCHEMAS", "SCHEMA_VERSION", "problem", "schema"]

Name = Literal["spec", "spec-1", "status", "environment", "measurement", "entry", "tuning"]

#: The first three are files of a record; the last is a row of its measurements. `entry` and
#: `tuning` are of what is submitted.
SCHEMAS: tuple[Name, ...] = ("spec", "status", "environment", "measurement")


def schema(name: Name) -> dict[str, Any]:
    """Return a schema as JSON values."""
    value: dict[str, Any] = json.loads((files("lopbench.results") / "schemas" / f"{name}.json").read_bytes())
    if name == "tuning":  # a log is the same wherever it stands
        value["items"]["properties"]["log"] = schema("spec")["properties"]["tuning"]
    return value


def problem(name: Name, value: object) -> str | None:
    """Return what is wrong with ``value`` by the schema ``name``, in words, None if nothing."""
    from fastjsonschema import JsonSchemaValueException

    try:
        _validator(name)(value)
    except JsonSchemaValueException as error:
        return _told(error)
    return None


def _told(error: "JsonSchemaValueException") -> str:
    place = str(error.name).removeprefix("data").removeprefix(".")
    dot = f"{place}." if place else ""
    if error.rule == "required":
        missing = next(key for key in error.rule_definition if key not in error.value)
        return f"{dot}{missing} is missing"
    if error.rule == "additionalProperties":
        unknown = next(key for key in error.value if key not in error.definition["properties"])
        return f"{dot}{unknown} is not known to this lopbench"
    told = str(error.message).removeprefix("data").removeprefix(".")
    return f"{told if place else f'the whole{told}'}, got {_short(error.value)}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


@lru_cache
def _validator(name: Name) -> Callable[[object], object]:
    import fastjsonschema

    found: Callable[[object], object] = fastjsonschema.compile(schema(name), use_default=False)
    return found
