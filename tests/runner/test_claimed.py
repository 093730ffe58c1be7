"""Which entries of a study a claim means, and what is said of one that it has not."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from lopbench.core.errors import UsageError
from lopbench.results.claims import EntryName
from lopbench.results.per_seed import Quantity
from lopbench.runner.claimed import check_measured, meant, of_study
from lopbench.runner.references import with_references
from lopbench.runner.study import plan_all


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    first = {"scenario": "bitflip", "methods": ["none", "cbp"], "seeds": (0, 1), "metrics": ["dead_fraction"]}
    second = {"scenario": "bitflip", "methods": ["none", "l2"], "seeds": (0,), "sweeps": ["lr=0.1,0.01"]}
    return [*plan_all([first, second], results=tmp_path_factory.mktemp("results"), device="cpu")]


@pytest.fixture(scope="module")
def tables(studies):
    return [study.specs for study in studies]


def test_a_name_that_is_clear_means_the_runs_of_one_entry(tables):
    found = meant(EntryName("cbp"), tables, "claim 1")
    assert list(found.seeds) == [0, 1]
    assert found.specs[0].methods[0].name == "cbp"
    rate = meant(EntryName("l2:strength=1e-4", "sgd:lr=0.1"), tables, "claim 1")
    assert rate.specs[0].optimizer.fields["lr"] == 0.1
    same = (meant(name, tables, "claim 1") for name in (EntryName("none", runs=1), EntryName("none", "sgd:lr=0.01", 2)))
    assert len({(each.specs[0].protocol_id, each.specs[0].entry_id) for each in same}) == 1


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (EntryName("cpb"), "claim 1: Unknown method 'cpb'. Did you mean "),
        (EntryName("dropout"), "no run of the study has the method 'dropout'. Its methods: none, cbp, l2."),
        (
            EntryName("l2", "sgd:lr=0.2"),
            "no run of the study has the optimizer 'sgd:lr=0.2'. Did you mean 'sgd:lr=0.1'",
        ),
        (EntryName("none", "sgd:rate=1"), "claim 1: "),
        (EntryName("l2"), "l2 with sgd:lr=0.1 of runs 2, l2 with sgd:lr=0.01 of runs 2; add optimizer to its name."),
        (EntryName("none", runs=3), "an entry has runs = 3, and the study has 2 tables of runs."),
    ],
)
def test_a_name_that_means_no_entry_or_several_is_told(tables, name, told):
    with pytest.raises(UsageError) as raised:
        meant(name, tables, "study.toml, claim 1")
    assert told in str(raised.value)


def test_a_metric_has_to_be_measured(tables):
    runs = [meant(EntryName("cbp"), tables, "claim 1")]
    for name in ("dead_fraction", "online_error", "online_loss", "cbp.replaced", "base_online_error"):
        check_measured(Quantity(name, "late"), runs, "claim 1")
    check_measured(Quantity("retention"), runs, "claim 1")
    with pytest.raises(
        UsageError, match=r"claim 1: no run of cbp measures 'dead_fractoin'. Did you mean 'dead_fraction'"
    ):
        check_measured(Quantity("dead_fractoin", "late"), runs, "claim 1")
    with pytest.raises(UsageError, match="measures 'online_accuracy'"):
        check_measured(Quantity("online_accuracy", "late"), runs, "claim 1")


def test_what_is_wanted_are_the_runs_and_their_references(studies, tables):
    ids = {run.run_id for table in tables for run in with_references(table)}
    spec = studies[0].specs[0]
    assert {spec.run_id, spec.reference().run_id, spec.own_reference().run_id} <= ids
    assert {run.run_id for study in studies for run in study.pending} == ids


def test_the_record_with_the_metrics_of_the_study_stands_for_a_run_that_was_measured_twice(tables):
    def record(spec):
        recipe = SimpleNamespace(entry_id=spec.entry_id)
        return SimpleNamespace(
            spec=spec, protocol_id=spec.protocol_id, recipe=recipe, seed=spec.seed, run_id=spec.run_id
        )

    asked = [spec for spec in tables[0] if spec.seed == 0 and spec.kind == "continual"]
    right, other = map(record, asked), [record(replace(spec, metrics=())) for spec in asked]
    assert len(asked) == 2
    assert of_study(other, tables[:1]) == other  # which diagnostics it has does not matter
    first = next(right)
    assert of_study([*other, first], tables[:1]) == [other[1], first]
