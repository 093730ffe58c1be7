import gzip
import hashlib
import zipfile

import numpy as np
import pytest

from lopbench.core.errors import DataError
from lopbench.core.interfaces import RemoteFile
from lopbench.data import load_data, locate, verify
from lopbench_plugins.data import emnist
from lopbench_plugins.data.emnist import CLASSES, EmnistBalanced

NAME = "emnist-balanced"
COUNTS = {"train": 3, "test": 2}


@pytest.fixture
def letters(monkeypatch):
    """Return the files of a small set by name, which is the original for as long as the test runs."""
    monkeypatch.setattr(emnist, "PER_CLASS", COUNTS)
    draws = np.random.default_rng(0)
    files = {}
    for split, each in COUNTS.items():
        labels = draws.permutation(np.repeat(np.arange(47), each)).astype(np.uint8)
        images = draws.integers(0, 256, (len(labels), 28, 28), dtype=np.uint8)
        images[:, 0, 0] = labels
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
            files[f"emnist-balanced-{split}-{kind}-ubyte"] = header + array.tobytes()
    return files


@pytest.fixture
def folder(tmp_path, letters):
    made = tmp_path / "data" / "EMNIST" / "raw"
    made.mkdir(parents=True)
    return made


@pytest.fixture
def archive(folder, letters, monkeypatch):
    """Write the zip."""
    path = folder / "gzip.zip"
    with zipfile.ZipFile(path, "w") as file:
        for name, content in letters.items():
            file.writestr(f"gzip/{name}.gz", gzip.compress(content))
        file.writestr("gzip/emnist-letters-mapping.txt", "1 65 97")
    (original,) = EmnistBalanced.files
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setattr(EmnistBalanced, "files", (RemoteFile(url=original.url, md5=md5),))
    return path


def unpack(folder, letters, packed=()):
    for name, content in letters.items():
        if name in packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)


def test_zip_and_unpacked_files_hold_the_same_images_of_47_classes(archive, letters, tmp_path):
    zipped = load_data(NAME, data_dir=tmp_path / "data")
    assert len(set(CLASSES)) == len(zipped.classes) == 47
    assert zipped.shape == (1, 28, 28)
    for images, labels, each in (
        (zipped.train_images, zipped.train_labels, 3),
        (zipped.test_images, zipped.test_labels, 2),
    ):
        assert labels.tolist() == np.repeat(np.arange(47), each).tolist()
        assert images[:, 0, 0, 0].tolist() == labels.tolist()
    archive.unlink()
    unpack(archive.parent, letters, packed=list(letters)[:2])
    assert load_data(NAME, data_dir=tmp_path / "data").content_hash == zipped.content_hash


def test_the_zip_whose_hash_is_known_is_read_before_files_whose_hash_is_not(archive, folder, letters, tmp_path):
    zipped = load_data(NAME, data_dir=tmp_path / "data")
    assert "unverified" not in zipped.notice
    name = "emnist-balanced-train-images-idx3-ubyte"
    letters[name] = letters[name][:-784] + bytes(784)
    unpack(folder, letters)
    both = load_data(NAME, data_dir=tmp_path / "data")
    assert (both.content_hash, both.notice) == (zipped.content_hash, zipped.notice)
    archive.unlink()
    other = load_data(NAME, data_dir=tmp_path / "data")
    assert other.content_hash != zipped.content_hash
    told = f"EMNIST Balanced, unverified as no hash of it is known, from {folder}: 141 train and 94 held-out images"
    assert other.notice.startswith(told)
    assert "is complete, unverified as no hash of it is known: 141 train" in verify(NAME, tmp_path / "data").message


def test_the_folder_or_what_torchvision_calls_root_may_be_named(archive, folder, tmp_path):
    assert locate(NAME, tmp_path / "data") == locate(NAME, folder.parent) == locate(NAME, folder) == folder


def test_a_zip_that_is_not_the_original_is_refused(archive, tmp_path):
    archive.write_bytes(archive.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"gzip\.zip has the MD5 .*, and the original has .*lopbench data get emnist"):
        load_data(NAME, data_dir=tmp_path / "data")


def test_a_missing_file_is_named(folder, letters, tmp_path):
    del letters["emnist-balanced-test-labels-idx1-ubyte"]
    unpack(folder, letters)
    with pytest.raises(DataError, match=r"raw has neither emnist-balanced-test-labels-idx1-ubyte nor .*\.gz; get it"):
        load_data(NAME, data_dir=tmp_path / "data")


@pytest.mark.parametrize(
    ("kind", "damage"),
    [
        ("images-idx3", lambda content: content[:-1]),
        ("images-idx3", lambda content: b"\0\0\1" + content[3:]),
        ("labels-idx1", lambda content: content + b"\0"),
    ],
)
def test_a_file_that_holds_something_else_is_refused(folder, letters, tmp_path, kind, damage):
    name = f"emnist-balanced-train-{kind}-ubyte"
    letters[name] = damage(letters[name])
    unpack(folder, letters)
    with pytest.raises(DataError, match=rf"{name} in .* is not the original: it does not hold 141"):
        load_data(NAME, data_dir=tmp_path / "data")


@pytest.mark.parametrize("label", [1, 47])
def test_labels_that_are_not_those_of_the_split_are_refused(folder, letters, tmp_path, label):
    name = "emnist-balanced-train-labels-idx1-ubyte"
    place = letters[name].index(b"\0", 8)
    letters[name] = letters[name][:place] + bytes([label]) + letters[name][place + 1 :]
    unpack(folder, letters)
    with pytest.raises(DataError, match=rf"{name} in .* has not 3 labels of each of 47 classes, as the original has"):
        load_data(NAME, data_dir=tmp_path / "data")


def test_a_damaged_gzip_file_is_named(folder, letters, tmp_path):
    unpack(folder, letters, packed=list(letters))
    path = folder / "emnist-balanced-train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz in .* is not a whole gzip file .*; get it again"):
        load_data(NAME, data_dir=tmp_path / "data")
