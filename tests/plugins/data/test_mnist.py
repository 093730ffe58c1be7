import gzip
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from lopbench.core.errors import DataError
from lopbench.data import load_data, locate

NAME = "mnist"


@pytest.mark.parametrize("packed", [True, False])
def test_every_image_has_its_own_pixels_and_class_in_the_order_of_the_files(digits, tmp_path, packed):
    images = load_data(NAME, data_dir=digits.folder(tmp_path / "data", packed=packed))
    assert images.name == NAME
    assert images.shape == (1, 28, 28)
    assert images.classes == tuple("0123456789")
    assert images.real
    assert not images.subset
    assert "unverified" not in images.notice  # each file has its MD5
    for pixels, labels, theirs, numbers in (
        (images.train_images, images.train_labels, digits.images[0], digits.labels[0]),
        (images.test_images, images.test_labels, digits.images[1], digits.labels[1]),
    ):
        assert labels.tolist() == sorted(numbers)
        np.testing.assert_array_equal(pixels, [theirs[k] for label in range(10) for k in np.where(numbers == label)[0]])


def test_packed_and_unpacked_files_have_one_content_hash_and_may_be_mixed(digits, tmp_path):
    packed = digits.folder(tmp_path / "a")
    plain = digits.folder(tmp_path / "b", packed=False)
    mixed = digits.folder(tmp_path / "c")
    shutil.copy(plain / "train-images-idx3-ubyte", mixed)
    (mixed / "train-images-idx3-ubyte.gz").unlink()
    hashes = {load_data(NAME, data_dir=path).content_hash for path in (packed, plain, mixed)}
    assert len(hashes) == 1


def test_the_folder_or_what_torchvision_calls_root_may_be_named(digits, tmp_path):
    folder = digits.folder(tmp_path)
    assert locate(NAME, tmp_path) == locate(NAME, folder.parent) == locate(NAME, folder) == folder
    (tmp_path / "FashionMNIST").mkdir()
    folder.rename(tmp_path / "FashionMNIST" / "raw")  # its files have the same names
    assert locate(NAME, tmp_path) is None


@pytest.mark.parametrize("packed", [True, False])
def test_files_with_a_dot_in_their_names_are_found(digits, tmp_path, packed):
    folder = digits.folder(tmp_path / "plain", packed=packed)
    wanted = load_data(NAME, data_dir=folder).content_hash
    for path in list(folder.iterdir()):
        path.rename(path.with_name(path.name.replace("-idx", ".idx")))
    assert load_data(NAME, data_dir=folder).content_hash == wanted


def test_a_missing_file_is_named(digits, tmp_path):
    folder = digits.folder(tmp_path)
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"neither t10k-labels-idx1-ubyte nor .*\.gz; .*lopbench data get mnist"):
        load_data("auto", wanted=NAME, data_dir=tmp_path)  # a damaged set is never replaced by procedural images


@pytest.mark.parametrize("packed", [True, False])
def test_a_file_that_is_not_the_original_is_named(digits, tmp_path, packed):
    content = bytearray(digits.files["train-labels-idx1-ubyte"])
    content[-1] ^= 1
    digits.files["train-labels-idx1-ubyte"] = bytes(content)
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte.* is damaged or not the original: its MD5 is"):
        load_data(NAME, data_dir=digits.folder(tmp_path, packed=packed))


@pytest.mark.parametrize("damage", [lambda content: content[:-5], lambda content: b"<html></html>"])
def test_a_damaged_gzip_file_is_named(digits, tmp_path, damage):
    file = digits.folder(tmp_path) / "train-images-idx3-ubyte.gz"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz is not a whole gzip file .*data get mnist"):
        load_data(NAME, data_dir=tmp_path)


REAL = os.environ.get("LOPBENCH_DATA")  # read before the fixture hides it


@pytest.mark.skipif(REAL is None, reason="LOPBENCH_DATA, which holds the real MNIST, is not set")
def test_the_real_set_is_what_torchvision_reads(tmp_path):
    idx = pytest.importorskip("torchvision.datasets.mnist")
    images = load_data(NAME, data_dir=Path(str(REAL)))
    assert images.content_hash == "18f95a9c29520c1ed484a2390d1d7d7f78c8f5bf772e6f99968f23f47de74769"
    for split, pixels, labels in (
        ("train", images.train_images, images.train_labels),
        ("t10k", images.test_images, images.test_labels),
    ):
        theirs = []
        for kind, read in (("images-idx3", idx.read_image_file), ("labels-idx1", idx.read_label_file)):
            file = locate(NAME, Path(str(REAL))) / f"{split}-{kind}-ubyte.gz"
            plain = tmp_path / file.stem
            packed = file.exists()
            plain.write_bytes(gzip.decompress(file.read_bytes()) if packed else file.with_suffix("").read_bytes())
            theirs.append(read(str(plain)).numpy())
        order = np.argsort(theirs[1], kind="stable")
        np.testing.assert_array_equal(pixels[:, 0], theirs[0][order])
        np.testing.assert_array_equal(labels, theirs[1][order])
