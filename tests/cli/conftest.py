import shutil
import sys
from functools import cache
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from lopbench.cli import cli
from lopbench.core.manager import plugins
from lopbench.data import ImageSet
from lopbench_plugins.data.procedural import procedural_images

#: A scenario of ten steps.
SCENARIO = "tinyimagenet40:tasks=2,steps_per_task=5,classes_per_task=2,resolution=8,images_per_class=10,batch_size=10"

#: A run of it.
TINY = [
    "run",
    f"--scenario={SCENARIO}",
    "--architecture=mlp:width=8,depth=1",
    "--metrics=dead_fraction",
    "--device=cpu",
    "--threads=1",  # ten steps are too little for two threads, which wait for each other on a busy machine
]


@pytest.fixture
def lopbench(tmp_path, monkeypatch):
    """Return a function that runs the command line in an empty directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *arguments: CliRunner().invoke(cli, [str(a) for a in arguments], prog_name="lopbench")


@pytest.fixture
def one_thread():
    """Let torch use one thread: tiny runs on a busy machine gain nothing from two."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def images():
    return procedural_images(classes=4, train=10, test=4)


@pytest.fixture
def tiny(monkeypatch, images, lopbench):
    """Return a function that does tiny runs on a few images."""
    asked = []

    def load(name, *, wanted, data_dir, progress) -> ImageSet:
        asked.append((name, wanted, data_dir))
        return images

    monkeypatch.setattr("lopbench.runner.study.load_data", load)

    def run(*arguments):
        return lopbench(*TINY, *arguments)

    run.asked, run.scenario = asked, SCENARIO
    threads = torch.get_num_threads()
    yield run
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def recorded_once(tmp_path_factory, images):
    """Return a function that runs a command, once for all tests, and gives its results folder: to be read alone."""

    @cache
    def results(*arguments):
        threads, folder = torch.get_num_threads(), tmp_path_factory.mktemp("recorded")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("lopbench.runner.study.load_data", lambda name, **_: images)
            shown = CliRunner().invoke(cli, [*arguments, f"--results={folder}"], prog_name="lopbench")
        torch.set_num_threads(threads)
        assert shown.exit_code == 0, shown.output
        return folder

    return results


@pytest.fixture
def recorded(recorded_once, lopbench):
    """Return a function that puts the results of a tiny run, or of another command, into the empty directory."""
    return lambda *arguments, run=TINY: Path(shutil.copytree(recorded_once(*run, *arguments), "results"))


@pytest.fixture
def runs():
    """Return a function that gives the names of the run directories of a results folder."""
    return lambda results=Path("results"): sorted(path.name for path in (results / "runs").glob("*"))


@pytest.fixture
def fresh_plugins(monkeypatch):
    """Let the test load plugins of its own, and forget them; returns a function that does so at once."""
    forget(monkeypatch)
    yield lambda: forget(monkeypatch)
    forget(monkeypatch)


def forget(monkeypatch):
    """Make lopbench as it is in a process that has loaded no file."""
    monkeypatch.setenv("LOPBENCH_PLUGIN_FILES", "")
    plugins.cache_clear()
    for name in [name for name in sys.modules if name.startswith("lopbench_file_")]:
        del sys.modules[name]
