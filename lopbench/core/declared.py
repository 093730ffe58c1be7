"""What a class of others has in the places of its interface, looked at without calling any of it.

A hook that is no function, or a cost that is a number, would otherwise end whatever reads it first, such as a list of
methods.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cached_property, partialmethod
from types import FunctionType
from typing import Any

#: In the places of these anything may stand: they are asked for when the object is there.
_COMPUTED = (property, cached_property)

#: What may stand in the place of a hook, besides what can be called.
_HOOKS = (FunctionType, classmethod, staticmethod, partialmethod)

#: Kinds of values in the places of which others than those of the same kind make no sense, and what they are called.
_VALUES: tuple[tuple[type, tuple[type, ...], str], ...] = (
    (bool, (bool,), "true or false"),
    (str, (str,), "a text"),
    (Mapping, (Mapping,), "a mapping"),
    (tuple, (tuple, list, frozenset, set), "a tuple"),
)


def misplaced(cls: type, interface: type) -> str:
    """Return in words what stands in a wrong place of a class, empty if nothing does.

    Args:
        cls: The class.
        interface: The interface that it implements.
    """
    for name in dir(interface):
        if name.startswith("_"):
            continue
        ours, theirs = inspect.getattr_static(interface, name), inspect.getattr_static(cls, name)
        if theirs is ours or isinstance(ours, _COMPUTED):
            continue
        expected = _expected(ours, theirs)
        if expected:
            return f"{name} is a {type(theirs).__name__}, where {expected} belongs"
    return ""


def _expected(ours: Any, theirs: Any) -> str:
    """Return what belongs in a place where something else stands; empty if nothing else does."""
    if isinstance(ours, classmethod | staticmethod):
        return "" if isinstance(theirs, classmethod | staticmethod) else "a method of the class"
    if isinstance(ours, FunctionType):
        return "" if isinstance(theirs, _HOOKS) or callable(theirs) else "a function"
    for kind, allowed, words in _VALUES:
        if isinstance(ours, kind):
            return "" if isinstance(theirs, allowed) else words
    # Of other values the type is nobody's business here, as long as asking for them calls nothing.
    is_called = not isinstance(theirs, (*_HOOKS, *_COMPUTED)) and hasattr(type(theirs), "__get__")
    return "a value" if is_called else ""
