"""Sweeps: numeric hyperparameters with several values, each combination a run of its own."""

from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import product

from lopbench.core.errors import UsageError
from lopbench.core.registry import suggest
from lopbench.core.spec import ComponentSpec
from lopbench.runner.aside import Aside

Methods = tuple[ComponentSpec, ...]


def crossed(
    methods: Sequence[Methods],
    optimizers: Sequence[ComponentSpec],
    sweeps: Iterable[str],
    aside: Aside | None = None,
    missing: Collection[str] = (),
) -> tuple[list[Methods], list[ComponentSpec]]:
    """Return the methods and optimizers with all combinations of the swept values, in order.

    A sweep of a method's field concerns those of ``methods`` that have this method as a part.

    Args:
        methods: What is run, each a composition of methods.
        optimizers: What it is run on.
        sweeps: As in ``lr=0.01,0.001`` and ``cbp.replacement_rate=1e-5,1e-4``.
        aside: Takes what a plugin cannot make of the values.
        missing: Names of methods that were left out, of which a sweep concerns nothing.

    Raises:
        UsageError: If a sweep is malformed or given twice, or names what is not run, no field of it, or a value of
            another type.
        GivenValueError: If a value is out of range.
    """
    methods, optimizers, aside = list(methods), list(optimizers), aside or Aside()
    seen: set[str] = set()
    for text in sweeps:
        target, values = _parse(text)
        if target in seen:
            raise UsageError(f"--sweep {text}: {target} is swept already; give all its values at once, after one '='")
        seen.add(target)
        owner, dot, field = target.rpartition(".")
        if not dot and target == "lr":
            optimizers = aside.each(
                product(optimizers, values), lambda pair: pair[0].changed("lr", pair[1]), _label(target)
            )
        elif dot:
            names = list(dict.fromkeys(part.name for each in methods for part in each))
            if owner not in names and owner in missing:
                continue
            if owner not in names:
                raise UsageError(
                    f"--sweep {text}: {owner!r} is none of the methods that are run.{suggest(owner, names)} "
                    f"They are: {', '.join(names) or 'none'}."
                )
            methods = aside.each(product(methods, values), _with_field(owner, field), _label(target))
        else:
            raise UsageError(f"--sweep {text}: {target!r} is not swept; sweep lr, or a field of a method: METHOD.FIELD")
    return methods, optimizers


def _parse(text: str) -> tuple[str, list[str]]:
    target, equals, listing = text.partition("=")
    values = [value.strip() for value in listing.split(",")]
    if not equals or not target.strip() or not all(values):
        raise UsageError(f"--sweep {text}: write lr=0.01,0.001 or METHOD.FIELD=VALUE,VALUE")
    return target.strip(), values


def _label(target: str) -> Callable[[tuple[object, str]], str]:
    """Return what calls a pair of what is swept and a value by the value alone."""
    return lambda pair: f"{target}={pair[1]}"


def _with_field(owner: str, field: str) -> Callable[[tuple[Methods, str]], Methods]:
    def change(pair: tuple[Methods, str]) -> Methods:
        methods, value = pair
        return tuple(part.changed(field, value) if part.name == owner else part for part in methods)

    return change
