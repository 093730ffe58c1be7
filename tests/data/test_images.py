import hashlib
import json

import numpy as np

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
