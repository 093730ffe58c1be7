"""Files that results are written to: replaced whole, or written through where they are none."""

import os
import subprocess

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
