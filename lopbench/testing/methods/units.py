"""What becomes of the units that a method resets."""

from __future__ import annotations

from dataclasses import replace

import torch
from scipy import stats
from torch import nn

from lopbench.core.errors import UnsupportedError
from lopbench.core.interfaces import Component
from lopbench.testing.bench import STILL, Bench
from lopbench.testing.check import Mismatch, NotApplicable, check
from lopbench.testing.methods.common import asks_for_units, method_of
from lopbench.testing.methods.resets import STEPS, Event, events, follow, touched, transferred
from lopbench.testing.networks import NETWORKS, WITHOUT_UNITS, rectified

#: Probability with which a sound method fails the test of its law.
_LEVEL = 1e-6


@check(
    "The incoming weights of a unit that is reset are all redrawn.",
    lesson="Joudaki et al. 2025: the initialiser fills a copy; 0 changes in 2,871 replacements (finding 6)",
)
def resets_redraw_incoming_weights(component: Component) -> None:
    """Look at every row."""
    for event in events(component):
        for group in event.groups:
            mask = event.masks[group.name]
            old, new = (p.tensors[group.weight].flatten(2)[mask] for p in (event.before, event.after))
            kept = (old == new).double().mean(dim=1)
            if bool((kept > 0.5).any()):
                raise Mismatch(
                    "new incoming weights",
                    f"{event.where}, step {event.step}: a unit of {group.name} lost its outgoing weights and kept "
                    f"{100 * float(kept.max()):.0f}% of its incoming ones",
                )


@check(
    "The outgoing weights of a unit that is reset are all zero: one column, or one for each position of a channel.",
    lesson="METHODS 0.4: behind a flattened feature map channel c owns H*W consecutive columns, not column c",
)
def resets_erase_outgoing_weights(component: Component) -> None:
    """Look at every column."""
    for event in events(component):
        rows = touched(_incoming_alone(event))
        for group in event.groups:
            mask = event.masks[group.name]
            for consumer in group.consumers:
                weight = event.after.tensors[consumer.weight].masked_fill(rows[consumer.weight], 0.0)
                columns = torch.unflatten(weight, 2, (group.size, consumer.expansion)).movedim(2, 1)
                if bool(columns[mask].any()):
                    raise Mismatch(
                        "outgoing weights of zero",
                        f"{event.where}, step {event.step}: {consumer.module} still reads a unit of {group.name} "
                        "that was reset",
                    )


def _incoming_alone(event: Event) -> Event:
    """Return the event with groups that have no consumers, so that only incoming rows count as touched."""
    return replace(event, groups=tuple(replace(group, consumers=()) for group in event.groups))


@check(
    "A reset touches nothing of other units.",
    lesson="Joudaki et al. 2025: CBP zeroes all hidden biases at each replacement (finding 6)",
)
def resets_touch_nothing_else(component: Component) -> None:
    """Compare all other entries before and after."""
    for event in events(component):
        allowed = touched(event)
        for name, entries in transferred(event).items():
            allowed[name] = allowed[name] | entries
        for name, mask in allowed.items():
            changed = (event.before.tensors[name] != event.after.tensors[name]) & ~mask
            if bool(changed.any()):
                raise Mismatch(
                    "all that belongs to other units left alone",
                    f"{event.where}, step {event.step}: {int(changed.sum())} other entries of {name} changed",
                )


@check(
    "The optimizer forgets the entries of units that are reset, step counts included, and no others.",
    lesson="CBPLinear and CBPConv leave moments stale (METHODS F8); timoklein's and dopamine's ReDo differ (F15)",
)
def resets_clear_the_optimizer(component: Component) -> None:
    """Look at every entry of the state under SGD, momentum, Adam and AdamW."""
    for event in events(component):
        allowed = touched(event)
        for name, entries in event.after.entries.items():
            mask = allowed[name]
            for key, value in entries.items():
                stale = (value != event.after.starts[name][key]) & mask
                if bool(stale.any()):
                    raise Mismatch(
                        f"{key} as at the start for what was reset",
                        f"{event.where}, step {event.step}: {int(stale.sum())} of {int(mask.sum())} entries of {name} "
                        "are stale",
                    )
                before = event.before.entries[name][key]
                lost = ~torch.isclose(value, before, rtol=1e-5, atol=0) & ~mask
                if bool(lost.any()):
                    raise Mismatch(
                        f"{key} of all other entries kept",
                        f"{event.where}, step {event.step}: {int(lost.sum())} other entries of {name} changed",
                    )


@check(
    "A normalisation starts anew for a channel that is reset: scale 1, shift 0, running mean 0 and variance 1.",
    lesson="METHODS 0.4; running statistics of the old unit silence the new one",
)
def resets_renew_normalisations(component: Component) -> None:
    """Look at every norm between a unit and its consumers."""
    seen = False
    for event in events(component):
        for group in event.groups:
            mask = event.masks[group.name]
            for norm in group.norms:
                wanted = ((norm.weight, 1.0), (norm.bias, 0.0), (norm.running_mean, 0.0), (norm.running_var, 1.0))
                for name, value in wanted:
                    seen = seen or (name is not None and bool(mask.any()))
                    if name is not None and bool((event.after.tensors[name][mask] != value).any()):
                        raise Mismatch(
                            f"{name} of {value:g}", f"{event.where}, step {event.step}: that of the old unit remains"
                        )
    if not seen:
        raise NotApplicable("no channel with a normalisation was reset, or it refuses networks that have some")


@check(
    "Incoming weights of units that are reset follow the law of the layer's construction.",
    lesson="conv re-initialisation has another bound than the linear one, and neither is the layer's (METHODS F6)",
)
def resets_follow_the_law_of_construction(component: Component) -> None:
    """Compare redrawn weights and biases with those of fresh networks, by two-sample Kolmogorov-Smirnov tests."""
    method = method_of(component)
    next(events(component))  # refuses what resets nothing
    for network in ("plain", "convolutional"):
        try:
            seen = follow(method, NETWORKS[network], STILL, network, 5 * STEPS)
        except UnsupportedError:
            continue
        build = seen.learner.nursery.build
        fresh = [dict(build(torch.Generator().manual_seed(s)).named_parameters()) for s in range(100, 200)]
        for group in seen.learner.boundary.groups:
            for name, biased in ((group.weight, False), (group.bias, True)):
                if name is None:
                    continue
                law = torch.cat([parameters[name].detach().flatten() for parameters in fresh])
                parts = [event.after.tensors[name][event.masks[group.name]].flatten() for event in seen.events]
                drawn = torch.cat([part for part in parts if part.numel()] or [law[:0]])
                if biased and not drawn.any():
                    continue  # zero, as several published methods have it
                if len(drawn) < 20:
                    continue
                test = stats.ks_2samp(drawn.numpy(), law.numpy())
                if test.pvalue < _LEVEL:
                    raise Mismatch(
                        f"{name} redrawn as the layer is made (standard deviation {float(law.std()):.3g})",
                        f"another law (standard deviation {float(drawn.std()):.3g}, {len(drawn)} numbers, "
                        f"p = {test.pvalue:.1g})",
                    )


@check(
    "Units that are always active are not reset all at once.",
    lesson="an empty histogram of silences, or argmax over flags that are all false, gives 0: silent from the start",
)
def active_units_are_not_taken_for_silent(component: Component) -> None:
    """Train networks of which every unit fires on every sample, without moving the weights."""
    method = method_of(component)
    if not asks_for_units(method):
        raise NotApplicable("it asks for no units")
    try:
        seen = follow(method, _always_active, STILL, "a network whose units all fire", STEPS, dead=False)
    except UnsupportedError as error:
        raise NotApplicable(f"it refuses networks of linear layers: {error}") from error
    for event in seen.events:
        for group in event.groups:
            count = int(event.masks[group.name].sum())
            if 2 * count >= group.size:
                raise Mismatch(
                    "units that fire on every sample to be left alone, but for a few at a time",
                    f"{count} of {group.size} units of {group.name} are reset at step {event.step}; none has been "
                    "silent, so look at what is computed of an empty history",
                )


def _always_active() -> nn.Module:
    """Return the rectified network with biases that no input outweighs."""
    module = rectified()
    with torch.no_grad():
        for layer in module:
            if isinstance(layer, nn.Linear):
                layer.weight.mul_(0.1)
                layer.bias.fill_(3.0)
    return module


@check(
    "A network without units that could be reset is refused, not trained as if there were no method.",
    lesson="METHODS 0.3(g); residual streams and attention have no private outgoing weights",
)
def networks_without_units_are_refused(component: Component) -> None:
    """Ask for a linear network, and for one that is all residual stream."""
    method = method_of(component)
    if not asks_for_units(method):
        raise NotApplicable("it asks for no units")
    for name, network in WITHOUT_UNITS.items():
        try:
            Bench(method, network=network).run(2)
        except UnsupportedError:
            continue
        raise Mismatch(f"UnsupportedError for the {name} network", "it trains, and the method does nothing")
