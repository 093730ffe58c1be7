"""A run that is killed at any moment and started again ends with the numbers of one that was left alone."""

import random
import signal

import pytest

from lopbench.results.record import find_records
from lopbench.runner.checkpoint import load_checkpoint

KILLS = 10
STEPS = {"continual": 6 * 20, "fresh": 5 * 20}
#: Replaces a unit of each layer about every three steps, by random utilities and the throw of a dice.
CBP = "cbp:replacement_rate=0.02,maturity=10,utility=random,accumulate=false"
#: A look at every step, so that the parent knows where the run is.
EAGER = {"look_s": 0.0}
#: Seconds between checkpoints: one at every look, or now and then, so that a kill finds steps that were not saved.
CHECKPOINT_S = (0.0, 0.02)


def only_record(results):
    (record,) = find_records(results)
    return record


def left_over(results):
    """Return what is in a results folder besides the whole records."""
    return [
        path for path in results.rglob("*") if any(part.startswith(".") for part in path.relative_to(results).parts)
    ]


@pytest.fixture(scope="module")
def undisturbed(server, tmp_path_factory):
    """Return a function that gives the record of a run that nobody disturbed."""
    known = {}

    def get(**request):
        key = tuple(sorted(request.items()))
        if key not in known:
            results = tmp_path_factory.mktemp("undisturbed")
            assert server.run(results, **request) == 0
            known[key] = only_record(results)
        return known[key]

    return get


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        ("none", "continual"),
        (CBP, "continual"),
        ("dropout+noisy_sgd", "continual"),
        ("reset", "continual"),
        ("none", "fresh"),
    ],
)
def test_run_killed_at_ten_random_moments_ends_bit_identical(server, undisturbed, tmp_path, method, kind):
    draws = random.Random(f"{method} {kind}")
    killed = 0
    # Each session gets a tenth of the run on the way, plus what its predecessor had not saved.
    for _ in range(KILLS):
        looks = draws.randint(1, STEPS[kind] // 8)
        request = {"method": method, "kind": kind, "checkpoint_s": draws.choice(CHECKPOINT_S), **EAGER}
        code = server.signal_after(signal.SIGKILL, looks, tmp_path, **request)
        assert code in (0, -signal.SIGKILL)
        killed += code != 0
    assert killed >= KILLS // 2
    assert server.run(tmp_path, method=method, kind=kind, **EAGER) == 0
    record, whole = only_record(tmp_path), undisturbed(method=method, kind=kind)
    assert record.outcome == "completed"
    assert record.status["sessions"] > 1
    assert record.table.equals(whole.table)
    assert record.measurements_digest == whole.measurements_digest
    assert left_over(tmp_path) == []


def test_replacements_happen_where_runs_are_killed(undisturbed):
    assert undisturbed(method=CBP, kind="continual").table != undisturbed(method="none", kind="continual").table


def test_interrupted_run_saves_its_last_step_and_resumes_from_it(server, undisturbed, tmp_path):
    request = {"method": CBP, "kind": "continual", "look_s": 0.0}
    # No checkpoint falls due in between: the ones there are, are those that the interrupts made.
    assert server.signal_after(signal.SIGINT, 30, tmp_path, **request) == 130
    done = load_checkpoint(next(tmp_path.rglob("checkpoint-*.safetensors"))).steps
    assert done >= 30
    assert server.signal_after(signal.SIGINT, 30, tmp_path, **request) == 130
    assert server.run(tmp_path, **request) == 0
    record = only_record(tmp_path)
    assert record.status["sessions"] == 3
    log = (record.path / "log.txt").read_text()
    assert f"session 2 starts at task {done // 20} of 6, step {done % 20}\n" in log
    assert record.table.equals(undisturbed(method=CBP, kind="continual").table)
    assert left_over(tmp_path) == []


def test_two_processes_at_the_same_run_train_it_once(server, undisturbed, tmp_path):
    request = {"method": "none", "kind": "continual", "look_s": 0.0}
    one, pulse_one = server.start(tmp_path, **request)
    with pulse_one:
        assert pulse_one.read(1)  # it has begun, so it holds the run
        other, pulse_other = server.start(tmp_path, **request)
        with pulse_other:
            steps = 1 + len(pulse_one.readall())
            assert pulse_other.readall() == b""
    assert [server.wait(one), server.wait(other)] == [0, 0]
    assert steps == STEPS["continual"]
    assert only_record(tmp_path).table.equals(undisturbed(method="none", kind="continual").table)
    assert only_record(tmp_path).status["sessions"] == 1
    assert left_over(tmp_path) == []


def test_four_processes_share_the_runs_of_a_study(server, tmp_path):
    seeds, looks = 12, 6  # a look at the end of each task
    plan = {"seeds": [*range(seeds)], "metrics": []}
    options = {"look_s": 3600.0, "wait_s": 0.05}
    started = [server.start(tmp_path, plan=plan, **options) for _ in range(4)]
    seen = []
    for _, pulse in started:
        with pulse:
            seen.append(len(pulse.readall()))
    assert [server.wait(child) for child, _ in started] == [0] * 4
    assert sum(seen) == seeds * looks  # no run was trained twice
    assert min(seen) > 0
    records = find_records(tmp_path)
    assert sorted(record.spec.seed for record in records) == plan["seeds"]
    assert {record.status["sessions"] for record in records} == {1}
    assert left_over(tmp_path) == []
