"""Runs whose protocol has a schedule of the learning rate inside each task."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import pytest
from stopping import in_parts

from lopbench.core.manager import plugins
from lopbench.core.registry import OWN, Distribution, Registration
from lopbench.runner import session, study, worth
from lopbench.runner.scored import ScoredLearner
from lopbench_plugins.scenarios.tinyimagenet40 import TinyImageNet40

STEPS, LR = 8, 0.1
FACTORS = {0: 1.0, 1: 1.0, 2: 0.2, 3: 0.2, 4: 0.2, 5: 0.2, 6: 0.04, 7: 0.04}
SMALL = "tasks=6,classes_per_task=2,images_per_class=20,resolution=8,batch_size=16"
FIELDS = f"{SMALL},steps_per_task={STEPS}"


@dataclass(frozen=True, kw_only=True)
class Falling(TinyImageNet40):
    """Tasks in which the learning rate falls twice."""

    name: ClassVar[str] = "falling"

    def rate_factors(self, task):
        return [(2, 0.2), (6, 0.04)]


@pytest.fixture
def planned(make_study, monkeypatch):
    # As ours: what is of others is first tried out in a copy of the process, each time.
    entry = Registration("scenarios", Falling.name, Falling, "", Distribution(OWN, "1"))
    monkeypatch.setitem(plugins().registry._entries["scenarios"], Falling.name, entry)
    defaults = {"scenario": f"falling:{FIELDS}", "methods": ["none"], "optimizers": [f"sgd:lr={LR},momentum=0.9"]}
    return lambda **changes: make_study(**{**defaults, **changes})


@pytest.fixture(params=["one by one", "program"])
def rates(request, monkeypatch):
    """Return a list that fills with the learning rate of each step of the learner, and how steps are taken."""
    monkeypatch.setattr(worth, "MOST_OPERATIONS", 0 if request.param == "one by one" else 1e9)
    monkeypatch.setattr(worth, "MOST_PARAMETERS", 1e9)
    found = []
    note = ScoredLearner._note

    def noting(self, taken, steps):
        assert steps == 1 or request.param == "program"
        found.extend([self.learner.optimizer.lr.tolist()] * steps)
        note(self, taken, steps)

    monkeypatch.setattr(ScoredLearner, "_note", noting)
    return found


def test_each_step_of_a_run_and_of_its_references_has_the_rate_of_the_schedule(planned, rates):
    made = planned()
    assert study.execute(made) == []
    assert {spec.kind for spec in made.pending} == {"continual", "fresh"}
    reference = next(spec for spec in made.pending if spec == spec.reference()).optimizer.fields["lr"]
    assert reference != LR
    tasks = [rates[first : first + STEPS] for first in range(0, len(rates), STEPS)]
    expected = {base: [[base * FACTORS[step]] for step in range(STEPS)] for base in (LR, reference)}
    assert all(task in expected.values() for task in tasks)
    assert tasks.count(expected[LR]) == 6 + 5  # the learner, and its own fresh networks on the late tasks
    assert tasks.count(expected[reference]) == 6


def test_a_method_that_starts_anew_follows_the_schedule(planned, rates):
    assert study.execute(planned(methods=["reset"])) == []
    tasks = [rates[first : first + STEPS] for first in range(0, len(rates), STEPS)]
    assert all(task == [[task[0][0] * FACTORS[step]] for step in range(STEPS)] for task in tasks)


def test_swept_rates_side_by_side_are_each_as_alone(planned, rates, record_of, tmp_path):
    optimizers = [f"sgd:lr={lr},momentum=0.9" for lr in (0.1, 0.02)]
    together = planned(optimizers=optimizers, results=tmp_path / "together")
    assert study.execute(together) == []
    assert study.execute(planned(optimizers=optimizers[:1], results=tmp_path / "alone")) == []
    alone = planned(optimizers=optimizers[1:], results=tmp_path / "alone")
    assert study.execute(alone) == []
    for spec in together.specs:
        ours, theirs = (record_of(each, spec).per_task("online_loss") for each in (together, alone))
        assert ours == pytest.approx(theirs, rel=1e-6)
    first, second = (record_of(together, spec).per_task("online_loss") for spec in together.specs)
    assert first != pytest.approx(second, rel=1e-3)


def test_a_run_that_stops_anywhere_goes_on_at_the_rate_of_its_step(planned, record_of, tmp_path, monkeypatch):
    monkeypatch.setattr(session, "LOOK_S", 0.0)
    monkeypatch.setattr(worth, "MOST_OPERATIONS", 0)
    make = partial(planned, methods=["none", "reset"], architecture="mlp:width=16,depth=2")
    whole, parts = make(results=tmp_path / "whole"), make(results=tmp_path / "parts")
    assert study.execute(whole) == []
    assert in_parts(partial(make, results=parts.results), looks=3) > 20
    for spec in whole.pending:
        one, other = (record_of(each, spec).measurements for each in (whole, parts))
        assert one.equals(other)
