"""Runs whose tasks differ in length, and of whose tasks the first steps alone are scored."""

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import pytest
from stopping import in_parts

from lopbench.core.manager import plugins
from lopbench.core.registry import OWN, Distribution, Registration
from lopbench.results.leaderboard import leaderboard
from lopbench.results.tasks import task_edges
from lopbench.runner import report, session, study, worth
from lopbench.runner.scored import ScoredLearner
from lopbench_plugins.scenarios.tinyimagenet40 import TinyImageNet40

LENGTHS = [4, 7, 3, 9, 5, 6]
SCORED = [3, 2, 3, 1, 4, 6]
FIELDS = "tasks=6,steps_per_task=5,classes_per_task=2,images_per_class=20,resolution=8,batch_size=16,probe_every=3"


@dataclass(frozen=True, kw_only=True)
class Uneven(TinyImageNet40):
    """Tasks of several lengths."""

    name: ClassVar[str] = "uneven"

    def steps(self, task):
        return LENGTHS[task]


@dataclass(frozen=True, kw_only=True)
class Begun(Uneven):
    """The same tasks, of which the first steps are scored."""

    name: ClassVar[str] = "begun"

    def scored(self, task):
        return SCORED[task]

    def stream(self, seed, *, data, device):  # the random streams of `Uneven`
        return Uneven(**vars(self)).stream(seed, data=data, device=device)


@pytest.fixture
def make_uneven(make_study, monkeypatch):
    monkeypatch.setattr(worth, "MOST_OPERATIONS", 0)  # step by step
    for cls in (Uneven, Begun):
        # As ours: what is of others is first tried out in a copy of the process, each time.
        entry = Registration("scenarios", cls.name, cls, "", Distribution(OWN, "1"))
        monkeypatch.setitem(plugins().registry._entries["scenarios"], cls.name, entry)
    return lambda name, **changes: make_study(scenario=f"{name}:{FIELDS}", **{"methods": ["none", "l2"], **changes})


@pytest.fixture
def planned(make_uneven):
    return lambda **changes: make_uneven("uneven", **changes)


def test_each_task_is_trained_for_its_own_length(planned, record_of):
    made = planned()
    assert made.steps == (34, 34, 34, 30)  # the reference covers all tasks, other fresh networks the late ones
    assert study.execute(made) == []
    record = record_of(made, made.specs[0])
    assert record.status["steps"] == sum(LENGTHS)
    assert task_edges(record) == [sum(LENGTHS[:task]) for task in range(7)]
    probes = record.measurements.query("metric == 'weight_norm' and layer == ''").groupby("task")["step"].apply(list)
    for task, length in enumerate(LENGTHS):
        begin = sum(LENGTHS[:task])
        assert probes[task] == [begin + at for at in sorted({*range(0, length, 3), length})]
    assert leaderboard(made.results)["retention"].notna().all()


class Noting(report.Quiet):
    """Keeps the score that was shown last."""

    def advanced(self, steps, task, tasks, score):
        self.score = score


def test_online_score_and_loss_are_the_means_of_the_first_steps_and_all_are_trained_on(
    make_uneven, record_of, tmp_path, monkeypatch
):
    taken = []  # scores and losses of the steps, then the score that was shown at the end of the task
    shown = Noting()
    note, begin = ScoredLearner._note, ScoredLearner.start_counting

    def noting(self, steps, count):
        taken[-1] += zip(steps.scores.flatten().tolist(), steps.losses.flatten().tolist(), strict=True)
        note(self, steps, count)

    def beginning(self, steps, **options):
        if taken and taken[-1]:
            taken[-1].append(shown.score)
        taken.append([])
        begin(self, steps, **options)

    whole, begun = (make_uneven(name, results=tmp_path / name, methods=["none"]) for name in ("uneven", "begun"))
    assert study.execute(whole) == []
    monkeypatch.setattr(ScoredLearner, "_note", noting)
    monkeypatch.setattr(ScoredLearner, "start_counting", beginning)
    assert study.execute(begun, shown) == []
    tasks = iter(each for each in taken if each)
    for one, other in zip(whole.pending, begun.pending, strict=True):
        all_steps, first = record_of(whole, one), record_of(begun, other)
        for task, score in first.per_task("online_accuracy").items():
            *steps, last_shown = next(tasks)
            assert len(steps) == LENGTHS[task]
            scores, losses = (sum(each) / SCORED[task] for each in zip(*steps[: SCORED[task]], strict=True))
            assert score == pytest.approx(scores)
            assert last_shown == pytest.approx(scores)
            assert first.per_task("online_loss")[task] == pytest.approx(losses)
        # What is trained is the same.
        assert len(first.per_task("heldout_accuracy")) >= 5
        assert all_steps.per_task("heldout_accuracy") == first.per_task("heldout_accuracy")
    assert next(tasks, None) is None


def test_tasks_of_several_lengths_resume_bit_for_bit(make_uneven, record_of, tmp_path, monkeypatch):
    monkeypatch.setattr(session, "LOOK_S", 0.0)
    # With dropout, steps are taken one by one: a session that has to trace a program takes seconds.
    planned = partial(make_uneven, "begun", architecture="mlp:width=16,depth=2,dropout=0.1")
    whole = planned(results=tmp_path / "whole", start=0.4)
    assert study.execute(whole) == []

    parts = planned(results=tmp_path / "parts", start=0.4)
    assert in_parts(partial(planned, results=parts.results, start=0.4), looks=5) > 10
    for spec in whole.pending:
        one, other = (record_of(replace(each), spec).measurements for each in (whole, parts))
        assert one.equals(other)
