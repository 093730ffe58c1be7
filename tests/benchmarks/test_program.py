"""What a sample costs one of R replicas in a program, beside a loop over the samples as one would write it.

Of the program everything is timed: making the stream, stacking it, and training. The loop has its samples at hand.
"""

from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any, ClassVar

import pytest
import torch
from bench_toys import CPU, learner, steps
from torch import Tensor, nn
from torch.nn import functional as F

from lopbench.core import rng
from lopbench.core.interfaces import Batches, Optimizer, Perturbation, Stream, Task
from lopbench.learner.program import Program
from lopbench.runner.feed import Feed
from lopbench_plugins.architectures.mlp import MLP
from lopbench_plugins.architectures.online_mlp import OnlineMLP
from lopbench_plugins.optimizers import adam, sgd
from lopbench_plugins.perturbations.cbp import ContinualBackprop
from lopbench_plugins.scenarios.slowly_changing_regression import SlowlyChangingRegression

SCENARIO = SlowlyChangingRegression(samples=1_000_000, steps_per_task=1_000_000)
SGD = sgd.SGD(lr=0.01)
CBP = ContinualBackprop(replacement_rate=1e-4)
INPUTS = SCENARIO.m
#: Steps of a call, steps made ahead, and samples of a round of the loop.
UNROLL, BLOCK, SAMPLES = 16, 2000, 500
#: Least ratio of the loop's time to the program's, by method and replicas, at width 5.
TARGETS = {("none", 1): 25, ("cbp", 1): 25, ("none", 100): 1000, ("cbp", 100): 400}


class Loop:
    """Online training of one network, one sample a step: module, autograd, optimizer."""

    def __init__(self, width: int) -> None:
        self.module = nn.Sequential(nn.Linear(INPUTS, width), nn.ReLU(), nn.Linear(width, 1))
        self.optimizer = torch.optim.SGD(self.module.parameters(), lr=SGD.lr)

    def train(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Take a step for each sample ``(1, INPUTS)``, and return the losses."""
        return torch.stack([self.step(x, y) for x, y in zip(inputs, targets, strict=True)])

    def step(self, x: Tensor, y: Tensor) -> Tensor:
        loss = F.mse_loss(self.module(x), y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach()


class ContinualLoop(Loop):
    """The same with continual backprop, in the order and with the bookkeeping of its authors' code."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.age, self.utility, self.mean = torch.zeros(3, width)
        self.share = 0.0
        self.bound = 1 / INPUTS**0.5

    def step(self, x: Tensor, y: Tensor) -> Tensor:
        incoming, activation, outgoing = self.module
        features = activation(incoming(x))
        loss = F.mse_loss(outgoing(features), y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            self.generate_and_test(incoming, features, outgoing)
        return loss.detach()

    def generate_and_test(self, incoming: Any, features: Tensor, outgoing: Any) -> None:
        self.age += 1
        self.mean.mul_(CBP.decay).add_(features.mean(dim=0), alpha=1 - CBP.decay)
        utility = outgoing.weight.abs().mean(dim=0) * features.abs().mean(dim=0)
        self.utility.mul_(CBP.decay).add_(utility, alpha=1 - CBP.decay)
        corrected = self.utility / (1 - CBP.decay**self.age)
        eligible = torch.where(self.age > CBP.maturity)[0]
        self.share += CBP.replacement_rate * len(eligible)
        count = int(self.share)
        self.share -= count
        if count == 0:
            return
        units = eligible[torch.topk(-corrected[eligible], count)[1]]
        incoming.weight[units] = torch.empty(count, INPUTS).uniform_(-self.bound, self.bound)
        incoming.bias[units] = 0
        outgoing.weight[:, units] = 0
        self.age[units] = self.utility[units] = self.mean[units] = 0


class Together:
    """A program with the streams of its replicas."""

    def __init__(self, methods: list[Perturbation], width: int, replicas: int, *, tiny: bool) -> None:
        streams: dict[int, Stream] = {seed: SCENARIO.stream(seed, data=None, device=CPU) for seed in range(replicas)}
        self.learner = learner(OnlineMLP(width=width), streams[0], *methods, seeds=range(replicas), optimizer=SGD)
        self.feed = Feed(streams, range(replicas))
        self.steps = UNROLL if tiny else BLOCK
        unroll = 1 if tiny else UNROLL
        self.program = Program(self.learner, self.feed.tasks[0], self.feed.first(), unroll=unroll, compiled=not tiny)

    def train(self) -> None:
        self.program.advance(self.learner, self.feed.take(self.steps))


@pytest.mark.parametrize("replicas", [1, 30, 100])
@pytest.mark.parametrize("width", [5, 100])
@pytest.mark.parametrize("method", ["none", "cbp"])
def test_sample(method: str, width: int, replicas: int, compare: Any, report: Any, benchmark: Any, tiny: bool) -> None:
    if tiny:
        width, replicas = 5, min(replicas, 3)
    together = Together([CBP] if method == "cbp" else [], width, replicas, tiny=tiny)
    assert together.program.compile_error is None
    loop = (ContinualLoop if method == "cbp" else Loop)(width)
    count = 1 if tiny else SAMPLES
    ((inputs, targets),) = SCENARIO.stream(0, data=None, device=CPU).task(0).batches().take(count)
    found = compare(together.train, lambda: loop.train(inputs, targets), rounds=20)
    ours = 1e6 * median(found.ours) / together.steps / replicas
    best = 1e6 * min(found.ours) / together.steps / replicas
    theirs = 1e6 * median(found.baseline) / count
    compile_s = together.program.compile_s or 0.0
    benchmark.extra_info["compile_s"] = compile_s
    target = TARGETS.get((method, replicas)) if width == 5 else None
    report(
        f"replica-sample of {method}, width {width}, R = {replicas}",
        ours,
        unit="µs",
        target=None if target is None else theirs / target,
        note=f"best {best:.3f}; loop {theirs:.0f} µs, {theirs / ours:.0f} times; compiled in {compile_s:.0f} s",
    )


# --- images ---------------------------------------------------------------------------------------------------------


class Noise(Stream, Task, Batches):
    """Images of noise, 28 x 28 of 10 classes in batches of 16: a stream, its only task, and the batches of that."""

    input_shape = (1, 28, 28)
    outputs = 10
    chance: ClassVar[float] = 0.1

    def __init__(self) -> None:
        self.generator = rng.derive(0, "noise")

    def task(self, index: int) -> Task:
        return self

    def batches(self) -> Batches:
        return self

    def take(self, *shape: int) -> tuple[Tensor, Tensor]:
        """Return inputs and targets of batches, ``(*shape, 16, ...)``."""
        inputs = torch.randn(*shape, 16, *self.input_shape, generator=self.generator)
        return inputs, torch.randint(self.outputs, (*shape, 16), generator=self.generator)

    def __next__(self) -> tuple[Tensor, Tensor]:
        return self.take()

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets)

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.argmax(1) == targets

    def held_out(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield self.take()

    def probe(self) -> tuple[Tensor, Tensor]:
        return self.take()

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        pass


@pytest.mark.parametrize("rule", [SGD, adam.Adam(lr=1e-3)], ids=["sgd", "adam"])
def test_small_network_on_images(rule: Optimizer, compare: Any, report: Any, tiny: bool) -> None:
    stream, architecture = Noise(), MLP(width=100, depth=2)
    replicas, count, unroll = (2, 2, 1) if tiny else (30, 32, UNROLL)
    inputs, targets = stream.take(count, replicas)
    single = list(zip(inputs[:, 0], targets[:, 0], strict=True))
    together = learner(architecture, stream, seeds=range(replicas), optimizer=rule)
    alone = learner(architecture, stream, optimizer=rule)
    program = Program(together, stream, [(inputs[0], targets[0])], unroll=unroll, compiled=not tiny)
    assert program.compile_error is None
    found = compare(
        lambda: program.advance(together, [(inputs, targets)]), lambda: steps(alone, single, count), rounds=20
    )
    report(
        f"{replicas} runs of 784-100-100-10 under {rule.name}, one after another / as one program",
        replicas / found.ratio,
        target=4.0,
        least=True,
        note=f"best {replicas / found.best:.2f}; a step of one {1e6 * median(found.baseline) / count:.0f} µs, of "
        f"{replicas} {1e6 * median(found.ours) / count:.0f} µs; compiled in {program.compile_s or 0:.0f} s",
    )
