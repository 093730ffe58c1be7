import io
import os
import zipfile

import numpy as np
import pytest
from PIL import Image

from lopbench.core.errors import DataError
from lopbench.data import load_data

NAME = "tiny-imagenet-200"


def decoded(content):
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).transpose(2, 0, 1)


def test_every_image_has_its_own_pixels_and_class_in_numeric_order(tiny, tmp_path):
    images = load_data(NAME, data_dir=tiny.zip(tmp_path / "data"))
    assert images.classes == ("n01", "n02", "n03")
    expected = [tiny.files[f"train/{wnid}/images/{wnid}_{k}.JPEG"] for wnid in images.classes for k in range(12)]
    assert images.train_labels.tolist() == [0] * 12 + [1] * 12 + [2] * 12
    np.testing.assert_array_equal(images.train_images, [decoded(content) for content in expected])
    # val_k is of class k % 3 in the order n02, n01, n03 of wnids.txt
    assert images.test_labels.tolist() == [0, 0, 1, 1, 2, 2]
    expected = [tiny.files[f"val/images/val_{k}.JPEG"] for k in (1, 4, 0, 3, 2, 5)]
    np.testing.assert_array_equal(images.test_images, [decoded(content) for content in expected])


def test_arrays_are_read_only_with_the_promised_types(tiny, tmp_path):
    images = load_data(NAME, data_dir=tiny.zip(tmp_path / "data"))
    assert images.train_images.shape == (36, 3, 64, 64)
    for pixels, labels in ((images.train_images, images.train_labels), (images.test_images, images.test_labels)):
        assert pixels.dtype == np.uint8
        assert labels.dtype == np.int64
        assert isinstance(pixels, np.memmap)
        assert not pixels.flags.writeable
        assert not labels.flags.writeable


def test_grey_images_become_three_equal_channels(tiny, tmp_path):
    images = load_data(NAME, data_dir=tiny.zip(tmp_path / "data"))
    grey = images.train_images[1]
    assert (grey == grey[:1]).all()
    assert not (images.train_images[0] == images.train_images[0][:1]).all()


def test_zip_and_folder_have_one_content_hash(tiny, tmp_path):
    from_zip = load_data(NAME, data_dir=tiny.zip(tmp_path / "a").parent)
    from_folder = load_data(NAME, data_dir=tiny.folder(tmp_path / "b").parent)
    assert from_zip.content_hash == from_folder.content_hash
    np.testing.assert_array_equal(from_zip.train_images, from_folder.train_images)


@pytest.mark.parametrize("change", ["pixels", "labels", "classes", "fewer"])
def test_content_hash_tells_other_content(tiny, tmp_path, change, make_jpeg):
    before = load_data(NAME, data_dir=tiny.zip(tmp_path / "a")).content_hash
    if change == "pixels":
        tiny.files["train/n01/images/n01_3.JPEG"] = make_jpeg(12345)
    elif change == "labels":
        annotations = tiny.files["val/val_annotations.txt"]
        tiny.files["val/val_annotations.txt"] = annotations.replace(b"val_0.JPEG\tn02", b"val_0.JPEG\tn03")
    elif change == "classes":
        tiny.files = {name.replace("n03", "n04"): data.replace(b"n03", b"n04") for name, data in tiny.files.items()}
    else:
        del tiny.files["train/n02/images/n02_11.JPEG"]
    assert load_data(NAME, data_dir=tiny.zip(tmp_path / "b")).content_hash != before


def test_a_subset_says_so(tiny, tmp_path):
    images = load_data(NAME, data_dir=tiny.zip(tmp_path / "data"))
    assert images.subset
    assert images.real
    assert "Tiny ImageNet, a subset of the original, unverified as no hash of it is known, from" in images.notice
    assert "36 train and 6 held-out images of 3 classes" in images.notice


def test_the_original_counts_are_no_subset(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("lopbench_plugins.data.tiny_imagenet.ORIGINAL", (3, 12, 2))
    images = load_data(NAME, data_dir=tiny.zip(tmp_path / "data"))
    assert not images.subset
    assert "subset" not in images.notice


def test_boxes_files_test_split_and_hidden_files_are_ignored(tiny, tmp_path):
    expected = load_data(NAME, data_dir=tiny.zip(tmp_path / "a")).content_hash
    tiny.files["train/n01/images/._n01_0.JPEG"] = b"resource fork"
    tiny.files["train/n01/images/.DS_Store"] = b"finder"
    del tiny.files["test/images/test_0.JPEG"]
    del tiny.files["train/n01/n01_boxes.txt"]
    assert load_data(NAME, data_dir=tiny.zip(tmp_path / "b")).content_hash == expected
    assert load_data(NAME, data_dir=tiny.folder(tmp_path / "c")).content_hash == expected


def drop(tiny, prefix):
    tiny.files = {name: content for name, content in tiny.files.items() if not name.startswith(prefix)}


def empty_train_class(tiny, jpeg):
    drop(tiny, "train/n02/images/")


def absent_train_class(tiny, jpeg):
    drop(tiny, "train/n02/")


def empty_val_class(tiny, jpeg):
    lines = tiny.files["val/val_annotations.txt"].splitlines(keepends=True)
    tiny.files["val/val_annotations.txt"] = b"".join(line for line in lines if b"n02" not in line)
    drop(tiny, "val/images/val_0.")
    drop(tiny, "val/images/val_3.")


def truncated_jpeg(tiny, jpeg):
    tiny.files["train/n01/images/n01_4.JPEG"] = jpeg(1)[:-900]


def not_a_jpeg(tiny, jpeg):
    tiny.files["train/n01/images/n01_4.JPEG"] = b"<html></html>"


def empty_jpeg(tiny, jpeg):
    tiny.files["train/n01/images/n01_4.JPEG"] = b""


def wrong_size(tiny, jpeg):
    tiny.files["val/images/val_5.JPEG"] = jpeg(1, size=(64, 32))


def huge_file(tiny, jpeg):
    tiny.files["val/images/val_5.JPEG"] = bytes((8 << 20) + 1)


def unknown_val_class(tiny, jpeg):
    tiny.files["val/val_annotations.txt"] = tiny.files["val/val_annotations.txt"].replace(b"n03", b"n77")


def unknown_train_class(tiny, jpeg):
    tiny.files["train/n77/images/n77_0.JPEG"] = jpeg(1)


def misplaced_train_file(tiny, jpeg):
    tiny.files["train/n01/images/n02_90.JPEG"] = jpeg(1)


def missing_val_file(tiny, jpeg):
    drop(tiny, "val/images/val_5.")


def unlabelled_val_file(tiny, jpeg):
    tiny.files["val/images/val_6.JPEG"] = jpeg(1)


def twice_labelled_val_file(tiny, jpeg):
    tiny.files["val/val_annotations.txt"] += b"val_5.JPEG\tn03\t0\t0\t63\t63\n"


def broken_annotations(tiny, jpeg):
    tiny.files["val/val_annotations.txt"] = tiny.files["val/val_annotations.txt"].replace(b"\t", b" ")


def binary_annotations(tiny, jpeg):
    tiny.files["val/val_annotations.txt"] = b"\xff\xfe"


def no_annotations(tiny, jpeg):
    drop(tiny, "val/val_annotations.txt")


def sorted_val(tiny, jpeg):
    tiny.files = {name.replace("val/images/", "val/n01/"): content for name, content in tiny.files.items()}


def no_classes(tiny, jpeg):
    tiny.files["wnids.txt"] = b"\n"


def class_named_twice(tiny, jpeg):
    tiny.files["wnids.txt"] += b"n01\n"


def not_tiny_imagenet(tiny, jpeg):
    tiny.files = {"readme.txt": b"something else"}


@pytest.mark.parametrize("form", ["zip", "folder"])
@pytest.mark.parametrize(
    ("damage", "names"),
    [
        (empty_train_class, "n02 of wnids.txt has no train images"),
        (absent_train_class, "n02 of wnids.txt has no train images"),
        (empty_val_class, "n02 of wnids.txt has no val images"),
        (truncated_jpeg, r"n01_4.JPEG .* not a whole JPEG"),
        (not_a_jpeg, r"n01_4.JPEG .* not a whole JPEG"),
        (empty_jpeg, r"n01_4.JPEG .* not a whole JPEG \(0 bytes that are none\); "),
        (wrong_size, r"val_5.JPEG .* 64x32 pixels, not 64x64"),
        (huge_file, r"val_5.JPEG .*has .*bytes"),
        (unknown_val_class, r"Line 3 .* n77, which wnids.txt does not name"),
        (unknown_train_class, "class n77, which wnids.txt does not name"),
        (misplaced_train_file, "n02_90.JPEG .* should be called n01_<number>.JPEG"),
        (missing_val_file, "val_5.JPEG, which is missing"),
        (unlabelled_val_file, "no class for val_6.JPEG"),
        (twice_labelled_val_file, "val_5.JPEG, which is missing from val/images or was named before"),
        (broken_annotations, "Line 1 of val/val_annotations.txt"),
        (binary_annotations, "not a text file"),
        (no_annotations, "val_annotations.txt"),
        (sorted_val, "val in .* is sorted into folders of classes, as some scripts do; the original has all"),
        (no_classes, "names no class"),
        (class_named_twice, "n01 twice"),
        (not_tiny_imagenet, "not Tiny ImageNet"),
    ],
)
def test_damage_is_told_in_one_sentence_with_what_to_do(tiny, tmp_path, make_jpeg, form, damage, names):
    damage(tiny, make_jpeg)
    path = getattr(tiny, form)(tmp_path / "data")
    with pytest.raises(DataError, match=names) as caught:
        load_data("auto", wanted=NAME, data_dir=path.parent)  # a damaged set is never replaced by procedural images
    assert str(path) in str(caught.value)
    assert "lopbench data get tiny-imagenet-200" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_failed_decoding_leaves_nothing_in_the_cache(tiny, tmp_path, make_jpeg):
    truncated_jpeg(tiny, make_jpeg)
    with pytest.raises(DataError):
        load_data(NAME, data_dir=tiny.zip(tmp_path / "data"))
    assert [path.name for path in (tmp_path / "cache").rglob("*") if path.is_dir()] == ["images"]


def test_what_never_ends_is_no_image(tiny, tmp_path):
    image = tiny.folder(tmp_path) / "train" / "n01" / "images" / "n01_4.JPEG"
    image.unlink()
    os.mkfifo(image)
    with pytest.raises(DataError, match=r"n01_4.JPEG cannot be read \(it is no file, but a folder, pipe or device"):
        load_data(NAME, data_dir=tmp_path)


def test_an_html_page_called_zip_is_named_as_such(tmp_path):
    (tmp_path / "tiny-imagenet-200.zip").write_text("\n<!DOCTYPE html><html>404</html>")
    with pytest.raises(DataError, match="is an HTML page, not a zip"):
        load_data("auto", wanted=NAME, data_dir=tmp_path)


@pytest.mark.parametrize(("keep", "says"), [(0.9, "truncated zip"), (0.0, "is not a zip")])
def test_a_truncated_zip_is_named_as_such(tiny, tmp_path, keep, says):
    path = tiny.zip(tmp_path / "data")
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(DataError, match=says):
        load_data(NAME, data_dir=path)


def test_a_flipped_byte_in_a_zip_names_the_member(tiny, tmp_path):
    path = tiny.zip(tmp_path / "data")
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(f"{NAME}/train/n03/images/n03_7.JPEG")
    content = bytearray(path.read_bytes())
    content[info.header_offset + 200] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"train/n03/images/n03_7.JPEG .* is damaged"):
        load_data(NAME, data_dir=path)


@pytest.mark.parametrize("name", ["/etc/evil", "tiny-imagenet-200/../../evil", "tiny-imagenet-200\\evil"])
def test_a_member_with_an_unsafe_path_is_refused(tiny, tmp_path, name):
    path = tiny.zip(tmp_path / "data")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, b"x")
    with pytest.raises(DataError, match="unsafe path"):
        load_data(NAME, data_dir=path)
