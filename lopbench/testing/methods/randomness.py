"""Where the random numbers of a method come from."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from lopbench.core.errors import UnsupportedError
from lopbench.core.interfaces import Component
from lopbench.testing.bench import Bench
from lopbench.testing.check import Mismatch, check
from lopbench.testing.comparing import differing, listed, same
from lopbench.testing.methods.common import RUN, method_of
from lopbench.testing.networks import with_dropout


def _global_state() -> tuple[Tensor, object, str]:
    return torch.get_rng_state(), random.getstate(), repr(np.random.get_state())


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Let the global generators start from ``seed``, and put them back as they were."""
    before = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)  # a check runs on a copy of torch's
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])


@check(
    "The method draws from its own generators alone: global ones move nothing in it and are not moved by it.",
    lesson="METHODS 0.3(b); global randomness couples a method to whatever else draws in the process",
)
def private_randomness(component: Component) -> None:
    """Run from two states of torch's, NumPy's and Python's global generators."""
    method = method_of(component)
    snapshots = []
    for seed in (1, 2):
        with _seeded(seed):
            before = _global_state()
            snapshots.append(Bench(method).run(RUN).snapshot())
            after = _global_state()
        for name, one, other in zip(("torch", "random", "numpy"), before, after, strict=True):
            unmoved = torch.equal(one, other) if isinstance(one, Tensor) and isinstance(other, Tensor) else one == other
            if not unmoved:
                raise Mismatch("global generators left alone", f"that of {name} has advanced; draw from `state`")
    wrong = differing(snapshots[0], snapshots[1])
    if wrong:
        raise Mismatch("the same bits whatever the global seed", f"{listed(wrong)} differ; draw from `state`")


@check(
    "Turning the method on moves neither the initial weights nor the masks of dropout.",
    lesson="METHODS 0.3(b); a method that draws from the stream of another consumer makes comparisons unpaired",
)
def moves_no_other_stream(component: Component) -> None:
    """Compare what is drawn beside the method with and without it."""
    method = method_of(component)
    bench = Bench(method)
    ours, theirs = bench.learner.view.initial, Bench(None, network=bench.network).learner.view.initial
    fit = {name for name in theirs if name in ours and ours[name].shape == theirs[name].shape}
    # A layer that the method has made of another shape is drawn anew, its bias too.
    made_over = {name.rpartition(".")[0] for name in theirs.keys() - fit}
    wrong = [n for n in sorted(fit) if n.rpartition(".")[0] not in made_over and not same(ours[n], theirs[n])]
    if wrong:
        raise Mismatch("the initial weights of the plain network", f"others in {listed(wrong)}")
    try:
        dropped = Bench(method, network=with_dropout)
    except UnsupportedError:
        return
    streams = [
        bench.run(RUN, boundary_every=0).snapshot()["generator/layers"]
        for bench in (dropped, Bench(None, network=with_dropout))
    ]
    if not torch.equal(*streams):
        raise Mismatch("the dropout of the network to draw as without the method", "its stream stands elsewhere")
