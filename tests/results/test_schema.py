import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lopbench.core.errors import ResultsError
from lopbench.core.spec import SCHEMA_VERSION, ComponentSpec, RunSpec, digest
from lopbench.results.leaderboard import leaderboard
from lopbench.results.record import find_records, read_record
from lopbench.results.schema import SCHEMAS, problem, schema

ROOT = Path(__file__).parents[2]
OLD = Path(__file__).with_name("old_records")


def files(name):
    """Return that file of a few published records."""
    paths = sorted((ROOT / "results").glob("*/runs.lopbench"))
    assert paths
    return [json.loads(record.stored.read(f"{name}.json")) for record in find_records(*paths)[::20]]


@pytest.mark.parametrize("name", ["spec", "status", "environment"])
def test_published_records_are_valid(name):
    for value in files(name):
        assert problem("spec-1" if name == "spec" and value["schema_version"] == 1 else name, value) is None


def test_specs_of_one_schema_are_not_valid_in_the_other(results):
    (old,) = (json.loads(path.read_text()) for path in OLD.glob("*-cbp-*/spec.json"))
    new = results.spec().to_json()
    assert problem("spec-1", old) is problem("spec", new) is None
    assert problem("spec", old) is not None
    assert problem("spec-1", new) is not None


def test_measurements_are_valid_row_by_row(results):
    path = results.add(results.spec(), {0: 0.5, 1: float("nan")}, status="diverged", diverged_at=3)
    for row in read_record(path).table.to_pylist():
        assert problem("measurement", row) is None
    assert problem("measurement", {**row, "step": 0.5}) == "step must be integer, got 0.5"


@pytest.mark.parametrize("name", [*SCHEMAS, "spec-1"])
def test_schemas_say_their_version_and_explain_every_field(name):
    value = schema(name)
    assert f"schema version {1 if name == 'spec-1' else SCHEMA_VERSION}" in value["title"]
    assert value["$schema"] == "http://json-schema.org/draft-07/schema#"
    assert value["type"] == "object"
    if name not in ("spec", "spec-1"):
        unexplained = [key for key, part in value["properties"].items() if "description" not in part]
        assert set(unexplained) <= {"status", "device", "cpu_count", "cuda", "threads", "platform"}


def test_spec_schema_has_the_fields_of_a_spec(results):
    spec = results.spec(results.component("methods", "m", track="replay"), start=0.5)
    of_tuning = {"stop", "tuning"}  # which only runs have that belong to one
    assert set(schema("spec")["properties"]) == set(spec.recorded()) | of_tuning
    assert not of_tuning & set(spec.recorded())
    assert set(schema("spec")["required"]) == set(spec.to_json())
    assert problem("spec", spec.recorded()) is problem("spec", spec.to_json()) is None


@pytest.mark.parametrize("text", ["sgd:lr=0.1,momentum=0.9,nesterov=true", "rmsprop:lr=0.001", "muon:lr=0.02"])
def test_a_record_of_a_later_optimizer_is_read(results, text):
    spec = replace(results.spec(), optimizer=ComponentSpec.parse("optimizers", text))
    assert problem("spec", spec.to_json()) is None
    assert RunSpec.from_json(spec.to_json()) == spec


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def places(value, prefix=()):
    """Yield the ways to everything in a JSON value."""
    yield prefix
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from places(part, (*prefix, key))


SPEC = RunSpec.from_json(files("spec")[0]).recorded()


@given(place=st.sampled_from([place for place in places(SPEC) if place]), value=JSON)
def test_a_spec_that_is_valid_can_be_read_and_written_again(place, value):
    changed = copy.deepcopy(SPEC)
    part = changed
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    if problem("spec", changed) is None:
        try:
            spec = RunSpec.from_json(changed)
        except ResultsError:  # right in form, but out of range, such as a negative learning rate
            return
        assert spec.recorded() == changed
        assert spec.protocol_id.startswith(f"{spec.scenario.name}@")
        assert isinstance(spec.method_label, str)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": -1}, "seed must be bigger than or equal to 0, got -1"),
        ({"seed": True}, "seed must be integer, got True"),
        ({"numbers": None}, "numbers must be integer, got None"),
        ({"later": 1}, "later is not known to this lopbench"),
        ({"data": {"name": "x"}}, "data cannot be validated"),
        ({"shown": None}, "shown must be object, got None"),
        ({"shown": SPEC["shown"] | {"headline": "both"}}, "shown.headline must be one of"),
        ({"shown": SPEC["shown"] | {"control": 1}}, "shown.control must be boolean, got 1"),
        ({"shown": SPEC["shown"] | {"colour": "red"}}, "shown.colour is not known to this lopbench"),
    ],
)
def test_what_is_wrong_is_named(change, said):
    assert problem("spec", {**SPEC, **change}).startswith(said)


def test_what_is_wrong_with_the_whole_is_a_sentence():
    assert problem("entry", []) == "the whole must be object, got []"
    assert problem("tuning", None) == "the whole must be array, got None"


def test_what_is_missing_is_named():
    assert problem("spec", {key: part for key, part in SPEC.items() if key != "seed"}) == "seed is missing"


def test_an_old_record_is_read():
    # Version 1 from before there were later starts and replicas.
    record, reference = find_records(OLD)
    assert "start" not in record.spec_json
    assert "replicas" not in record.environment
    assert record.path.name.endswith("-ee0d0b1b10f7ed9d")
    assert digest(record.spec_json, 16) == "ee0d0b1b10f7ed9d"
    assert problem("spec", record.spec.to_json()) is None
    assert record.run_id == record.spec.run_id == "07af30ad51927832"
    assert record.protocol_id == "tinyimagenet40@1+08b8e1b334eb"  # its score is computed as today
    assert record.spec.numbers == 1
    assert (record.spec.start, record.spec.method_label, record.spec.seed) == (0.0, "cbp", 3)
    assert len(record.per_task("online_accuracy")) == 40
    (row,) = leaderboard(OLD).to_dict("records")
    assert reference.run_id == record.spec.reference().run_id
    assert row["retention"] == pytest.approx(1.1647877299593257, rel=1e-12)
    assert row["inputs_digest"] == "2791e506e68404f7648c9f06c92489ca0bc5859a9c827803eefb071b2c6605df"
    assert row["lifetime_online"] == pytest.approx(0.8940989433913934, rel=1e-12)


def test_a_changed_old_record_is_damaged(tmp_path):
    (path,) = OLD.glob("*-cbp-*")
    changed = tmp_path / path.name
    shutil.copytree(path, changed)
    text = (changed / "spec.json").read_text()
    (changed / "spec.json").write_text(text.replace('"seed": 3', '"seed": 4'))
    with pytest.raises(ResultsError, match="which the directory's name does not end in"):
        read_record(changed)


def test_published_records_keep_their_names_and_find_their_references():
    for path in (ROOT / "results").glob("*/runs.lopbench"):
        records = {record.run_id: record for record in find_records(path)}
        for record in records.values():
            value = json.loads(record.stored.read("spec.json"))
            value.pop("shown", None)  # what tables show, since schema 2, is no part of what is hashed
            assert record.path.name.endswith(digest(value, 16))
            if record.spec.kind != "development":  # which are compared by their online score
                assert record.spec.reference().run_id in records
