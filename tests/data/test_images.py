import hashlib
import json

import numpy as np
import pytest

from lopbench import ImagePlan
from lopbench.core.errors import InvalidInputError
from lopbench.data.images import by_class, content_hash

TINY_SHAPE = (3, 64, 64)


def made(*shape, count=8):
    pixels = np.arange(count * int(np.prod(shape)), dtype=np.int64).astype(np.uint8)
    return pixels.reshape(count, *shape), np.arange(count)


def test_the_shape_is_in_the_content_hash():
    # The same classes, labels and bytes in another shape are other images.
    square, wide = made(1, 28, 28), made(1, 14, 56)
    assert square[0].tobytes() == wide[0].tobytes()
    assert content_hash(["a"], square, square) != content_hash(["a"], wide, wide)


def test_the_hash_of_images_of_tiny_imagenets_shape_is_the_one_of_published_records():
    pixels, labels = made(*TINY_SHAPE, count=2)
    digest = hashlib.sha256(json.dumps(["lopbench images 1", ["a", "b"]]).encode())
    for _ in ("train", "test"):
        digest.update((2).to_bytes(8, "little") + np.array([0, 1], "<i8").tobytes())
    digest.update(2 * pixels.tobytes())
    assert content_hash(["a", "b"], (pixels, labels), (pixels, labels)) == digest.hexdigest()


def test_by_class_sorts_by_label_and_keeps_the_order_within():
    pixels, _ = made(1, 2, 2, count=5)
    images, labels = by_class(pixels, np.array([1, 0, 1, 0, 1]))
    assert labels.tolist() == [0, 0, 1, 1, 1]
    np.testing.assert_array_equal(images, pixels[[1, 3, 0, 2, 4]])


def test_images_in_memory_come_class_by_class_and_are_the_same_held_or_written(tmp_path):
    pixels, _ = made(1, 2, 2, count=4)
    plan = ImagePlan.of("ab", (pixels, np.array([1, 0, 1, 0], np.uint8)), (pixels[:1], np.array([0])))
    plan.write(tmp_path, "", None)
    held, opened = plan.held(), ImagePlan.opened(tmp_path)
    for kept in (held, opened):
        np.testing.assert_array_equal(kept.train_images, pixels[[1, 3, 0, 2]])
        assert kept.train_labels.tolist() == [0, 0, 1, 1]
        assert kept.train_labels.dtype == np.int64
        assert kept.describe() == "4 train and 1 held-out images of 2 classes"
    assert held.content_hash == opened.content_hash == plan.hash("", None)


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (np.zeros((2, 1, 4, 4), np.float32), np.array([0, 1])),
        (np.zeros((2, 4, 4), np.uint8), np.array([0, 1])),
        (np.zeros((2, 1, 4, 4), np.uint8), np.array([0])),
        (np.zeros((2, 1, 4, 4), np.uint8), np.array([0, 2])),
        (np.zeros((2, 1, 4, 4), np.uint8), np.array([0, -1])),
    ],
)
def test_other_arrays_than_images_and_labels_are_refused(images, labels):
    good = np.zeros((2, 1, 4, 4), np.uint8), np.array([0, 1])
    for train, test in (((images, labels), good), (good, (images, labels))):
        with pytest.raises(InvalidInputError, match=r"labels"):
            ImagePlan.of("ab", train, test)


@pytest.mark.parametrize(
    ("chunks", "says"),
    [
        ([np.zeros((2, 1, 4, 4), np.uint8)], "0 test images and 1 labels"),
        ([np.zeros((1, 1, 4, 4), np.uint8)] * 4, "more held-out images than labels"),
        ([np.zeros((3, 1, 4, 4), np.uint8)], "1 train images more than labels"),
        ([np.zeros((2, 1, 4, 4), np.int16)], r"int16 \(2, 1, 4, 4\); give uint8 \(n, 1, 4, 4\)"),
        ([np.zeros((2, 1, 2, 8), np.uint8)], "give uint8"),
        ([[0]], "as list; give uint8"),
    ],
)
def test_chunks_that_are_not_the_announced_images_are_refused(tmp_path, chunks, says):
    plan = ImagePlan(
        classes=("a",),
        subset=False,
        shape=(1, 4, 4),
        train_labels=np.zeros(2, np.int64),
        test_labels=np.zeros(1, np.int64),
        chunks=lambda: iter(chunks),
    )
    with pytest.raises(InvalidInputError, match=says):
        plan.write(tmp_path, "", None)
