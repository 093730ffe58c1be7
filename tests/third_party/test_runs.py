"""Whole runs from the command line with ``--plugin FILE``: tokens, an agent, and methods on both."""

import sys

import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from third_party_lab import PLUGINS

from lopbench.cli import cli
from lopbench.core import manager


@pytest.fixture
def lopbench(tmp_path, monkeypatch):
    """Return a function that runs the command line with plugin files, which are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOPBENCH_PLUGIN_FILES", "")
    others = {name: sys.modules.pop(name) for name in list(sys.modules) if name.startswith("lopbench_file_")}
    manager.plugins.cache_clear()
    threads = torch.get_num_threads()

    def run(*arguments, files):
        options = [f"--plugin={PLUGINS / name}.py" for name in files]
        done = CliRunner().invoke(cli, [*arguments[:1], *options, *arguments[1:]], prog_name="lopbench")
        assert done.exit_code == 0, done.output
        return done

    yield run
    torch.set_num_threads(threads)
    manager.plugins.cache_clear()
    for name in [name for name in sys.modules if name.startswith("lopbench_file_")]:
        del sys.modules[name]
    sys.modules.update(others)


def records(path):
    """Return name and log of each run, references left out."""
    found = {each.name: (each / "log.txt").read_text() for each in sorted((path / "results" / "runs").iterdir())}
    return {name: log for name, log in found.items() if "-fresh-" not in name}


TOKENS = ("run", "--scenario=characters", "--profile=smoke", "--architecture=token_transformer:width=8,hidden=12")
AGENT = ("run", "--scenario=bandit", "--profile=smoke", "--architecture=mlp:width=8,depth=1")


@pytest.mark.slow
def test_a_transformer_is_trained_on_tokens_by_a_program_and_again_to_the_bit(lopbench, tmp_path):
    files = ["characters", "replay"]
    cbp = "--method=cbp:replacement_rate=0.05,maturity=5"
    lopbench(*TOKENS, cbp, "--method=replay:samples=4+plasticity_injection", "--metrics=dead_fraction", files=files)
    made = records(tmp_path)
    assert len(made) == 2
    for name, log in made.items():
        assert "a program of 1 steps a call" in log, name
    first = next(iter(made))
    again = lopbench("reproduce", str(tmp_path / "results" / "runs" / first), files=files)
    assert again.stdout == "identical, bit by bit\n"


def test_an_agent_is_trained_on_what_it_does(lopbench, tmp_path):
    lopbench(*AGENT, "--method=c_chain", "--metrics=dead_fraction", files=["bandit"])
    (name,) = records(tmp_path)
    measured = pd.read_parquet(tmp_path / "results" / "runs" / name / "measurements.parquet")
    assert "heldout_score" not in set(measured["metric"])
    online = measured[measured["metric"] == "online_accuracy"]["value"]
    assert online.nunique() > 1
