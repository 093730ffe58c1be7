"""Images of one shape with their labels, for training and held out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lopbench.core.errors import InvalidInputError
from lopbench.core.interfaces import Samples
from lopbench.core.reading import MOST_JSON_BYTES, read_regular
from lopbench.data.contents import Contents, Kept, Progress, open_array

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]

#: Channels (red, green, blue, or grey alone), height, width.
Shape = tuple[int, int, int]

#: The one shape that the content hash leaves out: it began with images of this shape alone.
_FIRST_SHAPE: Shape = (3, 64, 64)


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageSet(Samples):
    """Images of one shape with their labels, for training and held out.

    The content hash is the SHA-256, hex, of classes, labels and pixels.

    Args:
        subset: Whether the original has more images than these.
        classes: Identifiers of the K classes; label ``k`` means ``classes[k]``.
        train_images: ``(N, C, H, W)``, 0-255, read-only, class by class, within a class in the original's order.
        train_labels: ``(N,)``, 0 to K-1.
        test_images: The held-out images (the official test split, Tiny ImageNet's val), as ``train_images``.
        test_labels: As ``train_labels``.
    """

    subset: bool
    classes: tuple[str, ...]
    train_images: Pixels
    train_labels: Labels
    test_images: Pixels
    test_labels: Labels

    @property
    def shape(self) -> Shape:
        """Shape of one image, ``(C, H, W)``."""
        channels, height, width = self.train_images.shape[1:]
        return channels, height, width


@dataclass(frozen=True, kw_only=True, eq=False)
class KeptImages(Kept):
    """Images that are whole; fields as in `ImageSet`."""

    content_hash: str
    subset: bool
    classes: tuple[str, ...]
    train_images: Pixels
    train_labels: Labels
    test_images: Pixels
    test_labels: Labels

    def hash(self) -> str:
        """Return the content hash, computed anew."""
        train, test = (self.train_images, self.train_labels), (self.test_images, self.test_labels)
        return content_hash(self.classes, train, test)

    def describe(self) -> str:
        """Return how many images there are, in words."""
        return _describe(self.train_labels, self.test_labels, self.classes)

    def samples(self, *, name: str, real: bool, notice: str, terms: str) -> ImageSet:
        """Return what a scenario is given."""
        return ImageSet(name=name, real=real, notice=notice, terms=terms, **vars(self))


@dataclass(frozen=True, eq=False)
class ImagePlan(Contents):
    """Images whose labels are known and whose pixels are still to be made.

    Args:
        classes: As in `ImageSet`.
        subset: As in `ImageSet`.
        shape: Shape of every image.
        train_labels: As in `ImageSet`.
        test_labels: As in `ImageSet`.
        chunks: Makes the pixels, all train images and then all test images, in chunks ``(n, C, H, W)`` none of which
            belongs to both.
    """

    form: ClassVar[str] = "images"

    classes: tuple[str, ...]
    subset: bool
    shape: Shape
    train_labels: Labels
    test_labels: Labels
    chunks: Callable[[], Iterator[Pixels]]

    def __post_init__(self) -> None:
        for split, labels in (("train", self.train_labels), ("test", self.test_labels)):
            if labels.dtype != np.int64 or labels.ndim != 1:
                raise InvalidInputError(f"{split} labels as {labels.dtype} {labels.shape}; give int64 (N,)")
            if len(labels) and not 0 <= labels.min() <= labels.max() < len(self.classes):
                raise InvalidInputError(
                    f"{split} labels from {labels.min()} to {labels.max()}; {len(self.classes)} classes have 0 to "
                    f"{len(self.classes) - 1}"
                )

    @classmethod
    def of(
        cls,
        classes: Sequence[str],
        train: tuple[Pixels, Labels],
        test: tuple[Pixels, Labels],
        *,
        subset: bool = False,
    ) -> ImagePlan:
        """Return the plan of images that are in memory, in any order: they come class by class.

        Args:
            classes: As in `ImageSet`.
            train: Images ``(N, C, H, W)``, 0-255, and labels ``(N,)``.
            test: The held-out ones, likewise.
            subset: Whether the original has more images than these.
        """
        for split, (images, labels) in (("train", train), ("test", test)):
            if images.dtype != np.uint8 or images.ndim != 4 or labels.shape != (len(images),):
                raise InvalidInputError(
                    f"{split} images as {images.dtype} {images.shape} with labels {labels.shape}; give uint8 "
                    "(N, C, H, W) and (N,)"
                )
        train, test = by_class(*train), by_class(*test)
        channels, height, width = train[0].shape[1:]
        return cls(
            classes=tuple(classes),
            subset=subset,
            shape=(channels, height, width),
            train_labels=train[1].astype(np.int64),
            test_labels=test[1].astype(np.int64),
            chunks=lambda: in_pieces(train[0], test[0]),
        )

    @property
    def images(self) -> int:
        """Number of images, train and test."""
        return len(self.train_labels) + len(self.test_labels)

    @property
    def size_bytes(self) -> int:
        """Size of the pixels."""
        return self.images * int(np.prod(self.shape))

    def describe(self) -> str:
        """Return how many images there are, in words."""
        return _describe(self.train_labels, self.test_labels, self.classes)

    def hash(self, description: str, progress: Progress | None) -> str:
        """Make all pixels, keep none, and return the content hash."""
        digest = begin_hash(self.classes, self.shape, self.train_labels, self.test_labels)
        for chunk in reported(self.chunks(), description, self.images, progress):
            digest.update(chunk.data)
        return str(digest.hexdigest())

    def write(self, directory: Path, description: str, progress: Progress | None) -> None:
        """Write four arrays and ``meta.json``; the pixels go through memory chunk by chunk."""
        digest = begin_hash(self.classes, self.shape, self.train_labels, self.test_labels)
        chunks = reported(self.chunks(), description, self.images, progress)
        for split, labels in (("train", self.train_labels), ("test", self.test_labels)):
            np.save(directory / f"{split}_labels.npy", labels)
            # Plain writes, not a writable memory map: on a full disk a map kills the process, a write raises OSError.
            with (directory / f"{split}_images.npy").open("wb") as file:
                _write_header(file, (len(labels), *self.shape))
                written = 0
                while written < len(labels) and (chunk := next(chunks, None)) is not None:
                    _check_chunk(chunk, self.shape, split, len(labels) - written)
                    digest.update(chunk.data)
                    file.write(chunk.data)
                    written += len(chunk)
            if written < len(labels):
                raise InvalidInputError(f"{written:,} {split} images and {len(labels):,} labels; give as many of both")
        if next(chunks, None) is not None:  # and the last progress report is out
            raise InvalidInputError("more held-out images than labels; give as many of both")
        meta = {"content_hash": digest.hexdigest(), "subset": self.subset, "classes": self.classes}
        (directory / "meta.json").write_text(json.dumps(meta))

    def held(self) -> KeptImages:
        """Make all pixels, in memory."""
        images = np.concatenate(list(self.chunks()))
        images.flags.writeable = False
        cut = len(self.train_labels)
        train, test = (images[:cut], self.train_labels), (images[cut:], self.test_labels)
        return KeptImages(
            content_hash=content_hash(self.classes, train, test),
            subset=self.subset,
            classes=self.classes,
            train_images=train[0],
            train_labels=train[1],
            test_images=test[0],
            test_labels=test[1],
        )

    @classmethod
    def opened(cls, directory: Path) -> KeptImages:
        """Open what `write` has written."""
        meta = json.loads(read_regular(directory / "meta.json", most=MOST_JSON_BYTES))
        kept = KeptImages(
            content_hash=str(meta["content_hash"]),
            subset=bool(meta["subset"]),
            classes=tuple(map(str, meta["classes"])),
            train_images=open_array(directory / "train_images.npy"),
            train_labels=open_array(directory / "train_labels.npy"),
            test_images=open_array(directory / "test_images.npy"),
            test_labels=open_array(directory / "test_labels.npy"),
        )
        for images, labels in ((kept.train_images, kept.train_labels), (kept.test_images, kept.test_labels)):
            wanted = (len(labels), *kept.train_images.shape[1:])
            if images.ndim != 4 or images.shape != wanted or images.dtype != np.uint8 or labels.dtype != np.int64:
                raise ValueError("arrays of other shapes or types than were written")
        return kept


def _check_chunk(chunk: Pixels, shape: Shape, split: str, missing: int) -> None:
    """Refuse a chunk that would make other images of the bytes."""
    if not isinstance(chunk, np.ndarray) or chunk.dtype != np.uint8 or chunk.shape[1:] != shape:
        found = f"{chunk.dtype} {chunk.shape}" if isinstance(chunk, np.ndarray) else type(chunk).__name__
        channels, height, width = shape
        raise InvalidInputError(f"a chunk of images as {found}; give uint8 (n, {channels}, {height}, {width})")
    if len(chunk) > missing:
        raise InvalidInputError(f"{len(chunk) - missing:,} {split} images more than labels; give as many of both")


def _write_header(file: IO[bytes], shape: tuple[int, ...]) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def _describe(train: Labels, test: Labels, classes: Sequence[str]) -> str:
    return f"{len(train):,} train and {len(test):,} held-out images of {len(classes)} classes"


def begin_hash(classes: Sequence[str], shape: Sequence[int], train_labels: Labels, test_labels: Labels) -> Any:
    """Return the content hash of everything but the pixels; update it with train and then test pixels."""
    head: list[object] = ["lopbench images 1", list(classes)]
    if tuple(shape) != _FIRST_SHAPE:
        head.append(list(shape))
    digest = hashlib.sha256(json.dumps(head).encode())
    for labels in (train_labels, test_labels):
        digest.update(len(labels).to_bytes(8, "little"))
        digest.update(np.ascontiguousarray(labels, dtype="<i8").data)
    return digest


def content_hash(classes: Sequence[str], train: tuple[Pixels, Labels], test: tuple[Pixels, Labels]) -> str:
    """Return the content hash of images ``(N, C, H, W)`` and labels ``(N,)`` that exist already."""
    digest = begin_hash(classes, train[0].shape[1:], train[1], test[1])
    for piece in in_pieces(train[0], test[0]):
        digest.update(piece.data)
    return str(digest.hexdigest())


def in_pieces(*arrays: Pixels) -> Iterator[Pixels]:
    """Yield each array's images in pieces, so that a memory-mapped one is never all in memory."""
    for images in arrays:
        for start in range(0, len(images), 1000):
            yield np.ascontiguousarray(images[start : start + 1000])


def by_class(images: Pixels, labels: Labels) -> tuple[Pixels, Labels]:
    """Return images ``(N, C, H, W)`` and labels ``(N,)`` class by class, within a class in the order given."""
    order = labels.argsort(kind="stable")
    return images[order], labels[order]


def reported(chunks: Iterable[Pixels], description: str, total: int, progress: Progress | None) -> Iterator[Pixels]:
    """Yield ``chunks`` and tell ``progress`` at each further percent of ``total`` images."""
    done = shown = 0
    if progress is not None:
        progress(description, 0, total)
    for chunk in chunks:
        yield chunk
        done += len(chunk)
        if progress is not None and (done == total or done - shown >= total / 100):
            progress(description, done, total)
            shown = done
