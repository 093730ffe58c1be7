import dataclasses
import json
from dataclasses import dataclass
from typing import ClassVar, Literal

import pytest

from lopbench.cli.output import console
from lopbench.cli.show import _print, _print_prose, _reflowed, describe, type_text
from lopbench.core.fields import number
from lopbench.core.interfaces import KINDS, Perturbation
from lopbench.core.manager import plugins
from lopbench.core.registry import Distribution, Registration

ALL = [entry for kind in KINDS for entry in plugins().registry.entries(kind)]


@dataclass(frozen=True, kw_only=True)
class Base(Perturbation):
    """A base.

    Args:
        shared: Told of by the base.
        own: Overridden.
    """

    shared: int = 1


@dataclass(frozen=True, kw_only=True)
class Toy(Base):
    """Does a thing: as said here.

    And there.

    Args:
        own: First line
            and second, with name: in it.
        must: Required.

    Raises:
        nothing: At all.
    """

    name: ClassVar[str] = "toy"
    own: float = number(1e-4, least=0, most=1, zero=0, swept=True)
    must: Literal["a", "b"]
    sizes: tuple[int, ...] = (1, 2)


@dataclass(frozen=True, kw_only=True)
class Bare(Perturbation):
    name: ClassVar[str] = "bare"

    def on_task_start(self, learner, state): ...


def described(cls):
    return describe(Registration("methods", cls.name, cls, "summary", Distribution("here", "1.0")))


@pytest.mark.parametrize("entry", ALL, ids=lambda e: f"{e.kind}-{e.name}")
def test_every_component_can_be_shown_and_documents_its_fields(entry, capsys):
    value = describe(entry)
    _print(value)
    printed = capsys.readouterr().out
    assert value["name"] in printed
    assert "====" not in printed  # a table in reStructuredText, of which lines would be joined
    assert json.loads(json.dumps(value)) == value
    fields = {field.name for field in dataclasses.fields(entry.load()) if field.init}
    assert {field["name"] for field in value["fields"]} == fields
    assert [field["name"] for field in value["fields"] if not field["description"]] == []
    assert value["description"]


def test_fields_have_types_defaults_and_what_the_docstrings_say():
    assert [(f["name"], f["type"], f["default"], f["description"]) for f in described(Toy)["fields"]] == [
        ("shared", "whole number", "1", "Told of by the base."),
        ("own", "number", "0.0001", "First line and second, with name: in it."),
        ("must", "a | b", None, "Required."),
        ("sizes", "whole number/...", "1/2", ""),
    ]


def test_fields_show_their_bounds_and_whether_they_can_be_swept(lopbench):
    shown = {field["name"]: (field["bounds"], field["swept"]) for field in described(Toy)["fields"]}
    assert shown["own"] == ("at least 0 and at most 1", True)
    assert shown["shared"] == shown["must"] == ("", False)
    assert "number at least 0, swept" in " ".join(lopbench("show", "l2").stdout.split())


def test_the_description_ends_where_the_sections_begin():
    assert described(Toy)["description"] == "Does a thing: as said here.\n\nAnd there."


def test_paragraphs_are_broken_by_the_terminal_and_lists_and_tables_keep_their_lines():
    text = "One\nand two.\n\n\n\n- a\n  b\n- c\n  - d\n\n| d |\n|---|\n| e |\n    code\nmore"
    assert _reflowed(text) == "One and two.\n\n- a b\n- c\n  - d\n\n| d |\n|---|\n| e |\n    code more"


def test_a_table_in_a_docstring_is_shown_as_one(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    _print_prose("See:\n\n| rate | kept |\n|---|---|\n| 1e-3 | **.5** |\n| 1e-2 | .25 |\n\nSo.", console())
    assert capsys.readouterr().out == "  See:\n\n  rate  kept\n  1e-3  .5\n  1e-2  .25\n\n  So.\n"
    monkeypatch.setenv("COLUMNS", "20")
    _print_prose("| a rate | what is kept |\n|---|---|\n| 1e-3 | something |", console())
    assert capsys.readouterr().out.split("\n")[0] == "  a rate 1e-3"


@pytest.mark.parametrize(
    "text", ["| a |\n|---|", "| a | b |\n|---|---|\n| 1 |", "| a |\n|---|\n| 1 |\nand so on", "|", "- a\n- b\n- c"]
)
def test_what_is_no_whole_table_is_shown_as_it_is(text, capsys):
    _print_prose(text, console())
    assert capsys.readouterr().out == "".join(f"  {line}\n" if line else "\n" for line in text.split("\n"))


def test_a_class_without_docstring_has_no_description():
    assert described(Bare)["description"] == ""


def test_the_track_of_a_method_is_shown():
    assert described(Bare)["track"] == "boundary-aware"
    assert described(Toy)["track"] == "boundary-free"  # whatever its fields, which have no defaults


@pytest.mark.parametrize(
    ("annotation", "text"),
    [(int | None, "whole number | none"), (bool, "true | false"), (str, "text"), (tuple[float, float], "number/...")],
)
def test_types_read_as_words(annotation, text):
    assert type_text(annotation) == text


def test_a_scenario_shows_its_profiles_and_the_default(lopbench):
    shown = lopbench("show", "tinyimagenet40").stdout
    assert "lite (default)" in shown
    assert "full" in shown
    assert "steps_per_task=10000" in shown
    (value,) = json.loads(lopbench("show", "tinyimagenet40", "--format", "json").stdout)
    assert value["profiles"]["full"]["steps_per_task"] == 10_000


def test_a_method_shows_its_source_and_track(lopbench):
    shown = lopbench("show", "cbp").stdout
    assert "arXiv" in shown
    assert "track boundary-free" in shown
    assert "replacement_rate" in shown


def test_the_ledger_tells_equation_deviations_validation_and_needs(lopbench):
    (value,) = json.loads(lopbench("show", "cbp", "--format", "json").stdout)
    assert value["equation"].startswith("u = ")
    assert len(value["deviations"]) == 4
    assert value["deviations"][0].startswith("Incoming weights are redrawn from the layer's own initialisation law")
    assert "memory of its own" in value["needs"]
    assert any("recorded runs" in each for each in value["validated"])
    shown = lopbench("show", "cbp").stdout
    assert value["grid"] == {"replacement_rate": [1e-3, 1e-4, 1e-5, 1e-6]}
    for heading in ("equation", "deviations", "validated against", "needs", "tuned over"):
        assert heading in shown.splitlines()
    assert shown.count("The momentum of SGD is cleared") == 1


def test_a_single_deviation_and_one_in_the_class_are_found():
    found = {entry.name: describe(entry)["deviations"] for entry in ALL}
    assert found["dormant_fraction"] == ["an all-zero layer, 0/0 in Eq. (1), counts as fully dormant."]
    assert found["l2"][0].startswith("Kumar et al. write the penalty without the factor 1/2")
    assert found["weight_norm"] == []


def test_exemptions_are_shown_with_their_reason(lopbench):
    assert "clones-are-certified: noise tells clones apart" in lopbench("show", "noisy").stdout


@pytest.mark.parametrize("entry", [e for e in ALL if e.kind == "methods"], ids=lambda e: e.name)
def test_every_builtin_method_states_its_equation_and_validation(entry):
    value = describe(entry)
    assert value["equation"]
    assert value["validated"]
    assert not value["deviations"] or all(len(each) > 20 for each in value["deviations"])


def test_plain_learning_is_shown_like_any_method(lopbench):
    shown = lopbench("show", "none").stdout
    assert shown.startswith("none  plain learning, without any method\n")
    assert "family control, track boundary-free" in shown
    assert "validated against" in shown.splitlines()
    (value,) = json.loads(lopbench("show", "none", "--format", "json").stdout)
    other = describe(plugins().registry.get("methods", "l2"))
    assert value.keys() == other.keys()


def test_of_a_composition_each_part_is_shown(lopbench):
    shown = json.loads(lopbench("show", "layernorm+l2", "--format", "json").stdout)
    assert [value["name"] for value in shown] == ["layernorm", "l2"]
    assert list(shown[0]["presets"]) == ["layernorm+l2"]
    assert "layernorm+l2: with a pull to zero" in " ".join(lopbench("show", "layernorm").stdout.split())


def test_a_method_shows_what_it_costs(lopbench):
    cost = plugins().registry.get("methods", "l2").load().cost
    assert cost.keys() >= {"time", "memory"}
    shown = lopbench("show", "l2").stdout
    assert f"- {cost['time']:g} times the time of a step" in shown
    assert f"- {cost['memory']:g} times its memory" in shown
    if "program" in cost:
        assert f"- {cost['program']:g} times the time of a sample in a compiled program" in shown


def test_none_is_said_to_be_no_method_where_one_is_checked(lopbench):
    shown = lopbench("plugins", "check", "none")
    assert shown.exit_code == 2
    assert shown.stderr == "Error: 'none' is no component: as a method it stands for plain learning, without any.\n"


def test_a_study_file_is_answered_with_the_commands_that_read_it(lopbench):
    shown = lopbench("show", "B.2")
    assert shown.exit_code == 2
    assert shown.stderr == (
        "Error: B.2 is no component but a study file: 'lopbench verify B.2' judges the claim, 'lopbench figure B.2' "
        "draws the figure.\n"
    )


def test_an_unknown_name_suggests_the_nearest_of_all_kinds(lopbench):
    shown = lopbench("show", "efective_rank")
    assert shown.exit_code == 2
    assert shown.stderr.startswith("Error: Unknown component 'efective_rank'. Did you mean 'effective_rank'")
