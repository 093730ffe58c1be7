"""Whether a method acts, where it does, and what it costs."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from lopbench.core import fields
from lopbench.core.errors import UnsupportedError
from lopbench.core.interfaces import Component, Learner, Perturbation, State
from lopbench.core.manager import plugins
from lopbench.core.spec import parse_methods
from lopbench.testing.bench import BOUNDARY, OPTIMIZERS, Bench, Refused
from lopbench.testing.check import Mismatch, NotApplicable, check
from lopbench.testing.comparing import differing, listed, same
from lopbench.testing.methods.common import RUN, asks_for_units, method_of
from lopbench.testing.networks import NETWORKS, WITHOUT_UNITS, wide
from lopbench.testing.shared import alternatives
from lopbench.testing.watching import replaced


@check(
    "The method changes something within some 24 steps, so that the other checks mean something.",
    lesson="Joudaki et al. 2025: CBP's new weights are written to a copy, and nothing is ever redrawn (finding 6)",
)
def acts(component: Component) -> None:
    """Compare a run with the method to one without."""
    method = method_of(component)
    try:
        bench = Bench(method, dead=True)
    except Refused as refused:
        raise Mismatch(
            "a network that the method takes among those of the kit",
            f"it refuses {', '.join(dict.fromkeys(('plain', 'rectified', *NETWORKS)))}: {'; '.join(refused.reasons)}",
        ) from refused
    theirs = Bench(None, network=bench.network, dead=True).run(RUN).snapshot()
    ours = bench.run(RUN).snapshot()
    if not differing(ours, theirs, "parameter", "evaluated", "buffer"):
        raise Mismatch(
            "other parameters than without the method",
            f"the same to the bit after {RUN} steps; give settings in which it acts as the class's `examples`",
        )


@check(
    "Every hyperparameter changes the run; none is ignored.",
    lesson="a configured maturity of 100 that the runner never reads (finding 8, METHODS F7)",
)
def fields_matter(component: Component) -> None:
    """Change each field and compare runs."""
    method = method_of(component)
    settings = [method, *(replace(method, **dict(example)) for example in _examples_of(method))]
    Bench(method)  # of what takes no network nothing can be said
    runs, ignored = _Runs(), []
    for field in dataclasses.fields(method):
        if not field.init:
            continue
        others = [(setting, other) for setting in settings for other in alternatives(setting, field.name)]
        if others and not any(runs.differ(*pair, place) for place in range(len(_PLACES)) for pair in others):
            ignored.append(field.name)
    if ignored:
        raise Mismatch(
            "each field to change the run at some value",
            f"{listed(ignored)} changes nothing in any network or batch here; say in `examples` where it matters",
        )


def _examples_of(method: Perturbation) -> Sequence[Mapping[str, object]]:
    return [example for example in type(method).examples if example]


#: Where a field may matter: first where every check runs, then in other networks and on other batches.
_PLACES: Sequence[Mapping[str, Any]] = (
    {},
    *({"network": NETWORKS[name]} for name in ("convolutional", "normalised", "transformer")),
    {"size": 1},
    {"size": 32},
    {"optimizer": OPTIMIZERS["momentum"]},
)


class _Runs:
    """Runs in `_PLACES`, each done once."""

    def __init__(self) -> None:
        self._snapshots: dict[tuple[str, int], Mapping[str, Tensor]] = {}

    def differ(self, method: Perturbation, other: Perturbation, place: int) -> bool:
        """Return whether two settings make different runs."""
        ours, theirs = self._snapshot(method, place), self._snapshot(other, place)
        return bool(differing(ours, theirs, "parameter", "evaluated", "buffer"))

    def _snapshot(self, method: Perturbation, place: int) -> Mapping[str, Tensor]:
        key = repr(method), place
        if key not in self._snapshots:
            try:
                self._snapshots[key] = Bench(method, dead=True, **_PLACES[place]).run(RUN).snapshot()
            except UnsupportedError:
                self._snapshots[key] = {}
        return self._snapshots[key]


@check(
    "At strength zero a run is bit-identical to one without the method.",
    lesson="METHODS 0.3(a); a decay or a random draw left running at strength zero shifts every baseline",
)
def zero_is_none(component: Component) -> None:
    """Compare under three optimizers, with boundaries."""
    method = method_of(component)
    zeros = fields.zeros(type(method))
    if not zeros:
        raise NotApplicable("no field of the method has a strength zero")
    nothing = _at_zero(method)
    for name in ("momentum", "adam", "adamw"):
        ours, theirs = (
            Bench(m, optimizer=OPTIMIZERS[name]).run(RUN, boundary_every=BOUNDARY).snapshot() for m in (nothing, None)
        )
        wrong = differing(ours, theirs, "parameter", "optimizer", "buffer", "evaluated")
        if wrong:
            raise Mismatch(f"the same bits as without it at {zeros}", f"{name}: {listed(wrong)} differ")


@check(
    "Beside another method both train, and with one of them at strength zero the run is that of the other alone.",
    lesson="memory that hangs on a class or a module is shared by all methods and runs of a process",
)
def composes(component: Component) -> None:
    """Put a decay in front of the method and behind it."""
    method, (decay,) = method_of(component), parse_methods("l2:strength=0.1", plugins().registry)
    other = decay.build()
    assert isinstance(other, Perturbation)
    for order in ((method, other), (other, method)):
        made = Bench(*order).run(RUN).snapshot()
        wrong = [name for name in made if name.startswith("parameter/") and not bool(made[name].isfinite().all())]
        if wrong:
            raise Mismatch(f"finite weights under {' + '.join(m.name for m in order)}", f"{listed(wrong)} are not")
    cases = [(method, _at_zero(other), method)]
    if fields.zeros(type(method)):
        cases.append((_at_zero(method), other, other))
    for one, two, alone in cases:
        pair, single = (Bench(*each).run(RUN, boundary_every=BOUNDARY).snapshot() for each in ((one, two), (alone,)))
        wrong = differing(pair, single, "parameter", "optimizer", "buffer", "evaluated")
        if wrong:
            raise Mismatch(f"{one!r} + {two!r} to be {alone!r} alone", f"{listed(wrong)} differ")


def _at_zero(method: Perturbation) -> Perturbation:
    return replace(method, **fields.zeros(type(method)))


@check(
    "Every kind of layer is served or refused: batch normalisation, shared layers, several consumers, residual "
    "streams, attention.",
    lesson="METHODS F10, weight clipping on 1-D parameters: public code skips layers it does not know in silence",
)
def layers_are_served_or_refused(component: Component) -> None:
    """Train every network; where all linear layers are acted on, all others must be."""
    method = method_of(component)
    every = 2 if method.has("on_task_start") else 0
    by_batch = _depends_on_the_batch(method)
    units = asks_for_units(method)
    everywhere = None
    for name, network in {**NETWORKS, **({} if units else WITHOUT_UNITS)}.items():
        theirs = Bench(None, network=network, optimizer=OPTIMIZERS["sgd"])
        try:
            ours = Bench(method, network=network, optimizer=OPTIMIZERS["sgd"])
            if units or by_batch or ours.learner.view.parameters.keys() != theirs.learner.view.parameters.keys():
                ours.run(RUN)
                continue
            acted = _first_acted_on(ours, theirs, every)
        except UnsupportedError:
            continue
        layers = {
            f"{module}.weight"
            for module, layer in ours.learner.network.module.named_modules()
            if isinstance(layer, nn.Linear | nn.Conv2d)
        } - set(ours.learner.view.head)
        if everywhere is None:  # the plain network comes first
            everywhere = layers <= acted
        elif everywhere and not layers <= acted:
            raise Mismatch(
                "every layer acted on, as in the plain network, or UnsupportedError",
                f"{name} network: {listed(sorted(layers - acted))} is skipped in silence",
            )


def _depends_on_the_batch(method: Perturbation) -> bool:
    """Return whether what the method adds to the loss depends on the batch: autograd then says where it acts."""
    if method.has("loss"):
        return True
    if not method.has("penalty"):
        return False
    values: list[float] = []

    def penalty(original: Any, learner: Learner, state: State) -> Tensor:
        value: Tensor = original(learner, state)
        values.append(float(value.detach().sum()))
        return value

    watched = replaced(method, penalty=penalty)
    network = Bench(method).network
    Bench(watched, network=network, size=6).run(1)
    Bench(watched, network=network, size=16).run(1)
    return values[0] != values[-1]


def _first_acted_on(ours: Bench, theirs: Bench, every: int) -> set[str]:
    """Return the parameters that differ at the first step at which any does."""
    for _ in range(RUN):
        mine, other = (b.run(1).learner.view.parameters for b in (ours, theirs))
        found = {name for name, value in mine.items() if not same(value, other[name])}
        if found:
            return found
    return set()


@check("Time and memory of a step, as multiples of those without the method.")
def overhead(component: Component) -> str:
    """Measure both, alternately, on a network of two layers of 256 units and batches of 16; the least times count."""
    method = method_of(component)
    benches = [Bench(m, network=wide, size=16) for m in (method, None)]
    times: list[list[float]] = [[], []]
    for _ in range(5):
        for bench, taken in zip(benches, times, strict=True):
            batches = [bench.problems[0].batch(step) for step in range(10)]
            if method.has("on_task_start"):
                bench.begin_task(1)
            began = time.perf_counter()
            for batch in batches:
                bench.learner.step([batch])
            taken.append((time.perf_counter() - began) / len(batches))
    memory = [bench.learner.state_bytes() for bench in benches]
    return f"{min(times[0]) / min(times[1]):.2f}x time, {memory[0] / memory[1]:.2f}x memory"
