"""What is set for the whole process: runs do not depend on it, and methods that change it are refused by name."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch

from lopbench.core.globals import SETTINGS, usual_globals
from lopbench.core.interfaces import Perturbation
from lopbench.core.manager import plugins
from lopbench.core.registry import Distribution, Registration
from lopbench.results.record import record_path
from lopbench.runner import study

FEW = "bitflip:samples=24,m=6,f=3,T=6,steps_per_task=6"


def now():
    """Return all settings by name."""
    return {each.name: each.read() for each in SETTINGS}


#: Ways to change the numbers of every run that comes after, and what is told of each.
CHANGES: dict[str, tuple[Callable[[], object], str]] = {
    "dtype": (lambda: torch.set_default_dtype(torch.float64), "default dtype of torch changed, from torch.float32"),
    "gradients": (lambda: torch.set_grad_enabled(True), "gradient mode of torch changed, from False to True"),
    "threads": (lambda: torch.set_num_threads(2), "number of threads of torch changed, from 1 to 2"),
    "anomaly": (lambda: torch.autograd.set_detect_anomaly(True), "anomaly mode of torch changed"),
    "denormals": (lambda: torch.set_flush_denormal(False), "flushing of denormals of torch changed"),
    "deterministic": (lambda: torch.use_deterministic_algorithms(True), "deterministic algorithms of torch changed"),
    "precision": (lambda: torch.set_float32_matmul_precision("medium"), "matmul precision of torch changed"),
    "autocast": (lambda: torch.set_autocast_enabled("cpu", True), "autocast of torch changed"),
    "seed": (lambda: torch.manual_seed(5), "global seed of torch changed"),
}


@dataclass(frozen=True, kw_only=True)
class Careless(Perturbation):
    """Changes a setting, from a step on, in a hook."""

    name: ClassVar[str] = "careless"
    as_program: ClassVar[bool] = False
    change: str = "dtype"
    hook: str = "begin"
    at: int = 0

    def configure(self, module, *, example, generator):
        if self.hook == "configure":
            CHANGES[self.change][0]()
        return module

    def begin(self, learner, state):
        state["step"] = torch.zeros((), dtype=torch.int64)
        if self.hook == "begin":
            CHANGES[self.change][0]()

    def after_step(self, learner, state):
        if self.hook == "after_step" and int(state["step"]) == self.at:
            CHANGES[self.change][0]()
        state["step"] += 1


@pytest.fixture
def careless(monkeypatch):
    """Register `Careless` for one test, and see that nothing that it changes stays changed."""
    entry = Registration("methods", "careless", Careless, "", Distribution("tests", "1"))
    monkeypatch.setitem(plugins().registry._entries["methods"], "careless", entry)
    before = now()
    yield
    assert now() == before


@pytest.fixture
def plain(make_study, record_of, tmp_path):
    """Return the measurements of plain learning in a process in which nobody has changed anything."""
    planned = make_study(tmp_path / "plain", scenario=FEW)
    study.execute(planned)
    return [record_of(planned, spec).content_digest for spec in planned.pending]


@pytest.mark.parametrize("change", CHANGES)
def test_a_method_that_leaves_a_setting_changed_is_refused_and_the_others_do_not_notice(
    careless, plain, make_study, record_of, change
):
    planned = make_study(scenario=FEW, methods=[f"careless:change={change}", "none"])
    (spec, reason), *_ = study.execute(planned)
    assert spec == planned.specs[0]
    assert reason.startswith("method 'careless', hook begin: it left the ")
    assert CHANGES[change][1] in reason
    assert not record_path(planned.results, spec).exists()
    none = planned.specs[1]
    assert [record_of(planned, each).content_digest for each in (none, none.reference())] == plain


@pytest.mark.parametrize(("hook", "at"), [("configure", 0), ("after_step", 0), ("after_step", 9)])
def test_it_is_found_in_any_hook_and_at_the_end(careless, make_study, hook, at):
    planned = make_study(scenario=FEW, methods=[f"careless:change=anomaly,hook={hook},at={at}"])
    (_, reason), *_ = study.execute(planned)
    assert "careless" in reason
    assert "anomaly mode of torch changed, from False to True" in reason


def test_runs_do_not_depend_on_what_was_set_before(careless, plain, make_study, record_of, monkeypatch):
    torch.set_default_dtype(torch.float64)
    before = now()
    states = random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state()
    planned = make_study(scenario=FEW)
    study.execute(planned)
    assert [record_of(planned, spec).content_digest for spec in planned.pending] == plain
    assert now() == before
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tobytes() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("before", [False, True])
def test_runs_take_denormal_numbers_for_zero_and_leave_the_processor_as_it_was(before):
    small, smaller = torch.tensor(1e-30), torch.tensor(1e-10)
    torch.set_flush_denormal(before)
    try:
        with usual_globals():
            assert float(small * smaller) == 0
            assert float(small * 1e-7) > 0
        assert (float(small * smaller) == 0) == before
    finally:
        torch.set_flush_denormal(False)
