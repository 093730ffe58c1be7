"""Studies: what a request expands to, and what the runs that belong together share."""

import math

import pytest

from lopbench.core.errors import InvalidInputError, UsageError
from lopbench.core.spec import ComponentSpec
from lopbench.core.windows import reference_tasks
from lopbench.results.leaderboard import leaderboard
from lopbench.results.record import record_path
from lopbench.runner import study

SCENARIO = "tinyimagenet40:tasks=6,steps_per_task=8,classes_per_task=2,images_per_class=20,resolution=8,batch_size=16"
#: The reference's own learning rate.
REFERENCE = "adam:lr=3e-3"


def kinds(specs):
    return [(spec.optimizer.fields["lr"], spec.seed, spec.method_label, spec.kind) for spec in specs]


# -- data


@pytest.mark.parametrize("scenario", ["cartpole", "bitflip", "slowly_changing_regression"])
@pytest.mark.parametrize("data", ["procedural", "mnist", "unheard-of"])
def test_data_for_a_scenario_that_makes_its_own_are_refused(tmp_path, scenario, data):
    told = f"The scenario {scenario} makes its samples itself, and data is '{data}'; leave data out"
    with pytest.raises(UsageError, match=f"^{told}$"):
        study.plan(scenario=scenario, methods=["none"], data=data, device="cpu", results=tmp_path)
    assert study.plan(scenario=scenario, methods=["none"], data="auto", device="cpu", results=tmp_path).images is None


# -- expansion


def test_request_expands_by_optimizer_then_seed_then_method(make_study):
    planned = make_study(methods=["none", "l2"], seeds=[3, 1], optimizers=["adam:lr=3e-3", "sgd:lr=1e-2"])
    assert kinds(planned.specs) == [
        (lr, seed, method, "continual") for lr in (3e-3, 1e-2) for seed in (3, 1) for method in ("none", "l2")
    ]


def test_the_control_has_the_optimizer_of_the_reference_and_is_there_once(make_study):
    planned = make_study(methods=["none", "reset"], optimizers=["adam:lr=1e-3"], sweeps=["lr=1e-3,1e-4"], seeds=[0, 1])
    assert kinds(planned.specs) == [
        *((rate, seed, method, "continual") for seed in (0, 1) for rate, method in ((1e-3, "none"), (3e-3, "reset"))),
        *((1e-4, seed, "none", "continual") for seed in (0, 1)),
    ]
    assert not any(spec.kind == "fresh" and "reset" in spec.method_label for spec in planned.pending)


@pytest.mark.parametrize(
    "changes", [{"methods": ["reset+l2"]}, {"methods": ["l2+reset"]}, {"methods": ["none", "reset"], "start": 0.5}]
)
def test_the_control_stands_alone(make_study, changes):
    with pytest.raises(UsageError, match=r"'reset' is the control, .* without other methods and without --from"):
        make_study(**changes)


def test_references_follow_their_run_and_are_shared_by_methods_and_learning_rates(make_study):
    planned = make_study(methods=["none", "l2"], optimizers=["adam:lr=1e-3", None])
    assert kinds(planned.pending) == [
        (1e-3, 0, "none", "continual"),
        (3e-3, 0, "none", "fresh"),  # the reference of all four
        (1e-3, 0, "none", "fresh"),
        (1e-3, 0, "l2", "continual"),
        (1e-3, 0, "l2", "fresh"),
        # "none" at the reference's learning rate is its own reference
        (3e-3, 0, "none", "continual"),
        (3e-3, 0, "l2", "continual"),
        (3e-3, 0, "l2", "fresh"),
    ]
    # The reference covers all six tasks, and fresh networks of other recipes the late ones.
    reference = planned.specs[0].reference()
    covered = {spec.run_id: 5 if spec.kind == "fresh" and spec != reference else 6 for spec in planned.pending}
    assert planned.steps == tuple(20 * covered[spec.run_id] for spec in planned.pending)
    assert planned.finished == 0


def test_reference_depends_on_neither_method_nor_optimizer_nor_metrics(make_study):
    one = make_study(methods=["cbp:maturity=7+layernorm"], optimizers=["sgd:lr=0.1"], metrics=["dead_fraction"])
    other = make_study(methods=["none"])
    assert one.specs[0].reference() == other.specs[0].reference()
    reference = one.specs[0].reference()
    assert (reference.kind, reference.methods, reference.metrics) == ("fresh", (), ())
    assert reference.optimizer == ComponentSpec.parse("optimizers", REFERENCE)
    assert one.specs[0].reference().run_id != make_study(seeds=[1]).specs[0].reference().run_id


def test_requests_that_mean_the_same_collapse(make_study):
    planned = make_study(
        methods=["l2", "l2:strength=0.0001", "none", "none"],
        seeds=[0, 1, 0],
        optimizers=[None, "adam:lr=3e-3", "adam:lr=0.003"],
    )
    assert [(spec.method_label, spec.seed) for spec in planned.specs] == [
        ("l2", 0),
        ("none", 0),
        ("l2", 1),
        ("none", 1),
    ]
    assert len({spec.run_id for spec in planned.pending}) == len(planned.pending)


@pytest.mark.parametrize(
    ("architecture", "rate"),
    [
        ("vit:width=12,depth=2,heads=2,patch=4", 3e-4),
        ("timm:test_vit", 3e-4),
        ("timm:resnet10t", 3e-3),
        ("resnet18", 3e-3),
    ],
)
def test_transformers_are_trained_by_the_recipe_for_them(architecture, rate):
    (spec,) = study.Request(scenario=SCENARIO, architecture=architecture).asked().specs(None)
    assert (spec.optimizer.fields["lr"], spec.reference_optimizer.fields["lr"]) == (rate, rate)


def test_finished_runs_are_skipped_and_counted(make_study):
    first = make_study(scenario=SCENARIO)
    study.execute(first)
    planned = make_study(scenario=SCENARIO, methods=["none", "l2"])
    assert planned.finished == 2
    assert kinds(planned.pending) == [(3e-3, 0, "l2", "continual"), (3e-3, 0, "l2", "fresh")]


def test_planning_writes_nothing(make_study):
    planned = make_study()
    assert planned.scenario.tasks == 6
    assert not planned.results.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scenario": "tinyimagnet40"}, r"Unknown scenario 'tinyimagnet40'\. Did you mean 'tinyimagenet40'"),
        ({"scenario": "tinyimagenet40:task=4"}, r"no field 'task'\. Did you mean 'tasks'"),
        ({"profile": "light"}, r"no profile 'light'\. Did you mean 'lite'"),
        ({"methods": ["layernrom"]}, r"Unknown method 'layernrom'\. Did you mean 'layernorm'\?"),
        ({"methods": ["none", "l2:strenght=1"]}, r"no field 'strenght'\. Did you mean 'strength'"),
        ({"methods": ["l2:strength=much"]}, "strength=much is not a number"),
        ({"methods": ["none+l2"]}, "'none' is no method and composes with nothing"),
        ({"architecture": "mpl"}, r"Unknown architecture 'mpl'\. Did you mean 'mlp'\?"),
        ({"metrics": ["dead_fractoin"]}, r"Unknown metric 'dead_fractoin'\. Did you mean 'dead_fraction'"),
        ({"optimizers": ["adm:lr=1"]}, r"Unknown optimizer 'adm'\. Did you mean"),
        ({"seeds": [0, -3, -1]}, "seeds are whole numbers from 0 to 9,223,372,036,854,775,807, got -3"),
        ({"methods": []}, "give at least one method, one seed and one optimizer"),
        ({"seeds": []}, "give at least one method, one seed and one optimizer"),
        ({"scenario": "tinyimagenet40:tasks=1"}, "tinyimagenet40 has 1 task: nothing comes before it .*at least 2"),
        ({"scenario": "bitflip:samples=100,T=100,steps_per_task=100"}, "bitflip has 1 task: "),
        ({"scenario": "tinyimagenet40:tasks=1000001"}, "tinyimagenet40 has 1,000,001 tasks; a stream has at most"),
        ({"optimizers": []}, "give at least one method, one seed and one optimizer"),
        ({"seeds": range(10**12)}, "a study has at most 10,000 seeds"),
        ({"seeds": [10**5] * 2 + [2**63]}, "seeds are whole numbers from 0 to 9,223,372,036,854,775,807, got "),
        ({"methods": ["+".join(["shrink_and_perturb"] * 20)]}, r"would be called .* compose fewer methods, or give"),
        ({"device": "gpu"}, "device 'gpu' cannot be used: .*; try --device cpu"),
        ({"device": "cuda:99"}, "device 'cuda:99' cannot be used: .*; try --device cpu"),
    ],
)
def test_wrong_request_is_a_usage_error_that_says_what_was_meant(make_study, changes, message):
    with pytest.raises(UsageError, match=message):
        make_study(**changes)


def test_value_out_of_range_is_refused_before_anything_runs(make_study):
    with pytest.raises(InvalidInputError, match="replacement_rate must be at least 0 and at most 1"):
        make_study(methods=["none", "cbp:replacement_rate=2"])
    with pytest.raises(InvalidInputError, match=r"adam: lr must be above 0, got -1.0"):
        make_study(optimizers=["adam:lr=-1"])


# -- what the numbers of real runs must satisfy


@pytest.fixture
def finished(make_study, record_of):
    """Return a function that does a study and gives its runs' records by method."""

    def do(methods, **changes):
        planned = make_study(scenario=SCENARIO, methods=methods, **changes)
        assert study.execute(planned) == []
        return planned, {spec.method_label: record_of(planned, spec) for spec in planned.specs}

    return do


@pytest.mark.parametrize("tasks", [2, 5, 12])
def test_reset_is_the_fresh_reference_whatever_the_optimizer(make_study, record_of, tasks):
    planned = make_study(
        scenario=SCENARIO.replace("tasks=6", f"tasks={tasks}"),
        methods=["reset"],
        optimizers=["sgd:lr=0.05,momentum=0.9", "adam:lr=1e-4"],
        metrics=[],
    )
    assert study.execute(planned) == []
    (spec,) = planned.specs
    assert spec.own_reference() == spec.reference()
    reset, fresh = record_of(planned, spec), record_of(planned, spec.reference())
    for metric in ("online_accuracy", "heldout_accuracy"):
        expected = fresh.per_task(metric)
        assert list(expected) == reference_tasks(tasks)
        assert {task: value for task, value in reset.per_task(metric).items() if task in expected} == expected
    (row,) = leaderboard(planned.results).to_dict("records")
    columns = ["retention", "trainability", "generalisation", "self_retention", "fresh_retention"]
    assert [row[column] for column in columns] == [1.0] * len(columns)
    assert row["optimizer"] == spec.reference_optimizer.label()


@pytest.mark.parametrize("kind", ["continual", "fresh"])
def test_strength_zero_is_bit_identical_to_no_method(finished, record_of, kind):
    zero = ["cbp:replacement_rate=0", "noisy_sgd:scale=0", "dropout:p=0", "l2:strength=0"]
    planned, _ = finished(["none", *zero])
    specs = planned.specs if kind == "continual" else [spec.own_reference() for spec in planned.specs]
    none, *others = [record_of(planned, spec).measurements for spec in specs]
    assert len(others) == len(zero)
    for spec, other in zip(specs[1:], others, strict=True):
        assert len(other) > 0
        same = none[none["task"].isin(other["task"])].reset_index(drop=True)  # the reference covers more tasks
        assert same.equals(other), spec.method_label


def test_methods_that_act_change_the_numbers_and_seeds_do_too(finished):
    acting = ["cbp:replacement_rate=0.1,maturity=2", "noisy_sgd", "dropout", "l2:strength=0.1"]
    _, records = finished(["none", *acting])
    _, other = finished(["none"], seeds=[1])
    tables = [record.table for record in (*records.values(), *other.values())]
    assert all(not a.equals(b) for i, a in enumerate(tables) for b in tables[:i])


def test_studies_of_one_folder_are_done_together_and_tidied_up_after_once(make_study, monkeypatch):
    tidied = []
    monkeypatch.setattr(study, "clear", tidied.append)
    first, second = make_study(methods=["none"], metrics=[]), make_study(methods=["l2"], metrics=[])
    assert study.execute_all([first, second]) == []
    assert tidied == [first.results]
    assert not make_study(methods=["none", "l2"], metrics=[]).pending
    assert study.execute_all([make_study(methods=[each], metrics=[]) for each in ("none", "l2")]) == []
    assert tidied == [first.results] * 2


def test_same_request_gives_the_same_numbers(make_study, tmp_path, record_of):
    planned = [make_study(tmp_path / name, scenario=SCENARIO, methods=["dropout+cbp"]) for name in ("a", "b")]
    for one in planned:
        study.execute(one)
    first, second = (record_of(one, one.specs[0]) for one in planned)
    assert first.measurements_digest == second.measurements_digest


def test_every_task_is_measured_at_its_start_and_end(finished):
    _, records = finished(["none"])
    frame = records["none"].measurements
    assert frame["value"].notna().all()
    online = frame[frame["metric"] == "online_accuracy"]
    assert list(online["step"]) == [8 * (task + 1) for task in range(6)]
    dead = frame[frame["metric"] == "dead_fraction"].groupby("layer")
    assert len(dead) == 2
    for _, rows in dead:
        assert list(zip(rows["task"], rows["step"], strict=True)) == [
            (t, 8 * t + at) for t in range(6) for at in (0, 8)
        ]


def test_probes_inside_a_task_change_no_other_number(finished, make_study, record_of, tmp_path):
    _, records = finished(["dropout"])
    planned = make_study(tmp_path / "more", scenario=f"{SCENARIO},probe_every=3", methods=["dropout"])
    study.execute(planned)
    more = record_of(planned, planned.specs[0])
    plain = records["dropout"].measurements
    frame = more.measurements
    inside = frame["step"] % 8 % 3 == 0
    assert set(frame["step"] % 8) == {0, 3, 6}
    assert frame[frame["step"] % 8 == 0].reset_index(drop=True).equals(plain)
    assert inside.all()
    assert all(math.isfinite(value) for value in frame["value"])


def test_run_directories_stand_where_their_specs_say(finished):
    planned, records = finished(["none"])
    assert records["none"].path == record_path(planned.results, planned.specs[0])
    assert sorted(path.name for path in (planned.results / "runs").iterdir()) == sorted(
        spec.directory_name for spec in planned.pending
    )
