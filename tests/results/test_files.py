"""Files that results are written to: replaced whole, or written through where they are none."""

import os
import subprocess
from pathlib import Path

import pytest

from lopbench.core.errors import ResultsError
from lopbench.results.files import write_whole


def test_what_is_no_file_is_written_to_and_stays_what_it_is(tmp_path):
    pipe, seen = tmp_path / "pipe", tmp_path / "seen"
    os.mkfifo(pipe)
    with subprocess.Popen(["sh", "-c", f"cat {pipe} > {seen}"]) as reader:
        write_whole(pipe, "text", "It")
    assert reader.returncode == 0
    assert seen.read_text() == "text"
    assert pipe.is_fifo()
    (tmp_path / "null").symlink_to("/dev/null")
    write_whole(tmp_path / "null", "text", "It")
    assert (tmp_path / "null").is_char_device()
    (tmp_path / "link").symlink_to(seen)
    write_whole(tmp_path / "link", "other", "It")
    assert (tmp_path / "link").is_symlink()
    assert seen.read_text() == "other"


def test_a_name_that_is_no_utf_8_can_stand_in_a_page(tmp_path):
    write_whole(tmp_path / "page", "bad\udcff", "It")
    assert (tmp_path / "page").read_text() == "bad\\udcff"


def test_bytes_are_written_as_they_are(tmp_path):
    write_whole(tmp_path / "figure", b"\xff\r\n\0", "It")
    assert (tmp_path / "figure").read_bytes() == b"\xff\r\n\0"


@pytest.mark.parametrize("step", ["write_bytes", "replace"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_what_was_there_stays_whole_and_nothing_lies_beside_it_if_writing_is_stopped(
    tmp_path, monkeypatch, step, error
):
    path = tmp_path / "table.csv"
    path.write_text("old")

    def stopped(self, *_):
        if step == "write_bytes":
            self.touch()
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Path, step, stopped)
        with pytest.raises((KeyboardInterrupt, ResultsError)):
            write_whole(path, "new", "It")
    assert path.read_text() == "old"
    assert [*tmp_path.iterdir()] == [path]
