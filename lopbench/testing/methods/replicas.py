"""A method on several networks at once, step by step and in a program."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lopbench.core import fields
from lopbench.core.errors import UnsupportedError
from lopbench.core.interfaces import Component
from lopbench.learner.learner import StackLearner, stacked_method
from lopbench.learner.memory import Generators
from lopbench.learner.program import Program, why_not
from lopbench.testing.bench import Bench
from lopbench.testing.check import NotApplicable, check
from lopbench.testing.comparing import close
from lopbench.testing.methods.common import RUN, method_of
from lopbench.testing.networks import NETWORKS, small
from lopbench.testing.shared import alternatives


@check(
    "What a replica computes does not depend on which others run beside it.",
    lesson="a norm or a random number taken over the whole stack couples independent learners",
)
def replicas_are_independent(component: Component) -> None:
    """Compare three replicas together with each alone, in float64."""
    method = method_of(component)
    refusal: UnsupportedError | None = None
    compared = 0
    for network in ("plain", "normalised"):
        options: dict[str, Any] = {"network": NETWORKS[network], "dtype": torch.float64, "dead": True}
        try:
            together = Bench(method, seeds=(3, 4, 5), **options).run(RUN).learner
        except UnsupportedError as error:
            refusal = error
            continue
        stack = {**together.view.parameters, **together.view.buffers}
        for replica, seed in enumerate((3, 4, 5)):
            alone = Bench(method, seeds=(seed,), **options).run(RUN).learner.view
            for name, value in {**alone.parameters, **alone.buffers}.items():
                close(stack[name][replica], value[0], 1e-8, f"{network} network, seed {seed}: {name} alone")
        compared += 1
    if not compared:
        raise NotApplicable(f"its seeds run one after another: {refusal}")


class _Steady(Generators):
    """Random numbers that are all one half, so that two ways to take a step can be compared."""

    def normal(self, like: Tensor) -> Tensor:
        return torch.full_like(like, 0.5)

    uniform = normal


class _SteadyProgram(Program):
    def _draw(self, calls: int) -> list[Tensor]:
        return [numbers.fill_(0.5) for numbers in super()._draw(calls)]


@check(
    "Traced into a program of many steps, the method computes what it computes step by step, each replica for itself.",
    lesson="a number read on the host while tracing is frozen into the program",
)
def traced_equals_steps(component: Component) -> None:
    """Compare the graph of a program with steps in float64, three replicas with one, and a sweep with its values.

    A task begins half-way.
    """
    method = method_of(component)
    options: dict[str, Any] = {"network": small, "dtype": torch.float64, "dead": True}
    stepped, traced = Bench(method, **options), Bench(method, **options)
    reason = why_not(traced.learner, traced.problems[0], [traced.batch()])
    if reason is not None:
        raise NotApplicable(reason)
    for bench in (stepped, traced):
        for state in bench.learner.states:
            state.noise = _Steady(state.generators)
    stepped.run(RUN, boundary_every=RUN // 2)
    learner = _program(traced, _SteadyProgram)
    for name, value in stepped.learner.view.parameters.items():
        close(learner.view.parameters[name], value, 1e-8, f"{name} as step by step")
    names = fields.swept(type(method))
    changed = replace(method, **{f: getattr(next(alternatives(method, f), method), f) for f in names})
    alone = _program(Bench(changed, seeds=(4,), **options))
    swept = stacked_method([method, changed, method])
    try:
        together = _program(Bench(swept, seeds=(3, 4, 5), **options))
    except UnsupportedError:
        return  # its seeds run one after another
    for name, value in alone.view.parameters.items():
        values = ", ".join(f"{field}={getattr(changed, field)}" for field in names)
        what = f"{name} in a program of three as alone" + (f", with {values} in a sweep" if values else "")
        close(together.view.parameters[name][1], value[0], 1e-8, what)


def _program(bench: Bench, make: type[Program] = Program) -> StackLearner:
    """Train the bench's learner by a program, on its next batches; a task begins half-way."""
    program = make(bench.learner, bench.problems[0], [bench.batch()], unroll=2, compiled=False)
    program.advance(bench.learner, [bench.block(RUN // 2)])
    bench.begin_task(1)
    program.advance(bench.learner, [bench.block(RUN // 2)])
    return bench.learner
