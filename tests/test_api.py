"""The Python interface: what the command line does, and components as objects."""

import hashlib
import importlib
import re
import sys
from dataclasses import replace

import pytest
import torch

import lopbench
from lopbench.core.errors import LopbenchError, UsageError
from lopbench.core.given import scenario_of, spec_of
from lopbench.core.manager import plugins
from lopbench.core.spec import canonical_json, parse_scenario
from lopbench.runner.status import goes_on, status
from lopbench.runner.study import plan
from lopbench_plugins.architectures.mlp import MLP
from lopbench_plugins.cloners.tile import Tile
from lopbench_plugins.data.procedural import procedural_images
from lopbench_plugins.metrics.renyi2_rank import Renyi2Rank
from lopbench_plugins.optimizers.adam import Adam
from lopbench_plugins.perturbations.l2 import L2
from lopbench_plugins.perturbations.noisy_sgd import NoisySGD
from lopbench_plugins.scenarios.tinyimagenet40 import TinyImageNet40

FIELDS = {**TinyImageNet40.profiles["lite"], "tasks": 2, "steps_per_task": 5, "classes_per_task": 2, "resolution": 8}
FIELDS |= {"images_per_class": 10}

TINY = {
    "scenario": "tinyimagenet40:tasks=2,steps_per_task=5,classes_per_task=2,resolution=8,images_per_class=10",
    "architecture": "mlp:width=8,depth=1",
    "metrics": [],
    "device": "cpu",
}


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    images = procedural_images(classes=4, train=10, test=4)
    monkeypatch.setattr("lopbench.runner.study.load_data", lambda name, **_: images)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield {**TINY, "results": tmp_path / "results"}
    torch.set_num_threads(threads)


@pytest.mark.parametrize(("name", "like"), [("methods", "methods=['cbp']"), ("seeds", "seeds=range(5)")])
def test_a_text_in_the_place_of_a_list_is_refused(name, like):
    with pytest.raises(UsageError, match=re.escape(f"{name}='cbp' is a text, not a list; write {like}")):
        lopbench.run(**{name: "cbp"})


def test_run_returns_its_rows_beside_none_and_nothing_else(tiny, capsys):
    lopbench.run(**tiny)
    lopbench.run(**tiny, methods=["reset"])
    frame = lopbench.run(**tiny, methods=["l2:strength=0.5"])
    assert set(frame["method"]) == {"none", "l2:strength=0.5"}
    assert frame["protocol_id"].nunique() == 1
    assert set(lopbench.leaderboard(tiny["results"])["method"]) == {"none", "reset", "l2:strength=0.5"}
    assert capsys.readouterr() == ("", "")


def test_rows_of_other_optimizers_and_protocols_are_left_out(tiny):
    lopbench.run(**tiny)
    frame = lopbench.run(**tiny, optimizers=["sgd:lr=0.1"])
    assert list(frame["optimizer"]) == ["sgd:lr=0.1"]
    frame = lopbench.run(**{**tiny, "architecture": "mlp:width=9"})
    assert list(frame["architecture"]) == ["mlp:width=9"]


def test_run_shows_progress_when_it_is_not_quiet(tiny, capsys):
    lopbench.run(**tiny, quiet=False)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "none, seed 0 (mlp:depth=1,width=8): completed" in shown.err


def test_sweeps_and_later_starts_are_runs_of_their_own(tiny):
    frame = lopbench.run(**tiny, methods=["l2:strength=0.5"], sweeps=["lr=0.1,0.01"], start=0.5)
    assert sorted(frame["lr"]) == [0.01, 0.1]
    assert set(frame["method"]) == {"l2:strength=0.5 from 0.5"}


# -- results as frames


def test_measurements_are_one_frame_with_names_in_front(tiny):
    lopbench.run(**tiny, methods=["none", "l2:strength=0.5"], seeds=[0, 1])
    frame = lopbench.measurements(tiny["results"])
    assert list(frame.columns[:5]) == ["protocol", "method", "optimizer", "seed", "kind"]
    learners = frame[(frame["kind"] == "continual") & (frame["metric"] == "online_accuracy")]
    assert learners.groupby(["method", "seed"], observed=True).size().to_dict() == dict.fromkeys(
        [("l2:strength=0.5", 0), ("l2:strength=0.5", 1), ("none", 0), ("none", 1)], 2
    )
    only = lopbench.measurements(tiny["results"], metric="online_accuracy")
    assert set(only["metric"]) == {"online_accuracy"}
    assert len(only) == (frame["metric"] == "online_accuracy").sum()
    with pytest.raises(LopbenchError, match="does not exist"):
        lopbench.measurements(tiny["results"] / "nothing")


def test_what_the_commands_draw_and_tell_is_there_for_python(tiny, tmp_path):
    lopbench.run(**tiny)
    results = tiny["results"]
    stands = lopbench.status(results)
    assert set(stands["state"]) == {"completed"}
    assert sorted(stands["method"]) == ["none", "reference"]
    figure = lopbench.plot("curves", results, metrics=["online_accuracy"], output=tmp_path / "curves.svg")
    assert figure.axes
    assert (tmp_path / "curves.svg").read_text().startswith("<?xml")
    with pytest.raises(UsageError, match="There is no figure 'pie'"):
        lopbench.plot("pie", results)
    assert lopbench.report(results, output=tmp_path / "page.html").read_text().startswith("<!doctype html>")
    (record, _) = sorted(lopbench.find_records(results), key=lambda each: each.spec.kind)
    assert repr(record).startswith("Record(none, seed 0, tinyimagenet40@")
    assert "\n" not in repr(record)
    assert list(lopbench.leaderboard(results).columns[:3]) == ["method", "optimizer", "retention"]


# -- components as objects


class Unknown(lopbench.Sink):
    name = "unknown"

    def open(self, run):
        raise AssertionError("nothing is run")


METHOD = '''
from dataclasses import dataclass
from typing import ClassVar

from lopbench import Perturbation, hookimpl


@dataclass(frozen=True, kw_only=True)
class Halve(Perturbation):
    """Halves the gradients."""

    name: ClassVar[str] = "{name}"
    factor: float = 0.5

    def after_backward(self, learner, state):
        for gradient in learner.gradients.values():
            gradient.mul_(self.factor)
'''
HOOK = """

@hookimpl
def lopbench_methods(register):
    register("{name}", Halve, "halves")
"""


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Return a function that writes a module with a method of some name, and imports it; nothing of it stays."""
    monkeypatch.syspath_prepend(tmp_path)
    registry = plugins().registry
    monkeypatch.setattr(registry, "_entries", {kind: dict(entries) for kind, entries in registry._entries.items()})
    monkeypatch.setenv("LOPBENCH_PLUGIN_FILES", "")
    modules = set(sys.modules)

    def write(name, *, hook=False):
        path = tmp_path / f"{name}_file.py"
        path.write_text((METHOD + HOOK * hook).replace("{name}", name))
        importlib.invalidate_caches()
        return path, importlib.import_module(path.stem).Halve

    yield write
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):  # what torch imports late stays
            del sys.modules[name]


def test_object_runs_as_its_text_does(tiny):
    frame = lopbench.run(**tiny, methods=[L2(strength=0.5)], optimizers=[Adam(lr=0.01)])
    assert list(frame["method"]) == ["l2:strength=0.5"]
    again = {**tiny, "scenario": TinyImageNet40(**FIELDS), "architecture": MLP(width=8, depth=1)}
    texts = plan(**{**tiny, "methods": ["l2:strength=0.5", "l2+noisy_sgd"], "optimizers": ["adam:lr=0.01"]})
    objects = plan(**{**again, "methods": [L2(strength=0.5), (L2(), "noisy_sgd")], "optimizers": [Adam(lr=0.01)]})
    assert objects.specs == texts.specs
    assert len(objects.pending) < len(texts.specs) * 3  # the first of them is done


@pytest.mark.parametrize(
    ("kind", "given", "text"),
    [
        ("methods", L2(strength=1), "l2:strength=1"),
        ("methods", NoisySGD(scale=1, decay=1), "noisy_sgd:scale=1"),
        ("optimizers", Adam(lr=1, betas=(0, 0.9)), "adam:lr=1,betas=0/0.9"),
    ],
)
def test_a_whole_number_in_an_object_is_the_number_of_the_text(kind, given, text):
    """The run id is a hash of this JSON."""
    object_, parsed = spec_of(kind, given).to_json(), spec_of(kind, text).to_json()
    assert canonical_json(object_) == canonical_json(parsed)


def test_metrics_and_cloners_are_objects_too():
    texts = plan(scenario="cloning", profile="smoke", cloner="tile", metrics=["renyi2_rank"], data="procedural")
    objects = plan(scenario="cloning", profile="smoke", cloner=Tile(), metrics=[Renyi2Rank()], data="procedural")
    assert objects.specs == texts.specs


def test_scenario_object_has_its_profile_and_is_custom_where_its_fields_are_not_the_profiles(tiny):
    plain = TinyImageNet40(**TinyImageNet40.profiles["smoke"], profile="smoke")
    assert scenario_of(plain) == parse_scenario("tinyimagenet40", "smoke")
    assert scenario_of(replace(plain, tasks=3)) == parse_scenario("tinyimagenet40:tasks=3", "smoke")
    assert scenario_of(replace(plain, tasks=3)).fields["profile"] == "smoke+custom"
    with pytest.raises(UsageError, match=r"has no profile 'smok'\. Did you mean 'smoke'\?"):
        scenario_of(replace(plain, profile="smok"))
    with pytest.raises(UsageError, match="has its profile as a field"):
        scenario_of(plain, "lite")


def killed(monkeypatch, **asked):
    """Run a study in a process that ends before the first run does."""

    def die(*arguments, **options):
        raise SystemExit(137)

    with monkeypatch.context() as patch:
        patch.setattr("lopbench.runner.study.execute_all", die)
        with pytest.raises(SystemExit):
            lopbench.run(**asked)


@pytest.mark.parametrize("quiet", [True, False])
def test_what_a_killed_process_left_undone_is_told_and_gone_on_with(tiny, monkeypatch, quiet):
    killed(monkeypatch, **tiny, seeds=[0, 1], quiet=quiet)
    left = status(tiny["results"])
    assert [each.state for each in left] == ["to do"] * 4
    assert "lopbench work" in goes_on(tiny["results"], left)
    lopbench.run(**tiny, seeds=[0, 1])
    done = status(tiny["results"])
    assert [each.state for each in done] == ["completed"] * 4
    assert goes_on(tiny["results"], done) is None
    assert [path.name for path in tiny["results"].iterdir()] == ["runs"]


def test_of_what_no_worker_knows_the_same_call_is_named(tiny, written, monkeypatch):
    _, cls = written("halve_left")
    killed(monkeypatch, **tiny, methods=[cls()], sinks=[Unknown()])
    left = status(tiny["results"])
    assert {each.state for each in left} == {"to do"}
    assert goes_on(tiny["results"], left) == "the same call of lopbench.run as before"


def test_object_of_a_class_that_no_plugin_registers_runs_under_the_hash_of_its_file(tiny, written):
    path, cls = written("halve_a")
    frame = lopbench.run(**tiny, methods=[cls(factor=0.25), "none"])
    assert set(frame["method"]) == {"halve_a:factor=0.25", "none"}
    (record,) = [r for r in lopbench.find_records(tiny["results"]) if r.spec.methods and r.spec.kind == "continual"]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    assert record.spec.methods[0].origin == f"unpublished {path.name}+{digest}"
    # As `--plugin` would have it.
    planned = plan(**tiny, methods=["halve_a:factor=0.25"])
    assert planned.specs[0] == record.spec


def test_plugin_files_are_loaded_and_their_classes_known_wherever_they_are_imported_from(tiny, written):
    path, cls = written("halve_c", hook=True)
    frame = lopbench.run(**tiny, plugins=[path], methods=["halve_c:factor=0.25"])
    assert "halve_c:factor=0.25" in set(frame["method"])
    assert plan(**tiny, methods=[cls(factor=0.25)]).pending == ()  # done already


def test_what_is_given_as_a_component_and_is_none_is_refused_in_a_sentence(tiny, written):
    with pytest.raises(UsageError, match=r"the class L2 is no Perturbation; give a name, or an object, as in MyClass"):
        lopbench.run(**tiny, methods=[L2])
    with pytest.raises(UsageError, match="is no Perturbation"):
        lopbench.run(**tiny, methods=[MLP()])
    with pytest.raises(UsageError, match=r"^3 is no Perturbation"):
        lopbench.run(**tiny, methods=[3])
    _, cls = written("halve_d")
    lopbench.run(**tiny, methods=[cls()])
    stranger = type("Halve", (cls,), {"__module__": "elsewhere"})
    with pytest.raises(UsageError, match="the method 'halve_d' of unpublished is another class than the one given"):
        lopbench.run(**tiny, methods=[stranger()])


def test_class_that_stands_in_no_file_is_refused_in_a_sentence(tiny, written):
    names = {"__name__": "__main__"}
    exec(METHOD.replace("{name}", "halve_e"), names)  # as in a notebook
    with pytest.raises(UsageError, match="'halve_e' stands in no file, so no record could say what was run; write"):
        lopbench.run(**tiny, methods=[names["Halve"]()])


def test_a_method_that_cannot_serve_is_refused_before_the_rest_is_done(tiny):
    with pytest.raises(LopbenchError, match=r"^method 'cbp', hook begin: .*; leave out cbp$"):
        lopbench.run(**{**tiny, "architecture": "linear"}, methods=["none", "cbp"])
    assert not tiny["results"].exists()


# -- workers


STREAM = {
    "scenario": "bitflip:samples=60,m=8,f=5,T=10,steps_per_task=10",
    "metrics": [],
    "device": "cpu",
    "seeds": range(2),
}


def test_workers_do_what_is_given_as_objects_and_in_plugin_files_as_one_process_does(tmp_path, written, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    path, cls = written("halve_e", hook=True)
    methods = [cls(factor=0.25), (L2(strength=0.5), "halve_e")]
    asked = {**STREAM, "plugins": [path], "methods": methods, "optimizers": [Adam(lr=0.01)]}
    alone = lopbench.run(**asked, results=tmp_path / "alone")
    shared = lopbench.run(**asked, results=tmp_path / "shared", jobs=2)
    assert list(shared["method"]) == list(alone["method"])
    digests = [
        {record.run_id: record.measurements_digest for record in lopbench.find_records(tmp_path / name)}
        for name in ("alone", "shared")
    ]
    assert digests[0] == digests[1]
    assert len(digests[0]) >= 2 * 2 * 2
    assert not (tmp_path / "shared" / ".partial").exists()


def test_objects_of_classes_that_workers_do_not_know_are_refused_in_a_sentence(tmp_path, written):
    _, cls = written("halve_f")
    asked = {**STREAM, "methods": [cls(factor=0.25)], "results": tmp_path / "results"}
    with pytest.raises(
        UsageError, match=r"'halve_f' was given as an object .* plugin file that plugins= names, or leave"
    ):
        lopbench.run(**asked, jobs=2)
    assert not (tmp_path / "results").exists()
    assert len(lopbench.run(**asked)) == 1
