"""Procedural images: stand-ins of the shape of the real data sets where these are absent.

All are drawn at 64x64 in colour, the shape of Tiny ImageNet; those for CIFAR and MNIST are then made smaller, and grey.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from lopbench import DataSet, ImagePlan, ImageSet, InvalidInputError
from lopbench_plugins.data._drawing import SHAPE, VERSION, Pixels, draw
from lopbench_plugins.data._parallel import in_parallel

NAME = "procedural"
TERMS = "Made by lopbench's own code; free to use."

#: Number of classes, train and held-out images per class, as Tiny ImageNet's subset has them.
DEFAULT = (200, 250, 50)

_BATCH = 25  # images drawn at a time: what is in work then fits a core's cache


@dataclass(frozen=True, kw_only=True)
class Procedural(DataSet):
    """Procedural images in the shape of Tiny ImageNet."""

    name: ClassVar[str] = NAME
    version: ClassVar[int] = VERSION
    title: ClassVar[str] = "Tiny ImageNet"
    terms: ClassVar[str] = TERMS
    real: ClassVar[bool] = False
    #: Shape of one image.
    shape: ClassVar[tuple[int, int, int]] = SHAPE
    #: Number of classes, train and held-out images per class.
    counts: ClassVar[tuple[int, int, int]] = DEFAULT

    def read(self, path: Path) -> ImagePlan:
        """Return the whole set, its pixels drawn on demand."""
        return replace(self._plan(*self.counts), subset=False)

    def example(self) -> ImagePlan:
        """Return 100 and 4 images of the first 50 classes at most."""
        return self._plan(min(50, self.counts[0]), 100, 4)

    def _plan(self, classes: int, train: int, test: int) -> ImagePlan:
        drawn = plan(classes, train, test)
        return replace(drawn, shape=self.shape, chunks=lambda: (self.render(chunk) for chunk in drawn.chunks()))

    def render(self, images: Pixels) -> Pixels:
        """Return images of ``shape`` from those drawn at 64x64 in colour, ``(n, 3, 64, 64)``."""
        return images


@dataclass(frozen=True, kw_only=True)
class ProceduralCifar10(Procedural):
    """Procedural images in the shape of CIFAR-10."""

    name: ClassVar[str] = f"{NAME}-cifar10"
    title: ClassVar[str] = "CIFAR-10"
    shape: ClassVar[tuple[int, int, int]] = (3, 32, 32)
    counts: ClassVar[tuple[int, int, int]] = (10, 5000, 1000)

    def render(self, images: Pixels) -> Pixels:
        """Return images at half the resolution."""
        return halved(images)


@dataclass(frozen=True, kw_only=True)
class ProceduralCifar100(ProceduralCifar10):
    """Procedural images in the shape of CIFAR-100."""

    name: ClassVar[str] = f"{NAME}-cifar100"
    title: ClassVar[str] = "CIFAR-100"
    counts: ClassVar[tuple[int, int, int]] = (100, 500, 100)


@dataclass(frozen=True, kw_only=True)
class ProceduralDownsampledImageNet(ProceduralCifar10):
    """Procedural images in the shape of downsampled ImageNet, of which continual ImageNet has 700 of each class."""

    name: ClassVar[str] = f"{NAME}-downsampled-imagenet-32"
    title: ClassVar[str] = "Downsampled ImageNet 32x32"
    counts: ClassVar[tuple[int, int, int]] = (1000, 700, 50)


@dataclass(frozen=True, kw_only=True)
class ProceduralMnist(Procedural):
    """Procedural images in the shape of MNIST."""

    name: ClassVar[str] = f"{NAME}-mnist"
    title: ClassVar[str] = "MNIST"
    shape: ClassVar[tuple[int, int, int]] = (1, 28, 28)
    counts: ClassVar[tuple[int, int, int]] = (10, 6000, 1000)

    def render(self, images: Pixels) -> Pixels:
        """Return grey images without their border."""
        return digit_sized(images)


@dataclass(frozen=True, kw_only=True)
class ProceduralEmnistBalanced(ProceduralMnist):
    """Procedural images in the shape of the balanced split of EMNIST."""

    name: ClassVar[str] = f"{NAME}-emnist-balanced"
    title: ClassVar[str] = "EMNIST Balanced"
    counts: ClassVar[tuple[int, int, int]] = (47, 2400, 400)


def procedural_images(classes: int = 10, train: int = 20, test: int = 10) -> ImageSet:
    """Draw the first ``classes`` classes into memory: the same images as in the full set, fewer of them.

    Args:
        classes: Number of classes, 1 to 1000.
        train: Train images per class, at least 1.
        test: Held-out images per class, at least 1.

    Raises:
        InvalidInputError: If a number is out of range.
    """
    made = plan(classes, train, test)
    notice = f"NOT Tiny ImageNet but PROCEDURAL data, made by lopbench: {made.describe()}."
    return made.held().samples(name=NAME, real=False, notice=notice, terms=TERMS)


def plan(classes: int = DEFAULT[0], train: int = DEFAULT[1], test: int = DEFAULT[2]) -> ImagePlan:
    """Return the set of ``classes`` classes with ``train`` and ``test`` images each, its pixels drawn on demand.

    Raises:
        InvalidInputError: If ``classes`` is not in 1 to 1000, or a number of images is below 1.
    """
    if not (1 <= classes <= 1000 and train >= 1 and test >= 1):
        raise InvalidInputError(
            f"procedural images need 1 to 1000 classes and at least 1 image a class in both splits, "
            f"got {classes} classes, {train} train and {test} held-out images"
        )
    jobs = [
        (label, split, range(start, min(start + _BATCH, count)))
        for split, count in ((0, train), (1, test))
        for label in range(classes)
        for start in range(0, count, _BATCH)
    ]
    return ImagePlan(
        classes=tuple(f"p{label:03d}" for label in range(classes)),
        subset=classes < DEFAULT[0] or train < DEFAULT[1] or test < DEFAULT[2],
        shape=SHAPE,
        train_labels=_labels(classes, train),
        test_labels=_labels(classes, test),
        chunks=lambda: in_parallel(lambda job: draw(*job), jobs),
    )


def _labels(classes: int, images: int) -> NDArray[np.int64]:
    return np.repeat(np.arange(classes, dtype=np.int64), images)


def halved(images: Pixels) -> Pixels:
    """Return images ``(n, C, H, W)`` at half the resolution: means over 2x2 pixels, rounded half up."""
    wide = images.astype(np.uint16)
    rows = wide[:, :, ::2] + wide[:, :, 1::2]
    means: Pixels = ((rows[..., ::2] + rows[..., 1::2] + 2) >> 2).astype(np.uint8)
    return means


def digit_sized(images: Pixels) -> Pixels:
    """Return images ``(n, 3, 64, 64)`` in grey (ITU-R 601-2 luma), without their outer 4 pixels, halved to 28x28."""
    red, green, blue = np.moveaxis(images[:, :, 4:-4, 4:-4].astype(np.uint16), 1, 0)
    luma: Pixels = ((77 * red + 150 * green + 29 * blue + 128) >> 8).astype(np.uint8)  # at most 255 * 256 + 128
    return halved(luma[:, None])
