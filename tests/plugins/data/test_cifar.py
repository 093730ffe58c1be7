import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest

from lopbench.core.errors import DataError
from lopbench.data import load_data, locate, verify
from lopbench_plugins.data import cifar as module
from lopbench_plugins.data.cifar import Cifar10, Cifar100

NAME = "cifar10"


def test_every_image_has_its_own_pixels_and_class_in_the_order_of_the_batches(cifar, tmp_path):
    images = load_data(NAME, data_dir=cifar.folder(tmp_path / "data"))
    assert images.name == NAME
    assert images.shape == (3, 32, 32)
    assert images.classes == ("ape", "bat", "cat")
    # Labels 2 0 1 1 0 2 in the first batch and 0 0 1 2 1 2 in the second.
    of_class = [[(0, 1), (0, 4), (1, 0), (1, 1)], [(0, 2), (0, 3), (1, 2), (1, 4)], [(0, 0), (0, 5), (1, 3), (1, 5)]]
    assert images.train_labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    np.testing.assert_array_equal(images.train_images, [cifar.images[at] for places in of_class for at in places])
    assert images.test_labels.tolist() == [0, 0, 1, 1, 2, 2]
    np.testing.assert_array_equal(images.test_images, cifar.images[2][[2, 3, 1, 4, 0, 5]])


def test_the_cache_is_read_only_with_the_promised_types(cifar, tmp_path):
    images = load_data(NAME, data_dir=cifar.folder(tmp_path / "data"))
    for pixels, labels in ((images.train_images, images.train_labels), (images.test_images, images.test_labels)):
        assert isinstance(pixels, np.memmap)
        assert (pixels.dtype, labels.dtype) == (np.uint8, np.int64)
        assert not pixels.flags.writeable
        assert not labels.flags.writeable


def test_folder_and_every_tar_have_one_content_hash(cifar, tmp_path):
    from_folder = load_data(NAME, data_dir=cifar.folder(tmp_path / "folder").parent)
    assert not from_folder.subset
    assert "unverified" not in from_folder.notice  # each file has its MD5
    assert from_folder.real
    for name in ("cifar-10-python.tar.gz", "cifar-10-python.tar.bz2", "cifar-10-python.some.tar.xz"):
        path = cifar.tar(tmp_path / name, name)
        assert load_data(NAME, data_dir=path.parent).content_hash == from_folder.content_hash
        assert load_data(NAME, data_dir=path).content_hash == from_folder.content_hash


@pytest.mark.parametrize("form", ["folder", "tar"])
def test_a_set_without_some_training_batch_is_a_subset_with_another_hash(cifar, tmp_path, form):
    whole = load_data(NAME, data_dir=getattr(cifar, form)(tmp_path / "whole"))
    del cifar.files["data_batch_1"]
    part = load_data(NAME, data_dir=getattr(cifar, form)(tmp_path / "part"))
    assert part.subset
    assert "CIFAR-10, a subset of the original, from" in part.notice
    assert "6 train and 6 held-out images of 3 classes" in part.notice
    assert part.content_hash != whole.content_hash


@pytest.mark.parametrize("form", ["folder", "tar"])
@pytest.mark.parametrize(
    ("absent", "named"),
    [
        (["batches.meta"], "batches.meta"),
        (["test_batch"], "test_batch"),
        (["data_batch_1", "data_batch_2"], "data_batch_1"),
    ],
)
def test_what_is_missing_is_named_with_what_to_do(cifar, tmp_path, form, absent, named):
    for name in absent:
        del cifar.files[name]
    path = getattr(cifar, form)(tmp_path / "data")
    with pytest.raises(DataError, match=f"has no {named}; .*lopbench data get cifar10") as caught:
        load_data("auto", wanted=NAME, data_dir=path.parent)  # a damaged set is never replaced by procedural images
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("form", ["folder", "tar"])
@pytest.mark.parametrize("name", ["data_batch_2", "test_batch", "batches.meta"])
def test_a_file_that_is_not_the_original_is_named_and_never_unpickled(cifar, tmp_path, form, name, monkeypatch):
    content = bytearray(cifar.files[name])
    content[-20] ^= 1
    cifar.files = {name: bytes(content), **{other: data for other, data in cifar.files.items() if other != name}}
    seen = []
    monkeypatch.setattr(module, "unpickled", lambda content: seen.append(content) or pickle.loads(b"}."))
    with pytest.raises(DataError, match=f"{name} in .* is damaged or not the original: its MD5 is .*data get cifar10"):
        load_data(NAME, data_dir=getattr(cifar, form)(tmp_path / "data"))
    assert bytes(content) not in seen


@pytest.mark.parametrize("kept", [0.0, 0.5])
def test_a_truncated_tar_is_named_as_such(cifar, tmp_path, kept):
    for name in ("cifar-10-python.tar.gz", "cifar-10-python.tar.xz"):
        path = cifar.tar(tmp_path / name, name)
        content = path.read_bytes()
        path.write_bytes(content[: int(kept * len(content))])
        with pytest.raises(DataError, match=r"is not a whole tar file .*data get cifar10"):
            load_data(NAME, data_dir=path)


def test_an_html_page_called_tar_is_refused(cifar, tmp_path):
    (tmp_path / "cifar-10-python.tar.gz").write_text("<!DOCTYPE html><html>404</html>")
    with pytest.raises(DataError, match="is not a whole tar file"):
        load_data(NAME, data_dir=tmp_path)


def test_a_link_in_a_tar_is_not_followed(cifar, tmp_path):
    outside = cifar.folder(tmp_path / "outside") / "test_batch"
    del cifar.files["test_batch"]
    path = tmp_path / "cifar-10-python.tar"
    with tarfile.open(path, "w") as archive:
        archive.add(cifar.folder(tmp_path / "inside"), "cifar-10-batches-py")
        link = tarfile.TarInfo("cifar-10-batches-py/test_batch")
        link.type, link.linkname = tarfile.SYMTYPE, str(outside)
        archive.addfile(link)
    with pytest.raises(DataError, match="has no test_batch"):
        load_data(NAME, data_dir=path)


@pytest.mark.parametrize("form", ["folder", "tar"])
def test_a_second_load_reads_nothing(cifar, tmp_path, form, monkeypatch):
    path = getattr(cifar, form)(tmp_path / "data")
    first = load_data(NAME, data_dir=path)

    def refuse(_):
        raise AssertionError("read again")

    monkeypatch.setattr(module, "unpickled", refuse)
    second = load_data(NAME, data_dir=path)
    assert second.content_hash == first.content_hash
    np.testing.assert_array_equal(second.train_images, first.train_images)


def test_a_set_that_is_completed_is_read_again(cifar, tmp_path):
    batch = cifar.files.pop("data_batch_2")
    path = cifar.folder(tmp_path)
    assert len(load_data(NAME, data_dir=path).train_labels) == 6
    (path / "data_batch_2").write_bytes(batch)
    assert len(load_data(NAME, data_dir=path).train_labels) == 12


def test_only_what_is_named_like_the_set_is_taken_for_it(cifar, tiny, tmp_path):
    mixed = tmp_path / "mixed"
    zipped = tiny.zip(mixed)
    (mixed / "cifar-10-python.tar.gz.part").write_bytes(b"half of a download")
    (mixed / "cifar-100-python.tar.gz").write_bytes(b"another set")
    assert locate(NAME, mixed) is None
    assert locate(NAME, zipped) is None
    assert locate("cifar100", mixed) == mixed / "cifar-100-python.tar.gz"
    archive = cifar.tar(mixed, "cifar-10-python.subset.tar.xz")
    assert locate(NAME, mixed) == locate(NAME, archive) == archive
    assert locate("tiny-imagenet-200", archive) is None
    folder = cifar.folder(mixed)
    assert locate(NAME, mixed) == locate(NAME, folder) == folder
    assert locate("cifar100", folder) is None


def test_verify_reads_the_source_again_and_compares_with_the_cache(cifar, tmp_path):
    path = cifar.tar(tmp_path / "data")
    before = verify(NAME, path)
    assert (before.cache, before.subset, before.classes) == ("absent", False, 3)
    assert (before.train_per_class, before.test_per_class) == ((4, 4), (2, 2))
    images = load_data(NAME, data_dir=path)
    assert verify(NAME, path).cache == "matches"
    assert before.content_hash == images.content_hash
    (array,) = (tmp_path / "cache").rglob("train_images.npy")
    content = np.load(array)
    content.flat[-1] ^= 1
    np.save(array, content)
    assert verify(NAME, path).cache == "differs"


def test_cifar100_takes_the_fine_labels():
    assert (Cifar100.labels, Cifar100.names) == ("fine_labels", "fine_label_names")
    assert len(Cifar100.train) == 1


REAL = os.environ.get("LOPBENCH_DATA")  # read before the fixture hides it


@pytest.mark.slow
@pytest.mark.skipif(REAL is None, reason="LOPBENCH_DATA, which holds the real CIFAR-10, is not set")
def test_the_real_set_is_what_torchvision_reads(tmp_path):
    datasets = pytest.importorskip("torchvision.datasets")
    images = load_data(NAME, data_dir=Path(str(REAL)))
    assert images.classes == tuple(sorted(images.classes))
    assert np.bincount(images.test_labels).tolist() == [1000] * 10
    source = locate(NAME, Path(str(REAL)))
    if source.is_file():
        with tarfile.open(source) as archive:
            archive.extractall(tmp_path, filter="data")
    else:
        (tmp_path / Cifar10.unpacked).symlink_to(source)
    present = [part for part in datasets.CIFAR10.train_list if (tmp_path / Cifar10.unpacked / part[0]).exists()]
    assert images.subset == (len(present) < 5)
    if present == datasets.CIFAR10.train_list[:1]:
        assert images.content_hash == "636b7c093f2d6db33cfcc180fbc440194314497e93fe7d9ba2e23811def553b2"

    class Present(datasets.CIFAR10):
        train_list = present

    for train, pixels, labels in (
        (True, images.train_images, images.train_labels),
        (False, images.test_images, images.test_labels),
    ):
        theirs = Present(tmp_path, train=train)
        order = np.argsort(theirs.targets, kind="stable")
        np.testing.assert_array_equal(pixels, theirs.data[order].transpose(0, 3, 1, 2))
        np.testing.assert_array_equal(labels, np.array(theirs.targets)[order])
        assert images.classes == tuple(theirs.classes)
