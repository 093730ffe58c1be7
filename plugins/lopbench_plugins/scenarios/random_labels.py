"""Random labels: the same images to be memorised again and again, each time under labels that mean nothing.

Kumar, Marklund and Van Roy 2023, "Maintaining Plasticity in Continual Learning via Regenerative Regularization"
(arXiv:2308.11958), and their code (skumar9876/L2_Init): 50 tasks of 1,200 images of MNIST or CIFAR-10, batches of 16,
400 passes a task; labels are dealt out among the images, so that of each there are as many in all tasks. The score is
the accuracy on each batch before it is trained on, over all steps. Nothing is held out: there is nothing to generalise.
Chance is one over the number of classes; the commonest label of few images is somewhat more. With ``fraction`` below 1
only a share of the images have their labels exchanged, among each other, and the others keep their true labels; with
ten classes about a tenth of the exchanged labels keep their value, at any ``fraction``.

Their networks are two hidden layers of 100 ReLUs for digits, and convolutions for photographs, in whose place the
default is `cnn`, which is of another size. Deviations: they leave out the last batch of a pass, and begin the next one.
Their best rate of plain learning is 1e-4 on MNIST, 1e-3 on CIFAR-10 (Adam), and ``kumar`` has it for learner and
reference. Measured on real MNIST with seeds 1000 to 1004, plain learning has an online accuracy of .83 on the first two
tasks, as fresh networks have on each, .51 on the first tenth, and .13 on the late ones: it keeps .03, with a 95%
interval of .01 to .08, under a ceiling of 1.23, and all five seeds collapse. Its trend is -.001, -.003 to .002, level:
from the tenth task on nothing is left to lose. On CIFAR-10 it was not run here.

``lite`` is ours: 50 tasks of 160 digits, 30 passes each. Measured on real MNIST with seeds 1000 to 1004, at the
published rates: the online accuracy of a plain learner on the first tenth of the tasks, which is what tuning sees, and
on the late ones; that of fresh networks on one task; retention with its 95% interval; and the trend.

| Adam | plain, first tenth | plain, late tasks | fresh, a task | retention | trend |
|---|---|---|---|---|---|
| 1e-4 | .283 | .218 | .310 | .26, .25 to .29 | -.011, losing |
| 1e-3 | **.368** | .138 | **.528** | .08, .05 to .13 | .000, level |

So tuning picks 1e-3, at which fresh networks learn most and a plain learner collapses within the first tasks: from the
tenth on it only names the commonest label. At the published rate of the long protocol it loses slowly. The ceiling is
2.00. With 320 images, of which fresh networks memorise little, it is 5.47, and collapses are the same.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from lopbench import ImageSet, Recipe, whole
from lopbench_plugins._multiples import check_multiple
from lopbench_plugins.scenarios.changes import ChangingTask, PermutingImages, PermutingScenario
from lopbench_plugins.scenarios.labelled_images import Scale

#: How the authors present each data set.
SCALES: Mapping[str, Scale] = {"mnist": "signed", "cifar10": "standard"}


@dataclass(frozen=True, kw_only=True)
class RandomLabels(PermutingScenario):
    """The same images in all tasks, to be memorised under labels that are dealt out anew in each.

    Args:
        data: Name of the data set: mnist or cifar10.
        tasks: Number of tasks.
        images: Images to memorise, drawn by the seed; a multiple of ``batch_size``.
        steps_per_task: Optimizer steps of each task; ``images`` over ``batch_size`` of them are one pass.
        batch_size: Images of a step.
        scale: How pixels are presented: "unit" from 0 to 1, "signed" from -1 to 1, "standard" with mean 0 and
            deviation 1; none takes that of the authors for the data set.
        recurrence: Number of different tasks, which come again in turn: the same images under the same labels, in
            another order; 0 for no task that comes again, 1 for a problem that never changes.
        fraction: Share, in [0, 1], of the images whose labels a task exchanges among each other, not of the labels
            that differ afterwards: with ten classes about a tenth of those that are exchanged keep their value. Below
            1 each task draws as many images anew as the share comes to, rounded to a whole number (0.01 of 160 images
            are two, a share of 0.0125), and all others keep their true labels.
        head_policy: Whether weights and bias of the head are set to zero at the start of every task.
        optimizer_policy: Whether the optimizer's state is carried over or cleared at a boundary.
        probe_every: Steps between diagnostics inside a task; 0 for the start and end of each task only.
        profile: Name of the profile the fields were taken from.
    """

    name: ClassVar[str] = "random_labels"
    default_profile: ClassVar[str] = "lite"
    unranked: ClassVar[frozenset[str]] = frozenset({"smoke"})
    profiles: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "kumar": {"tasks": 50, "images": 1_200, "steps_per_task": 30_000},
        "lite": {"tasks": 50, "images": 160, "steps_per_task": 300},
        "smoke": {"tasks": 10, "images": 80, "steps_per_task": 50},
    }

    profile: str = "lite"
    data: Literal["mnist", "cifar10"] = "mnist"
    tasks: int = whole(50, least=1)
    images: int = whole(160, least=1)
    steps_per_task: int = whole(300, least=1)
    batch_size: int = whole(16, least=1)
    scale: Scale | None = None
    head_policy: Literal["zero", "keep"] = "keep"

    def __post_init__(self) -> None:
        super().__post_init__()
        # A derived field of a frozen dataclass; records must hold it.
        object.__setattr__(self, "scale", self.scale or SCALES[self.data])
        check_multiple(self.name, "batch_size", self.batch_size, images=self.images)

    @property
    def default_architecture(self) -> str:  # type: ignore[override] # another for each data set
        """The published network: two hidden layers of 100 units on digits, convolutions on photographs."""
        return "mlp:widths=100/100" if self.data == "mnist" else "cnn"

    def recipe(self, architecture: str) -> Recipe:
        """Return Adam at 1e-3 for learner and reference, and at 1e-4 for ``kumar`` on MNIST, as published."""
        rate = "adam:lr=1e-4" if self.profile.partition("+")[0] == "kumar" and self.data == "mnist" else "adam:lr=1e-3"
        return Recipe(optimizer=rate, reference=rate)

    def stream(self, seed: int, *, data: Any, device: torch.device) -> "RandomLabelsStream":
        """Return the stream of ``seed``.

        Raises:
            DataError: If the data set has too few images for this scenario.
        """
        assert isinstance(data, ImageSet)  # the runner loads what `data` names
        return RandomLabelsStream(self, seed, data, device)


class RandomLabelsStream(PermutingImages):
    """The tasks of one seed, which draws the images, and deals out their labels in each task."""

    def __init__(self, scenario: RandomLabels, seed: int, images: ImageSet, device: torch.device) -> None:
        super().__init__(scenario, seed, images, device)
        self.need(scenario.images, "images")
        self.epoch = scenario.images // scenario.batch_size
        self._drawn = torch.randperm(len(images.train_labels), generator=self.generator("images"))[: scenario.images]

    @cached_property
    def train(self) -> tuple[Tensor, Tensor]:
        """The images that are memorised, 8 bits, and their true labels."""
        rows = self._drawn.numpy()
        return self.held(self.images.train_images[rows]), self.held(self.images.train_labels[rows])

    def task(self, index: int) -> "RandomLabelsTask":
        """Return task ``index``."""
        return RandomLabelsTask(self, index)


class RandomLabelsTask(ChangingTask):
    """The images of the stream under labels that are dealt out among them: of each there are as many in all tasks."""

    stream: RandomLabelsStream

    def __init__(self, stream: RandomLabelsStream, index: int) -> None:
        super().__init__(stream, index)
        self.epoch = stream.epoch

    @cached_property
    def trained_labels(self) -> Tensor:
        """The labels of all images, ``(M,)``."""
        labels = self.stream.train[1]
        return labels[self.stream.permutation(self.index, "labels", len(labels))]

    def held_out(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield nothing: there is nothing to be learned of other images."""
        return iter(())
