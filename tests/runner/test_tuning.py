"""Tuning: which configurations an entry has, and that development runs, and they alone, choose one."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from lopbench.api import study_leaderboard
from lopbench.core.errors import InvalidInputError, ResultsError, UsageError
from lopbench.core.spec import ComponentSpec, RunSpec, parse_methods
from lopbench.core.tuning import Tuning
from lopbench.results.leaderboard import board
from lopbench.results.record import find_records, read_record, record_path
from lopbench.runner import groups, study
from lopbench.runner.status import status
from lopbench.runner.tuning import configurations, rates
from lopbench.runner.worker import Stop, work
from lopbench.runner.worklist import Worklist, tidy

ADAM = ComponentSpec.parse("optimizers", "adam:lr=3e-3")
SGD = ComponentSpec.parse("optimizers", "sgd:lr=1e-2")
TUNE = "k=0.2,budget=4,seeds=2"
BITS = "bitflip:samples=400,m=8,f=5,T=100,steps_per_task=100"


# -- configurations


@pytest.mark.parametrize(
    ("base", "found"),
    [
        (3e-3, [3e-3, 1e-3, 1e-2, 3e-4, 3e-2, 1e-4]),
        (1e-3, [1e-3, 3e-4, 3e-3, 1e-4, 1e-2, 3e-5]),
        (2e-3, [2e-3, 6e-4, 6e-3, 2e-4]),
    ],
)
def test_rates_are_half_decades_from_the_middle_outwards(base, found):
    assert rates(base, len(found)) == found


@pytest.mark.parametrize(
    ("methods", "optimizer", "settings", "tuned"),
    [
        ("none", ADAM, 4, 4),  # two betas, two epsilons
        ("none", SGD, 2, 8),
        ("layernorm", ADAM, 4, 4),  # it has nothing to tune of its own
        ("l2", ADAM, 4, 4),
        ("dropout", ADAM, 2, 8),
        ("parseval", ADAM, 3, 6),  # the last rate for one of its settings only
        ("layernorm+l2", ADAM, 4, 4),
        ("dropout+l2", ADAM, 8, 2),
    ],
)
def test_every_entry_has_as_many_configurations(methods, optimizer, settings, tuned):
    found = configurations(Tuning(), parse_methods(methods), optimizer)
    assert len(found) == len({json.dumps(each) for each in found}) == 16
    assert len({each["optimizer.lr"] for each in found}) == tuned
    assert len({json.dumps({**each, "optimizer.lr": 0}) for each in found}) == settings
    assert found[0]["optimizer.lr"] == optimizer.fields["lr"]


def test_what_was_given_is_not_tuned():
    (held,) = parse_methods("l2:strength=0.5")
    found = configurations(Tuning(), (held,), ADAM)
    assert {*found[0]} == {"optimizer.lr", "optimizer.betas", "optimizer.eps"}
    found = configurations(Tuning(), (), ComponentSpec.parse("optimizers", "adam:lr=0.01,eps=1e-5"))
    assert {*found[0]} == {"optimizer.lr", "optimizer.betas"}


def test_a_grid_above_the_budget_is_refused():
    with pytest.raises(UsageError, match=r"the grid of dropout\+l2 has 8 settings, more than the budget of 7 config"):
        configurations(Tuning(budget=7), parse_methods("dropout+l2"), ADAM)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"seeds": [0, 1001]},
            "seed 1001 is a development seed, since seeds 1000-1001 choose configurations. Run on other seeds",
        ),
        (
            {"start": 0.5, "methods": ["l2"]},
            "methods turn on after 50% of the stream, and tuning uses its first 20%, in which they do nothing",
        ),
        ({"sweeps": ["lr=0.1"]}, "--sweep and --tune do not go together"),
        (
            {"methods": ["none", "reset"]},
            "'reset' is the control, which has the optimizer of the reference and nothing",
        ),
        (
            {"methods": ["none", "shrink_and_perturb"], "tune": "k=0.1,budget=16"},
            "'shrink_and_perturb' acts between tasks, and the first 10% of the stream, which tuning uses, is one of",
        ),
        ({"tune": "k=0.2,budget=3"}, "the grid of l2 has 4 settings, more than the budget of 3"),
        (
            {"scenario": "cloning", "profile": "smoke", "architecture": None, "methods": ["none"]},
            "cloning clones the learner before task 2, and the first 20% of the stream, which tuning uses, ends before",
        ),
    ],
)
def test_what_cannot_be_tuned_so_is_one_sentence(make_study, changes, told):
    with pytest.raises((UsageError, InvalidInputError), match=told):
        make_study(**{"methods": ["l2"], "tune": TUNE, **changes})


# -- studies


def plan(results, **changes):
    asked = {"scenario": BITS, "architecture": "online_mlp:width=4", "methods": ["none", "l2"], "seeds": [0, 1]}
    return study.plan(**{**asked, "metrics": [], "tune": TUNE, "device": "cpu", **changes}, results=results)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Return a study that was tuned and done."""
    planned = plan(tmp_path_factory.mktemp("tuned") / "results")
    assert study.execute(planned) == []
    return planned


@pytest.fixture
def tuned(done, tmp_path):
    """Return that study in a folder of its own."""
    shutil.copytree(done.results, tmp_path / "results")
    return replace(done, results=tmp_path / "results")


def test_development_runs_come_first_and_references_depend_on_no_choice(tmp_path):
    planned = plan(tmp_path)
    development = [spec for spec in planned.pending if spec.kind == "development"]
    assert len(development) == 2 * 4 * 2
    assert {spec.seed for spec in development} == {1000, 1001}
    assert {spec.stop for spec in development} == {0.2}
    assert all(spec.metrics == () for spec in development)
    rest = [spec for spec in planned.pending if spec.kind != "development"]
    assert rest == [spec.reference() for spec in planned.specs if not spec.methods]
    assert {*planned.steps[: len(development)]} == {100}  # one task of four
    assert len(planned.following) == 2 * 2 * 2 - 2  # the reference of plain learning is its own
    assert planned.runs == len(planned.pending) + 6
    assert planned.all_steps > sum(planned.steps)


def test_a_study_tunes_and_runs_what_it_chose(tuned):
    again = plan(tuned.results)
    assert (again.pending, again.later) == ((), ())
    assert [(spec.method_label.partition(":")[0], spec.seed) for spec in again.specs] == [
        ("none", 0),
        ("none", 1),
        ("l2", 0),
        ("l2", 1),
    ]
    assert again.specs == tuned.settled().specs
    for spec in again.specs:
        log = spec.tuning
        assert log.steps == 4 * 2 * 100
        values = log.configurations[log.chosen].values
        assert spec.optimizer.fields["lr"] == values["optimizer.lr"]
        means = [each.mean for each in log.configurations]
        assert means[log.chosen] == min(means)  # an error
        for seed, score in zip((1000, 1001), log.configurations[log.chosen].scores, strict=True):
            run = read_record(record_path(again.results, spec.development(0.2, values, seed)))
            assert score == pytest.approx(run.measurements.query("metric == 'online_error'")["value"].mean(), rel=1e-5)
    table = study_leaderboard(again)
    assert {*table["tuning"]} == {TUNE}
    assert {*table["tuning_steps"]} == {800}
    assert table["notes"].str.contains("development runs of it are not here").sum() == 0


def test_configurations_train_as_replicas_where_they_can(tmp_path):
    planned = plan(tmp_path)
    sizes = {spec.method_label: len(group) for group in planned.groups for spec in group if spec.kind == "development"}
    assert sizes["l2:strength=0.01"] == sizes["l2:strength=0.001"] == 4 * 2


def test_another_share_stands_in_another_table_and_shows_how_fragile_tuning_was(tuned):
    assert study.execute(plan(tuned.results, tune=TUNE.replace("0.2", "1"))) == []
    made = board(tuned.results).rows
    assert made["protocol_id"].nunique() == 2
    by_k = {k: rows.set_index("method_id") for k, rows in made.groupby("tuning")}
    first, oracle = by_k[TUNE], by_k[TUNE.replace("0.2", "1")]
    assert oracle["fragility"].isna().all()
    assert first["fragility"].notna().all()
    difference = oracle["retention"] - first["retention"]
    assert first["fragility"].to_dict() == pytest.approx(difference.to_dict(), abs=1e-12)


def test_methods_over_scenarios_are_of_one_kind_of_tuning(tuned):
    other = {"scenario": BITS.replace("bitflip", "slowly_changing_regression"), "methods": ["none", "l2"]}
    assert study.execute(plan(tuned.results, **other)) == []
    assert study.execute(plan(tuned.results, **other, tune=None)) == []
    made = board(tuned.results).overall
    assert {*made["profile"]} == {f"lite+custom, tuned by {TUNE}"}  # of those that are not tuned there is one scenario
    assert {*made["method"]} == {"none", "l2"}  # whatever was chosen in each
    assert (made["scenarios"] == 2).all()


def test_a_choice_is_a_function_of_the_records(done, tuned):
    first, other = (plan(each.results) for each in (done, tuned))
    assert [spec.run_id for spec in first.specs] == [spec.run_id for spec in other.specs]


def test_an_entry_whose_runs_all_diverged_is_left_out_and_told(tmp_path):
    planned = plan(tmp_path, optimizers=["sgd:lr=1e30"])
    refused = study.execute(planned)
    assert {spec.method_label for spec, _ in refused} == {"none", "l2"}
    assert all(
        "each of the 4 configurations diverged or failed on a development seed, so none can be chosen" in reason
        for _, reason in refused
    )
    with pytest.raises(
        ResultsError,
        match="each of the 4 configurations diverged or failed on a development seed, so none can be chosen",
    ):
        plan(tmp_path, optimizers=["sgd:lr=1e30"])
    some = plan(tmp_path, optimizers=["sgd:lr=1e30", "adam:lr=1e-3"], methods=["none"])
    assert [label for label, _ in some.aside] == ["none with sgd:lr=1e+30, tuned by k=0.2,budget=4,seeds=2"]
    assert len(some.specs) == 2


def test_a_list_of_work_leads_several_workers_to_the_same_runs(done, tmp_path):
    planned = plan(tmp_path / "results")
    listed = Worklist.of([planned], data_dir=None)
    path = listed.write(lasts=True)
    assert Worklist.read(path).parts[0].later == planned.later
    tidy(planned.results)
    assert path.exists()  # more is to come
    assert {each.state for each in status(planned.results)} == {"to do"}
    half = [group for group in planned.groups if group[0].kind == "development"]
    groups.work_off([(group, None) for group in half], results=planned.results, device=torch.device("cpu"))
    known = {each.run_id for each in status(planned.results) if each.state == "to do"}
    finals = [spec for entry in planned.later for spec in entry.settle(planned.results)]
    assert {spec.run_id for spec in finals} <= known  # what was chosen is known to all
    assert work(path, slot=1, slots=2, device="cpu", stop=Stop()) == 0
    assert {record.run_id for record in find_records(planned.results)} == {
        record.run_id for record in find_records(done.results)
    }
    tidy(planned.results)
    assert not path.exists()


# -- logs


def edited(results, change):
    """Change the log of all tuned runs of l2, and the names of their directories with it, as a careful forger would."""
    for record in find_records(results):
        if record.spec.tuning is None or not record.spec.methods:
            continue
        value = json.loads((record.path / "spec.json").read_text())
        change(value["tuning"])
        shown = value.pop("shown")
        spec = RunSpec.from_json({**value, "tuning": value["tuning"]}) if value["tuning"]["configurations"] else None
        (record.path / "spec.json").write_text(json.dumps({**value, "shown": shown}))
        if spec is not None:
            record.path.rename(record_path(results, spec))


def test_an_edited_log_is_refused_by_its_hash(tuned):
    run = next(record for record in find_records(tuned.results) if record.spec.tuning is not None)
    text = (run.path / "spec.json").read_text()
    (run.path / "spec.json").write_text(text.replace('"steps": 800', '"steps": 8'))
    with pytest.raises(ResultsError, match="one was changed"):
        read_record(run.path)


def test_an_empty_log_is_refused(tuned):
    edited(tuned.results, lambda log: log["configurations"].clear())
    made = board(tuned.results)
    assert len(made.problems) == 2
    assert "the log of its tuning is empty" in str(made.problems[0])
    assert [*made.rows["method"]] == ["none"]


def test_a_log_that_does_not_follow_from_the_development_runs_is_refused(tuned):
    def flatter(log):
        log["configurations"][log["chosen"]]["scores"] = [0.0, 0.0]

    edited(tuned.results, flatter)
    made = board(tuned.results)
    assert [*made.rows["method"]] == ["none"]
    assert "the log of its tuning has the score 0.0 for optimizer.lr=" in str(made.problems[0])


def test_a_log_whose_development_runs_are_gone_is_told_unchecked(tuned):
    for path in (tuned.results / "runs").glob("*-dev-l2-*"):
        shutil.rmtree(path)
    made = board(tuned.results)
    noted = {row["method"].partition(":")[0]: row["notes"] for _, row in made.rows.iterrows()}
    assert "its tuning log is not checked, since not all of its development runs are here: seeds 0, 1" in noted["l2"]
    assert "development" not in noted["none"]


def test_a_tuned_entry_that_is_run_again_from_its_record_gives_its_numbers(tuned, tmp_path):
    group = [spec for spec in tuned.settled().specs if spec.methods]
    specs = [read_record(record_path(tuned.results, spec)).spec for spec in group]
    groups.work_off([(specs, None)], results=tmp_path / "again", device=torch.device("cpu"))
    for spec in specs:
        first, again = (read_record(record_path(folder, spec)) for folder in (tuned.results, tmp_path / "again"))
        assert first.content_digest == again.content_digest
