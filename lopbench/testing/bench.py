"""What the checks of methods train: small networks of every kind, small problems, and methods that are watched."""

from __future__ import annotations

import copy
import functools
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from lopbench.core import fields, rng
from lopbench.core.interfaces import Batches, Learner, Perturbation, State, Task
from lopbench.core.spec import ComponentSpec, build_optimizer
from lopbench.learner import evaluation
from lopbench.learner.learner import StackLearner

SHAPE = (2, 4, 4)
CLASSES = 3

#: The optimizers under which a reset must forget.
OPTIMIZERS: Mapping[str, str] = {
    "sgd": "sgd:lr=0.05",
    "momentum": "sgd:lr=0.02,momentum=0.9",
    "adam": "adam:lr=0.01",
    "adamw": "adamw:lr=0.01,weight_decay=0.1",
}
#: Moves nothing.
STILL = "sgd:lr=1e-30"

Network = Callable[[], nn.Module]


class _Branching(nn.Module):
    """Units that two layers read."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(32, 6)
        self.left, self.right = nn.Linear(6, 4), nn.Linear(6, 4)
        self.activation, self.last = nn.ReLU(), nn.Tanh()
        self.out = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.activation(self.hidden(x.flatten(1)))
        return self.out(self.last(self.left(hidden) + self.right(hidden)))  # type: ignore[no-any-return]


class _Shared(nn.Module):
    """A layer that is used twice, behind one and before another of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.tied, self.hidden = nn.Linear(32, 6), nn.Linear(6, 6), nn.Linear(6, 5)
        self.activations = nn.ModuleList(nn.ReLU() for _ in range(4))
        self.out = nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        layers = (self.first, self.tied, self.tied, self.hidden)
        for layer, activation in zip(layers, self.activations, strict=True):
            x = activation(layer(x))
        return self.out(x)  # type: ignore[no-any-return]


class _Residual(nn.Module):
    """A stream that blocks add to; ``hidden`` units only if asked for, the stream's own never are private."""

    def __init__(self, *, hidden: bool) -> None:
        super().__init__()
        self.embed = nn.Linear(32, 6)
        self.activation = nn.ReLU()
        self.block = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 6)) if hidden else nn.Linear(6, 6)
        self.out = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.flatten(1))
        return self.out(self.activation(x + self.block(x)))  # type: ignore[no-any-return]


class _Transformer(nn.Module):
    """One block on sixteen tokens: attention of one head, and a hidden layer, each added to the stream."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(SHAPE[0], 6)
        self.query, self.key, self.value, self.project = (nn.Linear(6, 6) for _ in range(4))
        self.hidden, self.activation, self.back = nn.Linear(6, 7), nn.GELU(), nn.Linear(7, 6)
        self.out = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.flatten(2).transpose(1, 2))
        weights = (self.query(x) @ self.key(x).transpose(1, 2) / 6**0.5).softmax(dim=2)
        x = x + self.project(weights @ self.value(x))
        x = x + self.back(self.activation(self.hidden(x)))
        return self.out(x.mean(dim=1))  # type: ignore[no-any-return]


def _plain(dropout: float = 0.0) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(32, 8),
        nn.ReLU(),
        *([nn.Dropout(dropout)] if dropout else []),
        nn.Linear(8, 7),
        nn.Tanh(),
        nn.Linear(7, CLASSES),
    )


def _convolutional() -> nn.Module:
    """Channels behind which a flattened feature map stands: each owns four columns of the next layer."""
    return nn.Sequential(
        nn.Conv2d(2, 5, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(20, 6),
        nn.ReLU(),
        nn.Linear(6, CLASSES),
    )


def _normalised() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 5, 3, padding=1, bias=False),
        nn.BatchNorm2d(5),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(20, 6),
        nn.LayerNorm(6),
        nn.ReLU(),
        nn.Linear(6, CLASSES),
    )


#: Networks in which some units may be reset.
NETWORKS: Mapping[str, Network] = {
    "plain": _plain,
    "convolutional": _convolutional,
    "normalised": _normalised,
    "branching": _Branching,
    "shared": _Shared,
    "residual": lambda: _Residual(hidden=True),
    "transformer": _Transformer,
}
#: Networks without units that may be reset.
WITHOUT_UNITS: Mapping[str, Network] = {
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(32, CLASSES)),
    "stream": lambda: _Residual(hidden=False),
}


def small() -> nn.Module:
    """Return a network that is traced in no time: one hidden layer."""
    return nn.Sequential(nn.Flatten(), nn.Linear(32, 5), nn.ReLU(), nn.Linear(5, CLASSES))


def with_dropout() -> nn.Module:
    """Return the plain network with dropout of its own."""
    return _plain(dropout=0.5)


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


class Bench:
    """A learner with methods on a problem.

    Args:
        methods: The methods, None for none; copies of them act, so that nothing they keep on themselves is shared.
        network: Makes the network from torch's global generator.
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
        network: Network = _plain,
        optimizer: str = OPTIMIZERS["adam"],
        seeds: Sequence[int] = (0,),
        dtype: torch.dtype = torch.float32,
        dead: bool = False,
        size: int = 6,
        constant: bool = False,
        shift_at: int | None = None,
        **options: Any,
    ) -> None:
        def build(generator: Generator) -> nn.Module:
            with rng.isolated(generator):
                return network()

        self.problems = [Problem(seed, dtype, size=size, constant=constant, shift_at=shift_at) for seed in seeds]
        self.learner = StackLearner(
            build=build,
            seeds=seeds,
            methods=[anew(method) for method in methods if method is not None],
            optimizer=build_optimizer(ComponentSpec.parse("optimizers", optimizer)),
            example=torch.zeros(size, *SHAPE),
            targets=torch.zeros(size, dtype=torch.int64),
            outputs=CLASSES,
            dtype=dtype,
            **options,
        )
        self.step = 0
        if dead:
            for name, parameter in self.learner.view.parameters.items():
                if name.endswith("bias") and name not in self.learner.view.head and parameter.ndim == 2:
                    parameter[:, 0] = -100.0
        self.begin_task(0)

    def begin_task(self, index: int, *, reset_optimizer: bool = False, zero_head: bool = False) -> None:
        """Cross the boundary to task ``index``."""
        self.learner.begin_task(
            index, self.problems, first=index == 0, reset_optimizer=reset_optimizer, zero_head=zero_head
        )

    def run(self, steps: int, *, boundary_every: int = 0) -> Bench:
        """Train for ``steps`` more; a task begins at each step that ``boundary_every`` divides, but the first."""
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

    def block(self, steps: int) -> tuple[Tensor, Tensor]:
        """Return the batches of the next ``steps``, ``(steps, R, N, ...)`` each, and count the steps as taken."""
        batches = []
        for _ in range(steps):
            batches.append(self.batch())
            self.step += 1
        inputs, targets = zip(*batches, strict=True)
        return torch.stack(inputs), torch.stack(targets)


def anew(method: Perturbation) -> Perturbation:
    """Return another object of the same fields, without anything else that the method may keep on itself."""
    if any(isinstance(getattr(method, field), Tensor) for field in fields.swept(type(method))):
        return copy.copy(method)  # not `replace`, whose checks are for numbers
    return replace(method)


def replaced(method: Perturbation, **functions: Callable[..., object]) -> Perturbation:
    """Return the method with other functions for hooks, which are given the method's own hook, then its arguments."""

    def hook(function: Callable[..., object], original: Callable[..., object]) -> Callable[..., object]:
        def called(self: Perturbation, *arguments: object) -> object:
            return function(functools.partial(original, self), *arguments)

        return called

    cls = type(method)
    body = {name: hook(function, getattr(cls, name)) for name, function in functions.items()}
    made = copy.copy(method)
    object.__setattr__(made, "__class__", types.new_class(cls.__name__, (cls,), {}, lambda names: names.update(body)))
    return made


Around = Callable[[Learner], AbstractContextManager[None]]
Hook = Literal["begin", "on_task_start", "after_backward", "after_step"]


def watched(method: Perturbation, hooks: Sequence[Hook], around: Around) -> Perturbation:
    """Return the method with ``around(learner)`` entered around each call of those of ``hooks`` that it has."""

    def watch(original: Callable[..., object], learner: Learner, state: State) -> None:
        with around(learner):
            original(learner, state)

    return replaced(method, **{hook: watch for hook in hooks if method.has(hook)})


def differing(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], *sections: str) -> list[str]:
    """Return the names of the tensors that are not the same to the bit, in all sections or in those named."""
    names = [n for n in sorted({*ours, *theirs}) if not sections or n.partition("/")[0] in sections]
    return [n for n in names if n not in ours or n not in theirs or not same(ours[n], theirs[n])]


def same(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors are the same to the bit, NaN being equal to NaN."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return bool(((one == other) | (one.isnan() & other.isnan())).all())


def listed(names: Sequence[str], most: int = 4) -> str:
    """Return a few names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
