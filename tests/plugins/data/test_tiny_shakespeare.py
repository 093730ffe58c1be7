import os
from pathlib import Path

import numpy as np
import pytest

from lopbench.core.errors import DataError
from lopbench.core.interfaces import RemoteFile
from lopbench.data import load_data, locate
from lopbench_plugins.data.tiny_shakespeare import TinyShakespeare

NAME = "tiny-shakespeare"
TEXT = b"First Citizen:\nSpeak, speak.\n"


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Let the original be a few words, and write it."""
    sha256 = "92924892003051c30041407581c5aeac9bb405817d95480aaacdb64146024085"
    (original,) = TinyShakespeare.files
    file = RemoteFile(url=original.url, size_bytes=len(TEXT), sha256=sha256)
    monkeypatch.setattr(TinyShakespeare, "files", (file,))
    path = tmp_path / "data" / "tinyshakespeare" / "input.txt"
    path.parent.mkdir(parents=True)
    path.write_bytes(TEXT)
    return path


def test_text_and_vocabulary_are_the_bytes_of_the_file(small):
    found = load_data(NAME, data_dir=small.parents[1])
    assert bytes(found["text"]) == TEXT
    assert bytes(found["vocabulary"]) == bytes(sorted(set(TEXT)))
    assert found.real
    assert "unverified" not in found.notice
    assert locate(NAME, small.parent) == small.parent


def test_absence_is_an_error_as_nothing_stands_in(tmp_path):
    with pytest.raises(DataError, match=r"tiny-shakespeare is not in .*lopbench data get tiny-shakespeare"):
        load_data("auto", wanted=NAME, data_dir=tmp_path)


def test_a_text_that_was_cut_off_or_changed_is_refused(small):
    small.write_bytes(TEXT[:-1])
    with pytest.raises(
        DataError, match=r"input\.txt has 28 bytes, and the original has 29; get it again, 'lopbench da"
    ):
        load_data(NAME, data_dir=small.parents[1])
    small.write_bytes(TEXT.swapcase())
    with pytest.raises(DataError, match=r"input\.txt has the SHA-256 .*, and the original has 92924892"):
        load_data(NAME, data_dir=small.parents[1])


def test_the_example_is_a_text_of_letters_that_follow_each_other_unevenly():
    example = TinyShakespeare().example()
    letters = example["text"].astype(np.int64) - 97
    pairs = np.bincount(26 * letters[:-1] + letters[1:], minlength=26**2).reshape(26, 26)
    assert example["vocabulary"].tolist() == list(range(97, 123))
    assert pairs.max(axis=1).min() > 3 * pairs.mean()


REAL = os.environ.get("LOPBENCH_DATA")  # read before the fixture hides it


@pytest.mark.skipif(REAL is None, reason="LOPBENCH_DATA, which holds the real text, is not set")
def test_the_real_text_has_its_published_size():
    found = load_data(NAME, data_dir=Path(str(REAL)))
    assert (found["text"].shape, found["vocabulary"].shape) == ((1_115_394,), (65,))
    assert bytes(found["text"][:14]) == b"First Citizen:"
