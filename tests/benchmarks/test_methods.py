"""What a method costs beside plain learning: the numbers in the `cost` of its class.

"time" is a step on `mlp` in `tinyimagenet40` `lite` with the method over one without, what it does at a boundary shared
out over the steps of a task, and "memory" what parameters, buffers, optimizer and method hold. "program" is the time of
a sample in a compiled program on `slowly_changing_regression`, ten seeds of five units. With and without take turns in
one process, and the medians count. The numbers in the classes were taken in one thread, as processor time, on a machine
that was at work with other things as well, and are told to a tenth:

    OMP_NUM_THREADS=1 pytest tests/benchmarks/test_methods.py --benchmark-enable --benchmark-timer=time.process_time

A step of this network multiplies and adds 68 million times, which took 2.2 ms on a quiet core. What
is above its target has more to do than the target leaves room for. In brackets what is measured stands behind what the
operations take alone, in place and with the step beside them, of torch or numpy, the fastest that give these numbers:

- a normal number for each of the 485,000 parameters takes half a step, of which nearly all goes to the generator's bits
  (noisy_sgd and shrink_and_perturb_step 1.5, 1.6; upgd, with a sigmoid and eight passes over memory, 1.8, 2.0),
- parseval multiplies and adds 98 million times for the products of the first layer and the others with themselves,
  of which it makes half, and with the weights (1.9, 2.0),
- wasserstein sorts all parameters, with their places (1.9, 2.6),
- c_chain has a second pass forward and back, and adds up gradients (1.8, 2.0),
- infer has a second pass forward, on other weights (1.3, 1.6),
- dropout draws 41,000 bits, and has a second pass for the score behind the first layer (1.1, 1.4),
- crelu has 1.2 times as many weights (measured 1.3),
- cbp counts steps for each entry of Adam's state, once a unit was replaced, which torch's fused update does not, and
  has some hundred small operations besides (1.1 without these, 1.6),
- weight_decay changes what the optimizer is about to add, which then is a tensor of its own (1.1, 1.2).

In a program of slowly_changing_regression all are below the target; swr counts on the host, dropout draws from one
stream for all seeds, and effective_rank_penalty wants more than one sample a batch, so that they are none.
"""

from collections.abc import Callable
from statistics import median
from typing import Any

import pytest
from bench_toys import CPU, learner, seconds, some_batches, steps

from lopbench.core.errors import UnsupportedError
from lopbench.core.interfaces import Perturbation, Stream
from lopbench.core.manager import plugins
from lopbench.core.spec import ComponentSpec
from lopbench.learner.program import Program
from lopbench.runner.feed import Feed
from lopbench_plugins.architectures.mlp import MLP
from lopbench_plugins.architectures.online_mlp import OnlineMLP
from lopbench_plugins.optimizers.sgd import SGD
from lopbench_plugins.scenarios.slowly_changing_regression import SlowlyChangingRegression
from lopbench_plugins.scenarios.tinyimagenet40 import TinyImageNetStream

METHODS = [entry.name for entry in plugins().registry.entries("methods") if entry.distribution.name == "lopbench"]
#: Methods that look at units, and those that look at each layer as a whole; the others go over parameters one by one.
UNITS = ("cbp", "cpr", "redo", "regrama", "snr")
LAYERS = ("c_chain", "effective_rank_penalty", "infer", "nap", "parseval", "spectral", "wasserstein")
#: Most times the time of plain learning that a step, and a sample in a program, should take.
ELEMENTWISE, UNITWISE, LAYERWISE, PROGRAM = 1.1, 1.25, 1.5, 5.0

REGRESSION = SlowlyChangingRegression(samples=1_000_000, steps_per_task=1_000_000)
#: Steps of a program's call, and steps made ahead.
UNROLL, BLOCK = 4, 2000


def made(method: str) -> Perturbation:
    built = ComponentSpec.parse("methods", method).build()
    assert isinstance(built, Perturbation)
    return built


@pytest.mark.parametrize("method", METHODS)
def test_step(
    method: str,
    mlp: MLP,
    stream: TinyImageNetStream,
    compare: Any,
    report: Any,
    timer: Callable[[], float],
    tiny: bool,
) -> None:
    batches, count = some_batches(stream.task(0)), 1 if tiny else 10
    with_it, without = learner(mlp, stream, made(method)), learner(mlp, stream)
    steps(with_it, batches, 1 if tiny else 130)  # units are mature after 100 steps
    with_it.hooks.acted[:] = [True] * len(with_it.hooks.acted)  # until a method acts it is watched, which takes time
    found = compare(lambda: steps(with_it, batches, count), lambda: steps(without, batches, count), rounds=15, warmup=1)
    memory = with_it.state_bytes() / without.state_bytes()
    coming = [stream.task(1)]
    boundary = seconds(lambda: with_it.begin_task(1, coming, first=False, reset_optimizer=False, zero_head=True), timer)
    shared = boundary / (stream.scenario.steps_per_task * median(found.baseline) / count)
    target = UNITWISE if method in UNITS else LAYERWISE if method in LAYERS else ELEMENTWISE
    note = f"best {found.best:.3f}; boundary adds {100 * shared:.2f}%; memory {memory:.2f}"
    report(f"step of {method} / none", found.ratio, target=target, note=note)


@pytest.mark.parametrize("method", [name for name in METHODS if not made(name).has("on_task_start")])
def test_program(method: str, compare: Any, report: Any, tiny: bool) -> None:
    replicas = 2 if tiny else 10
    ours, theirs = (Together(methods, replicas, tiny=tiny) for methods in ([made(method)], []))
    if ours.refusal is not None:
        pytest.skip(ours.refusal)
    found = compare(ours.train, theirs.train, rounds=1 if tiny else 10)
    report(f"sample of {method} in a program / none", found.ratio, target=PROGRAM, note=f"best {found.best:.3f}")


class Together:
    """A program of several seeds with their streams, or why there is none.

    Args:
        methods: The methods.
        replicas: Number of seeds.
        tiny: Whether nothing is measured, and nothing compiled.
    """

    def __init__(self, methods: list[Perturbation], replicas: int, *, tiny: bool) -> None:
        streams: dict[int, Stream] = {seed: REGRESSION.stream(seed, data=None, device=CPU) for seed in range(replicas)}
        self.refusal: str | None = None
        unroll = 1 if tiny else UNROLL
        self.steps = unroll if tiny else BLOCK
        try:
            self.learner = learner(OnlineMLP(), streams[0], *methods, seeds=range(replicas), optimizer=SGD(lr=0.01))
            self.feed = Feed(streams, range(replicas))
            first = self.feed.first()
            self.program = Program(self.learner, self.feed.tasks[0], first, unroll=unroll, compiled=not tiny)
        except UnsupportedError as error:
            self.refusal = str(error)

    def train(self) -> None:
        self.program.advance(self.learner, self.feed.take(self.steps))
