"""Runs whose tasks end with the weights that were best on validation samples."""

import copy
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
from stopping import in_parts

from lopbench.core.interfaces import Perturbation
from lopbench.core.manager import plugins
from lopbench.core.registry import OWN, Distribution, Registration
from lopbench.learner.learner import StackLearner
from lopbench.runner import session, study, worth
from lopbench.runner.best import Best
from lopbench.runner.scored import ScoredLearner
from lopbench_plugins.scenarios.cloning import Cloning
from lopbench_plugins.scenarios.tinyimagenet40 import TinyImageNet40, TinyImageNetTask

STEPS, EVERY, TASKS = 8, 3, 6
VALIDATED = [3, 6, 8]
FIELDS = "tasks=6,steps_per_task=8,classes_per_task=2,images_per_class=20,resolution=8,batch_size=16"
#: Batch normalisation has statistics among its buffers; momentum is state of the optimizer.
LEARNER = {"architecture": "mlp:width=16,depth=2,normalization=batch", "optimizers": ["sgd:lr=0.5,momentum=0.9"]}


class StoppedTask(TinyImageNetTask):
    """Is validated on its probe, with many labels wrong: the best weights are anywhere, and there are ties."""

    def validation(self):
        inputs, labels = self.probe()
        generator = torch.Generator().manual_seed(self.stream_seed + self.index)
        wrong = torch.rand(labels.shape, generator=generator) < 0.45
        yield inputs, torch.where(wrong, 1 - labels, labels)


@dataclass(frozen=True, kw_only=True)
class Stopped(TinyImageNet40):
    """Tasks that are validated every few steps."""

    name: ClassVar[str] = "stopped"

    def validate_every(self, task):
        return EVERY

    def stream(self, seed, *, data, device):
        made = super().stream(seed, data=data, device=device)
        whole = made.task

        def task(index):
            found = whole(index)
            found.__class__, found.stream_seed, found.index = StoppedTask, 100 * seed, index
            return found

        made.task = task
        return made


@dataclass(frozen=True, kw_only=True)
class Unvalidated(TinyImageNet40):
    """Tasks that are validated on nothing."""

    name: ClassVar[str] = "unvalidated"

    def validate_every(self, task):
        return EVERY


@dataclass(frozen=True, kw_only=True)
class Cloned(Cloning):
    """A learner that is cloned, validated on the samples that are held out."""

    name: ClassVar[str] = "cloned"

    def validate_every(self, task):
        return 1

    def stream(self, seed, *, data, device):
        made = super().stream(seed, data=data, device=device)
        whole = made.task

        def task(index):
            found = whole(index)
            found.validation = found.held_out
            return found

        made.task = task
        return made


@pytest.fixture
def planned(make_study, monkeypatch):
    for cls in (Stopped, Unvalidated, Cloned):
        # As ours: what is of others is first tried out in a copy of the process, each time.
        entry = Registration("scenarios", cls.name, cls, "", Distribution(OWN, "1"))
        monkeypatch.setitem(plugins().registry._entries["scenarios"], cls.name, entry)
    defaults = {"scenario": f"stopped:{FIELDS}", "methods": ["none"], **LEARNER}
    return lambda **changes: make_study(**{**defaults, **changes})


@pytest.fixture(params=["one by one", "program"])
def engine(request, monkeypatch):
    monkeypatch.setattr(worth, "MOST_OPERATIONS", 0 if request.param == "one by one" else 1e9)
    monkeypatch.setattr(worth, "MOST_PARAMETERS", 1e9)
    return request.param


# -- what is kept


def weights(learner, replica=0):
    """Return parameters and buffers of a replica."""
    return {n: v[replica].clone() for n, v in {**learner.view.parameters, **learner.view.buffers}.items()}


def same(ours, theirs):
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def score_of(learner, tensors, task):
    """Return the share of validation samples that a network of these weights gets right, in evaluation mode."""
    module = copy.deepcopy(learner.network.module).eval()
    ((inputs, labels),) = task.validation()
    outputs = torch.func.functional_call(module, tensors, (inputs,))
    if task.classes is not None:
        outputs = outputs[:, task.classes]
    return (outputs.argmax(1) == labels).double().mean().item()


class Watch:
    """Keeps the weights after each step of a task, and looks at those with which it ends and the next one begins."""

    def __init__(self, monkeypatch):
        self.steps, self.kept, self.tasks = {}, [], 0
        note, scores, begin = ScoredLearner._note, ScoredLearner.task_scores, StackLearner.begin_task
        watch = self

        def noting(self, taken, steps):
            note(self, taken, steps)
            watch.steps[self.done] = weights(self.learner)
            watch.momentum = self.learner.optimizer.state_dict()

        def scoring(self, replica, task):
            watch.end(self.learner, task)
            return scores(self, replica, task)

        def beginning(self, index, tasks, *, first, **options):
            if not first:
                assert same(weights(self), watch.last)
            begin(self, index, tasks, first=first, **options)

        monkeypatch.setattr(ScoredLearner, "_note", noting)
        monkeypatch.setattr(ScoredLearner, "task_scores", scoring)
        monkeypatch.setattr(StackLearner, "begin_task", beginning)

    def end(self, learner, task):
        """Compare the weights at the end of a task with the first of those that are best."""
        found = {step: score_of(learner, self.steps[step], task) for step in VALIDATED}
        best = min(found, key=lambda step: (-found[step], step))
        self.last = weights(learner)
        assert same(self.last, self.steps[best])
        assert all(torch.equal(v, self.momentum[name]) for name, v in learner.optimizer.state_dict().items())
        self.kept.append((best, found[best], len(set(found.values())) < len(found)))
        self.steps = {}


def test_a_task_ends_with_the_first_of_the_best_weights_and_the_next_one_begins_with_them(
    planned, record_of, monkeypatch
):
    monkeypatch.setattr(worth, "MOST_OPERATIONS", 0)
    watch, made = Watch(monkeypatch), planned()
    assert study.execute(made) == []
    assert {spec.kind for spec in made.pending} == {"continual", "fresh"}
    # Some networks are best at the start, some in the middle and some at the end.
    assert {step for step, _, _ in watch.kept} == set(VALIDATED)
    assert any(ties for _, _, ties in watch.kept)
    rows = [
        pair
        for spec in made.pending
        for pair in zip(*(record_of(made, spec).per_task(m).values() for m in NAMES), strict=True)
    ]
    assert sorted(rows) == sorted((step, score) for step, score, _ in watch.kept)


NAMES = ("kept_step", "validation_accuracy")


@pytest.mark.parametrize("score", ["accuracy", "error"])
def test_each_replica_keeps_the_first_of_its_best_weights(score):
    sign = -1 if score == "error" else 1
    table = {0: [0.2, 0.5, 0.5, 0.4], 1: [0.9, 0.1, 0.2, 0.9], 2: [torch.nan, 0.1, 0.3, torch.nan], 3: [torch.nan] * 4}
    weight, count = torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64)
    view = SimpleNamespace(parameters={"w": weight}, buffers={"n": count})
    now = {}
    learner = SimpleNamespace(replicas=4, view=view, validate=lambda replica, task: sign * table[replica][now["step"]])
    best = Best(learner, falling=score == "error")
    for step in range(4):
        now["step"] = step
        weight.copy_(torch.arange(8.0).view(4, 2) + 100 * step)
        count.fill_(step)
        for replica in table:
            best.validate(replica, None, step + 1)
    resumed = Best(learner, falling=score == "error")
    resumed.load_state_dict({name: value.clone() for name, value in best.state_dict().items()})
    weight.fill_(-1)
    count.fill_(-1)
    resumed.restore()
    assert count.tolist() == [1, 0, 2, -1]  # the last one has no number for a score, and stays as it is
    assert weight.tolist() == [[100, 101], [2, 3], [204, 205], [-1, -1]]
    assert best.steps.tolist()[:3] == [2, 1, 3]
    best.forget()
    best.restore()
    assert best.state_dict() == {}
    assert count.tolist() == [1, 0, 2, -1]


def test_clone_and_base_keep_their_own(planned, record_of):
    fields = "base_epochs=2,epochs=6,images_per_class=8,batch_size=32"
    made = planned(scenario=f"cloned:{fields}", methods=["noisy_sgd:scale=0.3"])
    assert study.execute(made) == []
    record = record_of(made, made.specs[0])
    ours, base = ([*record.per_task(prefix + "validation_accuracy").values()] for prefix in ("", "base_"))
    assert ours != base
    for prefix in ("", "base_"):  # held out and validated are the same here: what is scored is what was best
        scores = (record.per_task(f"{prefix}{name}_accuracy") for name in ("validation", "heldout"))
        assert next(scores) == next(scores)
        assert len(record.per_task(f"{prefix}kept_step")) == (6 if prefix else 8)


# -- however it is computed


def test_steps_in_programs_keep_what_steps_one_by_one_keep(planned, record_of, tmp_path, monkeypatch):
    monkeypatch.setattr(worth, "MOST_PARAMETERS", 1e9)
    found = []
    for most in (0, 1e9):
        monkeypatch.setattr(worth, "MOST_OPERATIONS", most)
        made = planned(results=tmp_path / str(most), seeds=[0, 1])
        assert study.execute(made) == []
        found.append([[record_of(made, spec).per_task(name) for name in NAMES] for spec in made.pending])
    assert found[0] == found[1]


def test_seeds_side_by_side_keep_what_each_keeps_alone(planned, record_of, tmp_path, engine):
    together = planned(results=tmp_path / "together", seeds=[0, 1])
    assert study.execute(together) == []
    kept = []
    for seed in (0, 1):
        alone = planned(results=tmp_path / "alone", seeds=[seed])
        assert study.execute(alone) == []
        spec = alone.specs[0]
        for name in (*NAMES, "online_loss", "heldout_accuracy"):
            ours, theirs = (record_of(each, spec).per_task(name) for each in (together, alone))
            assert ours == pytest.approx(theirs, rel=1e-4)
        kept.append(record_of(alone, spec).per_task("kept_step"))
    assert kept[0] != kept[1]


@dataclass(frozen=True, kw_only=True)
class Averaged(Perturbation):
    """Evaluates weights that are none of the network's."""

    name: ClassVar[str] = "averaged"

    def evaluated(self, learner, state):
        return {name: torch.zeros_like(value) for name, value in learner.parameters.items()}


def test_what_a_method_evaluates_does_not_choose_the_weights(planned, record_of, tmp_path, monkeypatch):
    entry = Registration("methods", Averaged.name, Averaged, "", Distribution(OWN, "1"))
    monkeypatch.setitem(plugins().registry._entries["methods"], Averaged.name, entry)
    made = planned(methods=["none", "averaged"])
    assert study.execute(made) == []
    plain, averaged = (record_of(made, spec) for spec in made.specs)
    for name in (*NAMES, "online_loss"):
        assert plain.per_task(name) == averaged.per_task(name)
    assert set(averaged.per_task("heldout_accuracy").values()) == {0.5}


def test_a_run_that_stops_anywhere_keeps_what_it_would_have_kept(planned, record_of, tmp_path, monkeypatch):
    monkeypatch.setattr(session, "LOOK_S", 0.0)
    monkeypatch.setattr(worth, "MOST_OPERATIONS", 0)
    make = partial(planned, methods=["none"])
    whole, parts = make(results=tmp_path / "whole"), make(results=tmp_path / "parts")
    assert study.execute(whole) == []
    assert in_parts(partial(make, results=parts.results), looks=2) > 20
    for spec in whole.pending:
        one, other = (record_of(each, spec).measurements for each in (whole, parts))
        assert one.equals(other)


# -- what goes wrong


def test_a_run_that_diverges_has_diverged_whatever_it_kept(planned, record_of, engine):
    made = planned(optimizers=["sgd:lr=1e30"], architecture="mlp:width=16,depth=2")
    study.execute(made)
    assert record_of(made, made.specs[0]).outcome == "diverged"


def test_a_scenario_that_validates_on_nothing_is_told(planned):
    made = planned(scenario=f"unvalidated:{FIELDS}")
    failures = study.execute(made)
    assert "its tasks yield no validation batch" in str(failures[0])
