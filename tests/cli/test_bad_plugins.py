"""Mistakes of plugins, through the command line and from Python: a sentence each, with what was expected and found."""

import json
from pathlib import Path

import pytest

import lopbench as library

HEAD = """
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

import lopbench
from lopbench import Architecture, LayerMetric, Perturbation, Scenario, TrainingMetric, hookimpl

KEPT = []


def component(base, name, **members):
    made = type(name.title(), (base,), {"__doc__": "Wrong.", "name": name, "__module__": __name__, **members})
    KEPT.append(dataclass(frozen=True, kw_only=True)(made))


def returns(value):
    return lambda self, *arguments, **options: value


def register_all(kind, register):
    for each in KEPT:
        if issubclass(each, kind):
            register(each.name, each, "wrong")


@hookimpl
def lopbench_methods(register):
    register_all(Perturbation, register)


@hookimpl
def lopbench_metrics(register):
    register_all((LayerMetric, TrainingMetric), register)


@hookimpl
def lopbench_architectures(register):
    register_all(Architecture, register)


@hookimpl
def lopbench_scenarios(register):
    register_all(Scenario, register)

"""

METHODS = """
def assigns(self, learner, state):
    for name in list(learner.parameters):
        learner.parameters[name] = learner.parameters[name] * 2


component(Perturbation, "assigns", after_step=assigns)
component(Perturbation, "returns_one", after_step=returns({}))
component(Perturbation, "no_such_name", evaluated=returns({"nope": torch.zeros(1)}))
component(Perturbation, "other_shape", evaluated=returns({"layers.0.linear.bias": torch.zeros(3)}))
component(Perturbation, "evaluated_none", evaluated=returns(None))
component(Perturbation, "penalty_scalar", penalty=returns(torch.zeros(())))
component(Perturbation, "penalty_none", penalty=returns(None))
component(Perturbation, "loss_none", loss=returns(None))
component(Perturbation, "batch_none", batch=returns(None))
component(Perturbation, "configure_none", configure=returns(None))
component(Perturbation, "report_float", report=returns({"x": 3.0}))
"""

#: What is told of each of these methods, after its name and that of the hook.
TOLD = {
    "assigns": "after_step: 'layers.0.linear.weight' cannot be assigned: the network would go on with the old tensor; "
    "change it in place, as in tensors['layers.0.linear.weight'].copy_(new)",
    "returns_one": "after_step: it must change tensors in place and return nothing, got dict",
    "no_such_name": "evaluated: the network has no parameter or buffer 'nope'",
    "other_shape": "evaluated: 'layers.0.linear.bias' must be of shape (1, 8), got shape (3,)",
    "evaluated_none": "evaluated: it must return tensors by name, got nothing",
    "penalty_scalar": "penalty: it must return a number for each replica, shape (1,), got shape ()",
    "penalty_none": "penalty: it must return a number for each replica, shape (1,), got nothing",
    "loss_none": "loss: it must return a number for each replica, shape (1,), got nothing",
    "batch_none": "batch: it must return inputs and targets, two tensors, got nothing",
    "configure_none": "configure: it must return the network, got nothing",
    "report_float": "report: it must return a number for each replica, shape (1,), got float",
}

METRICS = """
component(TrainingMetric, "on_host", compute=lambda self, before, after: torch.tensor([float(x) for x in before]))
component(TrainingMetric, "scalar", compute=lambda self, before, after: before.sum())
component(TrainingMetric, "a_float", compute=returns(0.5))
component(TrainingMetric, "nothing", compute=returns(None))
component(LayerMetric, "text", compute=returns("high"))
"""

ARCHITECTURE = """
class Gate(nn.Module):
    def forward(self, x):
        return torch.relu(x), x


class Net(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.body, self.gate, self.out = nn.LazyLinear(4), Gate(), nn.Linear(4, outputs)

    def forward(self, x):
        return self.out(self.gate(self.body(x.flatten(1)))[0])


def build(self, input_shape, outputs, *, generator):
    made = Net(outputs)
    made(torch.zeros(2, *input_shape))
    return made


component(Architecture, "gated", build=build, layers=lambda self, module: ["gate"])
"""

SCENARIO = """
component(Scenario, "bare", data=None, stream=returns(None), recipe=returns(None))
"""

RUNS = Path("results/runs")

#: Where plugins of third parties are that are tried out.
PLUGINS = Path(__file__).parents[1] / "third_party" / "plugins"

#: A stream whose steps can be a program.
BITS = ["--scenario=bitflip:samples=24,m=6,f=3,T=6,steps_per_task=6", "--device=cpu", "--seeds=0-1"]


@pytest.fixture
def written(tmp_path, fresh_plugins):
    """Return a function that writes a plugin file; what it registers is forgotten after the test."""

    def write(text):
        path = tmp_path / "wrong.py"
        path.write_text(HEAD + text)
        return f"--plugin={path}"

    return write


def test_what_a_method_does_wrong_is_a_sentence_and_the_others_go_on(tiny, written, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    shown = tiny(written(METHODS), "--method=none", *(f"--method={name}" for name in TOLD))
    assert shown.exit_code == 1
    assert "Traceback" not in shown.output
    lines = shown.stderr.splitlines()
    for name, told in TOLD.items():
        assert f"{name}, seed 0 (mlp:depth=1,width=8): method '{name}', hook {told}" in lines
    first = next(iter(TOLD))
    assert lines[-1] == (
        f"Error: {len(TOLD)} of {len(TOLD) * 2 + 2} runs could not be done: {first}, seed 0 (mlp:depth=1,width=8): "
        f"method '{first}', hook {TOLD[first]}"
    )


def test_a_study_from_python_that_was_refused_raises(written, tmp_path, one_thread):
    written(METHODS)
    path = tmp_path / "wrong.py"
    with pytest.raises(library.LopbenchError) as raised:
        library.run(
            scenario="bitflip:samples=24,m=6,f=3,T=6,steps_per_task=6",
            methods=["penalty_none"],
            plugins=[path],
            device="cpu",
            results=tmp_path / "results",
        )
    assert "penalty_none, seed 0 (online_mlp): method 'penalty_none', hook penalty: it must return a number" in str(
        raised.value
    )


def test_a_hook_that_is_all_but_named_as_one_is_refused_with_the_file(tiny, written):
    shown = tiny(written('component(Perturbation, "typo", after_steps=returns(None))'), "--method=typo")
    assert shown.exit_code == 1
    sentence = "wrong.py: Typo has 'after_steps', which is no hook and is never called. Did you mean 'after_step'?"
    assert sentence in shown.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("metric", "told"),
    [
        ("scalar", "returned shape () where a number for each replica belongs, shape (1,)"),
        ("a_float", "returned a float where a number for each replica belongs, shape (1,)"),
        ("nothing", "returned a NoneType where a number for each replica belongs, shape (1,)"),
        ("text", "returned a str where a float or None belongs"),
    ],
)
def test_what_a_metric_returns_wrongly_fails_its_run_with_a_sentence(tiny, written, runs, metric, told):
    arguments = [written(METRICS), f"--metrics={metric}", "--method=none"]
    shown = tiny(*arguments)
    assert shown.exit_code == 1
    assert "Traceback" not in shown.output
    (run,) = (name for name in runs() if "-fresh-" not in name)
    last = shown.stderr.splitlines()[-1]
    assert last.startswith("Error: 1 of ")
    assert "failed, and counts at chance. " in last
    assert told in last
    assert "the traceback is in results/runs/" in shown.stderr
    assert "Next: " not in shown.stderr
    assert f"metric {metric} of lopbench_file_wrong" in (
        error := json.loads((RUNS / run / "status.json").read_text())["error"]
    )
    assert told in error


def test_a_training_metric_that_reads_the_host_keeps_steps_out_of_programs_and_is_named(lopbench, written, one_thread):
    shown = lopbench("run", *BITS, written(METRICS), "--metrics=on_host", "--method=none")
    assert shown.exit_code == 0, shown.output
    # Of the learners; fresh references are measured by nothing but their scores.
    logs = [path.read_text() for path in RUNS.glob("*/log.txt") if "-fresh-" not in path.parent.name]
    assert len(logs) == 2
    assert all("steps one by one: metric 'on_host' reads a value on the host" in log for log in logs)


def test_a_probed_layer_that_returns_no_tensor_is_told_without_any_method_too(lopbench, written, one_thread):
    shown = lopbench("run", *BITS, written(ARCHITECTURE), "--architecture=gated", "--method=none")
    assert shown.exit_code == 1
    last = shown.stderr.splitlines()[-1]
    assert "none, seed 0 (gated): the probed layer 'gate' returns a tuple, not a tensor; name other layers" in last


TEXTS = """
@dataclass(frozen=True, kw_only=True)
class Tagged(Perturbation):
    name: ClassVar[str] = "tagged"
    tag: str = "a"

    def after_step(self, learner, state):
        pass


KEPT.append(Tagged)
"""


@pytest.mark.parametrize(
    ("method", "told"),
    [
        ("tagged:tag=a\nb", r"'a\nb' has characters that cannot be printed"),
        ("tagged:tag=a\x1b[2Jb", r"'a\x1b[2Jb' has characters that cannot be printed"),
        ("tagged:tag=a\udcffb", r"'a\udcffb' has characters that cannot be printed"),
    ],
)
def test_what_no_record_could_hold_is_refused_before_training(tiny, written, runs, method, told):
    shown = tiny(written(TEXTS), "--method=none", f"--method={method}")
    assert shown.exit_code == 1
    assert shown.stderr.splitlines()[-1] == f"Error: a record of this run could not be read again: {told}"
    assert not runs()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("raise GeneratorExit", "cannot be loaded: GeneratorExit: "),
        ("raise type('Odd', (BaseException,), {})()", "cannot be loaded: Odd: "),
        (
            "class E(Exception):\n    def __str__(self): raise SystemExit(0)\nraise E",
            "E: (an error that cannot be told)",
        ),
        ("component(Perturbation, 'p', x=1)\nregister_all = lambda k, r: r('p', KEPT[0], 3)", "with the summary 3"),
    ],
)
@pytest.mark.parametrize("command", [["run", *BITS, "--dry-run"], ["show", "cbp"], ["data", "list"]])
def test_a_file_that_fails_as_it_is_loaded_is_told_of(lopbench, written, text, told, command):
    shown = lopbench(*command, written(text))
    assert shown.exit_code == 1
    assert told in shown.stderr
    assert "Traceback" not in shown.output


MADE = """
@dataclass(frozen=True, kw_only=True)
class Refusing(Perturbation):
    name: ClassVar[str] = "refusing"
    size: int = 1

    def __post_init__(self):
        raise {error}


KEPT.append(Refusing)
"""

VERSION = """
component(Perturbation, "odd", version={value}, after_step=returns(None))
"""

ODD_FIELD = """
@dataclass(frozen=True, kw_only=True)
class Odd(Perturbation):
    name: ClassVar[str] = "odd"
    field: object = {value}


KEPT.append(Odd)
"""


@pytest.mark.parametrize(
    ("text", "method", "told"),
    [
        (
            MADE.format(error="RuntimeError('not today')"),
            "refusing",
            "refusing cannot be made of {}: RuntimeError: not",
        ),
        (
            MADE.format(error="SystemExit(0)"),
            "refusing:size=2",
            "refusing cannot be made of {'size': 2}: SystemExit: 0",
        ),
        (MADE.format(error="lopbench.DataError('none')"), "refusing:size=2", "none"),
        (
            MADE.format(error="lopbench.InvalidInputError('too small')"),
            "refusing",
            "refusing cannot be made as it is: too small",
        ),
        (VERSION.format(value="'one'"), "odd", "odd has the version 'one'; a version is a whole number"),
        (VERSION.format(value="True"), "odd", "odd has the version True; a version is a whole number"),
        (ODD_FIELD.format(value="object"), "odd", "odd: no record can hold the value of field (TypeError: "),
        (ODD_FIELD.format(value="1j"), "odd", "odd: no record can hold the value of field (TypeError: "),
        (ODD_FIELD.format(value="float('nan')"), "odd", "odd: no record can hold the value of field (ValueError: "),
    ],
)
def test_a_component_that_cannot_be_made_or_recorded_is_told_of(
    tiny, lopbench, written, runs, fresh_plugins, text, method, told
):
    option = written(text)
    shown = tiny(option, f"--method={method}")
    assert shown.exit_code == 1
    assert shown.stderr.startswith(f"Error: {told}")
    assert not runs()
    assert lopbench("show", method.partition(":")[0], option).exit_code == 0
    beside = tiny(option, f"--method={method}", "--method=none")
    assert beside.exit_code == 1
    assert f"{method} is left out: {told}" in beside.stderr
    assert beside.stderr.splitlines()[-1].startswith(f"Error: {method} was left out: {told}")
    assert len(runs()) == 2
    names = sorted(runs())
    fresh_plugins()
    assert tiny("--method=none").exit_code == 0
    assert sorted(runs()) == names


NOT_AGAIN = """
MADE = []


@dataclass(frozen=True, kw_only=True)
class Once(Perturbation):
    name: ClassVar[str] = "once"

    def __post_init__(self):
        super().__post_init__()
        MADE.append(1)
        if len(MADE) > {times}:
            raise {error}

    def after_step(self, learner, state):
        pass


KEPT.append(Once)
"""


@pytest.mark.parametrize("times", [1, 2, 5])
@pytest.mark.parametrize("error", ["KeyboardInterrupt", "lopbench.InvalidInputError('no more')", "SystemExit(0)"])
def test_a_method_that_cannot_be_made_again_stops_no_other(lopbench, written, runs, one_thread, times, error):
    option = written(NOT_AGAIN.format(times=times, error=error))
    shown = lopbench("run", *BITS, option, "--method=once", "--method=none")
    assert shown.exit_code == 1, shown.output
    assert "once, seed 0 (online_mlp): " in shown.stderr
    assert len([name for name in runs() if "-none-" in name]) == 4


def test_what_a_file_that_fails_would_have_registered_is_left_out(lopbench, written, runs, one_thread):
    asked = ["run", *BITS, written("raise RuntimeError('not today')"), "--method=unheard_of"]
    alone = lopbench(*asked)
    assert alone.exit_code == 1
    assert not runs()
    shown = lopbench(*asked, "--method=none")
    assert shown.exit_code == 1
    assert "unheard_of is left out: nothing of this name is known, and " in shown.stderr
    assert "wrong.py cannot be loaded: RuntimeError: not today" in shown.stderr.splitlines()[-1]
    assert len(runs()) == 4


@pytest.mark.parametrize(
    "asked",
    [
        ["--method=refusing:size=x"],
        ["--method=refusing:sizes=2"],
        ["--method=refusin"],
        ["--method=l2:strength=-1"],
        ["--method=l2", "--sweep=l2.strength=0.1,-1"],
    ],
)
def test_a_mistake_of_the_user_is_refused_at_once_beside_a_plugin_that_fails(tiny, written, runs, asked):
    option = written(MADE.format(error="RuntimeError('not today')"))
    shown = tiny(option, "--method=refusing", "--method=none", *asked)
    assert shown.exit_code == 2
    assert not runs()


def test_a_diagnostic_of_a_plugin_that_cannot_be_made_is_left_out(lopbench, written, runs, one_thread):
    text = "component(LayerMetric, 'refusing', default=True, compute=returns(1.0), __post_init__=lambda self: 1 / 0)"
    shown = lopbench("run", *BITS, written(text), "--method=none")
    assert shown.exit_code == 1
    assert "refusing is left out: refusing cannot be made of {}: ZeroDivisionError" in shown.stderr
    assert len(runs()) == 4


ONE = [*BITS[:-1], "--method=none"]

#: Files of a record that hold no time.
FILES = ("spec.json", "environment.json", "measurements.parquet")


def record_bytes(results="results"):
    """Return what the records of a folder hold, by run and file."""
    folder = Path(results) / "runs"
    runs = sorted(folder.iterdir()) if folder.exists() else []
    return {f"{run.name}/{name}": (run / name).read_bytes() for run in runs for name in FILES}


@pytest.fixture
def as_without(lopbench, one_thread, fresh_plugins, monkeypatch):
    """Return a function that does a command, and insists that the records are those of another without plugins."""
    monkeypatch.setattr("lopbench.runner.worth.MOST_OPERATIONS", 0)  # steps one by one: programs take long to trace

    def check(asked, other):
        done = lopbench("run", *asked)
        fresh_plugins()
        clean = lopbench("run", *other, "--results=clean")
        assert clean.exit_code == 0, clean.output
        assert record_bytes() == record_bytes("clean") != {}
        return done

    return check


TAKEN = {
    "metrics": ("LayerMetric", "dead_fraction"),
    "scenarios": ("Scenario", "bitflip"),
    "architectures": ("Architecture", "online_mlp"),
}


@pytest.mark.parametrize("kind", TAKEN)
def test_a_plugin_that_takes_a_name_is_refused_and_the_name_means_what_it_did(as_without, written, kind):
    interface, name = TAKEN[kind]
    asked = [*ONE, "--metrics=dead_fraction", "--architecture=online_mlp"]
    shown = as_without([*asked, written(f"component({interface}, {name!r}, data=None, build=returns(None))")], asked)
    assert shown.exit_code == 1
    told = f"the name {name!r} in {kind} is registered by lopbench"
    assert told in shown.stderr.splitlines()[-1]


#: Scenarios need profiles.
REFUSING = (
    "component({}, 'broken', {}, profiles={{'lite': {{'tasks': 2, 'steps_per_task': 5}}}}, default_profile='lite', "
    "__post_init__=lambda self: 1 / 0)"
)
FAILS = "raise RuntimeError('not today')"


@pytest.mark.parametrize("text", [REFUSING.format("LayerMetric", "compute=returns(1.0)"), FAILS])
def test_a_diagnostic_that_is_named_and_cannot_be_made_is_left_out(as_without, lopbench, written, text):
    option = written(text)
    shown = as_without([*ONE, option, "--metrics=dead_fraction,broken"], [*ONE, "--metrics=dead_fraction"])
    assert shown.exit_code == 1
    assert "broken is left out: " in shown.stderr
    assert "Error: " in shown.stderr.splitlines()[-1]
    names = record_bytes()
    alone = lopbench("run", *ONE, option, "--metrics=broken")
    assert alone.exit_code == 1
    assert record_bytes() == names


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("scenario", REFUSING.format("Scenario", "data=None, stream=returns(None), recipe=returns(None)")),
        ("architecture", REFUSING.format("Architecture", "build=returns(None), layers=returns([])")),
        ("architecture", FAILS),
    ],
)
def test_what_is_named_and_needed_is_refused_alone_and_left_out_of_a_study(
    as_without, lopbench, written, tmp_path, word, text
):
    option = written(text)
    alone = lopbench("run", *ONE, option, f"--{word}=broken")
    assert alone.exit_code == 1, alone.output
    assert "Traceback" not in alone.output
    assert ("not today" if text == FAILS else "broken cannot be made") in alone.stderr.splitlines()[-1]
    assert not record_bytes()
    bits = f'scenario = "{BITS[0].partition("=")[2]}"\nmethods = ["none"]\n'
    (tmp_path / "whole.toml").write_text(bits)
    tables = f'[[runs]]\n{bits if word == "architecture" else ""}{word} = "broken"\n[[runs]]\n{bits}'
    (tmp_path / "study.toml").write_text(tables)
    shown = as_without(["study.toml", option, "--device=cpu"], ["whole.toml", "--device=cpu"])
    assert shown.exit_code == 1
    assert "is left out: " in shown.stderr


PROPERTY = """
from lopbench_plugins.scenarios.bitflip import BitFlip


def fails(self):
    raise {error}


component(BitFlip, "broken_stream", growth=property(fails))
component(Perturbation, "odd", cost=3, after_step=returns(None))
"""


@pytest.mark.parametrize("error", ["RuntimeError('gotcha')", "SystemExit(0)"])
def test_what_a_class_raises_as_it_is_looked_at_is_a_sentence(lopbench, written, error):
    option = written(PROPERTY.format(error=error))
    told = f"lopbench_file_wrong raises {error.replace('(', ': ').strip(')').replace(chr(39), '')}"
    shown = lopbench("run", *ONE, option, ONE[0].replace("bitflip", "broken_stream"), "--dry-run")
    assert (shown.exit_code, shown.stderr.splitlines()[-1]) == (1, f"Error: {told}")
    wrong = "methods 'odd' of unpublished: cost is a int, where a mapping belongs"
    beside = lopbench("run", *ONE, option, "--method=odd", "--dry-run")
    assert beside.exit_code == 1
    assert f"odd is left out: {wrong}" in beside.stderr
    assert lopbench("show", "odd", option).stderr == f"Error: {wrong}\n"
    assert "methods: cannot be imported" in lopbench("list", "methods").stdout


def test_a_scenario_of_a_file_that_fails_is_told_from_python_too(written, tmp_path):
    written("raise RuntimeError('not today')")
    with pytest.raises(library.LopbenchError, match=r"nothing of this name is known, and .*not today"):
        library.run(scenario="broken", plugins=[tmp_path / "wrong.py"], results=tmp_path / "results")


def test_a_plugin_whose_import_takes_long_is_named(lopbench, written, monkeypatch):
    monkeypatch.setattr("lopbench.core.manager._PATIENCE_S", 0.05)
    shown = lopbench("show", "cbp", written("import time\ntime.sleep(0.5)\ncomponent(Perturbation, 'slow')"))
    assert shown.exit_code == 0
    assert "Still importing" in shown.stderr
    assert "wrong.py ..." in shown.stderr


def test_a_track_that_is_declared_is_refused_with_the_file(tiny, written):
    shown = tiny(written('component(Perturbation, "own", track="mine")'), "--method=own")
    assert shown.exit_code == 1
    assert "declares 'track', which" in shown.stderr
    assert "it follows from the hooks" in shown.stderr


def test_a_scenario_without_profiles_is_told_what_it_lacks(lopbench, written):
    shown = lopbench("run", "--scenario=bare", written(SCENARIO))
    assert shown.exit_code == 2
    assert shown.stderr.strip().endswith(
        "scenario 'bare' declares no profiles; its class needs at least its default one, as in profiles = {'full': {}}"
    )


@pytest.mark.parametrize("name", ["adamw", "sgd", "muon", "adamw:weight_decay=0.1"])
def test_an_optimizer_without_a_learning_rate_is_told_how_to_give_one(tiny, name):
    shown = tiny(f"--optimizer={name}")
    plain = name.partition(":")[0]
    assert shown.exit_code == 2
    assert shown.stderr.strip() == f"Error: {plain} needs lr, as in {plain}:lr=1e-3"


def test_an_architecture_that_takes_no_tokens_is_told_of(lopbench, one_thread, fresh_plugins):
    path = PLUGINS / "characters.py"
    shown = lopbench("run", f"--plugin={path}", "--scenario=characters", "--architecture=mlp", "--device=cpu")
    assert shown.exit_code == 1
    told = "mlp reads numbers, and characters gives tokens; use an architecture for tokens, such as token_transformer"
    assert " ".join(shown.stderr.split()) == f"Error: {told}"
