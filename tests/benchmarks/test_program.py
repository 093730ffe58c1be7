"""What a sample costs one of R replicas in a program, beside a loop over the samples as one would write it.

Of the program everything is timed: making the stream, stacking it, and training. The loop has its samples at hand.
"""

from collections.abc import Iterator
from statistics import median
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lopbench.core.interfaces import Perturbation
from lopbench.learner.learner import StackLearner
from lopbench.learner.program import Program
from lopbench_plugins.architectures.online_mlp import OnlineMLP
from lopbench_plugins.optimizers import sgd
from lopbench_plugins.perturbations.cbp import ContinualBackprop
from lopbench_plugins.scenarios.bitflip import BitFlip

SCENARIO = BitFlip(samples=1_000_000, steps_per_task=1_000_000)
SGD = sgd.SGD(lr=0.01)
CBP = ContinualBackprop(replacement_rate=1e-4)
#: Steps of a call, steps made ahead, and samples of a round of the loop.
UNROLL, BLOCK, SAMPLES = 16, 2000, 500
#: Least ratio of the loop's time to the program's, by method and replicas, at width 5.
TARGETS = {("none", 1): 25, ("cbp", 1): 25, ("none", 100): 1000, ("cbp", 100): 400}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Loop:
    """Online training of one network, one sample a step: module, autograd, optimizer."""

    def __init__(self, width: int) -> None:
        self.module = nn.Sequential(nn.Linear(21, width), nn.ReLU(), nn.Linear(width, 1))
        self.optimizer = torch.optim.SGD(self.module.parameters(), lr=SGD.lr)

    def train(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Take a step for each sample ``(1, 21)``, and return the losses."""
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
        self.bound = 1 / 21**0.5

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
        incoming.weight[units] = torch.empty(count, 21).uniform_(-self.bound, self.bound)
        incoming.bias[units] = 0
        outgoing.weight[:, units] = 0
        self.age[units] = self.utility[units] = self.mean[units] = 0


class Together:
    """A program with the streams of its replicas."""

    def __init__(self, methods: list[Perturbation], width: int, replicas: int) -> None:
        architecture = OnlineMLP(width=width)
        tasks = [SCENARIO.stream(seed, data=None, device=torch.device("cpu")).task(0) for seed in range(replicas)]
        self.batches = [task.batches() for task in tasks]
        self.learner = StackLearner(
            build=lambda generator: architecture.build((21,), 1, generator=generator),
            seeds=range(replicas),
            methods=methods,
            optimizer=SGD,
            input_shape=(21,),
            outputs=1,
            traced=True,
        )
        inputs, targets = self.take(1)
        self.program = Program(self.learner, tasks[0], (inputs[0], targets[0]), unroll=UNROLL, compiled=True)

    def take(self, steps: int) -> tuple[Tensor, Tensor]:
        inputs, targets = zip(*[batches.take(steps)[0] for batches in self.batches], strict=True)
        return torch.stack(inputs, dim=1), torch.stack(targets, dim=1)

    def train(self) -> None:
        self.program.advance(self.learner, *self.take(BLOCK))


@pytest.mark.parametrize("replicas", [1, 30, 100])
@pytest.mark.parametrize("width", [5, 100])
@pytest.mark.parametrize("method", ["none", "cbp"])
def test_sample(method: str, width: int, replicas: int, compare: Any, report: Any, benchmark: Any) -> None:
    together = Together([CBP] if method == "cbp" else [], width, replicas)
    assert together.program.compile_error is None
    loop = (ContinualLoop if method == "cbp" else Loop)(width)
    ((inputs, targets),) = SCENARIO.stream(0, data=None, device=torch.device("cpu")).task(0).batches().take(SAMPLES)
    found = compare(together.train, lambda: loop.train(inputs, targets), rounds=12)
    ours = 1e6 * median(found.ours) / BLOCK / replicas
    theirs = 1e6 * median(found.baseline) / SAMPLES
    best = min(found.baseline) / SAMPLES / (min(found.ours) / BLOCK / replicas)
    compile_s = together.program.compile_s
    benchmark.extra_info["compile_s"] = compile_s
    target = TARGETS.get((method, replicas)) if width == 5 else None
    report(
        f"replica-sample of {method}, width {width}, R = {replicas}",
        ours,
        unit="µs",
        target=None if target is None else theirs / target,
        note=f"loop {theirs:.0f} µs, {theirs / ours:.0f} times (best {best:.0f}); compiled in {compile_s:.0f} s",
    )
