"""What a sample costs one of R replicas in a program, beside a loop over the samples as one would write it.

Of the program everything is timed: making the stream, stacking it, and training. The loop has its samples at hand.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

import pytest
import torch
from bench_toys import CPU, Bare, learner, noise_images, seconds, some_batches
from torch import Tensor, nn
from torch.nn import functional as F

from lopbench.core.interfaces import Optimizer, Perturbation, Stream, Task
from lopbench.learner.compiling import compile_graph, trace_graph
from lopbench.learner.program import Program
from lopbench.runner.feed import Feed
from lopbench.runner.programs import BLOCK_BYTES
from lopbench_plugins.architectures.mlp import MLP
from lopbench_plugins.architectures.online_mlp import OnlineMLP
from lopbench_plugins.optimizers import adam, sgd
from lopbench_plugins.perturbations.cbp import ContinualBackprop
from lopbench_plugins.scenarios.permuted_mnist import PermutedMnist
from lopbench_plugins.scenarios.slowly_changing_regression import SlowlyChangingRegression

SCENARIO = SlowlyChangingRegression(samples=1_000_000, steps_per_task=1_000_000)
SGD = sgd.SGD(lr=0.01)
CBP = ContinualBackprop(replacement_rate=1e-4)
INPUTS = SCENARIO.m
#: Steps of a call, steps made ahead, and samples of a round of the loop.
UNROLL, BLOCK, SAMPLES = 16, 2000, 500
#: Least ratio of the loop's time to the program's, by method and replicas, at width 5.
TARGETS = {("none", 1): 25, ("cbp", 1): 25, ("none", 100): 1000, ("cbp", 100): 400}
#: Hidden layers and samples of a batch of the small networks on images.
NETWORKS = (((300, 150), 1), ((100, 100), 16))
#: Most of their steps that are made ahead here.
MOST_AHEAD = 320


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


class Stacked:
    """The same networks under SGD as tensors stacked by hand, gradients written out: about what eager torch can do."""

    def __init__(self, sizes: Sequence[int], replicas: int) -> None:
        self.weights = [torch.randn(replicas, m, n) / n**0.5 for n, m in pairwise(sizes)]
        self.biases = [torch.zeros(replicas, 1, m) for m in sizes[1:]]

    @torch.no_grad()
    def train(self, inputs: Tensor, targets: Tensor) -> None:
        """Take a step for each batch ``(steps, R, N, ...)``."""
        for x, y in zip(inputs.flatten(3), targets.unsqueeze(3), strict=True):
            seen, last = [x], len(self.weights) - 1
            for place, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
                outputs = torch.baddbmm(bias, seen[-1], weight.transpose(1, 2))
                seen.append(outputs if place == last else outputs.relu_())
            gradient = seen.pop().softmax(2)
            gradient.scatter_add_(2, y, torch.full(y.shape, -1.0)).div_(y.shape[1])
            for place in range(last, -1, -1):
                weight, bias = self.weights[place], self.biases[place]
                before = torch.bmm(gradient, weight).mul_(seen[place] > 0) if place else gradient
                weight.baddbmm_(gradient.transpose(1, 2), seen[place], alpha=-SGD.lr)
                bias.sub_(gradient.sum(1, keepdim=True), alpha=SGD.lr)
                gradient = before


def presenting(task: Task, stored: Tensor, *, tiny: bool) -> Callable[..., Any]:
    """Return a function that presents inputs like ``stored``, compiled unless ``tiny``, as a program's steps do."""
    graph = trace_graph(lambda inputs: (task.presented(inputs),), stored)
    return graph if tiny else compile_graph(graph, [stored], CPU, lambda: None).call


@pytest.mark.parametrize("rule", [SGD, adam.Adam(lr=1e-3)], ids=["sgd", "adam"])
@pytest.mark.parametrize(("widths", "batch", "replicas"), [(w, b, r) for w, b in NETWORKS for r in (1, 16, 30)])
def test_small_network_on_images(
    widths: tuple[int, ...],
    batch: int,
    replicas: int,
    rule: Optimizer,
    compare: Any,
    report: Any,
    timer: Callable[[], float],
    tiny: bool,
) -> None:
    scenario = PermutedMnist(batch_size=batch, steps_per_task=2 if tiny else 7500 // batch)
    images = noise_images(10, batch if tiny else 750, shape=(1, 28, 28))
    replicas, unroll = (min(replicas, 2), 1) if tiny else (replicas, UNROLL)
    bytes_of_step = replicas * batch * 784
    count = 2 if tiny else max(1, min(BLOCK_BYTES // bytes_of_step, MOST_AHEAD) // UNROLL) * UNROLL
    streams: dict[int, Stream] = {seed: scenario.stream(seed, data=images, device=CPU) for seed in range(replicas)}
    architecture = MLP(widths=(8, 8)) if tiny else MLP(widths=widths)
    together = learner(architecture, streams[0], seeds=range(replicas), optimizer=rule)
    feed = Feed(streams, range(replicas))
    program = Program(together, feed.tasks[0], feed.first(), unroll=unroll, compiled=not tiny)
    assert program.compile_error is None
    rounds = 20
    loop, at_hand = Bare(architecture, streams[0], rule, fused=None), some_batches(streams[0].task(0), count)
    found = compare(
        lambda: program.advance(together, feed.take(count)), lambda: loop.steps(at_hand, count), rounds=rounds
    )
    alone, batches = learner(architecture, streams[0], optimizer=rule), streams[0].task(0).batches()
    spare = Feed(streams, range(replicas))
    stacked = Stacked((784, *widths, 10), replicas)
    stored, targets = (torch.stack(list(each), dim=1) for each in spare.take(count)[0])
    present, inputs = presenting(spare.tasks[0], stored[0], tiny=tiny), spare.tasks[0].presented(stored)

    def making_batches() -> None:
        spare.take(count)
        for each in stored:
            present(each)

    making, one_by_one, by_hand = (
        median(seconds(part, timer) for _ in range(1 if tiny else rounds))
        for part in (
            making_batches,
            lambda: [alone.step([next(batches)]) for _ in range(count)],
            lambda: stacked.train(inputs, targets),
        )
    )
    ours, theirs = median(found.ours), median(found.baseline)
    name = "-".join(map(str, (784, *widths, 10)))
    what = f"{name} under {rule.name}, batch {batch}, R = {replicas}"
    report(
        f"plain loop / program of {what}",
        replicas / found.ratio,
        target=4.0 if replicas == 16 else None,
        least=True,
        note=f"best {replicas / found.best:.2f}; {1e6 * theirs / count:.0f} µs / {1e6 * ours / count / replicas:.0f} "
        f"µs; compiled in {program.compile_s or 0:.0f} s",
    )
    report(
        f"runs one by one / program of {what}",
        replicas * one_by_one / ours,
        least=True,
        target=4.0 if replicas == 30 else None,
    )
    report(f"making batches / program of {what}", making / ours, unit="%", target=0.15)
    if rule is SGD:
        report(
            f"tensors stacked by hand, their batches at hand / program of {what}", by_hand / ours, least=True, target=1
        )


def test_a_network_whose_gradients_have_vanished(compare: Any, report: Any, tiny: bool) -> None:
    """Dead units and data that are memorised leave Adam with moments that fade into denormal numbers."""
    unroll = 1 if tiny else UNROLL
    scenario = PermutedMnist(batch_size=16, steps_per_task=unroll)
    stream = scenario.stream(0, data=noise_images(10, 50, shape=(1, 28, 28)), device=CPU)
    made = [learner(MLP(widths=(8, 8) if tiny else (100, 100)), stream, optimizer=adam.Adam(lr=1e-3)) for _ in range(2)]
    feed = Feed({0: stream}, [0])
    program = Program(made[0], feed.tasks[0], feed.first(), unroll=unroll, compiled=not tiny)
    batches = feed.take(unroll)
    for each in made:
        program.advance(each, batches)
        for name, value in each.view.parameters.items():
            if name.endswith("bias"):
                value.fill_(-1e6)  # no unit gives anything
    torch.set_flush_denormal(False)  # or what is written is zero
    for entries in made[1].optimizer.entries.values():
        entries["exp_avg"].fill_(1e-39)

    def with_denormals() -> None:
        torch.set_flush_denormal(False)
        program.advance(made[1], batches)
        torch.set_flush_denormal(True)

    found = compare(lambda: program.advance(made[0], batches), with_denormals, rounds=20)
    report("steps with denormal numbers / steps of a run", 1 / found.ratio, least=True, target=5)
