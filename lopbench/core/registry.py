"""Name -> class, for each kind of component. Refuses duplicates, suggests near misses, imports on demand."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import inspect
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from lopbench.core.declared import misplaced
from lopbench.core.errors import PluginError, UnknownError, UsageError
from lopbench.core.fields import types_of
from lopbench.core.guard import left_alone
from lopbench.core.interfaces import KINDS, Component
from lopbench.core.text import told

#: Names stand on command lines, where ``:=,+`` have a meaning, and in the names of directories.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")

#: Distribution whose components are protected by number locks, so that their version alone says what they compute.
OWN = "lopbench"


def suggest(word: str, known: list[str]) -> str:
    """Return ' Did you mean ...?' with the nearest of ``known``, or an empty string."""
    near = difflib.get_close_matches(word, known, n=2, cutoff=0.5)
    return f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""


@dataclass(frozen=True)
class Distribution:
    """Where a plugin comes from."""

    name: str
    version: str
    #: Installed editable or not installed at all: its version says nothing about its content.
    mutable: bool = False

    @property
    def label(self) -> str:
        """Name and version."""
        return f"{self.name} {self.version}"


@dataclass(frozen=True)
class Registration:
    """One registered component; ``is_given`` if Python code gave its class, of which other processes do not know."""

    kind: str
    name: str
    target: str | type[Component]
    summary: str
    distribution: Distribution
    is_given: bool = False

    def load(self) -> type[Component]:
        """Return the class, importing it if needed.

        Raises:
            PluginError: If the target cannot be imported or is not a component of its kind.
        """
        if isinstance(self.target, str):
            module_name, _, class_name = self.target.partition(":")
            try:
                if self.distribution.name == OWN and module_name in sys.modules:
                    loaded = getattr(sys.modules[module_name], class_name)
                else:
                    with left_alone(code=module_name not in sys.modules and self.distribution.name != OWN):
                        loaded = getattr(importlib.import_module(module_name), class_name)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                raise PluginError(
                    f"{self.kind} {self.name!r} of {self.distribution.name} cannot be imported from {self.target!r}: "
                    f"{told(error)}"
                ) from error
        else:
            loaded = self.target
        interface = KINDS[self.kind]
        if not (inspect.isclass(loaded) and issubclass(loaded, interface)):
            raise PluginError(
                f"{self.kind} {self.name!r} of {self.distribution.name}: {self.target!r} is not a {interface.__name__}"
            )
        if inspect.isabstract(loaded):
            missing = ", ".join(sorted(getattr(loaded, "__abstractmethods__")))  # noqa: B009
            raise PluginError(f"{self.kind} {self.name!r} of {self.distribution.name} does not implement {missing}")
        wrong = misplaced(loaded, interface) if self.distribution.name != OWN else ""
        if wrong:
            raise PluginError(f"{self.kind} {self.name!r} of {self.distribution.name}: {wrong}")
        own = inspect.getattr_static(loaded, "name", None)
        if own != self.name:
            raise PluginError(f"{self.kind} {self.name!r} of {self.distribution.name}: the class calls itself {own!r}")
        try:
            types_of(loaded)
        except Exception as error:
            raise PluginError(
                f"{self.kind} {self.name!r} of {self.distribution.name}: the types of its fields cannot be read: "
                f"{told(error)}"
            ) from error
        return loaded

    @property
    def origin(self) -> str:
        """Distribution and version; with the content hash of the component's file where the version proves nothing."""
        label = self.distribution.label
        return f"{label}+{self.content}" if self.distribution.mutable else label

    @property
    def content(self) -> str:
        """Hash of the component's file, 12 hex digits; "unknown" for a class that stands in none."""
        try:
            path = Path(inspect.getfile(self.load()))
        except TypeError:
            return "unknown"
        return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


class Registry:
    """All registered components of all kinds."""

    def __init__(self) -> None:
        self._entries: dict[str, dict[str, Registration]] = {kind: {} for kind in KINDS}

    def add(self, entry: Registration) -> None:
        """Register ``entry``.

        Raises:
            PluginError: If the name is taken (naming both distributions) or the entry is malformed.
        """
        if not (isinstance(entry.name, str) and _NAME.fullmatch(entry.name)):
            raise PluginError(
                f"{entry.distribution.name} registers {entry.name!r}: a name is made of letters, digits, '_', '-' and "
                "'.', and begins with a letter or digit"
            )
        is_path = isinstance(entry.target, str) and entry.target.count(":") == 1
        if not (is_path or inspect.isclass(entry.target)):
            raise PluginError(
                f"{entry.distribution.name} registers {entry.name!r} as {entry.target!r}; "
                "give 'module:Class' or a class"
            )
        if not isinstance(entry.summary, str):
            raise PluginError(
                f"{entry.distribution.name} registers {entry.name!r} with the summary {entry.summary!r}; give a text"
            )
        taken = self._entries[entry.kind].get(entry.name)
        if taken is not None:
            raise PluginError(
                f"the name {entry.name!r} in {entry.kind} is registered by {taken.distribution.name} "
                f"({taken.target}) and by {entry.distribution.name} ({entry.target}); uninstall one of them"
            )
        self._entries[entry.kind][entry.name] = entry

    def copy(self) -> Registry:
        """Return a registry of the same entries."""
        made = Registry()
        made.become(self)
        return made

    def become(self, other: Registry) -> None:
        """Have the entries of another one."""
        for kind in KINDS:
            self._entries[kind] = dict(other._entries[kind])

    def holds(self, other: Registry) -> bool:
        """Return whether all entries of another one are here under their names."""
        return all(
            self._entries[kind].get(name) is entry for kind in KINDS for name, entry in other._entries[kind].items()
        )

    def names(self, kind: str) -> list[str]:
        """Return the registered names of ``kind``, sorted."""
        return sorted(self._entries[kind])

    def entries(self, kind: str) -> list[Registration]:
        """Return the registrations of ``kind``, sorted by name."""
        return [self._entries[kind][name] for name in self.names(kind)]

    def kinds(self, name: str) -> list[str]:
        """Return the kinds that have a component of this name.

        Raises:
            UsageError: If none has, an `UnknownError` with the nearest names.
        """
        found = [kind for kind in KINDS if name in self._entries[kind]]
        if not found and name == "none":
            raise UsageError("'none' is no component: as a method it stands for plain learning, without any.")
        if not found:
            known = sorted({each for kind in KINDS for each in self._entries[kind]})
            raise UnknownError(f"Unknown component {name!r}.{suggest(name, known)} 'lopbench list' shows all.")
        return found

    def get(self, kind: str, name: str) -> Registration:
        """Return the registration of ``name``.

        Raises:
            UnknownError: If there is none, with the nearest names.
        """
        found = self._entries[kind].get(name)
        if found is None:
            singular = kind.removesuffix("s")
            known = [*self.names(kind), *(("none",) if kind == "methods" else ())]  # which is written in their place
            raise UnknownError(f"Unknown {singular} {name!r}.{suggest(name, known)} 'lopbench list {kind}' shows all.")
        return found
