"""Study files of plugins, by name."""

from pathlib import Path

import pytest

from lopbench.core.errors import PluginError, UsageError
from lopbench.core.hookspecs import hookimpl
from lopbench.core.manager import build_manager
from lopbench.core.registry import Distribution
from lopbench.core.shipped import shipped, study_path


class Bringing:
    """A plugin that brings the files of a folder."""

    def __init__(self, folder):
        self.folder = folder

    @hookimpl
    def lopbench_studies(self):
        if self.folder is None:
            raise SystemExit("no folder")
        return self.folder


def plugins_with(*folders):
    loaded = build_manager(load_entry_points=False)
    for number, folder in enumerate(folders):
        loaded.register(Bringing(folder), name=f"p{number}", distribution=Distribution(f"d{number}", "1"))
    return loaded


def folder(path, *names):
    for name in names:
        (path / "claims").mkdir(parents=True, exist_ok=True)
        (path / "claims" / f"{name}.toml").touch()
    return path


def test_files_are_named_by_their_place_and_ordered_as_people_count(tmp_path):
    loaded = plugins_with(folder(tmp_path / "a", "D10", "D2", "D2-paper"), folder(tmp_path / "b", "mine"))
    assert list(shipped("claims", loaded)) == ["D2", "D2-paper", "D10", "mine"]
    assert shipped("figures", loaded) == {}


def test_two_files_of_one_name_are_refused(tmp_path):
    loaded = plugins_with(folder(tmp_path / "a", "D2"), folder(tmp_path / "b", "D2"))
    with pytest.raises(PluginError, match=r"claims/D2 is there twice: .*a.claims.D2.toml and .*b.claims.D2.toml"):
        shipped("claims", loaded)


def test_a_plugin_that_exits_takes_no_command_with_it():
    with pytest.raises(PluginError, match="d0:p0 does not say where its study files are: SystemExit: no folder"):
        shipped("claims", plugins_with(None))


def test_a_file_goes_before_a_name_and_what_is_neither_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert study_path(Path("D7"), "claims").name == "D7.toml"
    assert study_path(Path("claims/D7"), "claims") == study_path(Path("D7"), "claims")
    (tmp_path / "D7").touch()
    assert study_path(Path("D7"), "claims") == Path("D7")
    with pytest.raises(UsageError, match=r"no file D7-activatoins, .* Did you mean 'D7-activations'"):
        study_path(Path("D7-activatoins"), "claims")
