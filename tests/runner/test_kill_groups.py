"""A group of runs that is killed at any moment and started again ends with the numbers of one that was left alone."""

import random
import shutil
import signal

import pytest

from lopbench.results.record import find_records

#: A stream of 5 bins of 20 samples, looked at every 4 steps.
SCENARIO = "bitflip:samples=100,m=8,f=5,T=10,steps_per_task=20,probe_every=4"
LOOKS = 25
#: Replaces units by random utilities and the throw of a dice.
CBP = "cbp:replacement_rate=0.05,maturity=5,utility=random,accumulate=false"
PLAN = {"scenario": SCENARIO, "architecture": None, "metrics": ["dead_fraction"], "seeds": [1, 0]}
#: Two seeds at two rates: four replicas of one program.
PLANS = {
    "cbp": {**PLAN, "methods": [f"{CBP}+noisy_sgd"], "sweeps": ["lr=0.01,0.003"]},
    # The methods turn on inside the third bin; a kill finds the group before and after.
    "from": {**PLAN, "methods": [CBP], "sweeps": ["lr=0.01,0.003"], "start": 0.52},
}
REFERENCES = {**PLANS["from"], "seeds": [0]}
#: A look at every stretch of steps, and a checkpoint at every look, or now and then.
EAGER, CHECKPOINT_S = {"look_s": 0.0}, (0.0, 0.02)


def records_of(results):
    return {record.run_id: record for record in find_records(results)}


def left_over(results):
    """Return what is in a results folder besides the whole records."""
    return [p for p in results.rglob("*") if any(part.startswith(".") for part in p.relative_to(results).parts)]


def assert_whole(results, undisturbed):
    """Check that all records are there once, with the numbers of ``undisturbed``, and nothing else."""
    records = records_of(results)
    assert records.keys() == undisturbed.keys()
    for run_id, record in records.items():
        assert record.outcome == "completed"
        assert record.environment["replicas"] == undisturbed[run_id].environment["replicas"]
        assert record.table.equals(undisturbed[run_id].table)
    assert left_over(results) == []


@pytest.fixture(scope="module")
def undisturbed(server, tmp_path_factory):
    """Return a function that gives the records of a group that nobody disturbed."""
    known = {}

    def get(name, kind="continual"):
        if (name, kind) not in known:
            results = tmp_path_factory.mktemp("undisturbed")
            plan = REFERENCES if kind == "fresh" else PLANS[name]
            assert server.run(results, plan=plan, kind=kind) == 0
            known[name, kind] = records_of(results)
        return known[name, kind]

    return get


@pytest.mark.parametrize("name", list(PLANS))
def test_group_killed_at_random_moments_ends_bit_identical(server, undisturbed, tmp_path, name):
    draws = random.Random(name)
    killed = 0
    for _ in range(4):
        request = {"plan": PLANS[name], "checkpoint_s": draws.choice(CHECKPOINT_S), **EAGER}
        code = server.signal_after(signal.SIGKILL, draws.randint(2, LOOKS // 2), tmp_path, **request)
        assert code in (0, -signal.SIGKILL)
        killed += code != 0
    assert killed >= 2
    assert server.run(tmp_path, plan=PLANS[name], **EAGER) == 0
    assert all(record.status["sessions"] > 1 for record in find_records(tmp_path))
    assert_whole(tmp_path, undisturbed(name))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler on this machine")
def test_group_whose_program_is_compiled_ends_bit_identical(server, tmp_path):
    request = {"plan": {**PLANS["cbp"], "methods": ["none"]}, "compile_steps": 1}
    assert server.run(tmp_path / "left alone", **request) == 0
    for looks in (3, 5, 7):
        code = server.signal_after(signal.SIGKILL, looks, tmp_path / "killed", checkpoint_s=0.0, **request, **EAGER)
        assert code == -signal.SIGKILL
    assert server.run(tmp_path / "killed", **request) == 0
    undisturbed = records_of(tmp_path / "left alone")
    assert_whole(tmp_path / "killed", undisturbed)
    for record in [*undisturbed.values(), *find_records(tmp_path / "killed")]:
        assert record.environment["steps"] == "compiled program"
    assert {record.status["sessions"] for record in find_records(tmp_path / "killed")} == {4}


def test_fresh_references_before_and_after_the_switch_killed_end_bit_identical(server, undisturbed, tmp_path):
    for looks in (10, 40):
        request = {"plan": REFERENCES, "kind": "fresh", "checkpoint_s": 0.0, **EAGER}
        assert server.signal_after(signal.SIGKILL, looks, tmp_path, **request) == -signal.SIGKILL
    assert server.run(tmp_path, plan=REFERENCES, kind="fresh") == 0
    assert_whole(tmp_path, undisturbed("from", "fresh"))


def test_group_stopped_before_and_after_the_switch_resumes_from_there(server, undisturbed, tmp_path):
    # The switch is at step 52, after 13 looks.
    for looks in (12, 2):
        request = {"plan": PLANS["from"], **EAGER}
        assert server.signal_after(signal.SIGINT, looks, tmp_path, **request) == 130
    assert server.run(tmp_path, plan=PLANS["from"]) == 0
    assert_whole(tmp_path, undisturbed("from"))
    (log,) = {(record.path / "log.txt").read_text() for record in find_records(tmp_path)}
    assert log.count(": on\n") == 1
    assert log.count("session") == 3


def test_stopped_group_resumes_whole_when_more_is_asked_for_in_another_order(server, undisturbed, tmp_path):
    more = {**PLANS["cbp"], "seeds": [0, 2, 1], "sweeps": ["lr=0.003,0.01"]}
    assert server.signal_after(signal.SIGINT, 9, tmp_path, plan=PLANS["cbp"], **EAGER) == 130
    assert server.run(tmp_path, plan=more) == 0
    records = records_of(tmp_path)
    assert len(records) == 6
    for run_id, record in undisturbed("cbp").items():
        assert records[run_id].table.equals(record.table)
        assert records[run_id].status["sessions"] == 2
    assert {r.environment["replicas"] for r in records.values() if r.spec.seed == 2} == {2}
    assert left_over(tmp_path) == []


def test_part_of_a_stopped_group_starts_anew_and_the_rest_resumes(server, undisturbed, tmp_path):
    part = {**PLANS["cbp"], "seeds": [1]}
    assert server.signal_after(signal.SIGINT, 9, tmp_path, plan=PLANS["cbp"], **EAGER) == 130
    assert server.run(tmp_path, plan=part) == 0
    assert {(r.spec.seed, r.status["sessions"]) for r in find_records(tmp_path)} == {(1, 1)}
    assert server.run(tmp_path, plan=PLANS["cbp"]) == 0
    records, whole = records_of(tmp_path), undisturbed("cbp")
    assert records.keys() == whole.keys()
    for run_id, record in records.items():
        assert record.status["sessions"] == (1 if record.spec.seed == 1 else 2)
        if record.spec.seed == 0:
            assert record.table.equals(whole[run_id].table)
    assert left_over(tmp_path) == []


def test_two_processes_at_overlapping_groups_train_each_run_once(server, undisturbed, tmp_path):
    other_plan = {**PLANS["cbp"], "seeds": [0, 2]}
    one, pulse_one = server.start(tmp_path, plan=PLANS["cbp"], **EAGER)
    with pulse_one:
        assert pulse_one.read(1)  # it has begun, so it holds its runs
        other, pulse_other = server.start(tmp_path, plan=other_plan, **EAGER)
        with pulse_other:
            pulse_one.readall()
            assert len(pulse_other.readall()) == LOOKS
    assert [server.wait(one), server.wait(other)] == [0, 0]
    records = records_of(tmp_path)
    assert sorted((r.spec.seed, r.environment["replicas"]) for r in records.values()) == [
        (seed, 2 if seed == 2 else 4) for seed in (0, 0, 1, 1, 2, 2)
    ]
    for run_id, record in undisturbed("cbp").items():
        assert records[run_id].table.equals(record.table)
    assert left_over(tmp_path) == []
