"""What a method does to units that it resets, seen from outside: tensors before and after its hook."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor

from lopbench.core.errors import UnsupportedError
from lopbench.core.interfaces import Component, Learner, Perturbation
from lopbench.learner.groups import UnitGroup
from lopbench.learner.learner import StackLearner
from lopbench.learner.optimizers import OptimizerStack
from lopbench.testing.bench import OPTIMIZERS, Bench
from lopbench.testing.check import Mismatch, NotApplicable
from lopbench.testing.methods.common import asks_for_units, method_of
from lopbench.testing.networks import NETWORKS, Network
from lopbench.testing.watching import watched

#: Relative change of incoming weights from which on they count as new, far beyond what a step or noise does.
_NEW = 0.1
#: Steps of an audit.
STEPS = 40


@dataclass(frozen=True)
class Picture:
    """All tensors of a learner at one moment.

    Args:
        tensors: Parameters and buffers.
        entries: What the optimizer remembers, by parameter.
        starts: What it remembers of a new parameter, likewise.
    """

    tensors: Mapping[str, Tensor]
    entries: Mapping[str, Mapping[str, Tensor]]
    starts: Mapping[str, Mapping[str, Tensor]]

    @classmethod
    def of(cls, learner: StackLearner) -> Picture:
        """Return copies of what is there now."""
        tensors = {name: value.clone() for name, value in {**learner.view.parameters, **learner.view.buffers}.items()}
        state = learner.optimizer.stacked_state()
        entries = {name: {key: v.clone() for key, v in state[name].items()} for name in state}
        return cls(tensors, entries, {name: starts(learner.optimizer, name) for name in state})


def starts(optimizer: OptimizerStack, name: str) -> dict[str, Tensor]:
    """Return what the optimizer remembers of parameter ``name`` before its first step."""
    return optimizer.rule.init(optimizer.parameters[name], hidden=name in optimizer.hidden)


@dataclass
class Event:
    """One call of a hook in which units were reset.

    Args:
        where: Network and optimizer, in words.
        step: The step, from 1.
        before: What was there before the hook.
        after: What was there after it.
        groups: The groups of units of the network.
        masks: Which units were reset, boolean ``(R, D)`` by name of the group.
    """

    where: str
    step: int
    before: Picture
    after: Picture
    groups: tuple[UnitGroup, ...]
    masks: Mapping[str, Tensor]


@dataclass
class Sighting:
    """What was seen in one run.

    Args:
        where: Network and optimizer, in words.
        learner: The learner at its end.
        events: The calls in which units were reset.
        ages: For each group, the ages at which units were reset, in steps since the start or their last reset.
        counts: For each group, the number of resets in each step.
    """

    where: str
    learner: StackLearner
    events: list[Event] = field(default_factory=list)
    ages: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    counts: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))


class Audit:
    """Runs of a method on every network, and on one under every optimizer, made as they are asked for and kept.

    Args:
        method: The method.
    """

    def __init__(self, method: Perturbation) -> None:
        self._method = method
        self._seen: list[Sighting] = []
        self._plans = [("plain", name) for name in OPTIMIZERS] + [(n, "adam") for n in NETWORKS if n != "plain"]

    def __iter__(self) -> Iterator[Sighting]:
        """Yield what was seen, run by run; networks that the method refuses are left out."""
        yield from self._seen
        while self._plans:
            network, optimizer = self._plans.pop(0)
            where = f"{network} network, {optimizer}"
            try:
                seen = follow(self._method, NETWORKS[network], OPTIMIZERS[optimizer], where, STEPS)
            except UnsupportedError:
                continue
            self._seen.append(seen)
            yield seen


@lru_cache(maxsize=8)
def audit(method: Perturbation) -> Audit:
    """Return the runs of the method, those of before if there are some."""
    return Audit(method)


def sightings(component: Component) -> Iterator[Sighting]:
    """Yield what was seen of the method, run by run, in some of which units must have been reset.

    Raises:
        NotApplicable: If it resets no units.
        Mismatch: If it asks for units and none was reset.
    """
    method = method_of(component)
    if not asks_for_units(method) and not _redraws_units(method):
        raise NotApplicable("it asks for no units, and redraws none that it finds itself")
    acted = False
    for seen in audit(method):
        acted = acted or bool(seen.events)
        yield seen
    if not acted:
        raise Mismatch(
            f"a unit to be reset within {STEPS} steps", "none on any network; say in `examples` when there is"
        )


@lru_cache(maxsize=8)
def _redraws_units(method: Perturbation) -> bool:
    """Return whether a method that asks for no units redraws some of a layer: it finds them by the layer's name."""
    if not method.has("after_step"):
        return False
    try:
        seen = follow(method, Bench(method).network, OPTIMIZERS["adam"], "", STEPS)
    except UnsupportedError:
        return False
    return any(
        bool((mask & _unlike(event, group)).any()) and not bool(mask.all())
        for event in seen.events
        for group, mask in ((group, event.masks[group.name]) for group in event.groups)
    )


def _unlike(event: Event, group: UnitGroup) -> Tensor:
    """Return the units whose incoming weights point elsewhere than before, boolean ``(R, D)``: no mere scaling."""
    old, new = (picture.tensors[group.weight].flatten(2) for picture in (event.before, event.after))
    unlike: Tensor = torch.cosine_similarity(old, new, dim=2) < 0.5
    return unlike


def events(component: Component) -> Iterator[Event]:
    """Yield the calls in which units were reset, at least one; raises as `sightings` does."""
    for seen in sightings(component):
        yield from seen.events


def follow(
    method: Perturbation, network: Network, optimizer: str, where: str, steps: int, *, dead: bool = True
) -> Sighting:
    """Train with the method for a number of steps, and return what it resets; ``dead`` is `Bench`'s."""
    ages: dict[str, Tensor] = {}

    @contextmanager
    def around(view: Learner) -> Iterator[None]:
        before = Picture.of(bench.learner)
        yield
        after, groups = Picture.of(bench.learner), bench.learner.boundary.groups
        masks = {group.name: reset_mask(group, before, after) for group in groups}
        for name, mask in masks.items():
            age = ages.setdefault(name, torch.zeros_like(mask, dtype=torch.int64)).add_(1)
            seen.ages[name] += age[mask].tolist()
            seen.counts[name].append(int(mask.sum()))
            age[mask] = 0
        if any(mask.any() for mask in masks.values()):
            seen.events.append(Event(where, bench.step + 1, before, after, groups, masks))

    bench = Bench(watched(method, ("after_step",), around), network=network, optimizer=optimizer, dead=dead)
    seen = Sighting(where, bench.learner)
    bench.run(steps)
    return seen


def reset_mask(group: UnitGroup, before: Picture, after: Picture) -> Tensor:
    """Return the units of which the incoming weights became others or the outgoing ones zero, boolean ``(R, D)``."""
    old, new = (picture.tensors[group.weight].flatten(2) for picture in (before, after))
    kept = new != 0  # what units of the layer before lost says nothing of those of this one, however many these were
    changed = (old != new) & kept
    distance = ((new - old) * kept).norm(dim=2) > _NEW * (old * kept).norm(dim=2)
    redrawn: Tensor = distance & (2 * changed.sum(dim=2) > kept.sum(dim=2))
    erased: Tensor = torch.zeros_like(redrawn)
    for consumer in group.consumers:
        was, now = (
            _columns(p.tensors[consumer.weight], group.size, consumer.expansion).movedim(2, 1).flatten(2)
            for p in (before, after)
        )
        erased |= (now == 0).all(dim=2) & (was != 0).any(dim=2)
    return redrawn | erased


def touched(event: Event) -> dict[str, Tensor]:
    """Return, for each tensor, the entries that belong to the units that were reset, boolean ``(R, ...)``.

    What a reset writes and the optimizer forgets: incoming rows, biases, what the norms have for the unit, outgoing
    columns. The consumers' biases, into which a mean may move, are not among them.
    """
    tensors = event.after.tensors
    found = {name: torch.zeros_like(value, dtype=torch.bool) for name, value in tensors.items()}
    for group in event.groups:
        mask = event.masks[group.name]
        found[group.weight][mask] = True
        if group.bias is not None:
            found[group.bias] |= mask
        for norm in group.norms:
            for name in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                if name is not None:
                    found[name] |= mask
        for consumer in group.consumers:
            columns = _columns(found[consumer.weight], group.size, consumer.expansion)
            columns |= mask.view(len(mask), 1, group.size, *[1] * (columns.ndim - 3))
    return found


def transferred(event: Event) -> dict[str, Tensor]:
    """Return the biases into which the means of the units that were reset may move, all their entries."""
    names = {
        consumer.bias
        for group in event.groups
        if event.masks[group.name].any()
        for consumer in group.consumers
        if consumer.bias is not None
    }
    return {name: torch.ones_like(event.after.tensors[name], dtype=torch.bool) for name in names}


def _columns(weight: Tensor, size: int, expansion: int) -> Tensor:
    """Return a view ``(R, O, D, expansion, *kernel)`` of the weights that read ``size`` units."""
    columns: Tensor = torch.unflatten(weight, 2, (size, expansion))
    return columns
