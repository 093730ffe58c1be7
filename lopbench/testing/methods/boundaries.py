"""What a method knows of the boundaries between tasks, and does there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from lopbench.core.errors import UnsupportedError
from lopbench.core.interfaces import Component, Learner, Perturbation
from lopbench.testing.bench import BOUNDARY, OPTIMIZERS, STILL, Bench
from lopbench.testing.check import Mismatch, NotApplicable, check
from lopbench.testing.comparing import differing, listed
from lopbench.testing.methods.common import RUN, method_of
from lopbench.testing.methods.resets import Picture
from lopbench.testing.networks import wide
from lopbench.testing.watching import IN_STEPS, watched


@check("The track follows from what the method does: replay, acting at boundaries, or neither.")
def track_follows_from_the_hooks(component: Component) -> None:
    """Look at the class."""
    method = method_of(component)
    track = "replay" if method.uses_replay else "boundary-aware" if method.has("on_task_start") else "boundary-free"
    if method.track != track:
        raise Mismatch(f"track {track}", method.track)


#: Step at which the problem changes, and number of steps after it in which a method may not take note of it.
_SHIFT, _AFTER = 60, 5

#: What protocols do at a boundary, of which a method could tell that there is one.
_SIGNS: Mapping[str, Mapping[str, bool]] = {
    "the problem has changed": {},
    "the problem has changed and the head is zeroed": {"zero_head": True},
    "the problem has changed, the head is zeroed and the optimizer cleared": {
        "zero_head": True,
        "reset_optimizer": True,
    },
}


@check(
    "A method without `on_task_start` behaves the same whether there are boundaries, and does not wait for them.",
    lesson="METHODS 0.6, E6, E14: hidden resets at boundaries are boundary information, whatever they are called",
)
def boundaries_stay_unknown(component: Component) -> None:
    """Compare a run with boundaries to one without, and what the hooks do when there are signs of a boundary."""
    method = method_of(component)
    if method.has("on_task_start"):
        raise NotApplicable("it acts at boundaries")
    ours, theirs = Bench(method), Bench(method)
    wrong = differing(ours.run(RUN, boundary_every=BOUNDARY).snapshot(), theirs.run(RUN).snapshot())
    if wrong:
        raise Mismatch("the same bits with and without boundaries", f"{listed(wrong)} differ")
    if not any(method.has(hook) for hook in IN_STEPS):
        return
    for sign, options in _SIGNS.items():
        moved, cleared = _acts(method, options)
        for found, least, what in (
            (moved, 0.02, "moves {:.0f}% of the weights' norm"),
            (cleared, 0.2, "clears {:.0f}% of the optimizer's entries"),
        ):
            usual = max([*found[5:_SHIFT], *found[_SHIFT + _AFTER :]])  # some of what it does may be rare
            there = max(found[_SHIFT : _SHIFT + _AFTER])
            if there > least and there > 5 * usual:
                raise Mismatch(
                    f"steps like all others after {sign}",
                    f"the method {what.format(100 * there)} there, and at most {100 * usual:.0f}% elsewhere",
                )


def _acts(method: Perturbation, signs: Mapping[str, bool]) -> tuple[list[float], list[float]]:
    """Return what the hooks of each step move and clear, as shares of all, where a boundary shows by ``signs``."""
    moved, cleared = [0.0], [0.0]

    @contextmanager
    def around(learner: Learner) -> Iterator[None]:
        before = Picture.of(bench.learner)
        yield
        after = Picture.of(bench.learner)
        moved[-1] += _moved(before, after, tuple(learner.parameters))
        cleared[-1] += _cleared(before, after)

    bench = Bench(watched(method, IN_STEPS, around), shift_at=_SHIFT, size=16)
    for step in range(_SHIFT + 20):
        if step == _SHIFT:
            bench.begin_task(1, **{"zero_head": False, "reset_optimizer": False, **signs})
        bench.run(1)
        moved.append(0.0)
        cleared.append(0.0)
    return moved[:-1], cleared[:-1]


def _moved(before: Picture, after: Picture, names: Sequence[str]) -> float:
    """Return the norm of the change of the parameters, as a share of theirs."""
    old, new = (torch.cat([picture.tensors[name].flatten() for name in names]) for picture in (before, after))
    return float(torch.linalg.vector_norm(new - old) / torch.linalg.vector_norm(old))


def _cleared(before: Picture, after: Picture) -> float:
    """Return the share of the optimizer's entries that were something and are as at the start now."""
    shares = [
        ((old != start) & (new == start)).double().mean()
        for name, entries in after.entries.items()
        for old, new, start in (
            (before.entries[name].get(key, after.starts[name][key]), value, after.starts[name][key])
            for key, value in entries.items()
        )
    ]
    return float(torch.stack(shares).mean()) if shares else 0.0


@check(
    "Weights that a method replaces at a boundary start afresh in the optimizer too.",
    lesson="METHODS F8: moments of the old weights move the new ones",
)
def boundary_resets_clear_the_optimizer(component: Component) -> None:
    """Look at the optimizer's entries of weights that became others at a boundary."""
    method = method_of(component)
    if not method.has("on_task_start"):
        raise NotApplicable("it does not act at boundaries")

    @contextmanager
    def around(learner: Learner) -> Iterator[None]:
        before = Picture.of(bench.learner)
        yield
        after = Picture.of(bench.learner)
        for name in learner.parameters:
            replaced = _replaced(before.tensors[name], after.tensors[name])
            for key, value in after.entries.get(name, {}).items():
                stale = (value != after.starts[name][key]) & replaced
                if bool(stale.any()):
                    raise Mismatch(
                        f"{key} of {name} cleared where the weights are replaced",
                        f"{int(replaced.sum())} of {replaced.numel()} weights became others, and {int(stale.sum())} of "
                        "them keep what the optimizer remembers of the old ones",
                    )

    for optimizer in ("momentum", "adam"):
        bench = Bench(watched(method, ("on_task_start",), around), optimizer=OPTIMIZERS[optimizer])
        bench.run(RUN, boundary_every=BOUNDARY)


def _replaced(old: Tensor, new: Tensor) -> Tensor:
    """Return the entries that became others, boolean: none where all changes together are less than a quarter."""
    changed = old != new
    change = torch.linalg.vector_norm((new - old)[changed])
    replaced: Tensor = changed & (change >= 0.25 * torch.linalg.vector_norm(old[changed]))
    return replaced


@check(
    "Noise that a method adds to weights at a boundary has the scale with which each layer is made.",
    lesson="METHODS A4: the noise of shrink-and-perturb is a new network; one scale for all layers is another method",
)
def boundary_noise_has_the_layers_scale(component: Component) -> None:
    """Compare two runs that differ in the method's random numbers alone, layer by layer, where weights shrink."""
    method = method_of(component)
    if not method.has("on_task_start"):
        raise NotApplicable("it does not act at boundaries")
    crossed = []
    for seed in (1, 2):
        try:
            bench = Bench(method, network=wide, optimizer=STILL)
        except UnsupportedError as error:
            raise NotApplicable(f"it refuses networks of linear layers: {error}") from error
        for state in bench.learner.states:
            for replica, generator in enumerate(state.generators):
                generator.manual_seed(seed + 2 * replica)
        bench.begin_task(1)
        crossed.append(bench.learner.view)
    scales = {}  # standard deviation of the noise, and of the weights as made
    for name, one in crossed[0].parameters.items():
        old, noise = crossed[0].initial[name], one - crossed[1].parameters[name]
        if old.ndim == 3 and bool(noise.any()) and float((one * old).sum() / old.square().sum()) < 0.98:
            scales[name] = float(noise.std()) / 2**0.5, float(old.std())
    ranked = sorted(scales, key=lambda name: scales[name][0] / scales[name][1])
    ratios = [scales[name][0] / scales[name][1] for name in ranked]
    if ratios and ratios[-1] > 1.5 * ratios[0]:
        told = "{0}, made with a standard deviation of {2:.2g}, gets noise of {1:.2g}"
        found = [told.format(name, *scales[name]) for name in (ranked[0], ranked[-1])]
        raise Mismatch(
            "noise in proportion to the weights with which each layer is made, as `learner.fresh` gives it",
            " and ".join(found),
        )
