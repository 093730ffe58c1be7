"""The reference for authors has every member of the interface, and nothing else."""

import importlib.util
import inspect
import re
import sys
from pathlib import Path

import pytest

import lopbench
from lopbench.core.component import Component
from lopbench.core.interfaces import KINDS
from lopbench.core.perturbation import HOOKS, Perturbation

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "plugins" / "README.md").read_text()


@pytest.fixture(scope="module")
def reference():
    spec = importlib.util.spec_from_file_location("reference", ROOT / "plugins" / "reference.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["reference"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["reference"]


def test_the_page_is_what_the_interface_says(reference):
    assert reference.with_reference(TEXT) == TEXT
    assert reference.with_reference(TEXT.replace("| `compute(probe)` | must |", "| `compute(probe)` | may |")) == TEXT


def test_every_interface_is_there_and_every_member_of_it(reference):
    assert set(reference.WRITTEN) == set(reference.GIVEN) == set(KINDS)
    for kind, interface in KINDS.items():
        assert reference.WRITTEN[kind][0] is interface
    for cls in [Component, *(each for classes in reference.WRITTEN.values() for each in classes)]:
        own = {name for name in vars(cls) if not name.startswith("_")}
        own |= {name for name in inspect.get_annotations(cls) if not name.startswith("_")}
        told = {each.name for each in reference.members(cls)}
        assert own - told <= reference._OURS, cls
        assert told - own <= {"__next__"}


def test_every_member_is_told_of_and_says_whether_it_has_to_be_there(reference):
    for classes in reference.WRITTEN.values():
        for cls in classes:
            for each in reference.members(cls):
                if each.name in HOOKS and cls is Perturbation:
                    continue
                assert each.text, f"{cls.__name__}.{each.name} says nothing"
                assert f"| `{each.call}` |" in TEXT
                abstract = each.name in getattr(cls, "__abstractmethods__", ())
                assert not abstract or each.need in ("must", ""), each


def test_what_authors_are_told_of_is_public(reference):
    for classes in (*reference.WRITTEN.values(), *reference.GIVEN.values()):
        assert {cls.__name__ for cls in classes} <= set(lopbench.__all__)


def test_every_check_is_told_of_once_in_its_section():
    from lopbench.testing.methods import CHECKS

    section = TEXT.partition("<!-- reference methods -->")[2].partition("<!-- /reference methods -->")[0]
    section = section.partition("| check | demands |")[2]
    assert re.findall(r"^\| `([a-z-]+)` \| ", section, re.MULTILINE) == [each.name for each in CHECKS]


def test_values_comments_and_arguments_are_found(reference):
    by_name = {each.name: each for each in reference.members(lopbench.Scenario)}
    assert by_name["headline"].need == "`'trainability'`"
    assert by_name["headline"].text.startswith("Which axis leads the table")
    assert by_name["recipe"] == reference.Member(
        "recipe", "recipe(architecture)", "must", "Return how the protocol trains the architecture of this name."
    )
    lr = {each.name: each for each in reference.members(lopbench.Optimizer)}["lr"]
    assert (lr.need, lr.text) == ("must", "Learning rate, above 0.")
    default = {each.name: each for each in reference.members(lopbench.Metric)}["default"]
    assert (default.need, default.text) == ("`False`", "Measured when no metric is named.")
