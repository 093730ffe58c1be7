import hashlib
import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lopbench.core import spec
from lopbench.core.errors import InvalidInputError, ResultsError, UsageError
from lopbench.core.interfaces import Architecture, LayerMetric, Optimizer, Perturbation, Scenario
from lopbench.core.manager import plugins
from lopbench.core.registry import Distribution, Registration, Registry
from lopbench.core.spec import ComponentSpec, RunSpec


@dataclass(frozen=True, kw_only=True)
class Decay(Perturbation):
    name: ClassVar[str] = "decay"
    strength: float = 1e-3
    steps: int = 5
    on: bool = False
    mode: Literal["soft", "hard"] = "soft"
    every: int | None = None
    sizes: tuple[int, ...] = (1, 2)

    def __post_init__(self):
        if self.strength < 0:
            raise InvalidInputError(f"decay: strength must be at least 0, got {self.strength}")


@dataclass(frozen=True, kw_only=True)
class Boundary(Perturbation):
    name: ClassVar[str] = "boundary"

    def on_task_start(self, learner, state): ...


@dataclass(frozen=True, kw_only=True)
class Zoo(Architecture):
    name: ClassVar[str] = "zoo"
    positional: ClassVar[str | None] = "model"
    model: str
    width: int = 8

    def build(self, input_shape, outputs, *, generator): ...


@dataclass(frozen=True, kw_only=True)
class Count(LayerMetric):
    name: ClassVar[str] = "count"

    def compute(self, probe):
        return 0.0


@dataclass(frozen=True, kw_only=True)
class Toy(Scenario):
    name: ClassVar[str] = "toy"
    default_profile: ClassVar[str] = "lite"
    default_architecture: ClassVar[str] = "zoo"
    profiles: ClassVar = {"lite": {"tasks": 10}, "full": {"tasks": 100}}
    profile: str = "lite"
    tasks: int = 10
    steps_per_task: int = 5
    data: ClassVar = None

    def stream(self, seed, *, data, device): ...

    def recipe(self, architecture): ...


@pytest.fixture(scope="module")
def registry():
    made = Registry()
    for kind, cls in (
        ("methods", Decay),
        ("methods", Boundary),
        ("architectures", Zoo),
        ("metrics", Count),
        ("scenarios", Toy),
    ):
        made.add(Registration(kind, cls.name, cls, "", Distribution("here", "1.0")))
    return made


def method(registry, text="decay"):
    return ComponentSpec.parse("methods", text, registry)


# -- the texts of the command line


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", ("a", {})),
        ("a:x=1", ("a", {"x": "1"})),
        (" a : x = 1 , y=b ", ("a", {"x": "1", "y": "b"})),
        ("a:x=1,", ("a", {"x": "1"})),
        ("a:x=b=c", ("a", {"x": "b=c"})),
    ],
)
def test_a_component_text_splits_into_name_and_fields(text, expected):
    assert spec.split(text) == expected


@pytest.mark.parametrize("text", ["", ":", ":x=1", "a:", "a: ", "a:x", "a:x=", "a:=1", "a:x=1,x=2", "a:x=1,y"])
def test_a_malformed_component_text_is_a_usage_error(text):
    with pytest.raises(UsageError):
        spec.split(text)


@pytest.mark.parametrize("text", ["cbp,redo", "none,cbp", "cbp,none", "cbp,no such", "cbp,redo:x=1", "redo+cbp,redo"])
def test_several_components_in_one_text_are_refused_and_none_is_left_out(text):
    with pytest.raises(UsageError, match="is not one component: commas separate fields"):
        spec.parse_methods(text)


def test_a_first_value_without_field_goes_to_the_positional_one():
    assert spec.split("zoo:lion,width=3", "model") == ("zoo", {"model": "lion", "width": "3"})
    with pytest.raises(UsageError, match="'lion' has no value"):
        spec.split("zoo:width=3,lion", "model")


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("strength=1e-4", "strength", 1e-4),
        ("strength=2", "strength", 2.0),
        ("steps=1e3", "steps", 1000),
        ("steps=-2", "steps", -2),
        ("on=true", "on", True),
        ("on=No", "on", False),
        ("mode=hard", "mode", "hard"),
        ("every=none", "every", None),
        ("every=3", "every", 3),
        ("sizes=3/4/5", "sizes", [3, 4, 5]),
        ("sizes=7", "sizes", [7]),
    ],
)
def test_values_take_the_type_of_their_field(registry, text, field, value):
    found = method(registry, f"decay:{text}").fields[field]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("strength=much", "strength=much is not a number"),
        ("strength=nan", "strength=nan is not a finite number"),
        ("strength=inf", "strength=inf is not a finite number"),
        ("steps=1.5", "steps=1.5 is not a whole number"),
        ("steps=inf", "steps=inf is not a whole number"),
        ("on=perhaps", "on=perhaps is not true or false"),
        ("mode=medium", "mode=medium is not one of soft, hard"),
        ("every=often", "every=often is not a whole number or none"),
        ("sizes=1/x", "sizes=1/x is not a whole number"),
        ("strenght=1", "decay has no field 'strenght'. Did you mean 'strength'"),
    ],
)
def test_a_wrong_field_or_value_says_what_was_meant(registry, text, expected):
    with pytest.raises(UsageError) as caught:
        method(registry, f"decay:{text}")
    assert expected in str(caught.value)


def test_a_value_out_of_range_is_the_components_own_error(registry):
    with pytest.raises(InvalidInputError, match="at least 0, got -1"):
        method(registry, "decay:strength=-1")


def test_a_missing_required_field_is_named(registry):
    with pytest.raises(UsageError, match="zoo needs model, as in zoo:model="):
        ComponentSpec.parse("architectures", "zoo", registry)


@given(
    strength=st.floats(0, allow_infinity=False),
    steps=st.integers(-(2**40), 2**40),
    on=st.booleans(),
    mode=st.sampled_from(["soft", "hard"]),
    every=st.none() | st.integers(-5, 2**40),
    sizes=st.lists(st.integers(0, 99), min_size=1, max_size=4),
)
def test_a_label_means_its_spec(registry, strength, steps, on, mode, every, sizes):
    made = Decay(strength=strength, steps=steps, on=on, mode=mode, every=every, sizes=tuple(sizes))
    expected = ComponentSpec.of("methods", made, registry)
    assert method(registry, expected.label(registry)) == expected
    assert expected.build(registry) == made


def test_labels_leave_defaults_out_and_lead_with_the_positional_field(registry):
    assert method(registry, "decay:strength=1e-3,steps=6").label(registry) == "decay:steps=6"
    zoo = ComponentSpec.parse("architectures", "zoo:lion,width=3", registry)
    assert zoo.label(registry) == "zoo:lion,width=3"


def test_a_spec_survives_json_and_reads_without_its_plugin(registry):
    made = method(registry, "decay:sizes=3/4,every=7")
    back = ComponentSpec.from_json("methods", json.loads(spec.canonical_json(made.to_json())))
    assert back == made
    assert back.label(registry) == made.label(registry) == "decay:every=7,sizes=3/4"
    assert back.label(Registry()) == "decay:every=7,mode=soft,on=false,sizes=3/4,steps=5,strength=0.001"


def test_the_track_is_recorded(registry):
    assert method(registry).track == "boundary-free"
    assert method(registry, "boundary").to_json()["track"] == "boundary-aware"
    assert "track" not in ComponentSpec.parse("metrics", "count", registry).to_json()


@pytest.mark.parametrize(
    ("text", "strengths"),
    [
        ("none", []),
        ("decay", [1e-3]),
        ("decay:strength=2+boundary", [2.0, None]),
        ("boundary+decay:strength=1e+1", [None, 10.0]),
        ("decay:strength=1E+1+decay:strength=3", [10.0, 3.0]),
        (" decay + boundary ", [1e-3, None]),
    ],
)
def test_methods_compose_left_to_right(registry, text, strengths):
    assert [m.fields.get("strength") for m in spec.parse_methods(text, registry)] == strengths


@pytest.mark.parametrize("text", ["", "+", "decay+", "none+decay", "decay+none", "decay++boundary", "nothing"])
def test_a_composition_of_nothing_is_a_usage_error(registry, text):
    with pytest.raises(UsageError):
        spec.parse_methods(text, registry)


# -- scenarios


def test_a_profile_gives_the_fields_and_arguments_change_them(registry):
    assert spec.parse_scenario("toy", registry=registry).fields["tasks"] == 10
    assert spec.parse_scenario("toy", "full", registry).fields["tasks"] == 100
    changed = spec.parse_scenario("toy:tasks=7", "full", registry)
    assert (changed.fields["tasks"], changed.fields["profile"]) == (7, "full+custom")


def test_arguments_that_change_nothing_are_the_profile_itself(registry):
    assert spec.parse_scenario("toy:tasks=100", "full", registry) == spec.parse_scenario("toy", "full", registry)


def test_wrong_profiles_say_which_there_are(registry):
    with pytest.raises(UsageError, match=r"toy has no profile 'ful'. Did you mean 'full'\? Its profiles: lite, full"):
        spec.parse_scenario("toy", "ful", registry)
    with pytest.raises(UsageError, match="--profile full"):
        spec.parse_scenario("toy:profile=full", registry=registry)


# -- optimizers


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("sgd:lr=0.1", "sgd:lr=0.1"),
        ("sgd:lr=0.1,momentum=0.9", "sgd:lr=0.1,momentum=0.9"),
        ("adam:lr=1e-3,betas=0.9/0.999", "adam:lr=0.001"),
        ("adamw:lr=1e-3,betas=0.8/0.9,weight_decay=1e-2", "adamw:lr=0.001,betas=0.8/0.9,weight_decay=0.01"),
    ],
)
def test_an_optimizer_has_a_shortest_text_and_survives_json(text, label):
    made = ComponentSpec.parse("optimizers", text)
    assert made.label() == label
    assert ComponentSpec.parse("optimizers", label) == made
    assert ComponentSpec.from_json("optimizers", json.loads(spec.canonical_json(made.to_json()))) == made


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("adm:lr=1", "Unknown optimizer 'adm'. Did you mean 'adam'"),
        ("adam", "adam needs lr, as in adam:lr=1e-3"),
        ("adamw", "adamw needs lr, as in adamw:lr=1e-3"),
        ("adam:lr=fast", "not a number"),
        ("adam:lr=nan", "finite"),
        ("adam:lr=1,momentum=0.9", "adam has no field 'momentum'"),
        ("sgd:lr=1,betas=0.9/0.9", "sgd has no field 'betas'"),
    ],
)
def test_a_wrong_optimizer_is_a_usage_error(text, expected):
    with pytest.raises(UsageError, match=expected):
        ComponentSpec.parse("optimizers", text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("adam:lr=0", "lr must be above 0, got 0.0"),
        ("adam:lr=-1", "lr must be above 0, got -1.0"),
        ("sgd:lr=1,momentum=1", "momentum must be at least 0 and below 1"),
        ("adam:lr=1,betas=0.9", "betas must be a tuple of 2"),
        ("adam:lr=1,betas=0.9/1", "betas must be at least 0 and below 1 each"),
        ("adam:lr=1,eps=-1", "eps must be at least 0"),
        ("adam:lr=1,weight_decay=-1", "weight_decay must be at least 0"),
    ],
)
def test_an_optimizer_out_of_range_is_refused(text, expected):
    with pytest.raises(InvalidInputError, match=expected):
        ComponentSpec.parse("optimizers", text)


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("sgd:lr=0.1", {"lr": 0.1, "momentum": 0.0, "weight_decay": 0.0}),
        ("adam:lr=1e-3", {"lr": 0.001, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.0}),
        ("adamw:lr=1e-3,eps=1e-6", {"lr": 0.001, "betas": [0.9, 0.999], "eps": 1e-6, "weight_decay": 0.0}),
    ],
)
def test_the_optimizers_of_the_first_schema_are_those_of_today(text, fields):
    made = ComponentSpec.parse("optimizers", text)
    old = {"name": text.partition(":")[0], "fields": fields}
    assert made.to_json() == {**old, "version": 1, "origin": "lopbench"}
    assert ComponentSpec.from_json("optimizers", old) == made


def test_a_field_that_came_later_is_in_the_json_only_where_it_is_set():
    plain, nesterov = (
        ComponentSpec.parse("optimizers", f"sgd:lr=0.1,momentum=0.9,nesterov={value}") for value in ("false", "true")
    )
    assert plain == ComponentSpec.parse("optimizers", "sgd:lr=0.1,momentum=0.9")
    assert nesterov.to_json()["fields"] == {**plain.to_json()["fields"], "nesterov": True}
    assert nesterov.label() == "sgd:lr=0.1,momentum=0.9,nesterov=true"


@dataclass(frozen=True, kw_only=True)
class Theirs(Optimizer):
    name = "theirs"

    def update(self, gradient, entries, parameter, lr):
        raise NotImplementedError


@pytest.mark.parametrize(
    ("distribution", "origin"),
    [
        (Distribution("lopbench", "3"), "lopbench"),
        (Distribution("lopbench", "3", mutable=True), "lopbench"),  # number locks tell code from code
        (Distribution("lopbench-theirs", "3"), "lopbench-theirs"),
        (Distribution("lopbench-theirs", "3", mutable=True), "lopbench-theirs 3+{hash}"),
        (Distribution("unpublished", "mine.py", mutable=True), "unpublished mine.py+{hash}"),
    ],
)
def test_an_origin_is_a_distribution_with_the_hash_of_code_that_nothing_else_names(distribution, origin):
    registry = Registry()
    registry.add(Registration("optimizers", "theirs", Theirs, "", distribution))
    value = ComponentSpec.parse("optimizers", "theirs:lr=1", registry).to_json()
    content = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    assert value == {"name": "theirs", "version": 1, "origin": origin.format(hash=content), "fields": {"lr": 1.0}}


@pytest.mark.parametrize(
    ("recorded", "today"),
    [
        ("lopbench 0.1.0", "lopbench"),
        ("lopbench 0.1.0+0123456789ab", "lopbench"),
        ("lopbench-theirs 3", "lopbench-theirs"),
        ("lopbench-theirs 3+0123456789ab", "lopbench-theirs 3+0123456789ab"),
        ("unpublished mine.py+0123456789ab", "unpublished mine.py+0123456789ab"),
        ("lopbench", "lopbench"),
    ],
)
def test_origins_of_the_first_schema_are_read_as_those_of_today(recorded, today):
    value = {"name": "m", "version": 2, "origin": recorded, "fields": {}, "track": "replay"}
    assert ComponentSpec.from_json("methods", value).to_json() == {**value, "origin": today}


def test_an_optimizer_of_a_record_is_read_without_plugins(monkeypatch):
    monkeypatch.setattr(spec, "plugins", None)
    value = {"name": "adam", "version": 1, "origin": "lopbench", "fields": {"lr": 0.001, "betas": [0.9, 0.999]}}
    assert ComponentSpec.from_json("optimizers", value).to_json() == value


# -- runs


@pytest.fixture
def run(registry):
    return RunSpec(
        scenario=spec.parse_scenario("toy", registry=registry),
        architecture=ComponentSpec.parse("architectures", "zoo:lion", registry),
        optimizer=ComponentSpec.parse("optimizers", "sgd:lr=0.1"),
        reference_optimizer=ComponentSpec.parse("optimizers", "sgd:lr=0.01"),
        methods=(method(registry),),
        seed=0,
        metrics=(ComponentSpec.parse("metrics", "count", registry),),
        data={"name": "squares", "content_hash": "ab"},
    )


def test_canonical_json_has_one_text_and_no_nan():
    assert spec.canonical_json({"b": 1, "a": [1.5, None, "é"]}) == '{"a":[1.5,null,"\\u00e9"],"b":1}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        spec.canonical_json(float("nan"))


def test_a_run_survives_json_with_its_id(run):
    back = RunSpec.from_json(json.loads(spec.canonical_json(run.to_json())))
    assert back == run
    assert back.run_id == run.run_id
    assert len(run.run_id) == 16
    assert run.run_id is run.run_id  # hashed once: a study of hundreds of runs asks for it thousands of times


@pytest.mark.parametrize("part", ["seed", "kind", "metrics"])
def test_seed_kind_and_diagnostics_change_the_run_and_neither_protocol_nor_entry(run, part):
    other = replace(run, **{part: {"seed": 1, "kind": "fresh", "metrics": ()}[part]})
    assert other.run_id != run.run_id
    assert (other.protocol_id, other.entry_id) == (run.protocol_id, run.entry_id)


@pytest.mark.parametrize("part", ["methods", "start", "optimizer"])
def test_the_answer_changes_run_and_entry_and_not_the_protocol(run, part):
    answers = {"methods": (), "start": 0.5, "optimizer": ComponentSpec.parse("optimizers", "sgd:lr=0.2")}
    other = replace(run, **{part: answers[part]})
    assert other.run_id != run.run_id
    assert other.entry_id != run.entry_id
    assert other.protocol_id == run.protocol_id


def another_question(part, registry):
    """Return another value of a part of the protocol."""
    questions = {
        "scenario": spec.parse_scenario("toy", "full", registry),
        "architecture": ComponentSpec.parse("architectures", "zoo:lion,width=9", registry),
        "reference_optimizer": ComponentSpec.parse("optimizers", "sgd:lr=0.2"),
        "cloner": ComponentSpec("cloners", "twice", 1, "lopbench", {}),
        "data": {"name": "squares", "content_hash": "cd"},
        "numbers": spec.NUMBERS + 1,
        "numerics": spec.Numerics(dtype="float64"),
    }
    return questions[part]


@pytest.mark.parametrize(
    "part", ["scenario", "architecture", "reference_optimizer", "cloner", "data", "numbers", "numerics"]
)
def test_the_question_changes_run_and_protocol_and_not_the_entry(run, part, registry):
    other = replace(run, **{part: another_question(part, registry)})
    assert other.run_id != run.run_id
    assert other.protocol_id != run.protocol_id
    assert other.entry_id == run.entry_id


def test_another_score_is_another_protocol_of_the_same_run(run, monkeypatch):
    protocol_id, run_id = run.protocol_id, run.run_id
    monkeypatch.setattr(spec, "SCORE", spec.SCORE + 1)
    other = replace(run)
    assert other.protocol_id != protocol_id
    assert other.run_id == run_id


def test_every_part_of_a_run_is_question_or_answer_or_named_as_neither(run):
    neither = {"schema_version", "kind", "seed", "metrics"}
    assert {*run.protocol(), *run.entry(), *neither} == {*run.to_json(), "score"}
    assert not run.protocol().keys() & run.entry().keys()


def test_the_origin_of_a_component_changes_the_run(run):
    other = replace(run, methods=(replace(run.methods[0], origin="here 1.1"),))
    assert other.run_id != run.run_id


def test_the_protocol_id_reads_as_scenario_and_version(run):
    assert run.protocol_id.startswith("toy@1+")


def test_the_fresh_reference_is_shared_by_methods_and_learning_rates(run):
    reference = run.reference()
    assert (reference.kind, reference.methods, reference.optimizer) == ("fresh", (), run.reference_optimizer)
    other = replace(run, methods=(), optimizer=ComponentSpec.parse("optimizers", "sgd:lr=0.3"))
    assert other.reference().run_id == reference.run_id
    assert replace(run, seed=1).reference().run_id != reference.run_id


def test_the_own_reference_keeps_method_and_optimizer(run):
    own = run.own_reference()
    assert (own.kind, own.methods, own.optimizer, own.seed) == ("fresh", run.methods, run.optimizer, run.seed)


def test_labels_and_directory_name(run):
    assert run.method_label == "decay:every=none,mode=soft,on=false,sizes=1/2,steps=5,strength=0.001"  # not installed
    assert replace(run, methods=()).method_label == "none"
    assert run.optimizer_label == "sgd:lr=0.1"
    assert run.profile == "lite"
    assert run.directory_name == f"toy-lite-zoo-decay-s0-{run.run_id}"
    assert run.own_reference().directory_name.startswith("toy-lite-zoo-fresh-decay-s0-")
    assert replace(run, methods=()).directory_name.startswith("toy-lite-zoo-none-s0-")


OTHER = spec.Shown(
    method="their method", architecture="net", optimizer="rule", ranked=False, control=True, headline="generalisation"
)


def facts(run):
    return spec.Shown(
        method=run.method_label,
        architecture=run.architecture_label,
        optimizer=run.optimizer_label,
        ranked=run.is_ranked,
        control=run.is_control,
        headline=run.headline,
    )


def test_a_record_holds_what_tables_show_outside_of_every_hash(run):
    value = run.recorded()
    assert value["shown"] == asdict(facts(run))
    assert {key: part for key, part in value.items() if key != "shown"} == run.to_json()
    back = RunSpec.from_json({**value, "shown": asdict(OTHER)})
    assert facts(back) == back.shown == OTHER
    assert back.recorded()["shown"] == asdict(OTHER)
    assert back == run
    assert (back.to_json(), back.run_id) == (run.to_json(), run.run_id)
    assert (back.protocol_id, back.entry_id) == (run.protocol_id, run.entry_id)


def test_a_spec_made_of_a_record_shows_nothing_of_it_but_under_another_seed(run):
    back = RunSpec.from_json({**run.recorded(), "shown": asdict(OTHER)})
    assert back.with_seed(3).shown == OTHER
    for made in (replace(back, seed=3), back.reference(), replace(back, methods=())):
        assert made.shown is None
        assert facts(made) == facts(RunSpec.from_json(made.to_json())) != OTHER


@pytest.mark.parametrize("shown", [None, {}, {**asdict(OTHER), "colour": "red"}, "none"])
def test_a_record_that_shows_something_else_is_damaged(run, shown):
    with pytest.raises(ResultsError, match="damaged"):
        RunSpec.from_json({**run.to_json(), "shown": shown})


@pytest.fixture
def installed(monkeypatch):
    """Return a function that installs a component for the duration of the test."""

    def install(kind, cls):
        registration = Registration(kind, cls.name, cls, "", Distribution("here", "1.0"))
        monkeypatch.setitem(plugins().registry._entries[kind], cls.name, registration)

    return install


def test_a_scenario_says_what_is_ranked_and_what_leads_the_table(run, installed):
    assert (run.is_ranked, run.headline) == (True, "trainability")  # not installed
    assert not replace(run, scenario=replace(run.scenario, fields={"profile": "smoke+custom"})).is_ranked

    class Declaring(Toy):
        unranked = frozenset({"lite"})
        headline = "generalisation"

    installed("scenarios", Declaring)
    assert (run.is_ranked, run.headline) == (False, "generalisation")
    assert replace(run, scenario=replace(run.scenario, fields={"profile": "smoke"})).is_ranked


def test_a_method_says_that_it_is_the_control(run, installed):
    class Control(Decay):
        control = True

    reset = ComponentSpec.parse("methods", "reset")
    assert replace(run, methods=(reset,)).is_control
    assert not replace(run, methods=()).is_control
    assert not replace(run, methods=(reset, reset)).is_control  # of before it was refused
    assert not run.is_control
    same = replace(run, optimizer=run.reference_optimizer)
    assert same.own_reference().run_id != same.reference().run_id
    installed("methods", Control)
    assert run.is_control
    assert same.own_reference().run_id == same.reference().run_id
    assert run.own_reference().optimizer == run.optimizer  # of before it always had the reference's


def test_reset_is_the_control_where_it_is_not_installed(run, monkeypatch):
    monkeypatch.delitem(plugins().registry._entries["methods"], "reset")
    assert replace(run, methods=(replace(run.methods[0], name="reset"),)).is_control
    assert not run.is_control


def test_a_start_changes_the_run_and_not_the_protocol(run):
    later = replace(run, start=0.5)
    assert later.run_id not in (run.run_id, replace(run, start=0.25).run_id)
    assert later.protocol_id == run.protocol_id
    assert RunSpec.from_json(json.loads(spec.canonical_json(later.to_json()))) == later


def test_both_references_keep_the_start(run):
    later = replace(run, start=0.5)
    assert (later.reference().start, later.own_reference().start) == (0.5, 0.5)


def test_a_start_of_zero_has_one_id(run):
    assert run.to_json()["start"] == 0.0
    for zero in (0, 0.0, -0.0):
        assert replace(run, start=zero).run_id == run.run_id


#: A spec of the first schema, of before there were later starts.
FIRST = {
    "schema_version": 1,
    "kind": "continual",
    "scenario": {"name": "toy", "version": 1, "origin": "lopbench 0.1.0+0123456789ab", "fields": {"profile": "lite"}},
    "architecture": {"name": "net", "version": 1, "origin": "lopbench-x 2", "fields": {"width": 8}},
    "cloner": None,
    "methods": [{"name": "m", "version": 3, "origin": "lopbench-x 2+abc", "fields": {}, "track": "replay"}],
    "optimizer": {"name": "adam", "fields": {"lr": 0.003}},
    "reference_optimizer": {"name": "adam", "fields": {"lr": 0.001}},
    "seed": 4,
    "metrics": [],
    "numerics": {"dtype": "float32", "tf32": False, "deterministic": True},
    "data": None,
    "core": "0.1.0",
}


def test_a_spec_of_the_first_schema_is_read_as_one_of_today():
    read = RunSpec.from_json(FIRST)
    assert read.to_json() == {
        **{key: part for key, part in FIRST.items() if key != "core"},
        "schema_version": spec.SCHEMA_VERSION,
        "scenario": {**FIRST["scenario"], "origin": "lopbench"},
        "architecture": {**FIRST["architecture"], "origin": "lopbench-x"},
        "optimizer": {**FIRST["optimizer"], "version": 1, "origin": "lopbench"},
        "reference_optimizer": {**FIRST["reference_optimizer"], "version": 1, "origin": "lopbench"},
        "start": 0.0,
        "numbers": 1,
    }
    assert RunSpec.from_json(read.to_json()) == read
    assert RunSpec.from_json({**FIRST, "start": 0.5}).start == 0.5


@pytest.mark.parametrize("release", ["0.1.0", "0.9.0"])
def test_a_release_is_no_part_of_the_protocol(release):
    assert RunSpec.from_json({**FIRST, "core": release}).protocol_id == RunSpec.from_json(FIRST).protocol_id


def test_a_whole_start_has_one_id(run):
    assert replace(run, start=1).run_id == replace(run, start=1.0).run_id


@pytest.mark.parametrize("start", [-0.1, 1.1, 50, math.nan, math.inf])
def test_a_start_outside_the_stream_is_a_usage_error(run, start):
    with pytest.raises(UsageError, match=r"--from is the fraction .* in \[0, 1\], got"):
        replace(run, start=start)


@pytest.mark.parametrize("start", [2.0, "half", None])
def test_a_record_with_a_wrong_start_is_damaged(run, start):
    with pytest.raises(ResultsError, match="damaged"):
        RunSpec.from_json({**run.to_json(), "start": start})


def test_the_label_says_from_when_a_method_is_on(run):
    assert replace(run, start=0.5).method_label == f"{run.method_label} from 0.5"
    assert replace(run, methods=(), start=0.25).method_label == "none from 0.25"


def test_a_newer_record_is_refused(run):
    with pytest.raises(ResultsError, match=f"reads up to {spec.SCHEMA_VERSION}; upgrade"):
        RunSpec.from_json({**run.to_json(), "schema_version": spec.SCHEMA_VERSION + 1})


@pytest.mark.parametrize("missing", ["scenario", "kind", "seed", "numerics", "optimizer", "data", "numbers"])
def test_a_damaged_record_is_an_error_naming_the_damage(run, missing):
    value = run.to_json()
    del value[missing]
    with pytest.raises(ResultsError, match=f"damaged: KeyError: '{missing}'"):
        RunSpec.from_json(value)


@pytest.mark.parametrize(
    "value", [{}, {"schema_version": "1"}, {"schema_version": 1, "kind": "continual", "scenario": 3}]
)
def test_what_is_no_spec_is_refused(value):
    with pytest.raises(ResultsError):
        RunSpec.from_json(value)
