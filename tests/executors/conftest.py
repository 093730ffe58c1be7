"""What the tests of executors share; in `studies.py` are the studies that are done."""

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from lopbench.cli import cli

sys.path.insert(0, str(Path(__file__).parent))

from studies import Commands


@pytest.fixture
def commands(tmp_path):
    """Return a function that makes the commands of a results folder."""
    return lambda **changes: Commands(tmp_path / "results", **{"LOPBENCH_CACHE": str(tmp_path / "cache"), **changes})


@pytest.fixture(scope="session")
def serial(tmp_path_factory):
    """Return what the runs of these studies measure in one process."""
    alone = Commands(tmp_path_factory.mktemp("serial"))
    code, _, err = alone.run("--jobs=1")
    assert code == 0, err
    return alone.records()


@pytest.fixture
def lopbench(tmp_path, monkeypatch):
    """Return a function that runs the command line in an empty directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *arguments: CliRunner().invoke(cli, [str(each) for each in arguments], prog_name="lopbench")
