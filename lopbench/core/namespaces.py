"""Finds code that was replaced: functions, classes and constants of modules, and attributes of classes.

In our own modules and classes everything has to stay, in those of others only the code: libraries keep values there
that change. A module that is imported meanwhile is looked at as soon as it is there. A module may gain names, such as
its submodules; our modules gain none that hides a function of Python, and our classes none but those that Python itself
writes.
"""

from __future__ import annotations

import builtins
import importlib.machinery
import sys
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from types import FunctionType, ModuleType
from typing import Any

from lopbench.core.component import Component

#: Whose modules and classes are ours.
_OURS = ("lopbench", "lopbench_plugins")

#: Modules of others on which numbers and records rest.
_BASES = (
    *("collections", "contextlib", "copy", "dataclasses", "datetime", "functools", "hashlib", "importlib"),
    *("inspect", "io", "itertools", "json", "json.decoder", "json.encoder", "math", "operator", "os", "pathlib"),
    *("posixpath", "random", "re", "secrets", "shutil", "signal", "struct", "subprocess", "sys", "tempfile"),
    *("threading", "time", "traceback", "typing", "warnings"),
    *("numpy", "numpy.linalg", "numpy.random", "pandas", "pluggy", "pyarrow", "safetensors", "safetensors.torch"),
    *("torch", "torch.autograd", "torch.func", "torch.linalg", "torch.optim", "torch.random", "torch.special"),
    *("torch.nn", "torch.nn.functional", "torch.nn.init", "torch.nn.modules", "torch.nn.parameter"),
)

#: Names that a module of others gives to something else when a part of it is imported or set; those of ``typing`` are
#: replaced by ``typing_extensions``.
_MOVED = frozenset(
    {
        ("inspect", "getfile"),
        ("torch", "Storage"),
        ("typing", "_check_generic"),
        ("typing", "_collect_parameters"),
        ("typing", "_collect_type_vars"),
    }
)

#: What Python writes into a class when somebody reads it.
_BY_PYTHON = frozenset(
    {"__annotations__", "__annotations_cache__", "__abstractmethods__", "__signature__", "_abc_impl"}
)

#: Those of them that are parts of libraries, which are complete when the library is.
_LIBRARIES = ("numpy", "pandas", "pluggy", "pyarrow", "safetensors", "torch")

_GONE = object()

#: Functions of Python by name.
_BUILTINS = vars(builtins)


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] in _OURS


def _is_code(value: object) -> bool:
    return callable(value) or isinstance(value, ModuleType)


class _Namespace:
    """What a module or a class has under its names.

    Args:
        owner: The module or class.
        label: What it is called.
        ours: Whether everything is held to.
    """

    def __init__(self, owner: ModuleType | type, label: str, *, ours: bool) -> None:
        self.owner, self.label, self.ours = owner, label, ours
        self.names = dict(vars(owner))
        found = [(name, _function(value)) for name, value in self.names.items() if type(value) in _FUNCTIONS]
        self.functions = {name: each for name, each in found if type(each) is FunctionType}
        self.insides = [*map(_inside, self.functions.values())]
        constants = self.names.items() if ours else ()
        self.constants = [
            (name, value, value.copy())
            for name, value in constants
            if name.isupper() and type(value) in (dict, list, set)
        ]

    def put_back(self) -> list[str]:
        """Put back what was replaced, removed or hidden; returns what that was."""
        found = []
        now = self.owner.__dict__
        for name, value in self.names.items():
            other = now.get(name, _GONE)
            if other is not value and self._matters(name, value):
                self._set(name, value)
                found.append(f"{self.label}.{name} {'removed' if other is _GONE else 'replaced'}")
        if self.ours and len(now) != len(self.names):
            for name in [name for name in now if name not in self.names and self._hides(name, now[name])]:
                self._delete(name)
                found.append(f"{self.label}.{name} added")
        for (name, function), inside in zip(self.functions.items(), self.insides, strict=True):
            if _inside(function) != inside:
                function.__code__, function.__defaults__, function.__kwdefaults__ = inside
                found.append(f"{self.label}.{name} rewritten")
        for name, value, content in self.constants:
            if value != content:
                value.clear()
                (value.extend if isinstance(value, list) else value.update)(content)
                found.append(f"{self.label}.{name} changed")
        return found

    def _matters(self, name: str, value: object) -> bool:
        if self.ours:
            return name not in _BY_PYTHON
        return _is_code(value) and (self.label, name) not in _MOVED

    def _hides(self, name: str, value: object) -> bool:
        if isinstance(self.owner, type):  # Python writes notes of its own into classes
            return name not in _BY_PYTHON and (_is_code(value) or not name.startswith("__"))
        return name in _BUILTINS and not isinstance(value, ModuleType) and not name.startswith("__")

    def _set(self, name: str, value: object) -> None:
        if isinstance(self.owner, type):
            type.__setattr__(self.owner, name, value)
        else:
            self.owner.__dict__[name] = value

    def _delete(self, name: str) -> None:
        if isinstance(self.owner, type):
            type.__delattr__(self.owner, name)
        else:
            del self.owner.__dict__[name]


_FUNCTIONS = (FunctionType, property, classmethod, staticmethod)

#: What a function is made of.
_inside = attrgetter("__code__", "__defaults__", "__kwdefaults__")


def _function(value: Any) -> object:
    """Return the function that stands behind an attribute of a class."""
    if type(value) is property:
        return value.fget
    return value.__func__ if type(value) in (classmethod, staticmethod) else value


class Namespaces:
    """Modules and classes as they are: ours, those of plugins, and those of others on which all rest."""

    def __init__(self) -> None:
        self._modules: dict[str, ModuleType] = {}
        self._classes: set[type] = set()
        self._spaces: list[_Namespace] = []
        self._builtins = dict(_BUILTINS)
        plugins = {each.__module__ for each in _components(Component)}
        for name in [name for name in sys.modules if _is_ours(name)]:
            self._add(name)
        for name in (*_BASES, *plugins):
            self._add(name)
        for each in _components(Component):
            self._add_class(each, ours=True)

    def note(self, name: str) -> None:
        """Look at a module that has just been imported."""
        if _is_ours(name):
            self._add(name)
        for base in _BASES:
            if base.partition(".")[0] == name:
                self._add(base)

    def put_back(self) -> list[str]:
        """Put back what was replaced; returns it in words."""
        found = []
        for name, value in self._builtins.items():  # no function of Python can be called by its name before
            if _BUILTINS.get(name) is not value and name != "_":
                _BUILTINS[name] = value
                found.append(f"builtins.{name} replaced")
        for space in self._spaces:
            found += space.put_back()
        for name, module in self._modules.items():
            if sys.modules.get(name, _GONE) is not module:
                sys.modules[name] = module
                found.append(f"the module {name} replaced")
        return found

    def _add(self, name: str) -> None:
        module = sys.modules.get(name)
        if not isinstance(module, ModuleType) or name in self._modules:
            return
        self._modules[name] = module
        ours = _is_ours(name)
        self._spaces.append(_Namespace(module, name, ours=ours))
        for each in list(vars(module).values()):
            if isinstance(each, type) and _is_at_home(each, name):
                self._add_class(each, ours=ours)

    def _add_class(self, made: type, *, ours: bool) -> None:
        if made not in self._classes and made.__flags__ & 1 << 9:  # of Python's own nobody can change any
            self._classes.add(made)
            self._spaces.append(_Namespace(made, f"{made.__module__}.{made.__qualname__}", ours=ours))


def _is_at_home(made: type, name: str) -> bool:
    """Return whether a class that stands in a module is of it, or of one of the parts that its library hides in it."""
    home = str(getattr(made, "__module__", None))
    return home == name or (name == "torch.nn" and home.startswith("torch.nn."))


def _components(base: type) -> Iterator[type]:
    subclasses: list[type] = type.__subclasses__(base)
    for each in subclasses:
        yield each
        yield from _components(each)


class Finder:
    """Calls ``told`` with the name of each module of ours or of a library that is imported, until it is closed."""

    def __init__(self, told: Callable[[str], None]) -> None:
        self._told = told
        sys.meta_path.insert(0, self)

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        """Return what Python finds, with a loader that tells when it is done; see `importlib.abc.MetaPathFinder`."""
        if not (_is_ours(name) or name in _LIBRARIES):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return None
        run = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            run(module)
            self._told(name)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec

    def close(self) -> None:
        """Tell nothing any more."""
        sys.meta_path[:] = [each for each in sys.meta_path if each is not self]
        self._told = lambda name: None
