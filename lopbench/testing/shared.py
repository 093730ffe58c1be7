"""The checks of components of every kind, and what the checks of several kinds use."""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
import typing
from collections.abc import Iterator
from typing import TypeVar

from lopbench.core.errors import InvalidInputError, LopbenchError
from lopbench.core.fields import types_of
from lopbench.core.interfaces import Component
from lopbench.testing.check import Check, Mismatch, NotApplicable, check
from lopbench.testing.presets import presets_can_be_run

C = TypeVar("C", bound=Component)


@check("The component is a frozen keyword-only dataclass with a name.")
def is_a_value(component: Component) -> None:
    """Look at the class."""
    cls = type(component)
    params = getattr(cls, "__dataclass_params__", None)
    if params is None or not params.frozen or "__dataclass_fields__" not in vars(cls):
        raise Mismatch("@dataclass(frozen=True, kw_only=True) on the class itself", "another class")
    loose = [f.name for f in dataclasses.fields(cls) if f.init and not f.kw_only]
    if loose:
        raise Mismatch("keyword-only fields", f"{', '.join(loose)} can be given by place")
    if dataclasses.replace(component) != component:
        raise Mismatch("two components of the same fields to be equal", "they are not")
    if not (isinstance(cls.name, str) and cls.name):
        raise Mismatch("a name", repr(cls.name))


@check("Class and module have docstrings, and `Args` describes every field.")
def is_documented(component: Component) -> None:
    """Read them."""
    cls = type(component)
    text = vars(cls).get("__doc__") or ""
    if not text or text.startswith(f"{cls.__name__}("):
        raise Mismatch("a docstring that says what it computes", "none on the class")
    module = sys.modules.get(cls.__module__)
    if module is not None and not (module.__doc__ or "").strip():
        raise Mismatch("a module docstring that names the source", "none")
    described: set[str] = set()
    for base in cls.__mro__:
        described |= set(re.findall(r"^ {4}(\w+): ", inspect.cleandoc(vars(base).get("__doc__") or ""), re.MULTILINE))
    silent = [f.name for f in dataclasses.fields(cls) if f.init and f.name not in described]
    if silent:
        raise Mismatch("every field under Args", f"nothing about {', '.join(silent)}")


@check(
    "Numbers that are no numbers are refused with InvalidInputError.",
    lesson="comparisons with NaN are false: `if x < 0: raise` lets it through; `x: float = number(least=0)` does not",
)
def nonsense_is_refused(component: Component) -> None:
    """Try NaN in every field that takes a number."""
    numbers = [name for name, kind in types_of(type(component)).items() if _takes_float(kind)]
    if not numbers:
        raise NotApplicable("no field takes a number that could be NaN")
    for name in numbers:
        try:
            dataclasses.replace(component, **{name: float("nan")})
        except InvalidInputError:
            continue
        except LopbenchError as error:
            raise Mismatch("InvalidInputError", f"{type(error).__name__} for {name}=nan") from error
        raise Mismatch(
            f"InvalidInputError for {name}=nan", "it is accepted; call super().__post_init__(), which checks fields"
        )


def _takes_float(kind: object) -> bool:
    return kind is float or float in typing.get_args(kind)


@check("Checks that the class declares exempt exist, and the reason is given.")
def exemptions_are_real(component: Component) -> None:
    """Look them up."""
    from lopbench.testing import checks

    known = {each.name for each in checks(component)}
    unknown = sorted(set(component.exempt) - known)
    if unknown:
        raise Mismatch("names of checks", f"{', '.join(unknown)}; 'lopbench plugins check' shows the names")
    bare = [name for name, reason in component.exempt.items() if not reason.strip()]
    if bare:
        raise Mismatch("a reason for each exemption", f"none for {', '.join(bare)}")


def alternatives(component: C, field: str) -> Iterator[C]:
    """Yield the component with other values of one field, as far as it accepts them.

    None for a text that may be anything, or a field that is no hyperparameter.
    """
    kind, value = types_of(type(component)).get(field), getattr(component, field)
    for other in _others(kind, value):
        if other == value:
            continue
        try:
            yield dataclasses.replace(component, **{field: other})
        except (LopbenchError, TypeError, ValueError):
            continue


def _others(kind: object, value: object) -> Iterator[object]:
    if typing.get_origin(kind) is typing.Literal:
        yield from typing.get_args(kind)
    elif isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield from (value + 1, value * 2, value // 2, value - 1)
    elif isinstance(value, float):
        yield from (value / 2, 1 - value, value * 2 + 0.1, 0.9, 0.5, 0.999, 1e-12, 1e3)
    elif isinstance(value, tuple) and value:
        yield tuple(2 * part if isinstance(part, int | float) else part for part in value)
        yield value[:-1]


SHARED: tuple[Check, ...] = (
    is_a_value,
    is_documented,
    nonsense_is_refused,
    exemptions_are_real,
    presets_can_be_run,
)
