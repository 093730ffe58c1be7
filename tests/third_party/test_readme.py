"""What authors are told of the interface is what it is."""

import inspect
import re
from pathlib import Path

from third_party_lab import Lab

from lopbench import Learner, Perturbation, State
from lopbench.core.perturbation import HOOKS
from lopbench.learner.memory import Generators, MethodState

TEXT = (Path(__file__).parents[2] / "plugins" / "README.md").read_text()
SECTION = TEXT.partition("## What you need to know to write a method\n")[2].partition("\n## ")[0]


def public(cls):
    return {name for name in vars(cls) if not name.startswith("_")}


def test_an_author_has_to_know_twelve_things_at_most():
    numbers = [int(number) for number in re.findall(r"^\| (\d+) \|", SECTION, re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) <= 12


def test_all_hooks_are_told_in_order_and_with_their_arguments():
    told = re.findall(r"^\| `(\w+)\((self.*?)\)`", SECTION, re.MULTILINE)
    assert [name for name, _ in told] == list(HOOKS)
    for name, arguments in told:
        parameters = inspect.signature(getattr(Perturbation, name)).parameters.values()
        bare = [each.replace(annotation=inspect.Parameter.empty) for each in parameters]
        assert str(inspect.Signature(bare)) == f"({arguments})"


def test_all_that_methods_see_is_told_and_is_there():
    told = SECTION.partition("| `learner.` |")[2].partition("\n\n")[0]
    names = {name for row in re.findall(r"^\| (`.*?) \|", told, re.MULTILINE) for name in re.findall(r"`(\w+)", row)}
    assert names == public(Learner)
    made = Lab().learner
    assert names <= {*dir(made.view)}
    state = SECTION.partition("| `state` |")[2]
    for name in public(State) - {"generators"}:  # those serve what can draw in no other way
        assert f"`state.{name}" in state
    assert public(State) <= {*dir(MethodState(Generators([])))}
