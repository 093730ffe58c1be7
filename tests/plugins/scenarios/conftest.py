import sys
from pathlib import Path

import numpy as np
import pytest

from lopbench.data import ImageSet

sys.path.insert(0, str(Path(__file__).parent))

SHAPES = {
    "cifar10": (3, 32, 32),
    "cifar100": (3, 32, 32),
    "downsampled-imagenet-32": (3, 32, 32),
    "tiny-imagenet-200": (3, 64, 64),
}


@pytest.fixture(scope="session")
def numbered():
    """Return a function that makes images of noise; the first two pixels of each are its place in the split."""

    def made(name="mnist", train=30, test=7, classes=10):
        shape = SHAPES.get(name, (1, 28, 28))
        draws = np.random.default_rng(0)

        def split(each):
            pixels = draws.integers(0, 250, (classes * each, *shape), dtype=np.uint8)
            places = np.arange(classes * each)
            pixels[:, 0, 0, 0], pixels[:, 0, 0, 1] = places // 250, places % 250
            return pixels, np.repeat(np.arange(classes), each)

        (images, labels), (test_images, test_labels) = split(train), split(test)
        for array in (images, labels, test_images, test_labels):
            array.flags.writeable = False  # as those that are mapped from the cache
        return ImageSet(
            name=name,
            content_hash="0" * 64,
            subset=True,
            classes=tuple(f"c{k}" for k in range(classes)),
            train_images=images,
            train_labels=labels,
            test_images=test_images,
            test_labels=test_labels,
            real=False,
            notice="",
            terms="",
        )

    return made
