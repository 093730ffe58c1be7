import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lopbench.core.errors import ResultsError
from lopbench.core.spec import SCHEMA_VERSION, ComponentSpec, RunSpec
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
    assert [problem(name, value) for value in files(name)] == [None] * len(files(name))


def test_measurements_are_valid_row_by_row(results):
    path = results.add(results.spec(), {0: 0.5, 1: float("nan")}, status="diverged", diverged_at=3)
    for row in read_record(path).table.to_pylist():
        assert problem("measurement", row) is None
    assert problem("measurement", {**row, "step": 0.5}) == "step must be integer, got 0.5"


@pytest.mark.parametrize("name", SCHEMAS)
def test_schemas_say_their_version_and_explain_every_field(name):
    value = schema(name)
    assert f"schema version {SCHEMA_VERSION}" in value["title"]
    assert value["$schema"] == "http://json-schema.org/draft-07/schema#"
    assert value["type"] == "object"
    if name != "spec":
        unexplained = [key for key, part in value["properties"].items() if "description" not in part]
        assert set(unexplained) <= {"status", "device", "cpu_count", "cuda", "threads", "platform"}


def test_spec_schema_has_the_fields_of_a_spec(results):
    spec = results.spec(results.component("methods", "m", track="replay"), start=0.5)
    assert set(schema("spec")["properties"]) == set(spec.to_json())
    assert problem("spec", spec.to_json()) is None


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


SPEC = files("spec")[0]


@settings(deadline=None)
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
        assert spec.to_json() == {key: part for key, part in changed.items() if key != "start" or part}
        assert spec.protocol_id.startswith(f"{spec.scenario.name}@")
        assert isinstance(spec.method_label, str)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": -1}, "seed must be bigger than or equal to 0, got -1"),
        ({"seed": True}, "seed must be integer, got True"),
        ({"core": None}, "core must be string, got None"),
        ({"later": 1}, "later is not known to this lopbench"),
        ({"data": {"name": "x"}}, "data cannot be validated"),
    ],
)
def test_what_is_wrong_is_named(change, said):
    assert problem("spec", {**SPEC, **change}).startswith(said)


def test_what_is_missing_is_named():
    assert problem("spec", {key: part for key, part in SPEC.items() if key != "seed"}) == "seed is missing"


def test_an_old_record_reads_as_ever():
    # Version 1 from before there were later starts and replicas.
    (record,) = find_records(OLD)
    assert "start" not in record.spec_json
    assert "replicas" not in record.environment
    assert record.spec.to_json() == record.spec_json
    assert record.run_id == record.spec.run_id == "ee0d0b1b10f7ed9d"
    assert record.protocol_id == "tinyimagenet40@1+3d418025b49a"
    assert (record.spec.start, record.spec.method_label, record.spec.seed) == (0.0, "cbp", 3)
    assert len(record.per_task("online_accuracy")) == 40
    (row,) = leaderboard(OLD).to_dict("records")
    assert row["inputs_digest"] == "fae7cd5606c76b5b5089ba5a87e90ae6c4c1234d875a1bd8b21ce7e047fbdde3"
    assert row["lifetime_online"] == pytest.approx(0.8940989433913934, rel=1e-12)
