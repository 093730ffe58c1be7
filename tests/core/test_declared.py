"""Classes of others, looked at without calling anything of them."""

import pytest

from lopbench.core.declared import misplaced
from lopbench.core.errors import PluginError
from lopbench.core.interfaces import KINDS
from lopbench.core.manager import plugins
from lopbench.core.registry import Distribution, Registration


class Raises:
    """Does harm when it is asked for, be it of a class or of an object, once the class is made."""

    is_armed = False

    def __get__(self, instance, owner=None):
        if self.is_armed:
            raise SystemExit(0)
        return self


class Called:
    def __call__(self, *arguments):
        return None


@pytest.mark.parametrize("kind", KINDS)
def test_built_ins_have_everything_in_its_place(kind):
    for entry in plugins().registry.entries(kind):
        assert misplaced(entry.load(), KINDS[kind]) == "", entry.name


@pytest.mark.parametrize("kind", ["methods", "metrics", "scenarios", "architectures", "optimizers", "cloners", "data"])
def test_what_does_harm_when_it_is_asked_for_is_told_of_in_any_place(kind):
    interface = KINDS[kind]
    places = [name for name in dir(interface) if not name.startswith("_")]
    computed = [name for name in places if isinstance(vars_of(interface)[name], property)]
    assert len(places) > len(computed)
    for name in {*places} - {*computed, "family"}:  # a family is looked at as the class is made
        evil = Raises()
        cls = type("Evil", (interface,), {name: evil, "name": "evil"})
        evil.is_armed = True
        assert misplaced(cls, interface).startswith(f"{name} is a Raises, where "), name


def vars_of(cls):
    return {name: value for base in reversed(cls.__mro__) for name, value in vars(base).items()}


@pytest.mark.parametrize(
    ("kind", "members", "told"),
    [
        ("methods", {"cost": 3}, "cost is a int, where a mapping belongs"),
        ("methods", {"after_step": None}, "after_step is a NoneType, where a function belongs"),
        ("methods", {"equation": ["w"]}, "equation is a list, where a text belongs"),
        ("methods", {"has": True}, "has is a bool, where a method of the class belongs"),
        ("methods", {"validated": 1.0}, "validated is a float, where a tuple belongs"),
        ("methods", {"after_step": Called()}, ""),
        ("methods", {"after_step": lambda self, learner, state: None}, ""),
        ("methods", {"control": property(lambda self: 1 / 0)}, "control is a property, where true or false belongs"),
        ("methods", {"active": property(lambda self: True)}, ""),
    ],
)
def test_what_is_of_another_kind_is_told_of(kind, members, told):
    cls = type("Odd", (KINDS[kind],), {"name": "odd", **members})
    assert misplaced(cls, KINDS[kind]) == told
    entry = Registration(kind, "odd", cls, "odd", Distribution("lopbench-odd", "1"))
    if told:
        with pytest.raises(PluginError, match=f"'odd' of lopbench-odd: {told}"):
            entry.load()
    else:
        assert entry.load() is cls
