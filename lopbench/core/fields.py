"""Fields of components that say themselves what they accept, and at which value they do nothing.

A number with bounds, its strength zero and whether it may differ between the replicas of a program is written once:
``strength: float = number(1e-4, least=0, zero=0, swept=True)``. What kind of value a field takes is its annotation's:
numbers are finite, a ``Literal`` takes its choices, ``tuple[float, float]`` two numbers. Bounds hold in subclasses too
that redefine a field for another default.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from lopbench.core.errors import InvalidInputError

#: In place of a default: the field has to be given.
REQUIRED: Any = dataclasses.MISSING

_KEY = "lopbench"
_LATER = "later"
_NAMES: Mapping[object, str] = {bool: "true or false", str: "text", types.NoneType: "none"}

Value = TypeVar("Value")
Tuple = TypeVar("Tuple", bound=tuple[float, ...])


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What a field of numbers accepts.

    Args:
        least: Smallest value; None where there is none, as below.
        most: Largest value.
        above: What all values are above.
        below: What all values are below.
        zero: Strength zero, at which the field does nothing.
        swept: Whether the field may differ between replicas of one program, which then carry a tensor ``(R,)``.
    """

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    zero: float | None = None
    swept: bool = False

    def __contains__(self, value: float) -> bool:
        """Return whether a number is within the bounds."""
        return (
            (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        """Return the bounds in words, as in "at least 0 and below 1"; no words if there are none."""
        words = {"at least": self.least, "above": self.above, "at most": self.most, "below": self.below}
        return " and ".join(f"{word} {bound}" for word, bound in words.items() if bound is not None)


def number(
    default: float = REQUIRED,
    *,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    zero: float | None = None,
    swept: bool = False,
) -> float:
    """Return a field for a finite number; the arguments are those of `Bounds`."""
    made: float = _field(default, Bounds(least=least, most=most, above=above, below=below, zero=zero, swept=swept))
    return made


def whole(
    default: int = REQUIRED,
    *,
    least: int | None = None,
    most: int | None = None,
    above: int | None = None,
    below: int | None = None,
    zero: int | None = None,
    swept: bool = False,
) -> int:
    """Return a field for a whole number; the arguments are those of `Bounds`."""
    made: int = _field(default, Bounds(least=least, most=most, above=above, below=below, zero=zero, swept=swept))
    return made


def numbers(
    default: Tuple,
    *,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> Tuple:
    """Return a field for one number or more, each within the bounds; a fixed length is the annotation's."""
    made: Tuple = _field(default, Bounds(least=least, most=most, above=above, below=below))
    return made


def later(default: Value) -> Value:
    """Return a field that came after records had been published: left out of specs at its default, so that ids stay.

    Args:
        default: The default, or a field that says what it accepts, as in ``later(whole(0, least=0))``.
    """
    stated: Any = default if isinstance(default, dataclasses.Field) else dataclasses.field(default=default)
    made: Value = dataclasses.field(default=stated.default, metadata={**stated.metadata, _LATER: True})
    return made


def _field(default: object, bounds: Bounds) -> Any:
    return dataclasses.field(default=default, metadata={_KEY: bounds})


def types_of(cls: type) -> Mapping[str, object]:
    """Return the fields of a component class that are given when it is made, and the type of each."""
    return _types_of(cls)


@functools.cache  # evaluating annotations takes a hundred times as long as checking values
def _types_of(cls: type) -> Mapping[str, object]:
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls) if f.init}


def bounds(cls: type) -> Mapping[str, Bounds]:
    """Return the fields of a component class that have bounds, with them; the nearest base that states some counts."""
    stated = {
        f.name: f.metadata[_KEY]
        for base in reversed(cls.__mro__)
        for f in vars(base).get("__dataclass_fields__", {}).values()
        if _KEY in f.metadata
    }
    return {name: stated[name] for name in types_of(cls) if name in stated}


def zeros(cls: type) -> dict[str, object]:
    """Return the fields that have a strength zero, with that value."""
    return {name: each.zero for name, each in bounds(cls).items() if each.zero is not None}


def swept(cls: type) -> tuple[str, ...]:
    """Return the fields that may differ between replicas of one program."""
    return tuple(name for name, each in bounds(cls).items() if each.swept)


def recorded(component: Any) -> dict[str, object]:
    """Return the fields of a component as its spec has them: all but those of `later` that are at their default."""
    given = [f for f in dataclasses.fields(component) if f.init]
    values = {f.name: getattr(component, f.name) for f in given}
    return {f.name: values[f.name] for f in given if _LATER not in f.metadata or values[f.name] != f.default}


def check(component: Any) -> None:
    """Refuse a component of which a field is not of its type or not within its bounds.

    Raises:
        InvalidInputError: If one is not.
    """
    cls = type(component)
    limits = bounds(cls)
    for name, kind in types_of(cls).items():
        value, limit = getattr(component, name), limits.get(name, Bounds())
        if limit.swept and not isinstance(value, int | float) and hasattr(value, "shape"):
            continue  # a tensor: what replicas had as numbers, each checked alone
        expected = _expected(kind, value, limit)
        if expected is not None:
            none = "" if limit.zero is None else f"; {limit.zero} means none"
            owner = getattr(cls, "name", cls.__name__)
            raise InvalidInputError(f"{owner}: {name} must be {expected}, got {value!r}{none}")


def unify(component: Any) -> None:
    """Make whole numbers in fields of floats floats, in place: 1 and 1.0 are one value, and would give two run ids."""
    for name, kind in types_of(type(component)).items():
        value = getattr(component, name)
        made = _unified(kind, value)
        if made is not value:
            object.__setattr__(component, name, made)


def _unified(kind: object, value: Any) -> Any:
    origin, options = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if int in options and type(value) is int:
            return value
        return _unified(next(option for option in options if _expected(option, value, Bounds()) is None), value)
    if origin is tuple and isinstance(value, tuple):
        kinds = options[:1] * len(value) if options[-1:] == (Ellipsis,) else options
        made = tuple(map(_unified, kinds, value))
        return value if all(x is y for x, y in zip(made, value, strict=True)) else made
    return float(value) if kind is float and type(value) is int else value


def _expected(kind: object, value: Any, limit: Bounds) -> str | None:
    """Return what a value of type ``kind`` should have been, None if it is as it should be."""
    origin, options = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        known = any(value == option and type(value) is type(option) for option in options)
        return None if known else ("one of " if len(options) > 1 else "") + ", ".join(map(str, options))
    if origin in (typing.Union, types.UnionType):
        faults = [_expected(option, value, limit) for option in options]
        return None if None in faults else " or ".join(filter(None, faults))
    if origin is tuple:
        return _expected_tuple(options, value, limit)
    if kind is int or kind is float:
        return _expected_number(kind is int, value, limit)
    name = _NAMES.get(kind)
    return name if name is not None and not isinstance(value, typing.cast(type, kind)) else None


def _expected_number(is_whole: bool, value: Any, limit: Bounds) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int if is_whole else int | float):
        return "a whole number" if is_whole else "a number"
    if not is_whole and not is_finite(value):
        return "a finite number"
    return None if value in limit else str(limit)


def is_finite(value: float) -> bool:
    """Return whether a float holds a number: infinity, NaN and whole numbers beyond all floats are none."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _expected_tuple(options: tuple[Any, ...], value: Any, limit: Bounds) -> str | None:
    if not isinstance(value, tuple):
        return "a tuple"
    if options[-1:] == (Ellipsis,):
        if not value and limit != Bounds():
            return "a tuple of at least one number"
        options = options[:1] * len(value)
    if len(value) != len(options):
        return f"a tuple of {len(options)}"
    faults = [_expected(kind, each, limit) for kind, each in zip(options, value, strict=True)]
    return next((f"{fault} each" for fault in faults if fault is not None), None)
