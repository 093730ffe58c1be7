"""Cloning: does a network that was widened without changing its function use its new width?

Joudaki et al. 2025, "Barriers for Learning in an Evolving World" (arXiv:2510.00304), section 2 and appendix B (Fig. 2.1
and B.7 to B.14): a base is trained, cloned, and trained on beside its clone. Under SGD and Adam the clone stays on the
manifold of clones for ever, and has no more capacity than the base; noise and dropout let it leave.

Deviations from the authors' code (ajoudaki/loss-of-plasticity, 52fdf81): base and clone see the same batches in the
same order (theirs shuffle on their own), so that they are paired; all is measured in evaluation mode and on a
class-balanced batch without augmentation (theirs holds one class, and its first look is in training mode); SGD has no
momentum, as the paper says (their configuration has 0.9); only the crop, flip or rotation is random (their code for
Tiny ImageNet adds colour jitter); of each class there are as many images.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from lopbench import Batches, DataError, Growth, ImageSet, InvalidInputError, Recipe, Scenario, Stream, Task, rng, whole
from lopbench_plugins.scenarios.augmentation import MEAN, STD
from lopbench_plugins.scenarios.derived import derive
from lopbench_plugins.scenarios.labelled_images import remedy

#: Images in the probe batch: as many of each class, at least one.
PROBE_IMAGES = 500

#: Images of a held-out batch.
HELD_OUT_BATCH = 500


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """How the images of a data set are presented.

    Args:
        classes: Number of classes, K.
        per_class: Training images of each class in the original; of MNIST in its smallest class.
        mean: Mean of each channel, of pixels in [0, 1].
        std: Standard deviation of each channel.
        padding: Pixels of black around an image from which it is cropped at random; 0 for no crop.
        flip: Whether images are mirrored at random.
        rotation: Largest random rotation, in degrees to either side.
    """

    classes: int
    per_class: int
    mean: Sequence[float]
    std: Sequence[float]
    padding: int = 0
    flip: bool = False
    rotation: float = 0.0


#: By name of the data set; procedural images are presented as what they stand in for.
PREPARATIONS: Mapping[str, Preparation] = {
    "cifar10": Preparation(
        classes=10,
        per_class=5000,
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2023, 0.1994, 0.2010),
        padding=4,
        flip=True,
    ),
    "cifar100": Preparation(
        classes=100,
        per_class=500,
        mean=(0.5071, 0.4867, 0.4408),
        std=(0.2675, 0.2565, 0.2761),
        padding=4,
        flip=True,
    ),
    "mnist": Preparation(classes=10, per_class=5421, mean=(0.1307,), std=(0.3081,), rotation=10.0),
    "tiny-imagenet-200": Preparation(classes=200, per_class=500, mean=MEAN, std=STD, padding=8, flip=True),
}
PREPARATIONS = {
    **PREPARATIONS,
    **{f"procedural-{name}": PREPARATIONS[name] for name in ("cifar10", "cifar100", "mnist")},
    "procedural": PREPARATIONS["tiny-imagenet-200"],
}


@dataclass(frozen=True, kw_only=True)
class Cloning(Scenario):
    """One classification problem; a task is an epoch, and after the first ones the network is replaced by its clone.

    The score is the clone over its base, on the same batches: 1 is a clone that does no better, whose added width is
    not used. The fresh network beside it is as wide as the clone and is trained from the first epoch on.

    Methods act on the clone alone, from the cloning on. What a method builds into the network (dropout, say) is in the
    base as well, as in the paper: a clone is a copy, and inherits it.

    Args:
        data: Name of the data set: cifar10, cifar100, mnist, tiny-imagenet-200, or the procedural images for one.
        base_epochs: Epochs before the cloning, at least 1.
        epochs: Epochs after it; the late epochs, 20% of all and at least 5, must be among them.
        factor: Clones of each unit, at least 2.
        images_per_class: Training images of each class, drawn by the seed; 0 takes as many as the original has.
        batch_size: Samples of a step; an epoch's last batch may be smaller.
        augment: Whether training images are cropped, flipped or rotated at random, as the data set's `Preparation` has
            it.
        tasks: Number of epochs, which follows from the others; 0 fills it in.
        steps_per_task: Steps of an epoch, which follows from the others; 0 fills it in.
        head_policy: "keep", for all epochs are of one problem.
        optimizer_policy: "carry", for the same reason. The clone starts with a new optimizer.
        probe_every: Steps between diagnostics inside an epoch; 0 for the end of each epoch only.
        profile: Name of the profile the fields were taken from.
    """

    name: ClassVar[str] = "cloning"
    version: ClassVar[int] = 2  # since 2 a clone is scored against its base, and the fresh network is as wide as it
    boundaries: ClassVar[bool] = False
    default_architecture: ClassVar[str] = "mlp:normalization=batch"
    default_profile: ClassVar[str] = "lite"
    unranked: ClassVar[frozenset[str]] = frozenset({"smoke"})
    profiles: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "full": {"base_epochs": 20, "epochs": 500, "images_per_class": 0},
        "lite": {"base_epochs": 20, "epochs": 100, "images_per_class": 900},
        "smoke": {"base_epochs": 2, "epochs": 5, "images_per_class": 100},
    }

    profile: str = "lite"
    data: str = "cifar10"
    base_epochs: int = whole(20, least=1)
    epochs: int = whole(100, least=1)
    factor: int = whole(2, least=2)
    images_per_class: int = whole(900, least=0)
    batch_size: int = whole(128, least=1)
    augment: bool = True
    tasks: int = whole(0, least=0)
    steps_per_task: int = whole(0, least=0)
    # There is one problem, and no boundary to act at.
    head_policy: Literal["keep"] = "keep"
    optimizer_policy: Literal["carry"] = "carry"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.data not in PREPARATIONS:
            raise InvalidInputError(
                f"{self.name}: data must be one of {', '.join(PREPARATIONS)}, got {self.data!r}; "
                "'lopbench data list' tells what they are"
            )
        # Derived fields of a frozen dataclass; records must hold them.
        preparation = PREPARATIONS[self.data]
        object.__setattr__(self, "images_per_class", self.images_per_class or preparation.per_class)
        images = preparation.classes * self.images_per_class
        derive(self, "tasks", self.base_epochs + self.epochs, "base_epochs and epochs")
        derive(self, "steps_per_task", math.ceil(images / self.batch_size), "images_per_class and batch_size")
        if self.late_tasks.start < self.base_epochs:
            raise InvalidInputError(
                f"{self.name}: the last {len(self.late_tasks)} of {self.tasks} epochs are scored and must come after "
                f"the cloning; got base_epochs={self.base_epochs} and epochs={self.epochs}, raise epochs"
            )

    @property
    def extra_metrics(self) -> tuple[str, ...]:
        """What clones have in common."""
        return ("cloning_r2_forward", "cloning_r2_backward", "cloning_r2_authors", "manifold_distance")

    @property
    def growth(self) -> Growth:
        """The cloning, before the first epoch of the clone."""
        return Growth(task=self.base_epochs, factor=self.factor)

    def recipe(self, architecture: str) -> Recipe:
        """Return SGD at 0.01, as in Fig. B.7, for all architectures; the short profiles are ten times as fast.

        The fresh network has the same, for it differs from the clone in its birth alone. Of the base under ``lite``,
        on seeds 1000 and 1001, the online accuracy is

            rate                  0.01   0.03   0.1    0.3
            first 20 epochs      0.369  0.398  0.410  0.403
            last 24 epochs       0.558  0.612  0.655  0.665

        0.1 is best where a network is young, which is what a reference is. Clone over base, the score, is 1.00 at all
        of them.
        """
        rate = "sgd:lr=0.01" if self.profile.partition("+")[0] == "full" else "sgd:lr=0.1"
        return Recipe(optimizer=rate, reference=rate)

    def stream(self, seed: int, *, data: Any, device: torch.device) -> "CloningStream":
        """Return the stream of ``seed``.

        Raises:
            DataError: If the data set has too few images.
        """
        assert isinstance(data, ImageSet)  # the runner loads what `data` names
        return CloningStream(self, seed, data, device)


class CloningStream(Stream):
    """The epochs of one seed, which draws the images of each class, their order and their augmentation."""

    def __init__(self, scenario: Cloning, seed: int, images: ImageSet, device: torch.device) -> None:
        self.scenario = scenario
        self.seed = seed
        self.device = device
        self.preparation = PREPARATIONS[scenario.data]
        self.input_shape: Sequence[int] = images.shape
        self.outputs = len(images.classes)
        self._images = images
        counts = torch.bincount(torch.tensor(images.train_labels), minlength=self.outputs)
        rarest = int(counts.argmin())
        if self.outputs != self.preparation.classes or counts[rarest] < scenario.images_per_class:
            raise DataError(
                f"{scenario.name} needs {scenario.images_per_class:,} training images of each of "
                f"{self.preparation.classes} classes, {images.name} as it is found has {self.outputs} classes and "
                f"{int(counts[rarest]):,} images of {images.classes[rarest]}; "
                + remedy(images, f"images_per_class, as in {scenario.name}:images_per_class={int(counts[rarest])},")
            )
        self._starts = [0, *counts.cumsum(0).tolist()]

    def task(self, index: int) -> "CloningEpoch":
        """Return epoch ``index``."""
        return CloningEpoch(self, index)

    @cached_property
    def pixels(self) -> Tensor:
        """The training images, padded where they are cropped, 8 bits, ``(M, C, H + 2P, W + 2P)``, class by class."""
        wanted, parts = self.scenario.images_per_class, []
        for label in range(self.outputs):
            start, stop = self._starts[label], self._starts[label + 1]
            stream = rng.derive(self.seed, "data", self.scenario.name, "images", label)
            chosen = torch.randperm(stop - start, generator=stream)[:wanted].sort().values
            parts.append(torch.tensor(self._images.train_images[start + chosen.numpy()]))
        return F.pad(torch.cat(parts), [self.padding] * 4).to(self.device)

    @property
    def padding(self) -> int:
        """P, the black pixels at each side of `pixels`."""
        return self.preparation.padding if self.scenario.augment else 0

    @cached_property
    def labels(self) -> Tensor:
        """Labels ``(M,)`` of `pixels`."""
        return torch.arange(self.outputs, device=self.device).repeat_interleave(self.scenario.images_per_class)

    @cached_property
    def held_out(self) -> tuple[Tensor, Tensor]:
        """All held-out images, 8 bits, and their labels."""
        images, labels = self._images.test_images, self._images.test_labels
        return torch.tensor(images).to(self.device), torch.tensor(labels).to(self.device)

    @cached_property
    def probe(self) -> tuple[Tensor, Tensor]:
        """The first training images of each class, as many of each, without augmentation, and their labels."""
        count = min(max(1, PROBE_IMAGES // self.outputs), self.scenario.images_per_class)
        inside = slice(self.padding, self.pixels.shape[-1] - self.padding)
        chosen = torch.arange(len(self.labels), device=self.device) % self.scenario.images_per_class < count
        return self.normalized(self.pixels[chosen][..., inside, inside]), self.labels[chosen]

    def normalized(self, images: Tensor) -> Tensor:
        """Return images of pixels in [0, 255] standardised channel by channel, as floats."""
        mean, std = (
            torch.tensor(values, device=images.device).view(-1, 1, 1) * 255
            for values in (self.preparation.mean, self.preparation.std)
        )
        return (images - mean).div_(std)


class CloningEpoch(Task):
    """One pass over the training images of a stream."""

    def __init__(self, stream: CloningStream, index: int) -> None:
        self._stream = stream
        self._index = index
        self.epoch = stream.scenario.steps_per_task

    @property
    def chance(self) -> float:
        """One over the number of classes."""
        return 1.0 / self._stream.outputs

    def batches(self) -> "EpochBatches":
        """Return the batches of the epoch from its start."""
        return EpochBatches(self._stream, self._index)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy."""
        return F.cross_entropy(outputs, targets)

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return whether each sample's largest output is the right one, boolean ``(N,)``."""
        return outputs.argmax(1) == targets

    def held_out_scores(self, outputs: Tensor, targets: Tensor) -> Mapping[str, Tensor]:
        """Return the cross-entropy of each held-out sample, ``(N,)``."""
        return {"heldout_loss": F.cross_entropy(outputs, targets, reduction="none")}

    def held_out(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the held-out images as batches."""
        images, labels = self._stream.held_out
        for part, targets in zip(images.split(HELD_OUT_BATCH), labels.split(HELD_OUT_BATCH), strict=True):
            yield self._stream.normalized(part), targets

    def probe(self) -> tuple[Tensor, Tensor]:
        """Return the probe batch, the same in all epochs."""
        return self._stream.probe


class EpochBatches(Batches):
    """One pass over the training images, in an order and under an augmentation that seed and epoch give.

    Args:
        stream: What the images are of.
        index: The epoch.
    """

    def __init__(self, stream: CloningStream, index: int) -> None:
        self._stream = stream
        self._position = 0
        generator = rng.derive(stream.seed, "data", stream.scenario.name, "epoch", index)
        count = len(stream.labels)
        self._order = torch.randperm(count, generator=generator).to(stream.device)
        self._draws = torch.rand(3, count, generator=generator).to(stream.device)

    def __next__(self) -> tuple[Tensor, Tensor]:
        """Return the next batch ``(N, C, H, W)`` and its labels ``(N,)``."""
        stream, size = self._stream, self._stream.scenario.batch_size
        place = slice(self._position * size, (self._position + 1) * size)
        self._position += 1
        chosen = self._order[place]
        if not stream.scenario.augment:
            return stream.normalized(stream.pixels[chosen]), stream.labels[chosen]
        kind = stream.preparation
        row, column, turn = self._draws[:, place]
        images = _cropped(stream.pixels, chosen, row, column, kind.padding)
        if kind.flip:
            images = torch.where((turn < 0.5).view(-1, 1, 1, 1), images.flip(-1), images)
        if kind.rotation:
            images = _rotated(images.float(), (2 * turn - 1) * math.radians(kind.rotation))
        return stream.normalized(images), stream.labels[chosen]

    def state_dict(self) -> dict[str, Tensor]:
        """Return the place in the epoch."""
        return {"position": torch.tensor(self._position)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue from ``state``."""
        self._position = int(state["position"])


def _cropped(images: Tensor, chosen: Tensor, row: Tensor, column: Tensor, padding: int) -> Tensor:
    """Return windows into padded images.

    Args:
        images: Padded images ``(M, C, S, S)``.
        chosen: Which of them, ``(N,)``.
        row: Where the window is between top and bottom, ``(N,)`` in [0, 1).
        column: Where it is between left and right.
        padding: Pixels by which images are padded at each side.
    """
    channels, side = images.shape[1:3]
    if not padding:
        return images[chosen]
    shifts, size = 2 * padding + 1, side - 2 * padding
    # All windows as rows of one view, since picking rows is faster than indexing by image, row and column. The last
    # channels of the last images have none that begin there.
    reach = (channels - 1) * side**2 + (size - 1) * (side + 1)
    windows = images.as_strided((images.numel() - reach, channels, size, size), (1, side**2, side, 1))
    top, left = ((draw * shifts).long().clamp_(max=shifts - 1) for draw in (row, column))
    return windows.index_select(0, channels * side**2 * chosen + side * top + left)


def _rotated(images: Tensor, angles: Tensor) -> Tensor:
    """Return ``images`` ``(N, C, H, W)`` turned by ``angles`` ``(N,)`` in radians, to the nearest pixel."""
    cosine, sine, zero = angles.cos(), angles.sin(), torch.zeros_like(angles)
    turn = torch.stack([torch.stack([cosine, -sine, zero], 1), torch.stack([sine, cosine, zero], 1)], 1)
    grid = F.affine_grid(turn, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="nearest", align_corners=False)
