"""Whether a program takes the steps of a run faster than one step after the other, and whether compiling it pays.

Measured on one core of a server (2.x GHz, AVX-512), Adam, time of a step of one replica one by one over that in a
program; the same figures hold for one replica and for thirty, to a fifth:

==================  =====  ==========  ==========  ========  =========
network             batch  parameters  operations  compiled  as a graph
==================  =====  ==========  ==========  ========  =========
20-1000-1               1      22,001        .1 M        15        2.6
784-100-100-10          1      89,610        .5 M         7         .5
784-100-100-10         16      89,610        8.6 M      3.8         .7
784-100-100-10         64      89,610         34 M      2.8
784-100-100-10        128      89,610         69 M      2.2         .7
3072-5x128-200        128     484,000        370 M      1.0
cnn                   128         2 M         14 G       .7
==================  =====  ==========  ==========  ========  =========

Small steps wait for Python most of the time, large ones for the arithmetic, which no program does faster.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lopbench.learner.learner import StackLearner

#: Most operations of a step of one replica of which a program is made, on the CPU and elsewhere, which is some five
#: hundred times as fast; the latter was not measured.
MOST_OPERATIONS, MOST_OPERATIONS_ELSEWHERE = 1.5e8, 7.5e10

#: Most parameters of one replica with which the graph itself, not compiled, is as fast as one step after the other.
MOST_PARAMETERS = 30_000

#: Steps in all from which on a program of small networks is compiled: that takes up to a minute, and saves about a
#: minute over these.
COMPILE_STEPS = 100_000

#: Seconds, on one core of a CPU, that a compiled program takes for a step, for each byte of state in it, and for each
#: multiplication and addition; for being traced and compiled where that was not done before, and loaded where it was.
STEP_S, BYTE_S, OPERATION_S, COMPILE_S, LOAD_S = 1e-5, 5e-11, 6.4e-12, 15.0, 1.5

#: Parameters, of all replicas together, whose update takes the graph as long as all else in a step.
_UPDATED = 100_000

#: Samples of a batch for which operations are counted; a layer of batch normalisation cannot do with one.
_COUNTED = 2


@dataclass(frozen=True)
class Work:
    """What the steps of some replicas are.

    Args:
        steps: Steps in all.
        replicas: Number of replicas.
        parameters: Parameters of one replica.
        operations: Multiplications and additions in the matrix products of a step of one replica.
        on_cpu: Whether the CPU takes the steps.
    """

    steps: int
    replicas: int
    parameters: int
    operations: float
    on_cpu: bool

    @property
    def is_long(self) -> bool:
        """Whether the steps are so many that a program of them is to be compiled."""
        return self.steps * (1 + self.replicas * self.parameters / _UPDATED) >= COMPILE_STEPS

    def compiled_s(self, state_bytes: int) -> float:
        """Return about how many seconds a step of all replicas takes in a compiled program on one core of a CPU.

        Args:
            state_bytes: Bytes of parameters, buffers, optimizer and method of all replicas.
        """
        return STEP_S + BYTE_S * state_bytes + OPERATION_S * self.operations * self.replicas

    @property
    def is_for_a_program(self) -> bool:
        """Whether a program takes the steps at least as fast as one after the other."""
        most = MOST_OPERATIONS if self.on_cpu else MOST_OPERATIONS_ELSEWHERE
        return self.operations <= most and (self.is_long or self.parameters <= MOST_PARAMETERS)


def work(learner: StackLearner, inputs: Tensor, *, steps: int, replicas: int) -> Work:
    """Return what ``steps`` steps of ``replicas`` replicas of a learner are.

    Args:
        learner: The learner, of any number of replicas.
        inputs: Inputs of a step, ``(R, N, ...)``.
        steps: Steps in all.
        replicas: Replicas that are to train together.
    """
    from torch.utils.flop_counter import FlopCounterMode  # slow to import

    few = learner.cast(inputs[:, :_COUNTED])
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        learner.view.forward(few)
    forward = counter.get_total_flops() / learner.replicas * inputs.shape[1] / few.shape[1]
    parameters = sum(value[0].numel() for value in learner.view.parameters.values())
    # Gradients cost twice the forward pass: one product for what comes in, and one for the weights.
    return Work(steps, replicas, parameters, 3 * forward, learner.device.type == "cpu")
