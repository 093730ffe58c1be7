"""What streams of photographs at 32x32 pixels share: which of them a seed chooses, and tasks that have some of them.

Tiny ImageNet, of 64x64 pixels, is halved to means over 2x2 pixels, rounded to 8 bits.
"""

import math
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lopbench import DataError, ImageSet
from lopbench_plugins.data.procedural import halved
from lopbench_plugins.scenarios.labelled_images import (
    PROBE_IMAGES,
    LabelledImages,
    LabelledScenario,
    LabelledTask,
    first_of_each,
    remedy,
)

#: Side of the images, in pixels.
SIDE = 32

#: The network of Kumar et al. 2023 for CIFAR, which short profiles have.
SMALL_NETWORK = "convnet:channels=16/16,kernels=5/5,hidden=100/100"

#: Images that are halved at a time.
_HALVED = 5000


class SmallScenario(LabelledScenario):
    """A scenario of such photographs, whose short profiles have a smaller network than the published one."""

    published_architecture: ClassVar[str]

    @property
    def is_short(self) -> bool:
        """Whether the profile is one of those that are not published."""
        return self.profile.partition("+")[0] in ("lite", "smoke")

    @property
    def default_architecture(self) -> str:  # type: ignore[override] # the short profiles have a smaller one
        """The published network, and in the short profiles the small one of Kumar et al. for CIFAR."""
        return SMALL_NETWORK if self.is_short else self.published_architecture


class SmallImages(LabelledImages):
    """The photographs of one seed, of which tasks have classes or numbers of their own.

    Args:
        scenario: The protocol.
        seed: Seed of the run.
        images: The data set, of 32x32 or 64x64 pixels.
        device: Where images are kept and batches are made.
    """

    def __init__(self, scenario: LabelledScenario, seed: int, images: ImageSet, device: torch.device) -> None:
        super().__init__(scenario, seed, images, device)
        self.input_shape = (images.shape[0], SIDE, SIDE)
        #: Training and held-out images of each class, ``(K,)``.
        self.train_counts, self.test_counts = (
            np.bincount(labels, minlength=len(images.classes)) for labels in (images.train_labels, images.test_labels)
        )

    @cached_property
    def class_order(self) -> list[int]:
        """All classes in the order in which tasks take them."""
        return torch.randperm(len(self.images.classes), generator=self.generator("classes")).tolist()

    def need_classes(self, count: int, what: str) -> None:
        """Refuse a data set with fewer than ``count`` classes; ``what`` is to be lowered.

        Raises:
            DataError: If it has fewer.
        """
        found = len(self.images.classes)
        if count > found:
            raise DataError(
                f"{self.scenario.name} needs {count:,} classes, {self.images.name} has {found:,}; lower {what}"
            )

    def need_of_each(self, labels: Iterable[int], train: int, what: str) -> None:
        """Refuse a data set with fewer than ``train`` training images of one of these classes, or with none.

        Args:
            labels: The classes.
            train: Training images of each; 0 takes all, of which there must be one.
            what: What is to be lowered.

        Raises:
            DataError: If there are fewer.
        """
        self._need(labels, self.train_counts, train, "training", what)

    def need_held_out(self, labels: Iterable[int]) -> None:
        """Refuse a data set without held-out images of one of these classes.

        Raises:
            DataError: If there are none.
        """
        self._need(labels, self.test_counts, 1, "held-out", "")

    def _need(self, labels: Iterable[int], counts: NDArray[np.int64], count: int, split: str, what: str) -> None:
        for label in labels:
            if max(1, count) > counts[label]:
                raise DataError(
                    f"{self.scenario.name} needs {max(1, count):,} {split} images of each class, {self.images.name} "
                    f"as it is found has {counts[label]:,} of {self.images.classes[label]}; "
                    f"{remedy(self.images, what)}"
                )

    def drawn(self, label: int, count: int) -> NDArray[np.int64]:
        """Return the places of ``count`` training images of a class in an order that the seed draws; of all if 0."""
        found = int(self.train_counts[label])
        order = torch.randperm(found, generator=self.generator("images", label)).numpy()
        return int(self.train_counts[:label].sum()) + order[: count or found]

    def tested(self, label: int, count: int) -> NDArray[np.int64]:
        """Return the places of the first ``count`` held-out images of a class; of all if 0 or there are fewer."""
        found = int(self.test_counts[label])
        return int(self.test_counts[:label].sum()) + np.arange(min(count or found, found))

    def shown(self, images: NDArray[np.uint8], rows: NDArray[np.int64]) -> Tensor:
        """Return the images at places ``rows``, 8 bits, ``(N, C, 32, 32)``, on the device."""
        if images.shape[-1] == SIDE:
            return self.held(images[rows])
        parts = [halved(images[rows[start : start + _HALVED]]) for start in range(0, len(rows), _HALVED)]
        return self.held(np.concatenate(parts))

    def joined(
        self, images: NDArray[np.uint8], rows: Sequence[NDArray[np.int64]], labels: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Return the images of some classes, 8 bits, and their labels ``(N,)``, on the device.

        Args:
            images: Those of a split.
            rows: The places of the images of each class.
            labels: The label of each class.
        """
        counts = torch.tensor([len(part) for part in rows])
        shown = torch.cat([self.shown(images, part) for part in rows])
        return shown, torch.tensor(labels).repeat_interleave(counts).to(self.device)


class PartTask(LabelledTask):
    """Classification of images of its own, which come in a new order in each pass over them.

    Args:
        stream: The stream it is part of.
        index: Its place in the stream.
        train: Its images, 8 bits, ``(M, C, 32, 32)``, and their labels ``(M,)``, on the device.
        test: Its held-out images, likewise.
    """

    def __init__(
        self, stream: SmallImages, index: int, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]
    ) -> None:
        super().__init__(stream, index)
        self._train, self._test = train, test
        self.epoch = math.ceil(len(train[1]) / stream.batch_size)

    @property
    def train(self) -> tuple[Tensor, Tensor]:
        """The images that are trained on, 8 bits, and their labels."""
        return self._train

    @property
    def test(self) -> tuple[Tensor, Tensor]:
        """The held-out images, likewise."""
        return self._test

    @cached_property
    def _probe(self) -> tuple[Tensor, Tensor]:
        # As many of each class that the task has, which need not be all of the stream's.
        present, places = np.unique(self.trained_labels.cpu().numpy(), return_inverse=True)
        return self.of_rows(torch.from_numpy(first_of_each(places, len(present), PROBE_IMAGES)))
