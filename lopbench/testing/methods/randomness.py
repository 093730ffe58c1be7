"""Where the random numbers of a method come from."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lopbench.core import rng
from lopbench.core.errors import UnsupportedError
from lopbench.core.interfaces import Component, Learner, Perturbation, State
from lopbench.testing.bench import OPTIMIZERS, Bench
from lopbench.testing.check import Mismatch, NotApplicable, check
from lopbench.testing.comparing import differing, listed, same
from lopbench.testing.methods.common import RUN, method_of
from lopbench.testing.networks import with_dropout
from lopbench.testing.watching import replaced


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


#: What a hook may change, for the hooks in which noise is added to tensors.
_CHANGED: Mapping[str, Callable[[Learner], Mapping[str, Tensor]]] = {
    "after_backward": lambda learner: learner.gradients,
    "update": lambda learner: learner.updates,
    "after_step": lambda learner: learner.parameters,
}


@check(
    "Noise is drawn anew at each step.",
    lesson="a generator that is made from the same seed in each call gives the same numbers at each step",
)
def noise_is_drawn_anew(component: Component) -> None:
    """Give the network other weights before each step, and compare by how much the hooks change what they are given."""
    method = method_of(component)
    if not any(method.has(hook) for hook in ("batch", *_CHANGED)):
        raise NotApplicable("it changes neither batches, gradients, updates nor weights in steps")
    changes: dict[str, Tensor] = {}
    bench = Bench(_noted(method, changes), optimizer=OPTIMIZERS["sgd"])
    for step in range(1, RUN + 1):
        build = bench.learner.nursery.build
        for name, value in build(rng.derive(step, "conformance", "weights")).named_parameters():
            bench.learner.view.parameters[name].copy_(value.detach())
        before = dict(changes)
        changes.clear()
        bench.run(1)
        for what in before.keys() & changes.keys():
            if _equal_but_for_scale(before[what], changes[what]):
                raise Mismatch(
                    "other random numbers at each step",
                    f"{what} changes by the same numbers at steps {step - 1} and {step}, whatever weights and batch "
                    "are; draw from `state`, and never from a generator that is seeded anew",
                )


def _noted(method: Perturbation, changes: dict[str, Tensor]) -> Perturbation:
    """Return the method; by how much each of its hooks changes what it is given is put into ``changes``."""

    def note(hook: str, original: Any, learner: Learner, state: State) -> None:
        before = {name: value.clone() for name, value in _CHANGED[hook](learner).items()}
        original(learner, state)
        for name, value in _CHANGED[hook](learner).items():
            changes[f"{name} in {hook}"] = value - before[name]

    def batch(original: Any, learner: Learner, state: State, inputs: Tensor, targets: Tensor) -> Any:
        made = original(learner, state, inputs, targets)
        if made[0].shape == inputs.shape:
            changes["the inputs in batch"] = made[0] - inputs
        return made

    functions: dict[str, Callable[..., object]] = {hook: partial(note, hook) for hook in _CHANGED}
    return replaced(method, **{h: f for h, f in {**functions, "batch": batch}.items() if method.has(h)})


def _equal_but_for_scale(one: Tensor, other: Tensor) -> bool:
    """Return whether two changes have a correlation near 1; those of few entries, or of one number, tell nothing."""
    if one.numel() < 30:
        return False
    rows = torch.stack([one.flatten(), other.flatten()]).double()
    rows = rows - rows.mean(dim=1, keepdim=True)
    norms = torch.linalg.vector_norm(rows, dim=1)
    if not bool((norms > 1e-9 * rows.shape[1] ** 0.5).all()):
        return False
    return float(rows[0] @ rows[1] / norms.prod()) > 0.95
