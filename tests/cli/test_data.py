import json
from pathlib import Path

import pytest

from lopbench import data
from lopbench.core.manager import plugins
from lopbench.data import Report, data_set


@pytest.fixture(autouse=True)
def no_data(monkeypatch, tmp_path):
    monkeypatch.delenv("LOPBENCH_DATA", raising=False)
    monkeypatch.setenv("LOPBENCH_CACHE", str(tmp_path / "cache"))


def test_the_list_says_what_there_is_where_and_on_which_terms(lopbench):
    shown = lopbench("data", "list").stdout
    for name in plugins().registry.names("data"):
        assert name in shown
        assert data_set(name).terms[:40] in shown
    assert "not here; 'lopbench data get tiny-imagenet-200' downloads it" in shown
    assert "made when needed" in shown


def test_a_folder_with_the_data_is_found(lopbench, tmp_path):
    (tmp_path / "tiny-imagenet-200").mkdir()
    rows = json.loads(lopbench("data", "list", "--data-dir", tmp_path, "--format=json").stdout)
    paths = {row["name"]: row["path"] for row in rows}
    assert paths.pop("tiny-imagenet-200") == str(tmp_path / "tiny-imagenet-200")
    assert set(paths.values()) == {None}


def test_get_prints_the_path_and_shows_the_terms_first(lopbench, monkeypatch):
    def download(name, directory, progress):
        progress("downloading x", 1, 2)
        assert (name, directory) == ("tiny-imagenet-200", Path("here"))
        return directory / "x.zip"

    monkeypatch.setattr(data, "get", download)
    shown = lopbench("data", "get", "tiny-imagenet-200", "--data-dir=here")
    assert shown.stdout == f"{Path('here') / 'x.zip'}\n"
    assert shown.stderr.startswith("Terms: ")
    assert "downloading x" in shown.stderr


def test_what_is_not_downloaded_is_one_sentence(lopbench):
    shown = lopbench("data", "get", "procedural")
    assert shown.exit_code == 1
    assert "nothing to download" in shown.stderr


@pytest.mark.parametrize("command", ["get", "verify"])
def test_an_unknown_data_set_suggests_the_nearest(lopbench, command):
    shown = lopbench("data", command, "tiny-imagenet")
    assert shown.exit_code == 2
    assert "Did you mean 'tiny-imagenet-200'" in shown.stderr


def test_verifying_what_is_not_here_is_one_sentence(lopbench):
    shown = lopbench("data", "verify", "tiny-imagenet-200")
    assert shown.exit_code == 1
    assert "data get tiny-imagenet-200" in shown.stderr


@pytest.mark.parametrize(("cache", "code"), [("matches", 0), ("absent", 0), ("differs", 1)])
def test_verify_tells_and_its_exit_code_too(lopbench, monkeypatch, cache, code):
    report = Report(
        name="procedural",
        path=None,
        content_hash="abc",
        subset=False,
        cache=cache,
        message="All is said.",
    )
    monkeypatch.setattr(data, "verify", lambda name, data_dir, progress: report)
    shown = lopbench("data", "verify", "procedural")
    assert shown.stdout == "All is said.\nContent hash: abc\n"
    assert shown.exit_code == code
