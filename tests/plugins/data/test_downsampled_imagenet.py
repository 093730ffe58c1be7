import hashlib
import io
import os
import pickle
import zipfile

import numpy as np
import pytest
from pickled import python2_pickle, python3_pickle

from lopbench.core.errors import DataError
from lopbench.core.interfaces import RemoteFile
from lopbench.data import load_data, locate
from lopbench_plugins.data import downsampled_imagenet as module
from lopbench_plugins.data.downsampled_imagenet import DownsampledImageNet

NAME = "downsampled-imagenet-32"
FILES = DownsampledImageNet.files

#: Two training batches and the held-out one, as labels from 1.
LABELS = {
    "train_data_batch_1.npz": [1000, 2, 1, 2],
    "train_data_batch_2.npz": [1, 1000, 2, 1, 7],
    "val_data.npz": [2, 1, 1000, 7],
}


def npz(pixels, labels):
    """Return a file as the authors wrote it."""
    buffer = io.BytesIO()
    mean = pixels.mean(axis=0) if pixels.dtype == np.uint8 else pixels[0]
    np.savez_compressed(buffer, data=pixels, labels=np.array(labels), mean=mean)
    return buffer.getvalue()


@pytest.fixture
def files(monkeypatch):
    """Return the files of a small set by name, which is the original for as long as the test runs."""
    draws = np.random.default_rng(0)
    made = {name: npz(draws.integers(0, 256, (len(y), 3072), dtype=np.uint8), y) for name, y in LABELS.items()}
    are_original(monkeypatch, made)
    monkeypatch.setattr(module, "COUNTS", {"train": 9, "test": 4})
    # What they are as zips, which are packed here, is for the tests of it.
    monkeypatch.setattr(DownsampledImageNet, "files", tuple(RemoteFile(url=each.url) for each in FILES))
    return made


def are_original(monkeypatch, files):
    hashes = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
    monkeypatch.setattr(module, "TRAIN", {name: h for name, h in hashes.items() if name.startswith("train")})
    monkeypatch.setattr(module, "TEST", {name: h for name, h in hashes.items() if name.startswith("val")})


def python3(pixels, labels):
    """Return a file as the scripts of the authors write it with Python 3 and numpy 1."""
    return python3_pickle({"data": pixels, "labels": list(labels), "mean": pixels.mean(axis=0)})


def pickles(files, form):
    """Return the same arrays as pickles, by name."""
    arrays = {name: np.load(io.BytesIO(content)) for name, content in files.items()}
    return {name.removesuffix(".npz"): form(each["data"], each["labels"].tolist()) for name, each in arrays.items()}


def zips(folder, files, end="_npz"):
    folder.mkdir(parents=True, exist_ok=True)
    for split, top in (("train", f"Imagenet32_train{end}"), ("val", f"Imagenet32_val{end}")):
        with zipfile.ZipFile(folder / f"{top}.zip", "w") as archive:
            for name, content in files.items():
                if name.startswith(split):
                    archive.writestr(f"{top}/{name}", content)
    return folder


def unpacked(folder, files, *, flat=True):
    for name, content in files.items():
        top = "" if flat else ("Imagenet32_train_npz" if name.startswith("train") else "Imagenet32_val_npz")
        (folder / top).mkdir(parents=True, exist_ok=True)
        (folder / top / name).write_bytes(content)
    return folder


def test_every_image_has_its_own_pixels_and_class_from_zero(files, tmp_path):
    images = load_data(NAME, data_dir=zips(tmp_path / "data", files))
    assert (images.name, images.shape, len(images.classes)) == (NAME, (3, 32, 32), 1000)
    assert (images.classes[0], images.classes[999]) == ("0001", "1000")
    contents = {name: np.load(io.BytesIO(content))["data"] for name, content in files.items()}
    one, two = (contents[f"train_data_batch_{k}.npz"].reshape(-1, 3, 32, 32) for k in (1, 2))
    assert images.train_labels.tolist() == [0, 0, 0, 1, 1, 1, 6, 999, 999]
    expected = [one[2], two[0], two[3], one[1], one[3], two[2], two[4], one[0], two[1]]
    np.testing.assert_array_equal(images.train_images, expected)
    assert images.test_labels.tolist() == [0, 1, 6, 999]
    held_out = contents["val_data.npz"].reshape(-1, 3, 32, 32)
    np.testing.assert_array_equal(images.test_images, held_out[[1, 0, 3, 2]])


def test_zips_and_unpacked_files_have_one_content_hash(files, tmp_path):
    wanted = load_data(NAME, data_dir=zips(tmp_path / "zips", files)).content_hash
    for flat in (True, False):
        assert load_data(NAME, data_dir=unpacked(tmp_path / str(flat), files, flat=flat)).content_hash == wanted
    folder = zips(tmp_path / "root" / NAME, files)  # where 'lopbench data get' puts them
    assert locate(NAME, tmp_path / "root") == folder
    assert load_data(NAME, data_dir=tmp_path / "root").content_hash == wanted


def test_images_are_put_in_order_across_chunks(files, tmp_path, monkeypatch):
    wanted = load_data(NAME, data_dir=zips(tmp_path / "zips", files)).content_hash
    monkeypatch.setattr(module, "_CHUNK", 2)
    assert load_data(NAME, data_dir=unpacked(tmp_path / "unpacked", files)).content_hash == wanted


@pytest.mark.parametrize("form", [zips, unpacked])
@pytest.mark.parametrize("name", ["train_data_batch_2.npz", "val_data.npz"])
def test_what_is_missing_is_named_with_what_to_do(files, tmp_path, form, name):
    del files[name]
    with pytest.raises(DataError, match=f"has no {name}; get it again, 'lopbench data get {NAME}' downloads it"):
        load_data(NAME, data_dir=form(tmp_path / "data", files))


@pytest.mark.parametrize("form", [zips, unpacked])
def test_a_file_that_is_not_the_original_is_named_and_not_read(files, tmp_path, form, monkeypatch):
    files["train_data_batch_2.npz"] += b"more"
    read = []
    monkeypatch.setattr(module.np, "load", lambda *given, **named: read.append(1) or pytest.fail("it was read"))
    monkeypatch.setattr(module, "TRAIN", {"train_data_batch_2.npz": "0" * 32})
    with pytest.raises(DataError, match=r"train_data_batch_2.npz in .* is damaged or not the original: its MD5 is"):
        load_data(NAME, data_dir=form(tmp_path / "data", files))
    assert read == []


def test_a_truncated_or_changed_zip_is_named_with_what_it_should_be(files, tmp_path, monkeypatch):
    folder = zips(tmp_path / "data", files)
    path = folder / "Imagenet32_train_npz.zip"
    content = path.read_bytes()
    original = RemoteFile(url=FILES[0].url, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(DownsampledImageNet, "files", (original,))
    assert len(load_data(NAME, data_dir=folder).train_labels) == 9
    path.write_bytes(content[:-200])
    told = f"{len(content) - 200:,} bytes, and the original has {len(content):,}; get it again, 'lopbench data get"
    with pytest.raises(DataError, match=f"Imagenet32_train_npz.zip has {told}"):
        load_data(NAME, data_dir=folder)
    path.write_bytes(content[:-1] + b"!")
    with pytest.raises(DataError, match=r"Imagenet32_train_npz.zip has the SHA-256 .*, and the original has"):
        load_data(NAME, data_dir=folder)


def test_the_zips_are_those_of_tensorflow_datasets():
    assert [file.size_bytes for file in FILES] == [3_580_435_279, 139_697_668]
    assert [file.sha256[:12] for file in FILES] == ["94226337ecc1", "013990e6dec1"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"no npz file at all", "val_data.npz in .* holds no data and labels"),
        (npz(np.zeros((3, 3072), np.float32), [1, 2, 3]), r"holds float32 \(3, 3072\) for 3 labels, and not bytes"),
        (npz(np.zeros((3, 768), np.uint8), [1, 2, 3]), r"holds uint8 \(3, 768\) for 3 labels, and not bytes \(3, 3072"),
    ],
)
def test_a_file_of_another_format_is_named(files, tmp_path, monkeypatch, content, told):
    are_original(monkeypatch, {**files, "val_data.npz": content})
    with pytest.raises(DataError, match=told):
        load_data(NAME, data_dir=unpacked(tmp_path / "data", {**files, "val_data.npz": content}))


def test_arrays_of_objects_are_never_unpickled(files, tmp_path, monkeypatch):
    content = npz(np.array([[{}]], dtype=object), [1])
    are_original(monkeypatch, {**files, "val_data.npz": content})
    with pytest.raises(DataError, match=r"val_data.npz in .* holds no data and labels .*allow_pickle=False"):
        load_data(NAME, data_dir=unpacked(tmp_path / "data", {**files, "val_data.npz": content}))


@pytest.mark.parametrize("form", [python2_pickle, python3])
def test_pickles_hold_the_same_images_as_npz_files(files, tmp_path, form, monkeypatch):
    monkeypatch.setattr(pickle, "load", lambda *_, **__: pytest.fail("it was unpickled the usual way"))
    monkeypatch.setattr(pickle, "loads", lambda *_, **__: pytest.fail("it was unpickled the usual way"))
    wanted = load_data(NAME, data_dir=zips(tmp_path / "npz", files))
    batches = pickles(files, form)
    for folder in (
        unpacked(tmp_path / "flat", batches),
        unpacked(tmp_path / "root" / NAME, batches).parent,
        zips(tmp_path / "zips", batches, end=""),
    ):
        found = load_data(NAME, data_dir=folder)
        assert found.content_hash == wanted.content_hash
        assert found.notice.startswith("Downsampled ImageNet 32x32, unverified as no hash of it is known, from ")
        np.testing.assert_array_equal(found.train_images, wanted.train_images)
    (tmp_path / "both" / "Imagenet32_train").mkdir(parents=True)
    for name, content in batches.items():
        (tmp_path / "both" / ("Imagenet32_train" if "train" in name else "") / name).write_bytes(content)
    assert load_data(NAME, data_dir=tmp_path / "both").content_hash == wanted.content_hash


def test_npz_files_whose_hash_is_known_are_read_before_pickles(files, tmp_path, monkeypatch):
    folder = unpacked(zips(tmp_path / "data", files), pickles(files, python2_pickle))
    monkeypatch.setattr(module, "unpickled", lambda _: pytest.fail("a pickle was read"))
    found = load_data(NAME, data_dir=folder)
    assert len(found.train_labels) == 9
    assert "unverified" not in found.notice


@pytest.mark.parametrize("absent", ["train_data_batch_2", "val_data"])
def test_a_missing_pickle_is_named(files, tmp_path, absent):
    batches = pickles(files, python2_pickle)
    del batches[absent]
    for folder in (unpacked(tmp_path / "data", batches), zips(tmp_path / "zips", batches, end="")):
        with pytest.raises(DataError, match=f"has no {absent}; get it again, 'lopbench data get {NAME}' downloads it"):
            load_data(NAME, data_dir=folder)


class Evil:
    def __reduce__(self):
        return os.system, ("touch made",)


FEW = np.zeros((4, 3072), np.uint8)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            pickle.dumps({"data": Evil(), "labels": [1]}, 2),
            r"no data and labels \('posix.system' has no place in a file",
        ),
        (pickle.dumps({"data": Evil, "labels": [1]}, 2), r"holds no data and labels \('.*Evil' has no place in a file"),
        (python2_pickle(FEW, [1, 2, 3, 4])[:-40], r"holds no data and labels \(.*(truncated|Ran out)"),
        (b"", r"holds no data and labels \(Ran out of input\)"),
        (pickle.dumps([1, 2]), r"holds no data and labels \(it holds no dictionary with names\)"),
        (pickle.dumps({"labels": [1]}), r"holds no data and labels \('data'\)"),
        (
            python3(FEW.astype(np.float32), [1, 2, 3, 4]),
            r"holds no data and labels \(it has something else where an arr",
        ),
        (python3(FEW, ["1", "2", "3", "4"]), r"holds no data and labels \(its labels are no list of whole numbers\)"),
        (python3(FEW, [1, 2, 3, 1 << 70]), r"holds no data and labels \("),
        (python3(FEW, [1, 2, 3, 0]), r"has labels other than 1 to 1,000; get it again"),
        (python3(FEW, [1, 2, 3, 1001]), r"has labels other than 1 to 1,000; get it again"),
        (python3(FEW, [1, 2, 3]), r"holds uint8 \(4, 3072\) for 3 labels, and not bytes \(3, 3072\); get it again"),
        (python3(FEW[:, :768], [1, 2, 3, 4]), r"holds uint8 \(4, 768\) for 4 labels, and not bytes \(4, 3072\)"),
    ],
)
def test_a_pickle_of_something_else_is_refused_and_runs_nothing(files, tmp_path, content, told, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = unpacked(tmp_path / "data", {**pickles(files, python2_pickle), "val_data": content})
    with pytest.raises(DataError, match=f"val_data in .* {told}") as caught:
        load_data(NAME, data_dir=folder)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(("split", "name"), [("train", "train_data_batch_2"), ("test", "val_data")])
def test_pickles_with_another_number_of_images_than_is_published_are_refused(files, tmp_path, split, name):
    batches = {**pickles(files, python2_pickle), name: python2_pickle(FEW[:3], [1, 2, 3])}
    told = {"train": "7 train images, and the original has 9", "test": "3 test images, and the original has 4"}[split]
    with pytest.raises(DataError, match=f"data has {told}; get it again"):
        load_data(NAME, data_dir=unpacked(tmp_path / "data", batches))


def test_the_published_numbers_of_images():
    assert module.COUNTS == {"train": 1_281_167, "test": 50_000}


def test_other_sets_are_not_taken_for_it(cifar, tiny, tmp_path):
    cifar.folder(tmp_path)
    tiny.zip(tmp_path)
    assert locate(NAME, tmp_path) is None
