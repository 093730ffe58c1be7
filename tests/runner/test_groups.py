"""Runs that train as replicas of one program: each ends as it would have ended alone."""

import re
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from stopping import in_parts

from lopbench.core.interfaces import NetworkMetric, Perturbation
from lopbench.core.manager import plugins
from lopbench.core.registry import Distribution, Registration
from lopbench.learner import program
from lopbench.learner.compiling import Compiled
from lopbench.learner.program import Program
from lopbench.results.leaderboard import leaderboard
from lopbench.results.record import find_records, is_recorded
from lopbench.runner import groups, programs, report, run, session, study, worth
from lopbench.runner.holder import Holder
from lopbench.runner.report import Quiet, group_label

#: A stream of 8 bins of 12 samples each.
BITS = "bitflip:samples=96,m=8,f=5,T=12,steps_per_task=12"
#: Replaces a unit of five every fourth step.
CBP = "cbp:maturity=5,replacement_rate=0.05"
CPU = torch.device("cpu")


@pytest.fixture
def make_bits(make_study):
    """Return `plan` for tiny streams of bits, without the fresh references unless they are asked for."""

    def make(*arguments, references=False, **changes):
        request = {"scenario": BITS, "architecture": None, "metrics": ["dead_fraction"], **changes}
        planned = make_study(*arguments, **request)
        if references:
            return planned
        kept = [spec for spec in planned.pending if spec.kind == "continual"]
        return replace(planned, pending=tuple(kept), steps=(planned.steps[0],) * len(kept))

    return make


@pytest.fixture
def made(monkeypatch):
    """Return a list that fills with the runs that are made to be executed."""
    runs = []
    execute = run.Run.execute
    monkeypatch.setattr(run.Run, "execute", lambda self: runs.append(self) or execute(self))
    return runs


def assert_same(one, other):
    """Check that two records hold the same numbers up to the order in which sums are rounded."""
    assert one.run_id == other.run_id
    assert (one.outcome, one.status["diverged_at"]) == (other.outcome, other.status["diverged_at"])
    a, b = one.measurements, other.measurements
    assert len(a)
    assert a.drop(columns="value").equals(b.drop(columns="value"))
    np.testing.assert_allclose(a["value"], b["value"], rtol=1e-3, atol=1e-6)
    exact = a["metric"].isin(["chance", "dead_fraction"])
    assert a[exact].equals(b[exact])


@pytest.fixture
def assert_equal_alone(make_bits, record_of, tmp_path, made):
    """Return a function that checks that a study of one group gives what its runs give one by one."""

    def check(**request):
        together = make_bits(tmp_path / "together", **request)
        alone = make_bits(tmp_path / "alone", **request)
        assert study.execute(together) == []
        assert [len(each.specs) for each in made] == [len(together.pending)]
        for spec in (together.pending[0], together.pending[-1]):
            assert study.execute(replace(alone, pending=(spec,))) == []
            one, other = record_of(together, spec), record_of(alone, spec)
            assert (one.environment["replicas"], other.environment["replicas"]) == (len(together.pending), 1)
            assert one.environment["steps"] == other.environment["steps"] == "program"
            assert_same(one, other)
        tables = [record_of(together, spec).table for spec in together.pending]
        assert all(not a.equals(b) for i, a in enumerate(tables) for b in tables[:i])

    return check


# -- a replica and a run alone


@pytest.mark.parametrize(
    ("method", "optimizer"),
    [
        ("none", None),
        (CBP, None),
        (f"{CBP},utility=random,accumulate=false", "adam:lr=0.01"),
        ("noisy_sgd", None),
        ("l2:strength=0.1", "sgd:lr=0.01,momentum=0.9"),
        ("shrink_and_perturb_step:std=0.01", None),
    ],
)
def test_seeds_in_one_program_give_what_each_gives_alone(assert_equal_alone, method, optimizer):
    assert_equal_alone(methods=[method], optimizers=[optimizer], seeds=[2, 0, 1])


def test_learning_rates_in_one_program_give_what_each_gives_alone(assert_equal_alone):
    assert_equal_alone(methods=[CBP], sweeps=["lr=0.01,0.03"], seeds=[0, 1])


def test_swept_fields_in_one_program_give_what_each_gives_alone(assert_equal_alone):
    assert_equal_alone(methods=["noisy_sgd"], sweeps=["noisy_sgd.scale=0.01,0.1", "noisy_sgd.decay=1,0.9"])


def test_fresh_references_in_one_program_give_what_each_gives_alone(make_bits, record_of, tmp_path):
    request = {"scenario": "bitflip:samples=48,m=8,f=5,T=8,steps_per_task=8", "start": 0.5, "references": True}
    plans = [make_bits(tmp_path / name, methods=[CBP], seeds=[0, 1], **request) for name in ("together", "alone")]
    study.execute(plans[0])
    for spec in plans[0].pending[3:]:  # of one seed's
        study.execute(replace(plans[1], pending=(spec,)))
        assert record_of(plans[0], spec).environment["replicas"] == 2
        assert_same(record_of(plans[0], spec), record_of(plans[1], spec))


def test_rates_of_one_seed_share_its_stream(make_bits, made, monkeypatch):
    planned = make_bits(seeds=[4, 7], sweeps=["lr=0.01,0.003,0.001"])
    study.execute(planned)
    (one,) = made
    assert len(one.specs) == 6
    assert list(one.setting.streams) == [4, 7]
    frames = [record.measurements for record in find_records(planned.results)]
    chances = {tuple(frame[frame["metric"] == "chance"]["value"]) for frame in frames}
    assert len(chances) == 2


def test_fresh_networks_share_a_program_if_they_are_led_in_alike(make_bits):
    scenario = "bitflip:samples=60000,m=8,f=5,T=10000,steps_per_task=2000"  # the late bins are 24 to 29
    planned = make_bits(scenario=scenario, seeds=[0, 1], sweeps=["lr=0.01,0.001,0.0008,0.02,0.019"], references=True)
    found = groups.groups(planned.pending, data=None, device=CPU)
    rates = sorted(sorted({s.optimizer.fields["lr"] for s in group}) for group in found if group[0].kind == "fresh")
    # Leads of 200 / lr samples, in bins: 10; more than there are, in both; 5; 6.
    assert rates == [[0.0008, 0.001], [0.01], [0.019], [0.02]]
    assert [len(group) for group in found if group[0].kind == "continual"] == [10]


def test_groups_hold_what_one_program_can_train(make_bits):
    planned = make_bits(
        methods=["none", CBP, "cbp:replacement_rate=0", "l2"],
        seeds=[0, 1],
        optimizers=["sgd:lr=0.01", "sgd:lr=0.001", "adam:lr=0.01"],
        references=True,
    )
    found = groups.groups(planned.pending, data=None, device=CPU)
    assert sorted(spec.run_id for group in found for spec in group) == sorted(s.run_id for s in planned.pending)
    for group in found:
        # Strength zero takes other steps than a method that acts, and a reference is not diagnosed.
        assert len({(s.kind, s.optimizer.name, s.method_label) for s in group}) == 1
        # The reference of all is that of "none" at the reference's rate, and comes to more tasks than others.
        alone = (group[0].kind == "fresh" and group[0].method_label == "none") or group[0].optimizer.name == "adam"
        assert len(group) == (2 if alone else 4)
    assert len(found) == 4 * 2 * 2 + 1


def test_what_another_process_is_at_comes_last(make_study, record_of):
    planned = make_study(methods=["none", "l2"])
    first, *others = planned.pending
    order, held = [], ExitStack()

    class Order(Quiet):
        def started(self, label, steps, done, runs=1, score="accuracy"):
            order.append(label)
            if len(order) == len(others):
                held.close()

    with held:
        held.enter_context(Holder(planned.results).claimed([first]))
        assert study.execute(planned, Order()) == []
    assert order == [*(group_label([spec]) for spec in others), group_label([first])]


def test_what_others_are_at_is_waited_for_and_told_once(make_study, monkeypatch):
    monkeypatch.setattr(groups, "LOOK_AGAIN_S", 0.01)
    planned = make_study(methods=["none"])
    told, looked, held = [], [], ExitStack()

    class Notes(Quiet):
        def waits(self, label):
            told.append(label)

    def sleep(seconds):
        looked.append(seconds)
        if len(looked) == 3:
            held.close()

    monkeypatch.setattr(groups.time, "sleep", sleep)
    with held:
        held.enter_context(Holder(planned.results).claimed(planned.pending))
        assert study.execute(planned, Notes()) == []
    assert looked == [0.01] * 3
    assert told == [group_label(planned.pending[:1])]
    assert all(is_recorded(planned.results, spec) for spec in planned.pending)


def test_runs_that_are_like_no_others_are_not_tried_out(make_bits, monkeypatch):
    monkeypatch.setattr(groups, "throwaway", None)
    planned = make_bits(methods=["none", CBP], references=True)
    assert groups.groups(planned.pending, data=None, device=CPU) == [[spec] for spec in planned.pending]


def test_large_groups_are_cut_evenly(make_bits, monkeypatch):
    monkeypatch.setattr(groups, "MAX_REPLICAS", 3)
    planned = make_bits(seeds=range(7))
    found = groups.groups(planned.pending, data=None, device=CPU)
    assert [[spec.seed for spec in group] for group in found] == [[0, 1], [2, 3], [4, 5, 6]]


def test_methods_that_cannot_be_traced_are_trained_one_run_at_a_time(make_bits):
    planned = make_bits(methods=["dropout", "cbp+dropout"], seeds=[0, 1])
    assert [len(group) for group in groups.groups(planned.pending, data=None, device=CPU)] == [1] * 4


@dataclass(frozen=True, kw_only=True)
class Counts(Perturbation):
    """Counts steps on the host."""

    name: ClassVar[str] = "counts"

    def after_step(self, learner, state):
        state.host["steps"] = state.host.get("steps", 0) + 1


@pytest.mark.parametrize("start", [0.0, 0.5])
def test_methods_that_read_on_the_host_are_trained_one_run_at_a_time(make_bits, record_of, monkeypatch, start):
    entry = Registration("methods", "counts", Counts, "", Distribution("tests", "1"))
    monkeypatch.setitem(plugins().registry._entries["methods"], "counts", entry)
    planned = make_bits(methods=["counts"], seeds=[0, 1], start=start)
    assert [len(group) for group in groups.groups(planned.pending, data=None, device=CPU)] == [1, 1]
    assert study.execute(planned) == []
    assert all(record_of(planned, spec).outcome == "completed" for spec in planned.pending)


def test_blocks_are_whole_calls_however_many_steps_a_call_takes(make_bits, made, monkeypatch):
    monkeypatch.setattr(worth, "COMPILE_STEPS", 0)
    monkeypatch.setattr(programs, "BLOCK_STEPS", 10)
    monkeypatch.setattr(program, "compile_graph", lambda graph, *_: Compiled(graph))
    taken = []
    advance = Program.advance
    monkeypatch.setattr(
        Program, "advance", lambda self, *a: taken.append((self.unroll, len(a[1][0][0][0]))) or advance(self, *a)
    )
    planned = make_bits(scenario="bitflip:samples=84,m=8,f=5,T=20,steps_per_task=42,probe_every=21")
    assert study.execute(planned) == []
    assert find_records(planned.results)[0].outcome == "completed"
    assert taken == [(7, 7)] * 12


# -- replicas that end before the others


def test_replica_that_diverges_is_recorded_where_it_did_and_the_others_go_on(make_bits, record_of, tmp_path):
    request = {"sweeps": ["lr=0.01,1e30,0.003"], "seeds": [0, 1]}  # rate by rate, each with both seeds
    planned = make_bits(tmp_path / "together", **request)
    assert study.execute(planned) == []
    alone = make_bits(tmp_path / "alone", **request)
    study.execute(replace(alone, pending=alone.specs[2:5]))
    for spec in planned.specs:
        record = record_of(planned, spec)
        assert record.outcome == ("diverged" if spec.optimizer.fields["lr"] > 1 else "completed")
        if spec in alone.specs[2:5]:
            other = record_of(alone, spec)
            assert record.status["diverged_at"] == other.status["diverged_at"]
        assert len(record.per_task("online_error")) == (0 if spec.optimizer.fields["lr"] > 1 else 8)
    assert re.search(r"seed [01] \(.*\): diverged", (record.path / "log.txt").read_text())


def test_score_shown_is_that_of_replicas_that_are_sound(make_bits):
    shown = []

    class Scores(report.Quiet):
        def advanced(self, steps, task, tasks, score):
            shown.append((steps, score))

    planned = make_bits(sweeps=["lr=0.01,1e30"])
    study.execute(planned, Scores())
    assert all(np.isfinite(score) and score < 100 for _, score in shown)
    assert sum(steps for steps, _ in shown) == sum(planned.steps) == 192


def test_group_ends_when_all_have_diverged(make_bits, record_of):
    planned = make_bits(sweeps=["lr=1e30,1e29"])
    study.execute(planned)
    records = [record_of(planned, spec) for spec in planned.specs]
    assert [record.outcome for record in records] == ["diverged", "diverged"]
    assert records[0].status["steps"] < 96


@dataclass(frozen=True, kw_only=True)
class Moody(NetworkMetric):
    """Cannot bear one replica's loss."""

    name: ClassVar[str] = "moody"

    def compute(self, probe):
        value = float(probe.outputs.sum())
        if value == self.hated:
            raise ZeroDivisionError("in a metric")
        return value


def test_fault_in_measuring_one_replica_is_its_own(make_bits, record_of, monkeypatch, tmp_path):
    entry = Registration("metrics", "moody", Moody, "", Distribution("tests", "1"))
    monkeypatch.setitem(plugins().registry._entries["metrics"], "moody", entry)
    request = {"seeds": [0, 1, 2], "metrics": ["moody"]}
    monkeypatch.setattr(Moody, "hated", None, raising=False)
    whole = make_bits(tmp_path / "whole", **request)
    study.execute(whole)
    values = record_of(whole, whole.specs[1]).measurements
    hated = values[(values["metric"] == "moody") & (values["step"] == 36)]["value"].iloc[0]
    monkeypatch.setattr(Moody, "hated", hated)
    planned = make_bits(**request)
    assert study.execute(planned) == []
    records = [record_of(planned, spec) for spec in planned.specs]
    assert [record.outcome for record in records] == ["completed", "failed", "completed"]
    assert records[1].status["error"].endswith("ZeroDivisionError: in a metric")
    assert list(records[1].per_task("online_error")) == [0, 1, 2]
    assert "seed 1 (online_mlp): Traceback" in (records[1].path / "log.txt").read_text()
    for index in (0, 2):
        assert_same(records[index], record_of(whole, whole.specs[index]))


def test_speed_is_compared_among_runs_of_as_many_replicas(make_bits):
    study.execute(make_bits(methods=["none"], seeds=[0, 1]))
    study.execute(make_bits(methods=[CBP], seeds=[0]))
    assert leaderboard(make_bits().results).set_index("method")["speed"].isna()[CBP]
    study.execute(make_bits(methods=["noisy_sgd"], seeds=[0, 1]))
    assert leaderboard(make_bits().results).set_index("method")["speed"]["noisy_sgd"] > 0


def test_fresh_references_of_a_method_that_resets_units_resume_bit_for_bit(make_bits, monkeypatch, tmp_path):
    monkeypatch.setattr(session, "LOOK_S", 0.0)
    monkeypatch.setattr(programs, "BLOCK_STEPS", 5)

    def make(name):
        made = make_bits(tmp_path / name, methods=[CBP], references=True)
        return replace(made, pending=tuple(spec for spec in made.pending if spec.kind == "fresh" and spec.methods))

    assert study.execute(make("whole")) == []
    assert in_parts(lambda: make("parts"), looks=3) >= 3
    (whole,), (parts,) = (find_records(tmp_path / name) for name in ("whole", "parts"))
    assert (whole.outcome, parts.outcome) == ("completed", "completed")
    assert parts.measurements.equals(whole.measurements)
