"""What a method knows of the boundaries between tasks, and does there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from lopbench.core.interfaces import Component, Learner
from lopbench.testing.bench import BOUNDARY, OPTIMIZERS, Bench
from lopbench.testing.check import Mismatch, NotApplicable, check
from lopbench.testing.comparing import differing, listed
from lopbench.testing.methods.common import RUN, method_of
from lopbench.testing.methods.resets import starts
from lopbench.testing.watching import watched


@check("The track follows from what the method does: replay, acting at boundaries, or neither.")
def track_follows_from_the_hooks(component: Component) -> None:
    """Look at the class."""
    method = method_of(component)
    track = "replay" if method.uses_replay else "boundary-aware" if method.has("on_task_start") else "boundary-free"
    if method.track != track:
        raise Mismatch(f"track {track}", method.track)


@check(
    "A method without `on_task_start` behaves the same whether there are boundaries, and does not wait for them.",
    lesson="METHODS 0.6, E6, E14: hidden resets at boundaries are boundary information, whatever they are called",
)
def boundaries_stay_unknown(component: Component) -> None:
    """Compare a run with boundaries to one without, and how much the hooks move when the problem changes."""
    method = method_of(component)
    if method.has("on_task_start"):
        raise NotApplicable("it acts at boundaries")
    ours, theirs = Bench(method), Bench(method)
    wrong = differing(ours.run(RUN, boundary_every=BOUNDARY).snapshot(), theirs.run(RUN).snapshot())
    if wrong:
        raise Mismatch("the same bits with and without boundaries", f"{listed(wrong)} differ")
    sizes: list[float] = []

    @contextmanager
    def around(learner: Learner) -> Iterator[None]:
        before = torch.cat([value.flatten() for value in learner.parameters.values()])
        yield
        after = torch.cat([value.flatten() for value in learner.parameters.values()])
        sizes.append(float(torch.linalg.vector_norm(after - before) / torch.linalg.vector_norm(before)))

    shift = 60
    bench = Bench(watched(method, ("after_step",), around), shift_at=shift, size=16)
    bench.run(shift)
    # What protocols do at a boundary, of which a method could tell that there is one.
    bench.begin_task(1, reset_optimizer=True, zero_head=True)
    bench.run(shift // 3)
    if not sizes:
        return  # it has no hook after the step
    usual = max([*sizes[5:shift], *sizes[shift + 5 :]])  # some of what it does may be rare
    at_boundary = max(sizes[shift : shift + 5])
    if at_boundary > 0.5 and at_boundary > 5 * usual:
        raise Mismatch(
            "steps like all others after the problem has changed",
            f"the method moves {100 * at_boundary:.0f}% of the weights' norm there, {100 * usual:.0f}% elsewhere",
        )


@check(
    "Parameters that a method replaces at a boundary start afresh in the optimizer too.",
    lesson="METHODS F8: moments of the old weights move the new ones",
)
def boundary_resets_clear_the_optimizer(component: Component) -> None:
    """Look at the optimizer's entries of tensors that became others at a boundary."""
    method = method_of(component)
    if not method.has("on_task_start"):
        raise NotApplicable("it does not act at boundaries")

    @contextmanager
    def around(learner: Learner) -> Iterator[None]:
        before = {name: value.clone() for name, value in learner.parameters.items()}
        yield
        state = bench.learner.optimizer.stacked_state()
        for name, value in learner.parameters.items():
            change = torch.linalg.vector_norm(value - before[name]) / torch.linalg.vector_norm(before[name])
            if bool((value == before[name]).any()) or change < 0.25:
                continue
            for key, start in starts(bench.learner.optimizer, name).items():
                stale = state[name].get(key, start) != start
                if bool(stale.any()):
                    raise Mismatch(
                        f"{key} of {name} cleared with the parameter", f"{int(stale.sum())} entries of it are stale"
                    )

    for optimizer in ("momentum", "adam"):
        bench = Bench(watched(method, ("on_task_start",), around), optimizer=OPTIMIZERS[optimizer])
        bench.run(RUN, boundary_every=BOUNDARY)
