import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lopbench.core.spec import RunSpec
from lopbench.results.recipes import Recipe, stands_for_all, without_seed


def text(spec):
    return (json.dumps(spec.recorded(), indent=2, sort_keys=True) + "\n").encode()


def recipe(spec):
    return Recipe(spec.with_seed(0), {key: value for key, value in spec.to_json().items() if key != "seed"})


@pytest.mark.parametrize("seed", [0, 1, 9, 10, 123_456])
def test_a_recipe_gives_the_ids_of_every_seed(results, seed):
    spec = results.spec(results.component("methods", "m", seed=3, at=1e-3), seed=seed, start=0.5)
    made = recipe(results.spec(results.component("methods", "m", seed=3, at=1e-3), seed=7, start=0.5))
    assert made.spec(seed) == spec
    assert made.run_id(seed) == spec.run_id
    assert made.stored_id(seed) == spec.run_id
    assert made.protocol_id == spec.protocol_id
    assert made.entry_id == spec.entry_id
    assert made.plain_entry_id == results.spec(seed=seed).entry_id
    assert made.reference.run_id(seed) == spec.reference().run_id
    assert made.own_reference.run_id(seed) == spec.own_reference().run_id


def test_of_an_older_schema_the_id_in_the_name_is_another(results):
    path = next(Path(__file__).with_name("old_records").glob("*-cbp-*"))
    rest = json.loads((path / "spec.json").read_text())
    seed = rest.pop("seed")
    made = Recipe(RunSpec.from_json({**rest, "seed": 0}), rest)
    assert path.name.endswith(made.stored_id(seed))
    assert made.run_id(seed) == made.spec(seed).run_id != made.stored_id(seed)


def test_a_spec_of_another_seed_does_not_keep_the_id(results):
    spec = results.spec(seed=1)
    assert spec.run_id != spec.with_seed(2).run_id == results.spec(seed=2).run_id


def test_texts_that_differ_in_the_seed_share_what_is_left(results):
    left = {without_seed(text(results.spec(seed=seed)))[0] for seed in range(12)}
    assert len(left) == 1
    assert all(map(stands_for_all, left))
    assert without_seed(text(results.spec(seed=11)))[1] == 11
    assert without_seed(text(results.spec(seed=0, lr=1e-4)))[0] not in left


@pytest.mark.parametrize(
    "data",
    [
        b'{"a": {\n  "seed": 5\n}, "seed": 3}',  # one that is not the seed of the spec
        b'{\n  "seed": 5,\n  "seed": 3\n}',  # the last counts
        b'[\n  "seed": 5\n]',
    ],
)
def test_what_only_looks_like_the_seed_stands_for_nothing(data):
    left, seed = without_seed(data)
    assert seed == 5
    if data.startswith(b"["):
        with pytest.raises(ValueError, match="delimiter"):
            stands_for_all(left)
    else:
        assert not stands_for_all(left)


@pytest.mark.parametrize(
    "data", [b'{"seed": 5}', b'{\n  "seed": 05\n}', b'{\n  "seed": 5.0\n}', b'{\n  "seed": -1\n}', b""]
)
def test_other_forms_are_read_the_long_way(data):
    assert without_seed(data) is None


@given(name=st.text(max_size=20))
def test_no_text_passes_for_the_seed(name):
    value = {"a": name, "seed": 4}
    left, seed = without_seed(json.dumps(value, indent=2, sort_keys=True).encode())
    assert seed == 4
    assert json.loads(left) == {"a": name, "seed": 0}
    assert stands_for_all(left)
