"""What the checks of methods train: a small problem, and a learner with methods on it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from lopbench.core import fields, rng
from lopbench.core.errors import UnsupportedError
from lopbench.core.interfaces import Batches, Perturbation, Task
from lopbench.core.spec import ComponentSpec, build_optimizer
from lopbench.learner import evaluation
from lopbench.learner.learner import StackLearner
from lopbench.testing.check import NotApplicable
from lopbench.testing.networks import CLASSES, NETWORKS, SHAPE, Network, plain, rectified

#: Steps between boundaries, where a method acts at them.
BOUNDARY = 7

#: The optimizers under which a reset must forget.
OPTIMIZERS: Mapping[str, str] = {
    "sgd": "sgd:lr=0.05",
    "momentum": "sgd:lr=0.02,momentum=0.9",
    "adam": "adam:lr=0.01",
    "adamw": "adamw:lr=0.01,weight_decay=0.1",
}
#: Moves nothing.
STILL = "sgd:lr=1e-30"


class Problem(Task):
    """Random images with random labels, endlessly, in the order of their seed.

    Args:
        seed: What the images and labels derive from.
        dtype: Type of the images.
        size: Images of a batch.
        constant: Whether all images are one and the same.
        shift_at: Step from which labels and images are others.
    """

    chance = 1 / CLASSES
    epoch = 3

    def __init__(
        self, seed: int, dtype: torch.dtype, *, size: int = 6, constant: bool = False, shift_at: int | None = None
    ) -> None:
        self.seed, self.dtype, self.size, self.constant, self.shift_at = seed, dtype, size, constant, shift_at

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return the images ``(N, *SHAPE)`` and labels ``(N,)`` of a step."""
        generator = rng.derive(self.seed, "conformance", "batch", 0 if self.constant else step)
        rows = 1 if self.constant else self.size
        images = torch.randn(rows, *SHAPE, generator=generator, dtype=torch.float64).expand(self.size, *SHAPE)
        labels = torch.randint(CLASSES, (self.size,), generator=generator)
        if self.shift_at is not None:  # a problem that can be learned, and changes all at once
            labels = (images.flatten(1)[:, 0] > 0).long() + int(step >= self.shift_at)
        return images.to(self.dtype, copy=True), labels

    def batches(self) -> Batches:
        """Return the training stream from its start."""
        return _Stream(self)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy."""
        return functional.cross_entropy(outputs, targets)

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return whether each sample is right, ``(N,)``."""
        return (outputs.argmax(dim=1) == targets).double()

    def held_out(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield one batch."""
        yield self.batch(10**6)

    def probe(self) -> tuple[Tensor, Tensor]:
        """Return one batch."""
        return self.batch(10**6 + 1)

    def former(self) -> Problem:
        """Return a problem of another seed."""
        return Problem(self.seed + 1, self.dtype, size=self.size)


class _Stream(Batches):
    """The batches of a problem, one after another."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._step = 0

    def __next__(self) -> tuple[Tensor, Tensor]:
        """Return the next batch."""
        self._step += 1
        return self._problem.batch(self._step - 1)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the number of batches taken."""
        return {"step": torch.tensor(self._step)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue from ``state``."""
        self._step = int(state["step"])


#: The networks on which methods are checked where no other is asked for; most take the first.
HOMES: Sequence[Network] = (plain, rectified, *NETWORKS.values())


def _isolated(network: Network) -> Callable[[Generator], nn.Module]:
    """Return what builds the network from a generator."""

    def build(generator: Generator) -> nn.Module:
        with rng.isolated(generator):
            return network()

    return build


class Refused(NotApplicable, UnsupportedError):  # noqa: N818
    """The methods take none of the networks of a check.

    Args:
        reasons: Why, for each of them.
    """

    def __init__(self, reasons: Sequence[str]) -> None:
        self.reasons = list(dict.fromkeys(reasons))
        if len(reasons) == 1:
            super().__init__(f"it refuses the network: {reasons[0]}")
        else:
            super().__init__("it takes no network of the kit; the check `acts` says why")


class Bench:
    """A learner with methods on a problem.

    Args:
        methods: The methods, None for none; copies of them act, so that nothing they keep on themselves is shared.
        network: Makes the network from torch's global generator; None for the first of `HOMES` that the methods take.
        optimizer: The optimizer.
        seeds: Seed of each replica.
        dtype: Type of parameters and images.
        dead: Whether the first unit of every hidden layer with a bias starts out dead (under ReLU).
        size: Images of a batch.
        constant: Whether all images are one and the same.
        shift_at: Step from which the problem is another.
        options: What `StackLearner` takes besides.
    """

    def __init__(
        self,
        *methods: Perturbation | None,
        network: Network | None = None,
        optimizer: str = OPTIMIZERS["adam"],
        seeds: Sequence[int] = (0,),
        dtype: torch.dtype = torch.float32,
        dead: bool = False,
        size: int = 6,
        constant: bool = False,
        shift_at: int | None = None,
        **options: Any,
    ) -> None:
        self.problems = [Problem(seed, dtype, size=size, constant=constant, shift_at=shift_at) for seed in seeds]
        options.update(optimizer=build_optimizer(ComponentSpec.parse("optimizers", optimizer)), dtype=dtype)
        made = [method for method in methods if method is not None]
        self.network, self.learner = self._settle(made, HOMES if network is None else (network,), seeds, options)
        self.step = 0
        if dead:
            for name, parameter in self.learner.view.parameters.items():
                if name.endswith("bias") and name not in self.learner.view.head and parameter.ndim == 2:
                    parameter[:, 0] = -100.0
        self.begin_task(0)

    def _settle(
        self,
        methods: Sequence[Perturbation],
        networks: Sequence[Network],
        seeds: Sequence[int],
        options: dict[str, Any],
    ) -> tuple[Network, StackLearner]:
        """Return the first of the networks that the methods take, and the learner with it.

        Raises:
            Refused: If they take none.
        """
        inputs, targets = self.problems[0].batch(0)
        refusals: list[str] = []
        for network in networks:
            try:
                return network, StackLearner(
                    build=_isolated(network),
                    seeds=seeds,
                    methods=[anew(method) for method in methods],
                    example=inputs,
                    targets=targets,
                    outputs=CLASSES,
                    **options,
                )
            except UnsupportedError as error:
                refusals.append(str(error))
        raise Refused(refusals)

    def begin_task(self, index: int, *, reset_optimizer: bool = False, zero_head: bool = False) -> None:
        """Cross the boundary to task ``index``."""
        self.learner.begin_task(
            index, self.problems, first=index == 0, reset_optimizer=reset_optimizer, zero_head=zero_head
        )

    def run(self, steps: int, *, boundary_every: int | None = None) -> Bench:
        """Train for some steps more.

        Args:
            steps: Their number.
            boundary_every: A task begins at each step that it divides, but the first; none begins if it is 0. None
                stands for `BOUNDARY` if a method acts at boundaries, and for 0 otherwise.
        """
        if boundary_every is None:
            acts = any(method.has("on_task_start") for method in self.learner.methods)
            boundary_every = BOUNDARY if acts else 0
        for _ in range(steps):
            if boundary_every and self.step and self.step % boundary_every == 0:
                self.begin_task(self.step // boundary_every)
            self.learner.step([problem.batch(self.step) for problem in self.problems])
            self.step += 1
        return self

    def snapshot(self) -> dict[str, Tensor]:
        """Return a copy of all that a checkpoint holds, and of the parameters and buffers that are evaluated."""
        tensors = {name: tensor.clone() for name, tensor in self.learner.state_dict().items()}
        for replica in range(self.learner.replicas):
            for part in evaluation.replica(self.learner, replica):
                tensors.update({f"evaluated/{replica}/{name}": value.clone() for name, value in part.items()})
        return tensors

    def batch(self) -> tuple[Tensor, Tensor]:
        """Return the next batch, ``(R, N, ...)`` each, without counting a step."""
        inputs, targets = zip(*(problem.batch(self.step) for problem in self.problems), strict=True)
        return torch.stack(inputs), torch.stack(targets)

    def block(self, steps: int) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """Return the batches of the next ``steps``, ``(steps, N, ...)`` a replica, and count the steps as taken."""
        batches = []
        for _ in range(steps):
            batches.append(self.batch())
            self.step += 1
        inputs, targets = zip(*batches, strict=True)
        return torch.stack(inputs, dim=1).unbind(), torch.stack(targets, dim=1).unbind()


def anew(method: Perturbation) -> Perturbation:
    """Return another object of the same fields, without anything else that the method may keep on itself."""
    if any(isinstance(getattr(method, field), Tensor) for field in fields.swept(type(method))):
        return copy.copy(method)  # not `replace`, whose checks are for numbers
    return replace(method)
