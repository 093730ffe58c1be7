"""Methods that turn on in the middle of a stream."""

from dataclasses import replace

import pytest

from lopbench.core.errors import UsageError
from lopbench.core.windows import before_window, late_window, reference_tasks, scored_tasks
from lopbench.results.leaderboard import leaderboard
from lopbench.results.score import retention
from lopbench.runner import study

#: 8 bins of 12 samples.
BITS = {
    "scenario": "bitflip:samples=96,m=8,f=5,T=12,steps_per_task=12,probe_every=6",
    "architecture": None,
    "metrics": ["weight_norm"],
}
#: 6 tasks of 8 steps.
IMAGES = {
    "scenario": "tinyimagenet40:tasks=6,steps_per_task=8,classes_per_task=2,images_per_class=20,resolution=8,"
    "batch_size=16,probe_every=2",
    "metrics": ["weight_norm"],
}
CBP = "cbp:maturity=2,replacement_rate=0.2"


@pytest.fixture
def measured(make_study, record_of):
    """Return a function that gives the measurements of one run of a method, as rows without a number."""

    def do(scenario, method, start=0.0):
        planned = make_study(**scenario, methods=[method], start=start)
        assert study.execute(replace(planned, pending=planned.specs)) == []
        return record_of(planned, planned.specs[0]).measurements

    return do


@pytest.mark.parametrize(
    ("scenario", "method", "start", "last"),
    [
        (BITS, CBP, 0.5, 48),
        (BITS, CBP, 0.55, 52),  # inside a task, and between two probes
        (BITS, "noisy_sgd+l2:strength=0.1", 0.55, 52),
        (IMAGES, "l2:strength=0.1", 0.5, 24),
        (IMAGES, "l2:strength=0.1", 0.55, 26),
        (IMAGES, CBP, 0.55, 26),
        # Acts first at the next boundary, step 32.
        (IMAGES, "shrink_and_perturb", 0.5, 31),
        (IMAGES, "shrink_and_perturb", 0.55, 31),
    ],
)
def test_run_is_bit_identical_to_none_up_to_the_switch_and_not_after(measured, scenario, method, start, last):
    none, late = measured(scenario, "none"), measured(scenario, method, start)
    reports = late["metric"].str.contains(".", regex=False)  # what a method tells of itself
    assert (late[reports]["step"] >= last).all()
    late = late[~reports].reset_index(drop=True)
    assert none.drop(columns="value").equals(late.drop(columns="value"))
    same = none["value"] == late["value"]
    assert same[none["step"] <= last].all()
    probes = none["metric"] == "weight_norm"
    assert not same[probes & (none["step"] > last + 6)].any()


def test_method_turned_on_late_is_another_run_than_one_that_always_acted(measured):
    assert not measured(BITS, CBP, 0.5).equals(measured(BITS, CBP))


@pytest.mark.parametrize(("scenario", "method"), [(BITS, CBP), (IMAGES, "shrink_and_perturb")])
def test_method_that_would_turn_on_at_the_end_never_does(measured, scenario, method):
    assert measured(scenario, method, 1.0).equals(measured(scenario, "none"))


def test_start_at_zero_is_no_start(make_study):
    late, plain = make_study(methods=["l2"], start=0.0).specs[0], make_study(methods=["l2"]).specs[0]
    assert late.run_id == plain.run_id
    assert late.to_json()["start"] == 0.0
    assert make_study(methods=["l2"], start=0.5).specs[0].run_id != plain.run_id


def test_start_concerns_methods_alone(make_study):
    none, l2 = make_study(methods=["none", "l2"], start=0.5).specs
    assert none == make_study(methods=["none"]).specs[0]
    assert (l2.start, l2.method_label) == (0.5, "l2 from 0.5")
    assert none.protocol_id == l2.protocol_id


def test_references_cover_both_windows_and_the_leaderboard_has_both_columns(make_study, record_of):
    request = {**BITS, "scenario": "bitflip:samples=640,m=8,f=5,T=40,steps_per_task=40", "metrics": []}
    planned = make_study(**request, methods=["none", CBP], start=0.5)
    assert study.execute(planned) == []
    none, late = planned.specs
    before, after = before_window(16, 0.5), late_window(16)
    fresh = record_of(planned, late.reference()).per_task("online_error")
    chance = record_of(planned, late.reference()).per_task("chance")
    assert list(fresh) == reference_tasks(16, 0.5) == [0, 3, 4, 5, 6, 7, 9, *after]
    assert {*before, *after} <= fresh.keys()
    # The method's own reference is plain where the method is not on yet.
    own = record_of(planned, late.own_reference()).per_task("online_error")
    assert list(own) == scored_tasks(16, 0.5) == [*before, *after] == [*range(3, 8), *range(11, 16)]
    assert [own[task] for task in before] == [fresh[task] for task in before]
    assert [own[task] for task in after] != [fresh[task] for task in after]
    rows = leaderboard(planned.results).set_index("method")
    plain = record_of(planned, none).per_task("online_error")
    row = rows.loc[late.method_label]

    def expected(errors, tasks):
        return retention(*([each[t] for t in tasks] for each in (errors, fresh, chance)), "error")

    assert row["retention_before"] == expected(plain, before)
    ran = record_of(planned, late).per_task("online_error")
    assert row["retention"] == expected(ran, after)
    assert rows["retention_before"].isna()["none"]
    # The same tasks have the same reference, whoever asks.
    plain_fresh = record_of(planned, none.reference()).per_task("online_error")
    assert [plain_fresh[task] for task in after] == [fresh[task] for task in after]


@pytest.mark.parametrize("method", ["layernorm", "dropout", "l2+layernorm"])
def test_method_that_is_built_into_the_network_cannot_turn_on_later(make_study, method):
    with pytest.raises(UsageError, match=r"is built into the network and cannot turn on .*leave out --from"):
        make_study(methods=["none", method], start=0.5)
    make_study(methods=["none", method])


@pytest.mark.parametrize("start", [-0.1, 1.0001, float("nan"), float("inf")])
@pytest.mark.parametrize("method", ["none", "l2"])
def test_start_outside_the_stream_is_refused(make_study, method, start):
    with pytest.raises(UsageError, match=rf"in \[0, 1\], got {start}"):
        make_study(methods=[method], start=start)


def test_a_schedule_over_the_stream_does_not_begin_anew_in_a_fresh_network(make_study, record_of):
    # Noise in the first step of the stream alone: networks that are born later have none.
    planned = make_study(**IMAGES, methods=["none", "noisy_sgd:decay=0"], optimizers=["adam:lr=2e-3"])
    assert study.execute(planned) == []
    none, noisy = planned.specs
    plain, own = (record_of(planned, spec.own_reference()).per_task("online_accuracy") for spec in (none, noisy))
    assert plain == own
    learners = [record_of(planned, spec).per_task("online_loss") for spec in (none, noisy)]
    assert learners[0][0] != learners[1][0]
