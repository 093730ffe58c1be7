"""Label-permuted streams: the same images, whose classes are renamed in each task.

Elsayed and Mahmood 2024, "Addressing Loss of Plasticity and Catastrophic Forgetting in Continual Learning"
(arXiv:2404.00781), and their code (mohmdelsayed/upgd): images one by one, a new permutation of the labels every 2,500,
a million in all; hidden layers of 300 and 150 units on EMNIST, a small convolutional network on CIFAR-10, in whose
place the default is `cnn`, which is of another size. The default is MNIST, which their code
has too. What a network knows of images stays useful, so that forgetting it costs: a score
below that of a fresh network is also a failure to unlearn names.

Forgetting is a column where it was measured, with ``--metrics former_score``, which no run measures by default. Names
of two tasks contradict each other, so that what is learned well is forgotten by construction, all but a tenth of ten
classes; a learner that learns little has little to forget. Read it beside the retention, never for it. In ``lite`` a
plain learner with Adam at 1e-3 (MNIST, seed 0) has a held-out accuracy of .41 at the end of a late task and of .15 on
it at the end of the next.

Deviations: a task draws its images anew from the training images, without one coming twice; held-out images are the
first 2,000 of the test split, as many of each class, under the task's names.

``lite`` is ours: 100 tasks of 1,200 digits in batches of 16, and hidden layers of 100 units. Measured on real MNIST
with seeds 1000 to 1004: the online accuracy of a plain learner on the first tenth of the tasks, which is what tuning
sees, and on the late ones; what fresh networks have above chance on these, relative to that at 1e-3; retention with its
95% interval; and the trend. The published grid has decades; 3e-3 is between.

| Adam | plain, first tenth | plain, late tasks | fresh | retention | trend |
|---|---|---|---|---|---|
| 1e-4 | .261 | .208 | .47 | .20, of two seeds | .001, unclear |
| 1e-3 | .532 | .295 | **1.00** | .36, .24 to .46 | -.049, losing |
| 3e-3 | .533 | .130 | 1.07 | .05, .01 to .13 | -.045, losing |
| 1e-2 | .395 | .104 | 1.03 | .01, of two seeds | -.006, unclear |

So plain learning fails at the rate that tuning picks, in the published grid or between. The ceiling is 1.65. With 2,400
images a task and two seeds, plain learning keeps .71 at 1e-3, .37 at 3e-3 and .40 at 1e-4, under a ceiling of 1.40.

The profile ``upgd`` shows no loss (MNIST, the same five seeds, its rate, SGD at 0.01): plain learning has .903 on the
first tenth, .955 on the late tasks, where fresh networks have .766, and keeps 1.28, 1.28 to 1.29, under a ceiling of
1.35; its trend is .003, .001 to .004, gaining. What a network has learned of digits serves every new naming. Fresh
networks on its last two tasks (seed 1000) have .770 there, .561 with SGD at 0.001, .772 with Adam at 1e-3 and .779 at
1e-4; plain learning on its first three tasks has .823, .660, .822 and .787. No other rate was run in full.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from lopbench import ImageSet, Recipe, whole
from lopbench_plugins.scenarios.changes import ChangingTask, PermutingImages, PermutingScenario
from lopbench_plugins.scenarios.labelled_images import Scale

#: How the authors present each data set.
SCALES: Mapping[str, Scale] = {"mnist": "standard", "cifar10": "signed", "emnist-balanced": "signed"}


@dataclass(frozen=True, kw_only=True)
class LabelPermuted(PermutingScenario):
    """Images whose classes are renamed at random in each task; an image comes at most once in a task.

    Args:
        data: Name of the data set: mnist, cifar10 or emnist-balanced.
        tasks: Number of tasks.
        steps_per_task: Optimizer steps of each task.
        batch_size: Images of a step; steps times batch are the images of a task, drawn anew for each.
        scale: How pixels are presented: "unit" from 0 to 1, "signed" from -1 to 1, "standard" with mean 0 and
            deviation 1; none takes that of the authors for the data set.
        head_policy: Whether weights and bias of the head are set to zero at the start of every task.
        optimizer_policy: Whether the optimizer's state is carried over or cleared at a boundary.
        probe_every: Steps between diagnostics inside a task; 0 for the start and end of each task only.
        profile: Name of the profile the fields were taken from.
    """

    name: ClassVar[str] = "label_permuted"
    default_profile: ClassVar[str] = "lite"
    unranked: ClassVar[frozenset[str]] = frozenset({"smoke"})
    profiles: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "upgd": {"tasks": 400, "steps_per_task": 2_500, "batch_size": 1},
        "lite": {"tasks": 100, "steps_per_task": 75, "batch_size": 16},
        "smoke": {"tasks": 10, "steps_per_task": 25, "batch_size": 16},
    }

    profile: str = "lite"
    data: Literal["mnist", "cifar10", "emnist-balanced"] = "mnist"
    tasks: int = whole(100, least=1)
    steps_per_task: int = whole(75, least=1)
    batch_size: int = whole(16, least=1)
    scale: Scale | None = None
    head_policy: Literal["zero", "keep"] = "keep"

    def __post_init__(self) -> None:
        super().__post_init__()
        # A derived field of a frozen dataclass; records must hold it.
        object.__setattr__(self, "scale", self.scale or SCALES[self.data])

    @property
    def default_architecture(self) -> str:  # type: ignore[override] # another for each data set
        """Convolutions on photographs; on digits the published network, and in the short profiles a smaller one."""
        if self.data == "cifar10":
            return "cnn"
        return "mlp:widths=300/150" if self.profile.partition("+")[0] == "upgd" else "mlp:widths=100/100"

    def recipe(self, architecture: str) -> Recipe:
        """Return Adam at 1e-3 for learner and reference, and SGD at 0.01 in ``upgd``."""
        rate = "sgd:lr=0.01" if self.profile.partition("+")[0] == "upgd" else "adam:lr=1e-3"
        return Recipe(optimizer=rate, reference=rate)

    def stream(self, seed: int, *, data: Any, device: torch.device) -> "LabelPermutedStream":
        """Return the stream of ``seed``.

        Raises:
            DataError: If the data set has too few images for this scenario.
        """
        assert isinstance(data, ImageSet)  # the runner loads what `data` names
        return LabelPermutedStream(self, seed, data, device)


class LabelPermutedStream(PermutingImages):
    """The tasks of one seed, which draws the names of the classes and the images of each task."""

    def __init__(self, scenario: LabelPermuted, seed: int, images: ImageSet, device: torch.device) -> None:
        super().__init__(scenario, seed, images, device)
        self.need(scenario.steps_per_task * scenario.batch_size, "steps_per_task or batch_size")
        self.permutation(0, "labels", self.outputs)  # a share that is no permutation is told before anything is trained

    def task(self, index: int) -> "LabelPermutedTask":
        """Return task ``index``."""
        return LabelPermutedTask(self, index)


class LabelPermutedTask(ChangingTask):
    """The images under one renaming of the classes."""

    def __init__(self, stream: LabelPermutedStream, index: int) -> None:
        super().__init__(stream, index)
        #: The task's label of each class, ``(K,)``.
        self.renamed = stream.permutation(index, "labels", stream.outputs)

    def labels(self, true: Tensor) -> Tensor:
        """Return the task's labels."""
        return self.renamed[true]
