import ast
import importlib.util
import json
import re
import sys
import types
from pathlib import Path

import pytest

from lopbench import __all__ as public
from lopbench.cli import shell, templates
from lopbench.cli.plugins import _KINDS
from lopbench.core.errors import PluginError
from lopbench.core.hookspecs import API_VERSION
from lopbench.core.interfaces import KINDS
from lopbench.core.manager import Skipped, build_manager, plugins
from lopbench.core.registry import Distribution
from lopbench.core.spec import parse_methods
from lopbench.testing import checks, examples

FILE = '''
"""A toy."""

from dataclasses import dataclass
from typing import ClassVar

from lopbench import Perturbation, hookimpl


@dataclass(frozen=True, kw_only=True)
class Shrink(Perturbation):
    """Shrinks all weights a little."""

    name: ClassVar[str] = "toy_shrink"

    def after_step(self, learner, state):
        for parameter in learner.parameters.values():
            parameter.mul_(0.99)


@hookimpl
def lopbench_methods(register):
    register("toy_shrink", Shrink, "shrinks")
'''


@pytest.fixture
def toy(tmp_path, fresh_plugins):
    path = tmp_path / "toy.py"
    path.write_text(FILE)
    return path


# -- list


def test_installed_plugins_are_listed_with_what_they_register(lopbench):
    shown = lopbench("plugins", "list")
    assert shown.exit_code == 0
    assert shown.stdout.splitlines()[0].startswith("lopbench ")
    assert "cbp" in shown.stdout
    value = json.loads(lopbench("plugins", "list", "--format=json").stdout)
    (built_in,) = [each for each in value["plugins"] if each["distribution"] == "lopbench"]
    assert set(built_in["registers"]) == set(KINDS)


@pytest.mark.parametrize("command", [("show",), ("plugins", "check")])
def test_a_name_that_is_not_known_tells_of_the_plugin_that_could_not_be_loaded(lopbench, monkeypatch, command):
    monkeypatch.setattr(plugins(), "skipped", [Skipped("mine", "lopbench-mine", "SyntaxError: expected ':' (line 5)")])
    shown = lopbench(*command, "my-method")
    assert shown.exit_code == 2
    assert shown.stderr.endswith("mine of lopbench-mine was skipped: SyntaxError: expected ':' (line 5)\n")


def test_what_was_skipped_is_listed_and_its_traceback_on_request(lopbench, monkeypatch):
    made = build_manager(load_entry_points=False)
    made.skipped.append(Skipped("bad", "lopbench-bad", "ValueError: one\ntwo", "Traceback: here"))
    monkeypatch.setattr("lopbench.core.manager.plugins", lambda: made)
    shown = lopbench("plugins", "list").stdout
    assert "bad of lopbench-bad: two" in shown
    assert "Traceback" not in shown
    assert "Traceback: here" in lopbench("plugins", "list", "--verbose").stdout


# -- check


def test_a_check_that_passes_ends_with_zero_and_one_that_fails_with_one(lopbench, toy):
    shown = lopbench("plugins", "check", "duplicate_fraction", "--kind=metric")
    assert shown.exit_code == 0, shown.output
    assert "passed" in shown.stdout
    toy.write_text(FILE.replace("parameter.mul_(0.99)", "pass"))
    failed = lopbench("plugins", "check", "toy_shrink", "--plugin", toy)
    assert failed.exit_code == 1
    assert "Error: 1 of" in failed.stderr
    for part in ("acts: ", "expected:  other parameters", "found:     the same to the bit", "seen in:   Joudaki"):
        assert part in failed.stdout


def test_outcomes_come_as_json(lopbench):
    value = json.loads(lopbench("plugins", "check", "weight_norm", "--format=json").stdout)
    assert {each["status"] for each in value} == {"passed", "not applicable"}
    assert all(each["claim"] for each in value)


def test_a_component_is_checked_in_the_setting_given(lopbench):
    shown = lopbench("plugins", "check", "dormant_fraction:tau=0.2")
    assert shown.exit_code == 0, shown.output
    assert re.search(r"DormantFraction\(.*tau=0\.2\)", shown.stdout)


def test_every_check_tells_its_time_and_the_slowest_come_last_in_order(lopbench):
    shown = lopbench("plugins", "check", "sharpness", "--kind=metric")
    assert len(re.findall(r"^[a-z-]+ +(?:passed|not applicable) +\d+\.\d s  ", shown.stdout, re.MULTILINE)) > 8
    last = shown.stdout.splitlines()[-1]
    assert last.startswith("slowest: ")
    times = [float(seconds) for seconds in re.findall(r"[a-z-]+ (\d+\.\d) s", last)]
    assert len(times) == 5
    assert times == sorted(times, reverse=True)


def test_quick_checks_the_first_setting_alone(lopbench):
    whole, quick = (lopbench("plugins", "check", "sgd", *option).stdout for option in ((), ("--quick",)))
    assert (whole.count("SGD("), quick.count("SGD(")) == (3, 1)


def test_unknown_components_are_usage_errors(lopbench):
    shown = lopbench("plugins", "check", "weight_nrom")
    assert shown.exit_code == 2
    assert "Did you mean 'weight_norm'" in shown.stderr
    of_another_kind = lopbench("plugins", "check", "cbp", "--kind=metric")
    assert of_another_kind.exit_code == 2
    assert "Unknown metric 'cbp'" in of_another_kind.stderr


# -- single files


def test_a_file_is_run_and_marked_unpublished(toy, tiny, lopbench):
    shown = tiny("--method=toy_shrink", "--plugin", str(toy))
    assert shown.exit_code == 0, shown.output
    assert "unpublished: toy.py+" in shown.output


def test_what_a_file_holds_is_shown_and_its_runs_are_reproduced(toy, lopbench, fresh_plugins):
    short = ("--scenario=bitflip:samples=2000,T=200", "--profile=smoke", "--method=toy_shrink")
    assert lopbench("run", "--plugin", toy, *short).exit_code == 0
    (run,) = Path("results/runs").glob("*mlp-toy_shrink-*")
    fresh_plugins()
    assert lopbench("show", "toy_shrink").exit_code == 2
    refused = lopbench("reproduce", run)
    assert refused.exit_code == 1
    assert "--plugin" in refused.stderr
    assert "toy_shrink" in lopbench("show", "--plugin", toy, "toy_shrink").stdout
    fresh_plugins()
    assert lopbench("reproduce", "--plugin", toy, run).stdout == "identical, bit by bit\n"


def test_the_content_of_a_file_is_in_the_identity_of_its_runs(toy, lopbench):
    origins = []
    for text in (FILE, FILE.replace("0.99", "0.98"), FILE):
        toy.write_text(text)
        loaded = build_manager(load_entry_points=False)
        loaded.load_file(toy)
        (spec,) = parse_methods("toy_shrink", loaded.registry)
        origins.append(spec.origin)
        del sys.modules["lopbench_file_toy"]
    assert origins[0].startswith("unpublished toy.py+")
    assert origins[0] == origins[2] != origins[1]


def test_processes_that_are_started_load_the_file_too(toy, lopbench):
    assert lopbench("run", "--plugin", toy, "--method=toy_shrink", "--dry-run", "--scenario=bitflip").exit_code == 0
    plugins.cache_clear()  # as in another process
    del sys.modules["lopbench_file_toy"]
    assert "toy_shrink" in plugins().registry.names("methods")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("raise RuntimeError('out of order')", "cannot be loaded: RuntimeError: out of order"),
        ("import lopbench", "registers nothing"),
        (FILE.replace("toy_shrink", "l2"), "registered by lopbench"),
        (FILE + "\nlopbench_api = 99", "needs plugin API 99"),
        (FILE + "\nlopbench_api = 1", "is written for plugin API 1"),
        (FILE.replace('"toy_shrink"\n', '"toy_shrink"\n    traceable = True\n', 1), "belongs to plugin API 1"),
        (None, "is no Python file"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_a_sentence(text, reason, toy, lopbench):
    toy.unlink() if text is None else toy.write_text(text)
    shown = lopbench("run", "--plugin", toy, "--method=none", "--dry-run")
    assert shown.exit_code == 1
    assert shown.stderr.splitlines()[-1].startswith("Error: ")
    assert reason in shown.stderr
    assert "lopbench_file_toy" not in sys.modules


def test_two_files_of_one_name_are_refused(toy, tmp_path):
    other = tmp_path / "other" / "toy.py"
    other.parent.mkdir()
    other.write_text(FILE)
    loaded = build_manager(load_entry_points=False)
    loaded.load_file(toy)
    loaded.load_file(toy)
    with pytest.raises(PluginError, match="rename one"):
        loaded.load_file(other)


# -- new


def imported(path: Path) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


#: What may be written: each kind, and each method that another may start from.
WRITTEN = [*(["--kind", kind] for kind in _KINDS), *(["--like", like] for like in templates.LIKE)]


@pytest.mark.parametrize("options", WRITTEN, ids=" ".join)
def test_what_is_written_passes_the_checks_as_it_stands(options, lopbench, tmp_path):
    kind = options[1] if options[0] == "--kind" else "method"
    shown = lopbench("plugins", "new", "my-thing", *options)
    assert shown.exit_code == 0, shown.output
    folder = tmp_path / "lopbench-my-thing"
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == {
        "pyproject.toml",
        "README.md",
        "lopbench_my_thing.py",
        "tests/test_my_thing.py",
        ".github/workflows/test.yml",
    }
    module = imported(folder / "lopbench_my_thing.py")
    try:
        made = build_manager(load_entry_points=False)
        made.register(module, name="my_thing", distribution=Distribution("lopbench-my-thing", "0.1.0"))
        (component,) = examples(made.registry.get(_KINDS[kind], "my-thing").load())
        outcomes = [check.run(component) for check in checks(component)]
        assert [outcome.message for outcome in outcomes if outcome.status == "failed"] == []
        assert sum(outcome.status == "passed" for outcome in outcomes) >= 5
    finally:
        del sys.modules["lopbench_my_thing"]


@pytest.mark.parametrize(
    ("name", "reason"), [("My Method", "is no name"), ("l2", "already, of lopbench"), ("-x", "No such option")]
)
def test_names_that_cannot_be_are_refused(name, reason, lopbench):
    shown = lopbench("plugins", "new", name)
    assert shown.exit_code == 2
    assert reason in shown.stderr


def test_nothing_is_overwritten(lopbench, tmp_path):
    assert lopbench("plugins", "new", "mine").exit_code == 0
    code = tmp_path / "lopbench-mine" / "lopbench_mine.py"
    code.write_text("# work of days")
    assert "exists" in lopbench("plugins", "new", "mine").stderr
    assert code.read_text() == "# work of days"


@pytest.mark.parametrize("options", WRITTEN, ids=" ".join)
def test_what_is_written_states_its_api_and_imports_public_names_alone(options, lopbench, tmp_path):
    assert lopbench("plugins", "new", "my-thing", *options).exit_code == 0
    tree = ast.parse((tmp_path / "lopbench-my-thing" / "lopbench_my_thing.py").read_text())
    imported = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and "lopbench" in node.module]
    assert [node.module for node in imported] == ["lopbench"]
    assert {alias.name for alias in imported[0].names} <= set(public)
    assigned = {t.id: node.value for node in tree.body if isinstance(node, ast.Assign) for t in node.targets}
    assert ast.literal_eval(assigned["lopbench_api"]) == API_VERSION


def test_every_kind_has_a_template():
    assert {_KINDS[kind] for kind in templates.TEMPLATES} == set(KINDS)


def test_every_name_in_what_is_written_is_the_components(lopbench, tmp_path):
    assert lopbench("plugins", "new", "my_new-idea2", "--kind=data").exit_code == 0
    folder = tmp_path / "lopbench-my-new-idea2"
    texts = [path.read_text() for path in folder.rglob("*") if path.is_file()]
    for text in texts:
        assert not re.search("my.thing|MyThing|KIND|LOPBENCH|cli.templates", text)
    assert 'name: ClassVar[str] = "my_new-idea2"' in (folder / "lopbench_my_new_idea2.py").read_text()
    assert "from lopbench_my_new_idea2 import MyNewIdea2" in (folder / "tests" / "test_my_new_idea2.py").read_text()
    assert "lopbench plugins check my_new-idea2" in (folder / "README.md").read_text()


def test_only_methods_start_from_a_method(lopbench):
    shown = lopbench("plugins", "new", "mine", "--kind=metric", "--like=reset")
    assert shown.exit_code == 2
    assert "--like reset is for methods" in shown.stderr
    for like, (_, built_in) in templates.LIKE.items():
        assert built_in in plugins().registry.names("methods")
        told = lopbench("plugins", "new", f"mine-{like}", f"--like={like}").stdout
        assert f"show {built_in}" in told
        assert f"run --profile smoke --method none --method mine-{like}" in told


class Installed:
    """What says of a distribution where it is from."""

    def __init__(self, value):
        self.value = value

    def read_text(self, name):
        assert name == "direct_url.json"
        return self.value if self.value is None else json.dumps(self.value)


def test_the_workflow_installs_lopbench_from_where_it_is(lopbench, tmp_path, monkeypatch):
    clone = tmp_path / "a clone"
    (clone / ".git").mkdir(parents=True)
    config = clone / ".git" / "config"
    here = {"url": clone.as_uri(), "dir_info": {"editable": True}}
    commit = {"vcs": "git", "commit_id": "0123abc"}
    for value, remote, wanted in (
        (None, "", "lopbench"),
        (
            {"url": "https://example.org/x.git", "vcs_info": commit},
            "",
            "lopbench @ git+https://example.org/x.git@0123abc",
        ),
        (here, "https://example.org/x.git", "lopbench @ git+https://example.org/x.git"),
        (here, "https://name:secret@example.org/x.git", "lopbench"),
        (here, "git@example.org:x.git", "lopbench"),
        ({"url": "file:///nowhere", "dir_info": {}}, "", "lopbench"),
    ):
        config.write_text(f'[remote "origin"]\n\turl = {remote}\n')
        monkeypatch.setattr(templates, "distribution", lambda name, value=value: Installed(value))
        assert templates.origin() == wanted
    monkeypatch.setattr(templates, "origin", lambda: "lopbench @ git+https://example.org/x.git")
    lopbench("plugins", "new", "mine")
    workflow = (tmp_path / "lopbench-mine" / ".github" / "workflows" / "test.yml").read_text()
    assert "- run: pip install 'lopbench @ git+https://example.org/x.git'\n" in workflow


def test_what_is_to_be_done_next_works_in_a_shell_that_does_not_know_the_environment(lopbench, tmp_path, monkeypatch):
    scripts = tmp_path / "an env" / "bin"
    scripts.mkdir(parents=True)
    for name in ("python", "pip", "lopbench"):
        (scripts / name).touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(scripts / "python"))
    monkeypatch.setenv("PATH", "/nowhere")
    folder = Path("a folder")
    assert shell.install(folder) == f"'{scripts / 'pip'}' install -e 'a folder'"
    assert shell.here() == f"'{scripts / 'lopbench'}'"
    monkeypatch.setenv("PATH", str(scripts))
    assert (shell.install(folder), shell.here()) == ("pip install -e 'a folder'", "lopbench")
    other = tmp_path / "other"
    other.mkdir()
    (other / "lopbench").touch(mode=0o755)
    monkeypatch.setenv("PATH", f"{other}:{scripts}")
    assert shell.here() == f"'{scripts / 'lopbench'}'"
    (scripts / "lopbench").unlink()
    (scripts / "pip").unlink()
    assert shell.here() == f"'{scripts / 'python'}' -m lopbench"
    # setuptools warns when the module pip is looked for after distutils was imported
    monkeypatch.setitem(sys.modules, "distutils", types.ModuleType("distutils"))
    assert shell.install(folder) == f"'{scripts / 'python'}' -m pip install -e 'a folder'"
