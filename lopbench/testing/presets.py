"""The check of presets: the settings and compositions that comparisons have as rows of their own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from lopbench.core.errors import LopbenchError
from lopbench.core.interfaces import KINDS, Component, Perturbation
from lopbench.core.spec import ComponentSpec, build_optimizer, make, split, split_plus
from lopbench.learner.excluding import check_pairs
from lopbench.testing.bench import STILL, Bench
from lopbench.testing.check import Mismatch, NotApplicable, check

#: Steps that methods of a preset train.
_STEPS = 3


@check(
    "Each of `presets` can be run as it is written, has the component in it, is unlike the others, and says in one "
    "line what it is."
)
def presets_can_be_run(component: Component) -> None:
    """Make what they name, and train methods a few steps."""
    cls = type(component)
    if not cls.presets:
        raise NotApplicable("it has none: comparisons have one row of it")
    if not isinstance(cls.presets, Mapping):
        raise Mismatch("summaries by text, as in {'name:field=value': 'what it is'}", repr(cls.presets))
    own = {f.name: getattr(component, f.name) for f in dataclasses.fields(cls) if f.init and _is_required(f)}
    rows: dict[str, Sequence[Component]] = {}
    for text, summary in cls.presets.items():
        if not (isinstance(summary, str) and summary.strip() and summary.isprintable()):
            raise Mismatch(f"a summary of one line for {text!r}", repr(summary))
        try:
            parts = _made(cls, text, own)
        except LopbenchError as error:
            raise Mismatch("texts that the command line takes", f"{text!r}: {error}") from error
        if not any(type(part) is cls for part in parts):
            raise Mismatch(f"{cls.name} in each, since lists show them under it", repr(text))
        for other, already in rows.items():
            if parts == already:
                raise Mismatch("each to be a row of its own", f"{text!r} is {other!r}")
        rows[text] = parts
        _try(text, [part for part in parts if isinstance(part, Perturbation)])


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _made(cls: type[Component], text: str, own: Mapping[str, Any]) -> list[Component]:
    """Return the components that a text names; the class itself need not be registered.

    Args:
        cls: The class whose preset it is.
        text: The text.
        own: What its fields without a default are.

    Raises:
        LopbenchError: If the command line would refuse it.
    """
    kind = next(kind for kind, interface in KINDS.items() if issubclass(cls, interface))
    made = []
    for part in split_plus(text) if kind == "methods" else [text]:
        name, arguments = split(part, cls.positional)
        if name == cls.name:
            made.append(make(cls, {**own, **arguments}))
        else:
            made.append(ComponentSpec.parse(kind, part.strip()).build())
    return made


def _try(text: str, methods: Sequence[Perturbation]) -> None:
    """Train methods a few steps, one behind the other."""
    try:
        check_pairs(methods, build_optimizer(ComponentSpec.parse("optimizers", STILL)))
    except LopbenchError as error:
        raise Mismatch("methods that do not exclude each other", f"{text!r}: {error}") from error
    if methods:
        Bench(*methods).run(_STEPS)
