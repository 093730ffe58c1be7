"""The kit catches every broken method; that no built-in fails is tested in tests/plugins/test_conformance.py."""

import importlib.util
import sys
from pathlib import Path

import pytest

from lopbench.testing import checks

_SPEC = importlib.util.spec_from_file_location("lopbench_mutants", Path(__file__).with_name("mutants.py"))
mutants = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = mutants
_SPEC.loader.exec_module(mutants)


@pytest.mark.parametrize(
    ("mutant", "name"), mutants.MUTANTS, ids=[f"{type(m).__name__}-{name}" for m, name in mutants.MUTANTS]
)
def test_the_kit_catches_the_mutant(mutant, name):
    (check,) = [check for check in checks(mutant) if check.name == name]
    outcome = check.run(mutant)
    assert outcome.status == "failed", f"{outcome.status}: {outcome.detail}"
    assert outcome.expected != "no error", outcome.found
    print(outcome.message)
