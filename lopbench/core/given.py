"""Components as Python code gives them: texts as on the command line, or objects."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lopbench.core.errors import UsageError
from lopbench.core.interfaces import KINDS, Component, Perturbation, Scenario
from lopbench.core.manager import UNPUBLISHED, plugins
from lopbench.core.registry import Distribution, Registration, suggest
from lopbench.core.spec import ComponentSpec, make, parse_methods, parse_scenario

#: A method, or several that are composed left to right.
GivenMethod = str | Perturbation | Sequence[str | Perturbation]


def spec_of(kind: str, given: str | Component) -> ComponentSpec:
    """Return the spec of a component.

    The class of an object that no plugin registers is registered from the file in which it stands, as an unpublished
    one: its origin is the file's name and the hash of its content.

    Raises:
        UsageError: If it is of another kind, its name is taken, or its class stands in no file.
        InvalidInputError: If a value is out of range.
    """
    if isinstance(given, str):
        return ComponentSpec.parse(kind, given)
    interface = KINDS[kind]
    if not isinstance(given, interface):
        what = f"the class {given.__name__}" if inspect.isclass(given) else repr(given)
        raise UsageError(f"{what} is no {interface.__name__}; give a name, or an object, as in MyClass(field=value)")
    _register(kind, type(given))
    return ComponentSpec.of(kind, given)


def methods_of(given: GivenMethod) -> tuple[ComponentSpec, ...]:
    """Return the specs of a method, or of several that are composed left to right; "none" is no method.

    Raises:
        UsageError: As `spec_of`.
    """
    if isinstance(given, str):
        return parse_methods(given)
    if isinstance(given, Sequence):
        return tuple(spec for part in given for spec in methods_of(part))
    return (spec_of("methods", given),)


def scenario_of(given: str | Scenario, profile: str | None = None) -> ComponentSpec:
    """Return the spec of a scenario; one whose fields are not those of its profile is a custom one.

    Raises:
        UsageError: As `spec_of`, or if the profile is unknown or stands in an object as well.
    """
    if isinstance(given, str):
        return parse_scenario(given, profile)
    found = spec_of("scenarios", given)
    if profile is not None:
        raise UsageError(f"profile={profile!r}: a scenario that is given as an object has its profile as a field")
    chosen = given.profile.removesuffix("+custom")
    if chosen not in given.profiles:
        known = list(given.profiles)
        raise UsageError(
            f"{given.name} has no profile {chosen!r}.{suggest(chosen, known)} Its profiles: {', '.join(known)}."
        )
    plain = make(type(given), {**given.profiles[chosen], "profile": chosen})
    if found == ComponentSpec.of("scenarios", plain):
        return found
    return ComponentSpec.of("scenarios", replace(given, profile=f"{chosen}+custom"))


def _register(kind: str, cls: type[Component]) -> None:
    """Register a class, unless it is."""
    registry, word = plugins().registry, kind.removesuffix("s")
    file = _file_of(cls)
    if cls.name in registry.names(kind):
        entry = registry.get(kind, cls.name)
        known = entry.load()
        # A plugin file that is imported elsewhere as well gives two classes of one text.
        if known is cls or (file is not None and (file, cls.__qualname__) == (_file_of(known), known.__qualname__)):
            return
        raise UsageError(
            f"the {word} {cls.name!r} of {entry.distribution.name} is another class than the one given; give yours "
            "another name, or, if you have changed it, start Python anew"
        )
    if file is None:
        raise UsageError(
            f"the {word} {cls.name!r} stands in no file, so no record could say what was run; write "
            f"{cls.__name__} into a .py file and import it"
        )
    summary = (inspect.getdoc(cls) or "").partition("\n")[0]
    distribution = Distribution(UNPUBLISHED, file.name, mutable=True)
    registry.add(Registration(kind, cls.name, cls, summary, distribution, is_given=True))


def _file_of(cls: type) -> Path | None:
    """Return the file in which a class stands, None where there is none, as in a notebook."""
    try:
        inspect.getsource(cls)  # the module's file may hold no such class
        path = inspect.getsourcefile(cls)
    except (TypeError, OSError):
        return None
    return Path(path).resolve() if path is not None and Path(path).is_file() else None
