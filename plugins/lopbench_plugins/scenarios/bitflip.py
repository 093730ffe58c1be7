"""Bit flipping: online regression on bits of which most stand still, and change one at a time.

Joudaki et al. 2025, "Barriers for Learning in an Evolving World" (arXiv:2510.00304), appendix B, after the
slowly-changing regression problem of Dohare et al. 2021 (arXiv:2108.06325v2), section 3, and 2024 (Nature 632).

Of ``m`` input bits the first ``f`` are slow: every ``T`` samples one of them flips, or all are drawn anew. The others
are drawn at every sample. A fixed network of threshold units, wider than the usual learner, gives the target (`ltu`),
so that the learner must follow the slow bits for ever. Each sample is seen once, one a step; the score is its squared
error before the update.

Nothing is held out. Inputs of a bin are trained on hundreds of times, and under the slow bits that come next fresh
networks are at chance: with one bit flipped, networks of widths 5, 10, 50 and 100 (``full``, late bins, 5 seeds) have
1.17, 1.28, 1.51 and 1.49 times the error of the best constant, and less than it in 39, 31, 24 and 27% of the bins. A
retention over that would say nothing.

The profile ``authors`` measures Fig. B.2 as the authors' code (ajoudaki/loss-of-plasticity at 52fdf81) does: on its
target and on 128 rows of the whole stream, the tensor before the ReLU; of two units with a cosine above 0.98 the first
counts. The rows are spread evenly, and the same in all bins; the authors draw them. What the figure has for SGD, and
what ``lopbench run --scenario bitflip --profile authors --architecture online_mlp:width=W --seeds 0-2`` measures at the
end of the 5,000,000 samples (mean and standard error of the seeds; the loss is that of the last 100,000 samples):

| width | effective rank, fig. | measured | duplicates, fig. | measured | loss, fig. | measured |
|---|---|---|---|---|---|---|
| 5 | 2.9 | 2.78 +- 0.10 | 0.01 | 0.07 +- 0.07 | 0.92 | 0.69 +- 0.12 |
| 10 | 4.5 | 4.30 +- 0.11 | 0.09 | 0.10 +- 0.06 | 0.84 | 0.70 +- 0.11 |
| 50 | 7.4 | 7.22 +- 0.19 | 0.38 | 0.42 +- 0.00 | 0.595 | 0.59 +- 0.16 |
| 100 | 7.65 | 7.61 +- 0.12 | 0.53 | 0.51 +- 0.06 | 0.535 | 0.43 +- 0.05 |

Ranks agree within two standard errors, duplicates within 0.06. The loss is lower, by up to two standard errors; three
seeds say little of it, for it follows the variance of each seed's target. Of these units 97 to 100% are dead
(`dead_fraction`): what the figure calls duplicates are dead units, seen before the ReLU, where they are still functions
of the input. After it, none is a duplicate.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lopbench import ChunkedBatches, InvalidInputError, Recipe, Scenario, Stream, Task, number, rng, whole
from lopbench_plugins._multiples import check_multiple
from lopbench_plugins.scenarios.ltu import CONVENTIONS, LtuTarget, TargetName

Flip = Literal["one", "all"]
ProbeRows = Literal["bin", "stream"]

#: Samples whose random bits come from one generator: the stream is the same however it is binned and asked for.
BLOCK = 2000

#: Most inputs a task may have for its targets to be tabulated; beyond, they are computed sample by sample.
TABLE_ROWS = 2**14

#: Inputs of a probe.
PROBE = 128

#: Samples on which a fresh reference is trained before the bin on which it is measured, times its learning rate.
LEAD = 200.0

#: What the authors' figures are of, beside the default metrics: the tensor before the ReLU, and their counting.
AUTHORS_METRICS = ("effective_rank:modules=hidden", "duplicate_fraction_first:modules=hidden,threshold=0.98")

#: Samples made ahead where batches are asked for one by one.
AHEAD = 256

#: Bits are handled as the digits of a signed 64-bit number.
MAX_BITS = 62


@dataclass(frozen=True, kw_only=True)
class BitFlip(Scenario):
    """A stream of samples without boundaries; its tasks are the bins in which errors are averaged.

    Args:
        samples: Length of the stream in samples, which are steps; a multiple of ``steps_per_task``.
        m: Number of input bits, 1 to 62.
        f: Number of slow bits, 1 to m.
        T: Samples from one change of the slow bits to the next, at least 1.
        beta: Share of the bits that must match for a unit of the target to fire, in (0, 1).
        target_width: Hidden units of the target, at least 1.
        flip: What happens every T samples: one slow bit, drawn at random, flips, or all are drawn anew.
        target: Whose threshold and inputs: those of the paper, of its code, or of Dohare et al.
        steps_per_task: Samples of a bin.
        tasks: Number of bins, which follows from ``samples``; 0 fills it in.
        probe_rows: Over what the 128 inputs of a probe are spread evenly: the bin, or the whole stream, so that they
            are the same in all bins.
        head_policy: "keep", for there are no tasks at whose start the head could be zeroed.
        optimizer_policy: "carry", for there are no tasks at whose start the optimizer could be cleared.
        probe_every: Samples between diagnostics inside a bin; 0 for the start and end of each bin only.
        profile: Name of the profile the fields were taken from.
    """

    name: ClassVar[str] = "bitflip"
    version: ClassVar[int] = 3
    score: ClassVar[Literal["accuracy", "error"]] = "error"
    boundaries: ClassVar[bool] = False
    default_architecture: ClassVar[str] = "online_mlp"
    default_profile: ClassVar[str] = "lite"
    unranked: ClassVar[frozenset[str]] = frozenset({"smoke"})
    profiles: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "full": {"samples": 5_000_000},
        "authors": {"samples": 5_000_000, "target": "joudaki", "probe_rows": "stream"},
        "lite": {"samples": 500_000},
        "smoke": {"samples": 5_000, "T": 500, "steps_per_task": 500},
    }

    profile: str = "lite"
    samples: int = whole(500_000, least=1)
    m: int = whole(20, least=1, most=MAX_BITS)
    f: int = whole(15, least=1)
    T: int = whole(10_000, least=1)
    beta: float = number(0.7, above=0, below=1)
    target_width: int = whole(100, least=1)
    flip: Flip = "one"
    target: TargetName = "paper"
    steps_per_task: int = whole(10_000, least=1)
    tasks: int = whole(0, least=0)
    probe_rows: ProbeRows = "bin"
    # There are no boundaries to act at.
    head_policy: Literal["keep"] = "keep"
    optimizer_policy: Literal["carry"] = "carry"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.f > self.m:
            raise InvalidInputError(
                f"{self.name}: f must be at most m, for the slow bits are some of the m; got f={self.f}, m={self.m}"
            )
        check_multiple(self.name, "steps_per_task", self.steps_per_task, samples=self.samples)
        tasks = self.samples // self.steps_per_task
        if self.tasks not in (0, tasks):
            raise InvalidInputError(
                f"{self.name}: {self.samples:,} samples in bins of {self.steps_per_task:,} are {tasks:,} tasks, "
                f"got tasks={self.tasks}; set samples and leave tasks out"
            )
        object.__setattr__(self, "tasks", tasks)  # a derived field of a frozen dataclass; records must hold it

    def reference_lead(self, lr: float) -> int:
        """Return the bins of the ``200 / lr`` samples on which a fresh reference is trained before it is measured.

        Bins are rounded up. A fresh network must have converged, and must not yet have lost plasticity itself, which at
        the published settings it begins to do soon after. Measured with SGD at 0.01 on 125 to 1,500 late bins of 25 to
        150 seeds (the fewer, the wider), as the geometric mean of the bin's error relative to the best of the leads 0,
        2,500, 5,000, 10,000, 15,000, 20,000, 30,000, 40,000 and 60,000 samples; standard errors are 0.01 to 0.03:

        | lead in samples | width | 0 | 5,000 | 10,000 | 20,000 | 30,000 | 40,000 | 60,000 |
        |---|---|---|---|---|---|---|---|---|
        | bitflip | 5 | 1.08 | 1.00 | 1.00 | 1.04 | 1.08 | 1.12 | 1.17 |
        | bitflip | 10 | 1.20 | 1.01 | 1.00 | 1.06 | 1.16 | 1.24 | 1.38 |
        | bitflip | 50 | 2.00 | 1.11 | 1.00 | 1.02 | 1.08 | 1.26 | 1.62 |
        | bitflip | 100 | 2.57 | 1.25 | 1.18 | 1.04 | 1.00 | 1.10 | 1.24 |
        | slowly_changing_regression | 5 | 1.00 | 1.02 | 1.01 | 1.04 | 1.06 | 1.10 | 1.17 |
        | slowly_changing_regression | 10 | 1.09 | 1.06 | 1.01 | 1.00 | 1.06 | 1.13 | 1.25 |
        | slowly_changing_regression | 50 | 1.76 | 1.38 | 1.28 | 1.14 | 1.07 | 1.00 | 1.06 |
        | slowly_changing_regression | 100 | 2.02 | 1.50 | 1.48 | 1.22 | 1.11 | 1.03 | 1.00 |

        20,000 samples are within 6% of the best at every width of bit flipping, and within 4% at the published width
        of slowly-changing regression, where wide references would gain by twice as many.

        Small steps of gradient descent follow a flow, on which ``lr`` is the length of a step, so that other rates take
        samples in inverse proportion. The same at 0.001, on 250 late bins of 25 seeds, relative to the best lead:

        | lead in samples | width | 20,000 | 50,000 | 100,000 | 200,000 | 300,000 | 400,000 |
        |---|---|---|---|---|---|---|---|
        | bitflip | 5 | 1.07 | 1.01 | 1.00 | 1.06 | 1.08 |  |
        | bitflip | 50 | 3.23 | 2.30 | 1.52 | 1.17 | 1.00 |  |
        | slowly_changing_regression | 5 | 1.05 | 1.01 | 1.00 | 1.07 | 1.10 | 1.12 |
        | slowly_changing_regression | 50 | 3.32 | 2.15 | 1.56 | 1.14 | 1.03 | 1.00 |

        Adaptive optimizers were not measured.
        """
        samples = round(min(LEAD / lr, self.samples))
        return min(-(-samples // self.steps_per_task), self.late_tasks.start)

    @property
    def extra_metrics(self) -> tuple[str, ...]:
        """What the authors' figures are of, where rows of the whole stream are probed as theirs."""
        return AUTHORS_METRICS if self.probe_rows == "stream" else ()

    @property
    def data(self) -> None:
        """None: samples are generated."""
        return

    def recipe(self, architecture: str) -> Recipe:
        """Return SGD at 0.01, the largest of the published step sizes, where plasticity is lost most, for both.

        Fresh networks are within 5% of their best at it. What they have above chance on the late bins of ``lite``,
        relative to that at 0.01, over seeds 1000 to 1009, and the largest retention that this leaves possible:

        | SGD | width | 0.003 | 0.01 | 0.03 | 0.1 | ceiling |
        |---|---|---|---|---|---|---|
        | bitflip | 5 | 1.02 | 1.00 | 0.40 | 0.00 | 1.82 |
        | bitflip | 10 | 0.99 | 1.00 | 0.53 | 0.00 | 1.49 |
        | bitflip | 50 | 1.05 | 1.00 | 0.63 | 0.00 | 1.12 |
        | bitflip | 100 | 1.02 | 1.00 | 0.65 | 0.00 | 1.06 |
        | slowly_changing_regression | 5 | 0.98 | 1.00 | 0.76 | 0.24 | 1.51 |
        | slowly_changing_regression | 100 | 1.01 | 1.00 | 0.86 | 0.16 | 1.04 |

        Wide networks leave little room above a fresh one: at widths 50 and 100 a score tells loss, and no gain.
        """
        return Recipe(optimizer="sgd:lr=0.01", reference="sgd:lr=0.01")

    def stream(self, seed: int, *, data: object, device: torch.device) -> "BitFlipStream":
        """Return the stream of ``seed``; ``data`` is not used."""
        return BitFlipStream(self, seed, device)


class BitFlipStream(Stream):
    """The samples of one seed. Random bits are drawn on the CPU and made into samples on ``device``.

    All that is kept of the stream is one number for each of the ``samples / T`` states of the slow bits.
    """

    outputs = 1

    def __init__(self, scenario: BitFlip, seed: int, device: torch.device) -> None:
        self.scenario = scenario
        self.device = device
        self.fast = scenario.m - scenario.f  #: Number of fast bits.
        self._seed = seed
        convention = CONVENTIONS[scenario.target]
        self.input_shape: Sequence[int] = (scenario.m + convention.bias_input,)
        self.target = LtuTarget(
            convention,
            scenario.m,
            scenario.target_width,
            scenario.beta,
            generator=self.generator("target"),
            device=device,
        )
        self.states = self._draw_states()
        self._slow_digits = torch.arange(scenario.f, device=device)
        self._fast_digits = torch.arange(self.fast, device=device)

    def generator(self, *names: str | int) -> torch.Generator:
        """Return a fresh generator of the stream's, for one purpose."""
        return rng.derive(self._seed, "data", self.scenario.name, *names)

    def _draw_states(self) -> Tensor:
        """Return the successive states of the slow bits, ``(samples / T,)``.

        Bit i is the digit of worth ``2 ** i``. A longer stream begins as this one does.
        """
        f, count = self.scenario.f, -(-self.scenario.samples // self.scenario.T)
        if self.scenario.flip == "all":
            return torch.randint(0, 2**f, (count,), generator=self.generator("slow"))
        first = torch.randint(0, 2**f, (1,), generator=self.generator("slow"))
        flips = torch.randint(0, f, (count - 1,), generator=self.generator("flips"))
        return torch.from_numpy(np.bitwise_xor.accumulate(torch.cat([first, 1 << flips]).numpy()))

    def samples(self, states: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Return inputs ``(N, *input_shape)`` and targets ``(N, 1)``, float32, for ``(N,)`` slow and fast bits each."""
        slow = states.to(self.device).unsqueeze(1) >> self._slow_digits
        fast = codes.to(self.device).unsqueeze(1) >> self._fast_digits
        bits = torch.cat([slow, fast], dim=1).bitwise_and_(1).float()
        return F.pad(bits, (0, self.input_shape[0] - self.scenario.m), value=1.0), self.target(bits)

    def codes(self, block: int) -> Tensor:
        """Return the fast bits of a block of samples, ``(BLOCK,)`` whole numbers below ``2 ** fast``, on the CPU."""
        return torch.randint(0, 2**self.fast, (BLOCK,), generator=self.generator("fast", block))

    def task(self, index: int) -> "BitFlipTask":
        """Return bin ``index``."""
        return BitFlipTask(self, index)


class BitFlipTask(Task):
    """One bin of the stream, with all states of the slow bits that fall into it.

    Args:
        stream: The stream it is part of.
        index: Its place in the stream.
    """

    def __init__(self, stream: BitFlipStream, index: int) -> None:
        size, every = stream.scenario.steps_per_task, stream.scenario.T
        self.stream = stream
        self.start = index * size  #: Place of its first sample in the stream.
        self.size = size
        first, last = self.start // every, (self.start + size - 1) // every
        self._index = index
        self._first_state = first
        self._states = stream.states[first : last + 1]
        self._tabulated = len(self._states) << stream.fast <= TABLE_ROWS

    @cached_property
    def _table(self) -> tuple[Tensor, Tensor]:
        """All inputs of the bin and their targets: for each state in order, for each of its fast bits in order."""
        per_state = 1 << self.stream.fast
        codes = torch.arange(per_state).repeat(len(self._states))
        return self.stream.samples(self._states.repeat_interleave(per_state), codes)

    def make(self, start: int, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the samples with the fast bits ``codes`` (N,) from place ``start`` of the bin on.

        Past its end the bin goes on under its last slow bits.

        Returns:
            Inputs ``(N, *input_shape)`` and targets ``(N, 1)``.
        """
        every, last = self.stream.scenario.T, len(self._states) - 1
        begin, end = self.start + start, self.start + start + len(codes)
        place: int | Tensor = min(begin // every - self._first_state, last)
        if end > begin and (end - 1) // every > begin // every:
            place = (torch.arange(begin, end) // every - self._first_state).clamp_(max=last)
        if self._tabulated:
            inputs, targets = self._table
            rows = (codes + (place << self.stream.fast)).to(inputs.device)
            return inputs.index_select(0, rows), targets.index_select(0, rows)
        return self.stream.samples(self._states[place].expand(len(codes)), codes)

    @cached_property
    def chance(self) -> float:
        """Mean squared error of the best constant, the variance of the target over the bin.

        The expectation over the fast bits where its inputs are tabulated, otherwise over the samples of the bin.
        """
        if self._tabulated:
            values = self._table[1].double().view(len(self._states), -1)  # (states, fast bits)
            edges = (torch.arange(len(self._states) + 1) + self._first_state) * self.stream.scenario.T
            shares = edges.clamp_(self.start, self.start + self.size).diff().to(values) / self.size
            mean, square = shares @ values.mean(dim=1), shares @ values.square().mean(dim=1)
        else:
            batches, left = self.batches(), self.size
            mean = square = torch.zeros((), dtype=torch.float64, device=self.stream.device)
            while left:
                taken = min(left, BLOCK)
                values = batches.take(taken)[0][1].double()
                mean, square, left = (
                    mean + values.sum() / self.size,
                    square + values.square().sum() / self.size,
                    left - taken,
                )
        return float(square - mean**2)

    def batches(self) -> "BitFlipBatches":
        """Return the bin's samples from its start."""
        return BitFlipBatches(self)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean squared error of ``outputs``, ``(N, 1)`` as ``targets``."""
        return F.mse_loss(outputs, targets)

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the squared error of each sample, ``(N,)``."""
        return (outputs - targets).square().squeeze(1)

    def held_out(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield nothing: fresh networks do not learn what could be held out."""
        return iter(())

    def probe(self) -> tuple[Tensor, Tensor]:
        """Return 128 inputs, spread evenly over the bin or the stream, with fast bits of their own."""
        return self._probe

    @cached_property
    def _probe(self) -> tuple[Tensor, Tensor]:
        scenario = self.stream.scenario
        own = scenario.probe_rows == "bin"
        start, size = (self.start, self.size) if own else (0, scenario.samples)
        generator = self.stream.generator("probe", *((self._index,) if own else ()))
        codes = torch.randint(0, 1 << self.stream.fast, (PROBE,), generator=generator)
        places = start + torch.arange(PROBE) * size // PROBE
        return self.stream.samples(self.stream.states[places // scenario.T], codes)


class BitFlipBatches(ChunkedBatches):
    """The samples of a bin in order, one a batch; it has no end.

    Args:
        task: The bin.
    """

    def __init__(self, task: BitFlipTask) -> None:
        self._task = task
        self._next = 0  #: Place in the bin of the next sample.
        self._block = -1  #: The block whose fast bits are at hand.
        self._codes = torch.empty(0, dtype=torch.int64)
        self._ahead = range(0)  #: Places of the samples made ahead.
        self._samples = (torch.empty(0), torch.empty(0))

    def __next__(self) -> tuple[Tensor, Tensor]:
        """Return the next sample, ``(1, *input_shape)``, and its target, ``(1, 1)``, on the stream's device."""
        if self._next not in self._ahead:
            self._ahead = range(self._next, self._next + AHEAD)
            self._samples = self._task.make(self._next, self._draw(AHEAD))
        row = self._next - self._ahead.start
        self._next += 1
        return self._samples[0][row : row + 1], self._samples[1][row : row + 1]

    def take(self, periods: int) -> Sequence[tuple[Tensor, Tensor]]:
        """Return the next samples, ``(periods, 1, *input_shape)``, and their targets, ``(periods, 1, 1)``."""
        inputs, targets = self._task.make(self._next, self._draw(periods))
        self._next += periods
        return [(inputs.unsqueeze(1), targets.unsqueeze(1))]

    def _draw(self, count: int) -> Tensor:
        """Return the fast bits of the next ``count`` samples."""
        place, parts = self._task.start + self._next, []
        stop = place + count
        while place < stop:
            block, offset = divmod(place, BLOCK)
            if block != self._block:
                self._block, self._codes = block, self._task.stream.codes(block)
            parts.append(self._codes[offset : offset + stop - place])
            place += len(parts[-1])
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the place in the bin."""
        return {"next": torch.tensor(self._next)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue from ``state``."""
        self._next = int(state["next"])
