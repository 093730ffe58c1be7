"""What one run comes to, against plain code on random numbers."""

import math
import random
from dataclasses import replace
from itertools import pairwise

import pytest

from lopbench.core.windows import before_window, late_window, reference_tasks, scored_tasks
from lopbench.results.leaderboard import leaderboard
from lopbench.results.record import find_records
from lopbench.results.seed_scores import AXES, NO_REFERENCE, References, seed_scores
from lopbench.results.tasks import Floors

TASKS = 20


def above(values, chance, tasks, score):
    """Return what is above chance, in sum."""
    return sum(values[t] - chance if score == "accuracy" else max(chance - values[t], 0) for t in tasks)


def weighted(weights, values):
    return sum(weight * value for weight, value in zip(weights, values, strict=True))


def slope(learner, fresh, chance, score):
    """Return the trend: the slope of S/F with both moment conditions, by solving for it."""
    tasks = [t for t in sorted(fresh) if (t + 0.5) / TASKS >= 0.2]
    x = [(t + 0.5) / TASKS for t in tasks]
    ends = [0.2, *((a + b) / 2 for a, b in pairwise(x)), 1.0]
    w = [b - a for a, b in pairwise(ends)]
    s, f = ([above(each, chance, [t], score) for t in tasks] for each in (learner, fresh))
    # sum w (S - F (a + b x)) = 0 and sum w x (S - F (a + b x)) = 0
    ws, wxs = (weighted(w, [y * z**power for y, z in zip(s, x, strict=True)]) for power in (0, 1))
    wf, wxf, wxxf = (weighted(w, [y * z**power for y, z in zip(f, x, strict=True)]) for power in (0, 1, 2))
    return (wxs * wf - ws * wxf) / (wxxf * wf - wxf**2) / 10


@pytest.fixture
def drawn(results):
    """Return a function that writes a run with its references, and what was written."""

    def write(score, seed, start=0.0, outcome="completed", stop=TASKS):
        rng = random.Random(f"{score} {seed}")
        low, high, chance = (0.5, 0.9, 0.2) if score == "accuracy" else (0.1, 1.2, 1.0)
        spec = results.spec(
            results.component("methods", "m", track="boundary-free"),
            seed=seed,
            start=start,
            scenario=results.component("scenarios", f"toy-{score}", tasks=TASKS, steps_per_task=10, profile="lite"),
        )
        kinds = [
            (spec, range(stop)),
            (spec.reference(), reference_tasks(TASKS, start)),
            (spec.own_reference(), scored_tasks(TASKS, start)),
        ]
        made = []
        for each, tasks in kinds:
            online, heldout = ({t: rng.uniform(low, high) for t in tasks} for _ in range(2))
            status = outcome if each is spec else "completed"
            results.add(each, online, heldout, score=score, chance=chance, status=status)
            made.append({"online": online, "heldout": heldout})
        return *made, chance

    return write


def scores_of(root):
    records = find_records(root)
    (run,) = (record for record in records if record.spec.kind == "continual")
    return seed_scores(run, References(records), Floors(records))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("start", [0.0, 0.5])
@pytest.mark.parametrize("score", ["accuracy", "error"])
def test_all_of_it_is_what_plain_code_makes_of_it(drawn, results, score, seed, start):
    learner, fresh, own, chance = drawn(score, seed, start)
    found = scores_of(results.root)
    late, before = late_window(TASKS), before_window(TASKS, start)
    for axis, where in AXES.items():
        base = above(fresh[where], chance, late, score)
        assert found.retentions[axis] == pytest.approx(above(learner[where], chance, late, score) / base)
        best = (1 - chance if score == "accuracy" else chance) * len(late)
        assert found.ceilings[axis] == pytest.approx(best / base)
    s, f, o = (each["online"] for each in (learner, fresh, own))
    assert found.fresh == pytest.approx(above(o, chance, late, score) / above(f, chance, late, score))
    assert found.self_retention == pytest.approx(above(s, chance, late, score) / above(o, chance, late, score))
    assert found.retentions["trainability"] == pytest.approx(found.fresh * found.self_retention)
    assert found.trend == pytest.approx(slope(s, f, chance, score))
    if start:
        expected = above(s, chance, before, score) / above(f, chance, before, score)
        assert found.retention_before == pytest.approx(expected)
    else:
        assert math.isnan(found.retention_before)
    assert math.isnan(found.wide)
    assert found.note is None
    assert len(found.used) == 3


@pytest.mark.parametrize("outcome", ["diverged", "failed"])
@pytest.mark.parametrize("score", ["accuracy", "error"])
def test_what_a_stopped_run_did_not_finish_is_at_chance(drawn, results, score, outcome):
    learner, fresh, _, chance = drawn(score, 0, outcome=outcome, stop=TASKS - 2)
    found = scores_of(results.root)
    late = late_window(TASKS)
    for axis, where in AXES.items():
        done = above(learner[where], chance, late[:-2], score)
        assert found.retentions[axis] == pytest.approx(done / above(fresh[where], chance, late, score))
    s = learner["online"] | dict.fromkeys(range(TASKS - 2, TASKS), chance)
    assert found.trend == pytest.approx(slope(s, fresh["online"], chance, score))


def test_the_late_tasks_are_as_many_as_the_protocol_says(results):
    spec = results.spec()
    spec = replace(spec, scenario=replace(spec.scenario, fields={**spec.scenario.fields, "late": 9}))
    results.add(spec, {task: 0.9 if task == 0 else 0.3 if task < 5 else 0.5 for task in range(10)})
    results.add(spec.reference(), dict.fromkeys(range(10), 0.8))
    wanted = (4 * 0.1 + 5 * 0.3) / (9 * 0.6)  # above a chance of 0.2
    assert scores_of(results.root).retentions["trainability"] == pytest.approx(wanted)


def test_references_of_the_late_tasks_alone_give_no_trend(results):
    spec = results.spec()
    results.add(spec, 0.6)
    results.add(spec.reference(), 0.8)
    assert math.isnan(scores_of(results.root).trend)
    (row,) = leaderboard(results.root).to_dict("records")
    assert row["trend_word"] == ""


def test_a_trend_that_all_seeds_show_is_named(results):
    for seed in range(3):
        spec = results.spec(seed=seed)
        results.add(spec, {task: 0.8 - 0.03 * task - 0.001 * seed for task in range(10)})
        results.add(spec.reference(), dict.fromkeys(range(10), 0.8))
    (row,) = leaderboard(results.root).to_dict("records")
    assert row["trend"] == pytest.approx(-0.03 / 0.6)
    assert row["trend_low"] < row["trend"] < row["trend_high"] < 0
    assert row["trend_word"] == "losing"


def test_a_learner_that_is_the_fresh_network_has_no_trend_at_all(results):
    values = {task: 0.3 + 0.1 * math.sin(task) for task in range(10)}
    for seed in range(3):
        results.add(results.spec(seed=seed), values)
        results.add(results.spec(seed=seed).reference(), values)
    (row,) = leaderboard(results.root).to_dict("records")
    assert (row["trend"], row["trend_low"], row["trend_high"], row["trend_word"]) == (0.0, 0.0, 0.0, "level")


# -- clones


@pytest.fixture
def clone(results):
    """Return a function that writes a run whose clone is born at task 3, and the wide network beside it."""

    def write(clone, base, wide=None, outcome="completed", **changes):
        spec = replace(results.spec(**changes), cloner=results.component("cloners", "twice"))
        metrics = {"base_online_accuracy": base, "base_heldout_accuracy": base}
        results.add(spec, clone, clone, status=outcome, whole=metrics)
        if wide is not None:
            results.add(spec.reference(), wide)
        return spec

    return write


def test_a_clone_is_measured_against_its_base_and_beside_it_a_network_as_wide(clone, results):
    late = late_window(10)
    clone(dict.fromkeys(range(10), 0.7), dict.fromkeys(range(3, 10), 0.6), dict.fromkeys(late, 0.8))
    found = scores_of(results.root)
    assert found.retentions["trainability"] == pytest.approx(0.5 / 0.4)
    assert found.retentions["generalisation"] == pytest.approx(0.5 / 0.4)
    assert found.wide == pytest.approx(0.5 / 0.6)
    assert found.ceilings["trainability"] == pytest.approx(0.8 / 0.4)
    assert found.trend == pytest.approx(0.0, abs=1e-12)
    assert math.isnan(found.fresh)
    assert math.isnan(found.self_retention)
    (row,) = leaderboard(results.root).to_dict("records")
    assert (row["reference"], row["unpaired"]) == ("base", 0)


def test_a_clone_needs_no_other_run(clone, results):
    clone(dict.fromkeys(range(10), 0.7), dict.fromkeys(range(4, 10), 0.6))
    found = scores_of(results.root)
    assert found.retentions["trainability"] == pytest.approx(0.5 / 0.4)
    assert (found.note, len(found.used)) == (None, 1)
    assert math.isnan(found.wide)


def test_a_clone_that_diverged_and_its_base_with_it_counts_at_chance(clone, results):
    clone(dict.fromkeys(range(6), 0.7), dict.fromkeys(range(4, 6), 0.6), outcome="diverged")
    found = scores_of(results.root)
    assert found.retentions["trainability"] == 0.0
    assert found.note is None
    (row,) = leaderboard(results.root).to_dict("records")
    assert (row["retention"], row["collapsed"], row["notes"]) == (0.0, 1, "diverged: seed 0")


def test_without_a_reference_the_reason_is_told(results):
    results.add(results.spec(), 0.6)
    found = scores_of(results.root)
    assert math.isnan(found.retentions["trainability"])
    assert found.note == NO_REFERENCE
