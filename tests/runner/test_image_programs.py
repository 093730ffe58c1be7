"""Runs of small networks on images train as replicas of one program, where that is faster."""

import numpy as np
import pytest
import torch

from lopbench.learner.learner import StackLearner
from lopbench.results.record import find_records
from lopbench.runner import groups, study, worth
from lopbench.runner.timing import throwaway

CPU = torch.device("cpu")
#: For `make_study`: what it is outside of tests.
MOST_OPERATIONS = worth.MOST_OPERATIONS
#: Ten images a class, in batches of 8 and 2.
SMALL = {"architecture": "mlp:width=8,depth=2", "metrics": ["dead_fraction"]}


def records(planned):
    return {record.run_id: record for record in find_records(planned.results)}


@pytest.mark.parametrize("methods", [["none"], ["cbp:maturity=2,replacement_rate=0.2"], ["l2+layernorm"]])
def test_seeds_on_images_are_one_program_and_give_what_each_gives_alone(make_study, tmp_path, monkeypatch, methods):
    together = make_study(tmp_path / "together", methods=methods, seeds=[0, 1, 2], **SMALL)
    assert min(len(group) for group in groups.groups(together.pending, data=together.images, device=CPU)) >= 3
    assert study.execute(together) == []
    monkeypatch.setattr(worth, "MOST_OPERATIONS", 0)
    alone = make_study(tmp_path / "alone", methods=methods, seeds=[0, 1, 2], **SMALL)
    assert {len(group) for group in groups.groups(alone.pending, data=alone.images, device=CPU)} == {1}
    assert study.execute(alone) == []
    one, other = records(together), records(alone)
    assert one.keys() == other.keys()
    for run_id, record in one.items():
        assert record.environment["steps"] == "program"
        assert other[run_id].environment["steps"] == "one by one"
        a, b = record.measurements, other[run_id].measurements
        assert a.drop(columns="value").equals(b.drop(columns="value"))
        np.testing.assert_allclose(a["value"], b["value"], rtol=5e-3, atol=1e-5)


def test_rates_and_strengths_on_images_are_replicas_too(make_study):
    planned = make_study(methods=["l2"], sweeps=["lr=0.01,0.001", "l2.strength=1e-3,1e-4"], seeds=[0, 1], **SMALL)
    found = groups.groups(planned.pending, data=planned.images, device=CPU)
    assert max(map(len, found)) == 8


@pytest.mark.parametrize(
    ("architecture", "together"),
    [("mlp:width=8,depth=2", True), ("mlp:width=600,depth=2", False), ("cnn", False)],
)
def test_networks_of_which_a_program_is_slower_train_one_run_at_a_time(make_study, architecture, together):
    planned = make_study(architecture=architecture, seeds=[0, 1], metrics=[])
    found = groups.groups(planned.pending, data=planned.images, device=CPU)
    assert (max(map(len, found)) > 1) == together


def work(**changes):
    known = {"steps": 1000, "replicas": 1, "parameters": 10, "operations": 1e3, "on_cpu": True}
    return worth.Work(**{**known, **changes})


def test_long_runs_are_compiled_the_sooner_the_more_there_is_to_update():
    assert not work(steps=worth.COMPILE_STEPS - 50).is_long
    assert work(steps=worth.COMPILE_STEPS).is_long
    assert work(steps=20_000, replicas=30, parameters=90_000).is_long
    assert not work(steps=20_000, parameters=90_000).is_long


def test_a_program_is_for_small_steps_and_if_it_is_not_compiled_for_small_networks():
    assert work().is_for_a_program
    assert not work(operations=2 * worth.MOST_OPERATIONS).is_for_a_program
    assert work(operations=2 * worth.MOST_OPERATIONS, on_cpu=False).is_for_a_program
    assert not work(parameters=2 * worth.MOST_PARAMETERS).is_for_a_program
    assert work(parameters=2 * worth.MOST_PARAMETERS, steps=worth.COMPILE_STEPS).is_for_a_program


@pytest.mark.parametrize("replicas", [1, 3])
def test_operations_are_those_of_the_matrix_products_of_a_step(replicas):
    def build(generator):
        return torch.nn.Sequential(
            torch.nn.Linear(6, 5), torch.nn.BatchNorm1d(5), torch.nn.ReLU(), torch.nn.Linear(5, 4)
        )

    from lopbench_plugins.optimizers.sgd import SGD

    learner = StackLearner(
        build=build, seeds=range(replicas), methods=(), optimizer=SGD(lr=0.1), example=torch.zeros(2, 6), outputs=4
    )
    before = {name: value.clone() for name, value in learner.view.buffers.items()}
    found = worth.work(learner, torch.randn(replicas, 16, 6), steps=7, replicas=9)
    assert found == worth.Work(7, 9, 6 * 5 + 5 + 10 + 5 * 4 + 4, 3 * 2 * 16 * (6 * 5 + 5 * 4), True)
    assert all(torch.equal(value, before[name]) for name, value in learner.view.buffers.items())


def test_an_epoch_that_is_longer_than_a_call_is_taken_one_by_one(make_study):
    planned = make_study(
        scenario="tinyimagenet40:tasks=2,resolution=8,steps_per_task=20,images_per_class=9,batch_size=2"
    )
    training = throwaway(planned.pending[:1], data=planned.images, device=CPU)
    assert training.feed.period == 23  # 45 images in pairs
    assert "at once" in training.programs.why_not(training.learner, training.feed, replicas=3)
    assert training.programs.seek(training.learner, training.feed) is None
