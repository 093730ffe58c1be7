"""No number moves without a raised version, and no version is raised without its number: see ``locks.py``."""

import importlib.util
import json
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch

from lopbench.core.manager import plugins
from lopbench.core.spec import NUMBERS
from lopbench_plugins.optimizers.adam import Adam
from lopbench_plugins.perturbations.l2 import L2

_path = Path(__file__).with_name("locks.py")
_spec = importlib.util.spec_from_file_location("locks", _path)
locks = importlib.util.module_from_spec(_spec)
sys.modules["locks"] = locks  # its dataclasses look for their module
_spec.loader.exec_module(locks)

KNOWN = locks.locks()


@pytest.fixture(autouse=True, scope="module")
def own_registry():
    """Let nothing that is registered here be seen elsewhere, and train on one thread."""
    registry, threads = plugins().registry, torch.get_num_threads()
    usual = registry._entries
    registry._entries = {kind: dict(entries) for kind, entries in usual.items()}
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    registry._entries = usual


@cache
def usual():
    """Return the cases, made once for all tests that leave components as they are."""
    return locks.cases()


@pytest.mark.parametrize("key", KNOWN)
def test_numbers_are_those_of_the_lock(key):
    cases = usual()
    assert key in cases, f"there is no case {key}: {locks.RECORD}"
    assert locks.complaint(cases[key], KNOWN) is None, locks.complaint(cases[key], KNOWN)


def test_every_built_in_component_has_a_lock():
    assert [key for key in usual() if key not in KNOWN] == [], locks.RECORD


# -- the locks themselves


@pytest.fixture
def anew(monkeypatch):
    """Leave a few cases, enough to tell who moved; forget numbers before and after, which are kept by case."""
    few = ("methods l2:strength=0.1", "methods cbp:maturity=5,replacement_rate=0.05", "methods reset")
    optimizers = [key for key in KNOWN if key.startswith("optimizers ")]
    cases = locks.cases()
    found = {key: cases[key] for key in ("core", *few, *optimizers)}
    monkeypatch.setattr(locks, "cases", lambda: found)
    locks.values.cache_clear()
    yield
    locks.values.cache_clear()


def case(key):
    return locks.cases()[key]


def test_every_number_of_a_lock_counts():
    lock, core = KNOWN["core"], case("core")
    for name, value in lock.values.items():
        other = replace(lock, values={**lock.values, name: value * (1 + 3 * locks.TOLERANCE)})
        assert locks.moved(core, other) == [name]
    assert locks.moved(core, replace(lock, values={**lock.values, "more": 1.0})) == ["more"]


def test_rounding_does_not_count():
    lock = KNOWN["core"]
    values = {name: value * (1 + locks.TOLERANCE / 3) for name, value in lock.values.items()}
    assert locks.moved(case("core"), replace(lock, values=values)) == []


def test_the_core_has_a_lock_of_its_own():
    versions = case("core").versions
    assert versions.pop("core") == NUMBERS
    assert set(versions) == {"scenarios blobs", "architectures pair", "optimizers plain"}


@pytest.mark.usefixtures("anew")
def test_a_component_that_moves_alone_is_named(monkeypatch):
    usual = L2.after_backward
    monkeypatch.setattr(L2, "after_backward", lambda self, *rest: usual(replace(self, strength=0.2), *rest))
    said = locks.complaint(case("methods l2:strength=0.1"), KNOWN)
    assert "and no version was raised" in said
    assert f"raise version of method l2, and {locks.RECORD}" in said


@pytest.mark.usefixtures("anew")
def test_what_moves_under_others_is_named_and_not_these(monkeypatch):
    usual = Adam.update
    monkeypatch.setattr(Adam, "update", lambda *arguments: 1.01 * usual(*arguments))
    monkeypatch.setattr(Adam, "fused", lambda self, leaves: None)
    said = locks.complaint(case("methods cbp:maturity=5,replacement_rate=0.05"), KNOWN)
    assert "raise version of optimizer adam, and" in said


def test_where_the_core_moved_its_version_is_named():
    lock = KNOWN["core"]
    core = replace(lock, values={name: value + 1 for name, value in lock.values.items()})
    said = locks.complaint(case("core"), {**KNOWN, "core": core})
    assert "raise NUMBERS in lopbench/core/spec.py" in said


def test_a_raised_version_needs_a_new_lock(monkeypatch):
    monkeypatch.setattr(L2, "version", L2.version + 1)
    said = locks.complaint(case("methods l2:strength=0.1"), KNOWN)
    assert said == f"methods l2:strength=0.1 is locked under another version of methods l2: {locks.RECORD}"
    assert locks.complaint(case("methods reset"), KNOWN) is None


@pytest.fixture
def two(monkeypatch, tmp_path):
    """Leave two cases, and put their locks into a file of the test."""
    keys = ("methods l2:strength=0.1", "optimizers sgd:lr=0.05")
    found = {key: case(key) for key in keys}
    monkeypatch.setattr(locks, "cases", lambda: {key: replace(each) for key, each in found.items()})
    monkeypatch.setattr(locks, "FILE", tmp_path / "values.json")
    assert locks.record() == 0
    return tmp_path / "values.json"


def test_recording_again_changes_nothing(two):
    text = two.read_text()
    assert locks.record() == 0
    assert two.read_text() == text


def test_what_moved_is_recorded_only_with_a_raised_version(two, monkeypatch, capsys):
    known = json.loads(two.read_text())
    key = "methods l2:strength=0.1"
    known[key]["values"] = {name: value + 1 for name, value in known[key]["values"].items()}
    two.write_text(json.dumps(known))
    assert locks.record() == 1
    assert json.loads(two.read_text()) == known
    assert "raise version of method l2" in capsys.readouterr().err
    known[key]["versions"]["methods l2"] -= 1
    two.write_text(json.dumps(known))
    assert locks.record() == 0
    assert locks.complaint(case(key), locks.locks()) is None
