"""Running checks: what becomes of what they find, raise, or are told not to look at."""

import json
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from lopbench.core.errors import UsageError
from lopbench.core.interfaces import KINDS, Perturbation
from lopbench.core.manager import plugins
from lopbench.testing import Mismatch, NotApplicable, check, checks, examples, parametrize_with_checks, run_checks
from lopbench.testing.shared import SHARED


@dataclass(frozen=True, kw_only=True)
class Toy(Perturbation):
    """A toy."""

    name: ClassVar[str] = "toy"
    number: int = 0


@dataclass(frozen=True, kw_only=True)
class Exempted(Toy):
    """A toy that cannot."""

    exempt: ClassVar[dict[str, str]] = {"number-is-zero": "it never is", "no-such-check": " "}


@dataclass(frozen=True, kw_only=True)
class ExemptedSomewhere(Exempted):
    """A toy that cannot in one of its settings."""

    examples: ClassVar[tuple[dict[str, object], ...]] = ({}, {"number": 1})


@dataclass(frozen=True, kw_only=True)
class Demanding(Toy):
    """A toy with a field that it must be given."""

    must: int


@check("The number is zero.", lesson="somewhere")
def number_is_zero(component):
    if component.number == 9:
        raise NotApplicable("nine")
    if component.number == 8:
        return "eight of them"
    if component.number == 6:
        json.loads("{")
    if component.number == 7:
        raise RuntimeError("seven")
    if component.number:
        raise Mismatch("zero", str(component.number))
    return None


@pytest.mark.parametrize(
    ("number", "status", "text"),
    [(0, "passed", ""), (8, "measured", "eight of them"), (9, "not applicable", "nine")],
)
def test_outcomes(number, status, text):
    outcome = number_is_zero.run(Toy(number=number))
    assert (outcome.status, outcome.detail) == (status, text)


def test_a_failure_says_what_was_expected_found_and_seen_where():
    outcome = number_is_zero.run(Toy(number=1))
    assert outcome.status == "failed"
    for part in ("number-is-zero: The number is zero.", "expected:  zero", "found:     1", "seen in:   somewhere"):
        assert part in outcome.message


@pytest.mark.parametrize(("number", "told"), [(7, "RuntimeError: seven ("), (6, "JSONDecodeError: ")])
def test_an_error_of_the_component_is_a_failure_that_says_where(number, told):
    outcome = number_is_zero.run(Toy(number=number))
    assert (outcome.status, outcome.expected) == ("failed", "no error")
    assert outcome.found.startswith(told)
    assert "test_check.py:" in outcome.found  # where its file is left, not where a library raises


def test_an_exemption_is_shown_with_its_reason():
    outcome = number_is_zero.run(Exempted(number=1))
    assert (outcome.status, outcome.detail) == ("exempt", "it never is")


@pytest.mark.parametrize("number", [0, 8])
def test_an_exemption_that_would_pass_is_a_failure(number):
    outcome = number_is_zero.run(Exempted(number=number))
    assert outcome.status == "failed"
    assert outcome.found == "it passes, and yet `exempt` has it with the reason 'it never is'; take it out"


def test_an_exemption_that_one_of_the_settings_needs_holds_for_all():
    assert number_is_zero.run(ExemptedSomewhere()).status == "exempt"
    assert number_is_zero.run(ExemptedSomewhere(number=9)).status == "not applicable"


def test_an_exemption_from_what_does_not_exist_is_a_failure():
    (real,) = [each for each in checks(Toy()) if each.name == "exemptions-are-real"]
    assert "no-such-check" in real.run(Exempted()).found
    assert real.run(Toy()).status == "passed"


def test_in_a_test_a_check_fails_skips_or_passes():
    number_is_zero(Toy())
    with pytest.raises(AssertionError, match="expected:  zero"):
        number_is_zero(Toy(number=1))
    for component in (Toy(number=9), Exempted(number=1)):
        with pytest.raises(pytest.skip.Exception):
            number_is_zero(component)


def test_of_several_settings_the_worst_counts():
    started = []
    (outcome,) = run_checks([Toy(), Toy(number=9), Toy(number=3)], [number_is_zero], started=started.append)
    assert (outcome.status, outcome.component) == ("failed", Toy(number=3))
    assert run_checks([Toy(number=9), Toy()], [number_is_zero])[0].status == "passed"
    assert started == [number_is_zero]


def test_a_check_leaves_randomness_and_threads_as_they_were():
    @check("It draws.")
    def draws(component):
        torch.rand(3)
        assert torch.get_num_threads() == 1

    before, threads = torch.get_rng_state(), torch.get_num_threads()
    assert draws.run(Toy()).status == "passed"
    assert torch.equal(before, torch.get_rng_state())
    assert torch.get_num_threads() == threads


def test_every_kind_has_checks_of_names_and_claims_of_their_own():
    for kind in KINDS:
        found = checks(examples(plugins().registry.entries(kind)[0].load())[0])
        assert len({each.name for each in found}) == len(found) > len(SHARED)
        assert all(each.claim.endswith(".") for each in found)


def test_a_class_with_a_required_field_must_name_examples():
    with pytest.raises(UsageError, match="toy needs must"):
        examples(Demanding)


def test_parametrization_gives_one_test_for_each_component_and_check():
    mark = parametrize_with_checks([Toy(), Toy(number=1)]).mark
    assert mark.name == "parametrize"
    assert len(mark.args[1]) == 2 * len(checks(Toy()))
