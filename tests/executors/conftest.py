"""What the tests of executors share; in `tests/studies.py` are the studies that are done."""

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from lopbench.cli import cli

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))  # where studies.py is

from studies import Commands, done_serially


@pytest.fixture
def commands(tmp_path):
    """Return a function that makes the commands of a results folder."""
    return lambda **changes: Commands(tmp_path / "results", **{"LOPBENCH_CACHE": str(tmp_path / "cache"), **changes})


@pytest.fixture(scope="session")
def serial():
    """Return what the runs of these studies measure in one process."""
    return done_serially()


@pytest.fixture
def lopbench(tmp_path, monkeypatch):
    """Return a function that runs the command line in an empty directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "1000")
    return lambda *arguments: CliRunner().invoke(cli, [str(each) for each in arguments], prog_name="lopbench")
