"""What an image data set is once it is decoded."""

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from os import cpu_count
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]

#: Channels (red, green, blue, or grey alone), height, width.
Shape = tuple[int, int, int]

#: The shape of Tiny ImageNet and of the procedural images as they are drawn.
TINY_SHAPE: Shape = (3, 64, 64)

Job = TypeVar("Job")
Result = TypeVar("Result")


class Progress(Protocol):
    """Is told how far a long piece of work has come, about a hundred times in all."""

    def __call__(self, description: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` units of the work ``description`` are finished."""


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of one shape with their labels, for training and held out.

    Args:
        name: Name of the data set, one of ``catalog()``.
        content_hash: SHA-256, hex, of classes, labels and pixels. The same images give the same hash from an archive
            or a folder and on every machine.
        subset: Whether the original has more images than these.
        classes: Identifiers of the K classes, sorted; label ``k`` means ``classes[k]``.
        train_images: ``(N, C, H, W)``, 0-255, read-only, class by class, within a class in the original's order.
        train_labels: ``(N,)``, 0 to K-1.
        test_images: The held-out images (the official test split, Tiny ImageNet's val), as ``train_images``.
        test_labels: As ``train_labels``.
        real: False for images made by a program.
        notice: One line for the user: what this is, where it is from, how many images it has.
        terms: Who holds the rights, and what is allowed.
    """

    name: str
    content_hash: str
    subset: bool
    classes: tuple[str, ...]
    train_images: Pixels
    train_labels: Labels
    test_images: Pixels
    test_labels: Labels
    real: bool
    notice: str
    terms: str

    @property
    def shape(self) -> Shape:
        """Shape of one image, ``(C, H, W)``."""
        channels, height, width = self.train_images.shape[1:]
        return channels, height, width


@dataclass(frozen=True, eq=False)
class Plan:
    """A data set whose labels are known and whose pixels are still to be made.

    Args:
        classes: As in `ImageSet`.
        subset: As in `ImageSet`.
        shape: Shape of every image.
        train_labels: As in `ImageSet`.
        test_labels: As in `ImageSet`.
        chunks: Makes the pixels, all train images and then all test images, in chunks ``(n, C, H, W)`` none of which
            belongs to both.
    """

    classes: tuple[str, ...]
    subset: bool
    shape: Shape
    train_labels: Labels
    test_labels: Labels
    chunks: Callable[[], Iterator[Pixels]]

    @property
    def images(self) -> int:
        """Number of images, train and test."""
        return len(self.train_labels) + len(self.test_labels)


def begin_hash(
    classes: Sequence[str], shape: Sequence[int], train_labels: Labels, test_labels: Labels
) -> "hashlib._Hash":
    """Return the content hash of everything but the pixels; update it with train and then test pixels."""
    head: list[object] = ["lopbench images 1", list(classes)]
    if tuple(shape) != TINY_SHAPE:  # the hash began with this shape alone, and left it out
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
    return digest.hexdigest()


def in_pieces(*arrays: Pixels) -> Iterator[Pixels]:
    """Yield each array's images in pieces, so that a memory-mapped one is never all in memory."""
    for images in arrays:
        for start in range(0, len(images), 1000):
            yield np.ascontiguousarray(images[start : start + 1000])


def by_class(images: Pixels, labels: Labels) -> tuple[Pixels, Labels]:
    """Return images ``(N, C, H, W)`` and labels ``(N,)`` class by class, within a class in the order given."""
    order = labels.argsort(kind="stable")
    return images[order], labels[order]


def hashed(plan: Plan, description: str, progress: Progress | None) -> str:
    """Make all pixels of ``plan``, keep none, and return the content hash."""
    digest = begin_hash(plan.classes, plan.shape, plan.train_labels, plan.test_labels)
    for chunk in reported(plan.chunks(), description, plan.images, progress):
        digest.update(chunk.data)
    return digest.hexdigest()


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


def in_parallel(function: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
    """Yield ``function(job)`` for each job, in order, computed in as many threads as the machine has cores.

    Threads, as forking beside torch's own threads can deadlock and spawned processes re-run a user's unguarded script.
    A few results at most wait in memory. After an error, jobs not yet begun are dropped.
    """
    workers = cpu_count() or 1
    pool = ThreadPoolExecutor(workers, thread_name_prefix="lopbench-data")
    waiting: deque[Future[Result]] = deque()
    try:
        for job in jobs:
            waiting.append(pool.submit(function, job))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
