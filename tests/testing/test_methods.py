"""The kit catches every broken method; that no built-in fails is tested in tests/plugins/test_conformance.py."""

import ast
import importlib.util
import sys
from pathlib import Path

import pytest

import lopbench.testing
from lopbench.testing import checks, run_checks
from lopbench_plugins.perturbations.redo import ReDo


def beside(name):
    """Import a module of this folder, which is no package."""
    spec = importlib.util.spec_from_file_location(f"lopbench_{name}", Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


mutants, planted, sound = beside("mutants"), beside("planted"), beside("sound")


def outcome_of(mutant, name):
    (check,) = [check for check in checks(mutant) if check.name == name]
    return check.run(mutant)


@pytest.mark.parametrize(
    ("mutant", "name"), mutants.MUTANTS, ids=[f"{type(m).__name__}-{name}" for m, name in mutants.MUTANTS]
)
def test_the_kit_catches_the_mutant(mutant, name):
    outcome = outcome_of(mutant, name)
    assert outcome.status == "failed", f"{outcome.status}: {outcome.detail}"
    # Who touches the settings of torch is refused by the learner before a check sees what comes of it.
    assert outcome.expected != "no error" or "of torch changed" in outcome.found, outcome.found
    print(outcome.message)


@pytest.mark.parametrize(
    ("method", "name", "text"), planted.PLANTED, ids=[f"{type(m).__name__}-{name}" for m, name, _ in planted.PLANTED]
)
def test_the_kit_names_what_the_planted_method_does(method, name, text):
    outcome = outcome_of(method, name)
    assert outcome.status == "failed", f"{outcome.status}: {outcome.detail}"
    assert text in outcome.found


@pytest.mark.parametrize(
    ("mutant", "name"), mutants.REFUSED, ids=[f"{type(m).__name__}-{name}" for m, name in mutants.REFUSED]
)
def test_the_learner_refuses_the_mutant(mutant, name):
    outcome = outcome_of(mutant, name)
    assert outcome.status == "failed"
    assert "in place, which is measured as well; return a new tensor" in outcome.found


@pytest.mark.parametrize("method", sound.SOUND, ids=[type(method).__name__ for method in sound.SOUND])
def test_the_kit_raises_no_alarm(method):
    failed = [outcome.message for outcome in run_checks([method], checks(method)) if outcome.status == "failed"]
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize("name", [check.name for check in checks(ReDo()) if check.name.startswith("resets-")])
def test_a_row_that_lost_most_of_its_columns_is_not_taken_for_a_redrawn_one(name):
    """Resets of all units of a layer at once leave no weight of the next layer where it was."""
    outcome = outcome_of(ReDo(threshold=1.2, period=5), name)
    assert outcome.status == "passed", outcome.message


def test_why_no_network_is_taken_is_told_once():
    method = sound.made(sound.TakesNoneOfThem, strength=0.1)
    outcomes = run_checks([method], checks(method))
    (failed,) = [outcome for outcome in outcomes if outcome.status == "failed"]
    assert failed.check.name == "acts"
    assert failed.found.startswith("it refuses plain, rectified, convolutional, ")
    assert failed.found.count("it needs twelve linear layers") == 1
    skipped = [o for o in outcomes if "it takes no network of the kit; the check `acts` says why" in o.detail]
    assert len(skipped) > 20


def test_what_cannot_be_traced_is_no_failure_and_says_why():
    outcome = outcome_of(mutants.made(mutants.ReadsOnTheHost, strength=0.1), "traced-equals-steps")
    assert (outcome.status, outcome.detail) == (
        "not applicable",
        "l2 reads a value on the host: its seeds train one after another",
    )


def test_what_draws_from_one_stream_for_all_replicas_is_no_failure_and_says_why():
    outcome = outcome_of(mutants.Dropout(p=0.5), "replicas-are-independent")
    assert outcome.status == "not applicable"
    assert "dropout draws from one global stream" in outcome.detail


def test_the_rooms_of_the_kit_stay_small():
    """No file over 400 lines, no function over 60."""
    folder = Path(lopbench.testing.__file__).parent
    for path in folder.rglob("*.py"):
        text = path.read_text()
        assert len(text.splitlines()) <= 400, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 60, (path, node.name)
