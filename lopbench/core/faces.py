"""What labels need of component classes, kept from process to process: importing the classes would import torch.

A run is called ``cbp:utility=...`` by the fields that are not at their defaults, and a scenario says which of its
profiles are unranked. Records hold what tables show of them; where one does not, and before a run, it is read off the
classes. That is done once and kept in ``<cache>/faces.json``, beside path, size and time of every file that the class
and its bases come from: when one of them changes, the class is looked at again.
The file is a cache: what cannot be read or written, or has another form, is passed over.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import inspect
import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lopbench.core.interfaces import Component, Headline, Perturbation, Scenario
from lopbench.core.places import cache_directory
from lopbench.core.reading import read_regular
from lopbench.core.registry import Registration

_FILE = "faces.json"

#: A larger file is none of ours.
_MOST_BYTES = 4 * 2**20


@dataclass(frozen=True)
class Face:
    """What labels need of a class.

    Args:
        defaults: The fields that need not be given, with their defaults as JSON values.
        positional: The field that may be given without its name.
        unranked: The profiles of a scenario that enter no rankings; empty for any other component.
        headline: `Scenario.headline`; its default for any other component.
        control: `Perturbation.control`; False for any other component.
        family: `Perturbation.family`; empty for any other component.
        track: The track in which a method competes; empty for any other component.
        cost: `Perturbation.cost`; empty for any other component.
        presets: `Component.presets`.
    """

    defaults: Mapping[str, Any]
    positional: str | None
    unranked: tuple[str, ...] = ()
    headline: Headline = "trainability"
    control: bool = False
    family: str = ""
    track: str = ""
    cost: Mapping[str, float] = field(default_factory=dict)
    presets: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, component: type[Component]) -> Face:
        """Return the face of a class."""
        fields = [f for f in dataclasses.fields(component) if f.init]
        known = {f.name: f.default for f in fields if f.default is not dataclasses.MISSING}
        plain = cls(
            defaults={name: list(value) if isinstance(value, tuple) else value for name, value in known.items()},
            positional=component.positional,
            presets=dict(component.presets),
        )
        if issubclass(component, Scenario):
            return replace(plain, unranked=tuple(sorted(component.unranked)), headline=component.headline)
        if issubclass(component, Perturbation):
            track, cost = component.track_of(), dict(component.cost)
            return replace(plain, control=component.control, family=component.family, track=track, cost=cost)
        return plain


def face(entry: Registration) -> Face:
    """Return the face of a registered component, from the cache if its class was not imported yet.

    Raises:
        PluginError: If the class cannot be imported, and has to be.
    """
    if not isinstance(entry.target, str) or entry.target.partition(":")[0] in sys.modules:
        return Face.of(entry.load())
    key = _key(entry.kind, entry.target)
    if (kept := _current(key)) is not None:
        return kept
    component = entry.load()
    made = Face.of(component)
    _keep(key, component, made)
    return made


@functools.cache
def _key(kind: str, target: str) -> str:
    """Return under what a class is kept: installations side by side share one cache, and may have other classes."""
    module = target.partition(":")[0]
    with suppress(ImportError, ValueError):
        if (parent := module.rpartition(".")[0]) in sys.modules or not parent:
            spec = importlib.util.find_spec(module)
            return f"{kind} {target} {spec and spec.origin}"
    return f"{kind} {target}"


@functools.cache
def _current(key: str) -> Face | None:
    """Return what the cache holds, None if that is nothing or its files have changed; looked up once."""
    with suppress(TypeError, KeyError, AttributeError):  # of another form
        kept = _kept()[key]
        if all(_stamp(path) == stamp for path, stamp in kept["files"].items()):
            return _parsed(kept["face"])
    return None


def _parsed(value: dict[str, Any]) -> Face:
    return Face(
        defaults=value["defaults"],
        positional=value["positional"],
        unranked=tuple(value["unranked"]),
        headline=value["headline"],
        control=value["control"],
        family=value["family"],
        track=value["track"],
        cost=value["cost"],
        presets=value["presets"],
    )


def _stamp(path: str) -> list[int] | None:
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return [status.st_mtime_ns, status.st_size]


@functools.cache
def _kept() -> dict[str, Any]:
    """Return what the cache holds, read once; what this process finds out is added."""
    path = cache_directory() / _FILE
    with suppress(OSError, ValueError, RecursionError):
        value = json.loads(read_regular(path, most=_MOST_BYTES))
        return value if isinstance(value, dict) else {}
    return {}


def _keep(key: str, component: type[Component], made: Face) -> None:
    with suppress(TypeError, OSError, ValueError):  # a built-in without a file, a default that is no JSON, a full disk
        files = {inspect.getfile(base) for base in component.__mro__ if base.__module__ not in sys.builtin_module_names}
        kept = _kept() | {key: {"files": {file: _stamp(file) for file in files}, "face": dataclasses.asdict(made)}}
        text = json.dumps(kept, indent=1, sort_keys=True, allow_nan=False)
        if _parsed(json.loads(text)[key]["face"]) != made:
            return  # a default that JSON changes, such as a dictionary with numbers for keys
        path = cache_directory() / _FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{_FILE}.{os.getpid()}.partial")
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
        _kept()[key] = kept[key]
