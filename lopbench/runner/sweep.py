"""Sweeps: numeric hyperparameters with several values, each combination a run of its own."""

from collections.abc import Iterable, Sequence
from itertools import product

from lopbench.core.errors import UsageError
from lopbench.core.registry import suggest
from lopbench.core.spec import ComponentSpec, make

Methods = tuple[ComponentSpec, ...]


def crossed(
    methods: Sequence[Methods], optimizers: Sequence[ComponentSpec], sweeps: Iterable[str]
) -> tuple[list[Methods], list[ComponentSpec]]:
    """Return the methods and optimizers with all combinations of the swept values, in order.

    A sweep of a method's field concerns those of ``methods`` that have this method as a part.

    Args:
        methods: What is run, each a composition of methods.
        optimizers: What it is run on.
        sweeps: As in ``lr=0.01,0.001`` and ``cbp.replacement_rate=1e-5,1e-4``.

    Raises:
        UsageError: If a sweep is malformed or given twice, or names what is not run, no field of it, or a value of
            another type.
        InvalidInputError: If a value is out of range.
    """
    methods, optimizers = list(methods), list(optimizers)
    seen: set[str] = set()
    for text in sweeps:
        target, values = _parse(text)
        if target in seen:
            raise UsageError(f"--sweep {text}: {target} is swept already; give all its values at once, after one '='")
        seen.add(target)
        owner, dot, field = target.rpartition(".")
        if not dot and target == "lr":
            optimizers = [_changed(optimizer, "lr", v) for optimizer, v in product(optimizers, values)]
        elif dot:
            names = list(dict.fromkeys(part.name for each in methods for part in each))
            if owner not in names:
                raise UsageError(
                    f"--sweep {text}: {owner!r} is none of the methods that are run.{suggest(owner, names)} "
                    f"They are: {', '.join(names) or 'none'}."
                )
            methods = [_with_field(each, owner, field, v) for each, v in product(methods, values)]
        else:
            raise UsageError(f"--sweep {text}: {target!r} is not swept; sweep lr, or a field of a method: METHOD.FIELD")
    return methods, optimizers


def _parse(text: str) -> tuple[str, list[str]]:
    target, equals, listing = text.partition("=")
    values = [value.strip() for value in listing.split(",")]
    if not equals or not target.strip() or not all(values):
        raise UsageError(f"--sweep {text}: write lr=0.01,0.001 or METHOD.FIELD=VALUE,VALUE")
    return target.strip(), values


def _with_field(methods: Methods, owner: str, field: str, value: str) -> Methods:
    return tuple(_changed(part, field, value) if part.name == owner else part for part in methods)


def _changed(part: ComponentSpec, field: str, value: str) -> ComponentSpec:
    component = part.build()
    fields = {key: getattr(component, key) for key in part.fields}
    return ComponentSpec.of(part.kind, make(type(component), {**fields, field: value}))
