"""What streams of labelled images share: which image comes when, how it is presented, and what its label is.

The images of a split are kept once, as 8-bit numbers on the device; the batches of many steps are made of them at once.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from lopbench import DataError, ImageSet, Scenario, Stream, Task, rng
from lopbench_plugins.scenarios.augmentation import MEAN, STD
from lopbench_plugins.scenarios.row_batches import RowBatches

#: How pixels are presented: from 0 to 1, from -1 to 1, or standardised by mean and deviation of each channel.
Scale = Literal["unit", "signed", "standard"]

#: Mean and standard deviation of the channels, of pixels from 0 to 1; of what stands in for a set they are the set's.
CHANNELS: Mapping[str, tuple[Sequence[float], Sequence[float]]] = {
    "mnist": ((0.1307,), (0.3081,)),
    "emnist-balanced": ((0.1751,), (0.3332,)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.247, 0.243, 0.261)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "tiny-imagenet-200": (MEAN, STD),
    "downsampled-imagenet-32": ((0.481, 0.4574, 0.4078), (0.2605, 0.2533, 0.2684)),
}

#: Images of the probe batch, and held-out ones: as many of each class, if there are.
PROBE_IMAGES, HELD_OUT_IMAGES = 500, 2000

#: Images of a held-out batch.
HELD_OUT_BATCH = 1000


class LabelledScenario(Scenario):
    """A scenario of labelled images; its fields say how these are presented, and `data` whose channels they have."""

    batch_size: int
    scale: Scale | None  #: Filled in when the scenario is made, where none is given.


class LabelledImages(Stream):
    """The images of one seed, as a scenario presents them.

    Args:
        scenario: The protocol.
        seed: Seed of the run.
        images: The data set.
        device: Where images are kept and batches are made.
    """

    def __init__(self, scenario: LabelledScenario, seed: int, images: ImageSet, device: torch.device) -> None:
        self.scenario = scenario
        self.seed = seed
        self.device = device
        self.input_shape: Sequence[int] = images.shape
        self.outputs = len(images.classes)
        self.images = images
        self.batch_size = scenario.batch_size
        assert scenario.data is not None
        assert scenario.scale is not None
        channels = {"unit": ((0.0,), (1.0,)), "signed": ((0.5,), (0.5,)), "standard": CHANNELS[scenario.data]}
        parts = [(255 * torch.tensor(part)).tolist() for part in channels[scenario.scale]]
        #: Mean and deviation of 8-bit pixels, of all channels or of each. Numbers, since a program holds no tensors.
        self._moments: list[tuple[float, float]] = list(zip(*parts, strict=True))

    def generator(self, *names: str | int) -> torch.Generator:
        """Return a fresh generator of the stream's, for one purpose."""
        return rng.derive(self.seed, "data", self.scenario.name, *names)

    def need(self, count: int, what: str) -> None:
        """Refuse a data set with fewer than ``count`` training images; ``what`` is to be lowered.

        Raises:
            DataError: If it has fewer.
        """
        found = len(self.images.train_labels)
        if count > found:
            raise DataError(
                f"{self.scenario.name} needs {count:,} training images for a task, {self.images.name} as it is found "
                f"has {found:,}; {remedy(self.images, what)}"
            )

    @cached_property
    def train(self) -> tuple[Tensor, Tensor]:
        """The training images, 8 bits, ``(M, C, H, W)``, and their true labels ``(M,)``: of all, class by class."""
        return self.held(self.images.train_images), self.held(self.images.train_labels)

    @cached_property
    def test(self) -> tuple[Tensor, Tensor]:
        """The first held-out images of each class and their true labels; likewise."""
        rows = first_of_each(self.images.test_labels, self.outputs, HELD_OUT_IMAGES)
        return self.held(self.images.test_images[rows]), self.held(self.images.test_labels[rows])

    def held(self, array: Any) -> Tensor:
        """Return an array as it is kept on the device, never to be written to."""
        with warnings.catch_warnings():  # mapped arrays may not be written to, and never are: a copy is saved
            warnings.simplefilter("ignore", UserWarning)
            return torch.from_numpy(array).to(self.device)

    def presented(self, pixels: Tensor) -> Tensor:
        """Return 8-bit ``pixels`` ``(..., C, H, W)`` at the scale of the scenario, as floats."""
        shown = pixels.to(torch.float32)
        channels = [shown] if len(self._moments) == 1 else shown.unbind(-3)
        for channel, (mean, std) in zip(channels, self._moments, strict=True):
            channel.sub_(mean).div_(std)
        return shown


class LabelledTask(Task):
    """Classification of images under the task's labels; where it says nothing else, each image comes at most once.

    Args:
        stream: The stream it is part of.
        index: Its place in the stream.
    """

    def __init__(self, stream: LabelledImages, index: int) -> None:
        self.stream = stream
        self.index = index

    @property
    def train(self) -> tuple[Tensor, Tensor]:
        """The images that are trained on, 8 bits, and their true labels: those of the stream."""
        return self.stream.train

    @property
    def test(self) -> tuple[Tensor, Tensor]:
        """The held-out images, likewise."""
        return self.stream.test

    def order(self, passage: int) -> Tensor:
        """Return places of training images in the order of a pass over the task's data, from 0, ``(N,)`` on the CPU."""
        generator = self.stream.generator("order", self.index, passage)
        return torch.randperm(len(self.train[1]), generator=generator)

    def seen(self, pixels: Tensor) -> Tensor:
        """Return what the task shows of 8-bit ``pixels`` ``(N, C, H, W)``, still 8 bits."""
        return pixels

    def labels(self, true: Tensor) -> Tensor:
        """Return the task's labels of images whose ``true`` labels these are, ``(N,)``."""
        return true

    @cached_property
    def trained_labels(self) -> Tensor:
        """The task's labels of all training images, ``(M,)``."""
        return self.labels(self.train[1])

    def stored(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the training images at places ``rows`` ``(N,)`` as the task shows them, 8 bits, and their labels."""
        rows = rows.to(self.stream.device)
        images, labels = self.train[0].index_select(0, rows), self.trained_labels.index_select(0, rows)
        return self.seen(images), labels

    def presented(self, inputs: Tensor) -> Tensor:
        """Return 8-bit images ``(..., C, H, W)`` as the network is given them."""
        return self.stream.presented(inputs)

    def of_rows(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the training images at places ``rows`` ``(N,)`` as they are trained on, and their labels."""
        images, labels = self.stored(rows)
        return self.presented(images), labels

    @property
    def chance(self) -> float:
        """One over the number of classes."""
        return 1.0 / self.stream.outputs

    def batches(self) -> RowBatches:
        """Return the training stream of the task from its start."""
        return RowBatches(self, self.stream.batch_size)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy."""
        return F.cross_entropy(outputs, targets)

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return whether each sample's largest output is the right one, boolean ``(N,)``."""
        return outputs.argmax(1) == targets

    def held_out(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the held-out images as the task shows and labels them."""
        yield from self.in_batches(*self.test)

    def in_batches(self, images: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield 8-bit ``images`` with these true labels as the task shows and labels them."""
        for part, true in zip(images.split(HELD_OUT_BATCH), labels.split(HELD_OUT_BATCH), strict=True):
            yield self.presented(self.seen(part)), self.labels(true)

    def probe(self) -> tuple[Tensor, Tensor]:
        """Return the first training images of each class, as many of each if there are."""
        return self._probe

    @cached_property
    def _probe(self) -> tuple[Tensor, Tensor]:
        true = self.train[1].cpu().numpy()
        return self.of_rows(torch.from_numpy(first_of_each(true, self.stream.outputs, PROBE_IMAGES)))


def remedy(images: ImageSet, what: str = "") -> str:
    """Return what to do about a data set with too few images.

    Args:
        images: The data set.
        what: What can be lowered; "" if nothing can.
    """
    ways = [*([f"lower {what}"] if what else []), *(["complete the data set"] if images.subset else [])]
    return " or ".join(ways) or "take another data set"


def first_of_each(labels: NDArray[np.int64], classes: int, count: int) -> NDArray[np.int64]:
    """Return the places in ``labels`` of some ``count`` images: the first of each class, as many if there are."""
    each = max(1, count // classes)
    return np.concatenate([np.flatnonzero(labels == label)[:each] for label in range(classes)])
