"""Files that anybody may have put there: read where they are files, and of a size that ours have."""

import os
from pathlib import Path

import pytest

from lopbench.core.reading import is_free, open_regular, read_regular, real_path


def test_a_file_is_read_up_to_its_last_byte(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"four")
    assert read_regular(path, most=4) == b"four"
    with pytest.raises(OSError, match="it has 4 bytes, at most 3 are read"):
        read_regular(path, most=3)
    with open_regular(path) as file:
        assert file.read() == b"four"


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "link to a pipe"])
def test_what_is_no_file_is_refused_at_once(tmp_path, kind):
    path = tmp_path / "it"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        os.mkfifo(tmp_path / "pipe")
        path.symlink_to(tmp_path / "pipe")
    with pytest.raises(OSError, match="it is no file, but a folder, pipe or device"):
        read_regular(path, most=10)
    assert not is_free(path)


def test_a_place_is_free_where_a_file_is_put_while_it_is_looked_at(tmp_path, monkeypatch):
    stat = Path.stat

    def late(path, *, follow_symlinks=True):
        try:
            return stat(path, follow_symlinks=follow_symlinks)
        finally:
            path.touch()

    monkeypatch.setattr(Path, "stat", late)
    assert is_free(tmp_path / "log")


def test_a_place_is_free_where_nothing_stands_or_a_file(tmp_path):
    assert is_free(tmp_path / "nothing")
    (tmp_path / "file").touch()
    assert is_free(tmp_path / "file")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    assert not is_free(tmp_path / "dangling")


def test_the_real_path_is_that_of_what_links_lead_to_and_links_in_a_circle_raise_nothing(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "circle").symlink_to("circle")
    assert real_path(tmp_path / "link") == (tmp_path / "file").resolve()
    assert real_path(tmp_path / "circle" / "below").name == "below"
    assert real_path("file").is_absolute()
