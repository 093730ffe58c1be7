import re
import shlex
import sys
import types
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import lopbench
from lopbench.cli import cli
from lopbench.core.manager import plugins
from lopbench.core.registry import Distribution
from lopbench.results.pack import unpack
from lopbench_plugins.data.procedural import procedural_images

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
SHELL = [line for language, block in BLOCKS if language == "sh" for line in block.splitlines()]
PYTHON = [block for language, block in BLOCKS if language == "python"]
TEST_COMMAND = "python3 -m venv .venv && .venv/bin/pip install '.[test]' && .venv/bin/python -m pytest -n auto"


COMMANDS = [
    words[index + 1 :]
    for words in (shlex.split(line) for line in SHELL)
    for index, word in enumerate(words)
    if word == "lopbench" or word.endswith("bin/lopbench")
]
#: Those that read published results, or what the one before has made of them.
PUBLISHED = [
    each for each in COMMANDS if any(part.startswith(("results/tiny", "results/slow", "entries")) for part in each)
]
#: The study file that commands name.
(STUDY,) = (block for language, block in BLOCKS if language == "toml" and block.startswith("# mitigations.toml"))


@pytest.fixture
def few_images(monkeypatch, tmp_path):
    (tmp_path / "mitigations.toml").write_text(STUDY)
    images = procedural_images(classes=30, train=50, test=4)
    monkeypatch.setattr("lopbench.runner.study.load_data", lambda name, **_: images)
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def plugin():
    """Return a function that runs a block as a module and registers it as a plugin, for the time of the test."""
    loaded = plugins()
    modules = []

    def load(block):
        module = types.ModuleType("lopbench_clip")
        sys.modules[module.__name__] = module
        modules.append(module)
        exec(compile(block, module.__name__, "exec"), vars(module))
        loaded.register(module, name="clip", distribution=Distribution("lopbench-clip", "1.0"))
        return module

    yield load
    for module in modules:
        del sys.modules[module.__name__]
        loaded.manager.unregister(module)
        del loaded.registry._entries["methods"]["clip"]


def test_there_is_something_to_test():
    assert len(COMMANDS) >= 10
    assert len(PYTHON) == 3


@pytest.mark.parametrize("arguments", [each for each in COMMANDS if each not in PUBLISHED], ids=" ".join)
def test_every_command_is_understood(arguments, few_images, monkeypatch):
    monkeypatch.setattr("lopbench.runner.rehearsal.rehearse", lambda specs, data: None)  # the images are too few
    # What would train is planned only; what needs a network or results is only parsed.
    more = {"run": ["--device=cpu", "--dry-run"], "list": [], "show": []}.get(arguments[0], ["--help"])
    if "my-method" in arguments:  # which is not installed here
        more = ["--help"]
    shown = CliRunner().invoke(cli, [*arguments, *more])
    assert shown.exit_code == 0, shown.output


def test_commands_on_published_results_work_in_a_fresh_clone(tmp_path, monkeypatch):
    (tmp_path / "results").symlink_to(ROOT / "results")
    monkeypatch.chdir(tmp_path)
    assert {arguments[0] for arguments in PUBLISHED} >= {
        "leaderboard",
        "compare",
        "plot",
        "submit",
        "verify-entry",
        "verify",
        "figure",
    }
    for arguments in PUBLISHED:
        shown = CliRunner().invoke(cli, arguments)
        assert shown.exit_code == 0, (arguments, shown.output)


def test_the_python_example_runs(few_images, capsys):
    exec(compile(PYTHON[0], "README.md", "exec"), {})
    shown = capsys.readouterr().out
    assert "none" in shown
    assert "layernorm" in shown


def test_three_lines_of_pandas_read_all_records(monkeypatch, tmp_path):
    unpack(ROOT / "results" / "tinyimagenet40-lite-mlp" / "runs.lopbench", tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(PYTHON[2], "README.md", "exec"), names)
    frame = names["frame"]
    assert len([line for line in PYTHON[2].splitlines() if line]) == 3
    assert set(frame.index.get_level_values("run")) == {path.name for path in Path("results/runs").iterdir()}
    assert list(frame.columns) == ["step", "task", "layer", "metric", "value"]


def test_the_plugin_example_is_a_method_that_does_what_it_says(plugin, few_images):
    module = plugin(PYTHON[1])
    tiny = {"scenario": "tinyimagenet40:tasks=2,steps_per_task=5,resolution=8", "metrics": ["weight_norm"]}
    frame = lopbench.run(methods=["none", "clip:factor=1"], device="cpu", **tiny)
    assert set(frame["method"]) == {"none", "clip:factor=1"}
    assert list(frame["failed"]) == [0, 0]

    class Learner:
        initial = {"w": torch.tensor([[1.0, -2.0], [3.0, 0.5]])}  # noqa: RUF012 (R, D)
        parameters = {"w": torch.tensor([[5.0, -1.0], [-9.0, 4.0]])}  # noqa: RUF012

    module.Clip(factor=1.0).after_step(Learner(), None)
    assert Learner.parameters["w"].tolist() == [[2.0, -1.0], [-3.0, 3.0]]
    with pytest.raises(lopbench.InvalidInputError, match="above 0"):
        module.Clip(factor=0.0)


@pytest.mark.parametrize("kind", ["architectures", "methods", "metrics", "scenarios"])
def test_every_builtin_is_named(kind):
    ours = [entry.name for entry in plugins().registry.entries(kind) if entry.distribution.name == "lopbench"]
    assert [name for name in ours if not re.search(rf"`{name}[`:]", TEXT)] == []


def test_every_profile_is_named():
    scenario = plugins().registry.get("scenarios", "tinyimagenet40").load()
    assert [profile for profile in scenario.profiles if f"| `{profile}`" not in TEXT] == []


def test_there_is_one_test_command_and_ci_runs_it():
    assert [line for line in SHELL if "-m pytest" in line] == [TEST_COMMAND]
    script = (ROOT / ".ci" / "run").read_text()
    assert "README.md" in script
    assert "-m pytest" in script


def test_the_place_for_results_is_there():
    assert TEXT.count("<!-- results -->") == TEXT.count("<!-- /results -->") == 1
