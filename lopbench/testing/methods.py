"""The checks of methods."""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from lopbench.core import fields
from lopbench.core.errors import UnsupportedError
from lopbench.core.interfaces import Component, Learner, Perturbation, State
from lopbench.learner import evaluation
from lopbench.learner.learner import StackLearner, stacked_method
from lopbench.learner.memory import Generators
from lopbench.learner.program import Program, why_not
from lopbench.testing.bench import (
    NETWORKS,
    OPTIMIZERS,
    STILL,
    WITHOUT_UNITS,
    Bench,
    differing,
    listed,
    replaced,
    same,
    small,
    watched,
    with_dropout,
)
from lopbench.testing.check import Check, Mismatch, NotApplicable, check
from lopbench.testing.resets import STEPS, Event, Sighting, audit, follow, starts, touched, transferred
from lopbench.testing.shared import SHARED, alternatives

#: Steps of an ordinary check, and between the boundaries in it.
RUN, BOUNDARY = 24, 7
#: Probability with which a sound method fails the test of its law.
_LEVEL = 1e-6


def _method(component: Component) -> Perturbation:
    assert isinstance(component, Perturbation)
    return component


def _every(method: Perturbation) -> int:
    """Return the steps between boundaries: methods without the hook get none."""
    return BOUNDARY if method.has("on_task_start") else 0


@lru_cache(maxsize=8)
def _asks_for_units(method: Perturbation) -> bool:
    """Return whether the method asks the learner for units in an ordinary run."""
    return Bench(method).run(RUN, boundary_every=_every(method)).learner.nursery.has_groups


@check(
    "The method changes something within some 24 steps, so that the other checks mean something.",
    lesson="Joudaki et al. 2025: CBP's new weights are written to a copy, and nothing is ever redrawn (finding 6)",
)
def acts(component: Component) -> None:
    """Compare a run with the method to one without."""
    method = _method(component)
    ours = Bench(method, dead=True).run(RUN, boundary_every=_every(method)).snapshot()
    theirs = Bench(None, dead=True).run(RUN, boundary_every=_every(method)).snapshot()
    if not differing(ours, theirs, "parameter", "evaluated", "buffer"):
        raise Mismatch(
            "other parameters than without the method",
            f"the same to the bit after {RUN} steps; give settings in which it acts as the class's `examples`",
        )


@check(
    "At strength zero a run is bit-identical to one without the method.",
    lesson="METHODS 0.3(a); a decay or a random draw left running at strength zero shifts every baseline",
)
def zero_is_none(component: Component) -> None:
    """Compare under three optimizers, with boundaries."""
    method = _method(component)
    zeros = fields.zeros(type(method))
    if not zeros:
        raise NotApplicable("no field of the method has a strength zero")
    nothing = replace(method, **zeros)
    for name in ("momentum", "adam", "adamw"):
        ours, theirs = (
            Bench(m, optimizer=OPTIMIZERS[name]).run(RUN, boundary_every=BOUNDARY).snapshot() for m in (nothing, None)
        )
        wrong = differing(ours, theirs, "parameter", "optimizer", "buffer", "evaluated")
        if wrong:
            raise Mismatch(f"the same bits as without it at {zeros}", f"{name}: {listed(wrong)} differ")


@check(
    "A run that is saved and resumed goes on bit for bit as one that was not.",
    lesson="METHODS 0.3(c); counters kept on the method itself, outside the state, start again at zero",
)
def resumes(component: Component) -> None:
    """Save at several places and go on in a new learner."""
    method = _method(component)
    every = _every(method)
    for network, optimizer in (("plain", "adam"), ("normalised", "momentum")):
        options: dict[str, Any] = {"network": NETWORKS[network], "optimizer": OPTIMIZERS[optimizer]}
        try:
            whole = Bench(method, **options)
        except UnsupportedError:
            continue
        for steps in (1, 9):
            saved = whole.run(steps, boundary_every=every).snapshot()
            resumed = Bench(method, **options)
            resumed.learner.load_state_dict({k: v for k, v in saved.items() if not k.startswith("evaluated/")})
            resumed.step = whole.step
            ahead = whole.run(RUN // 2, boundary_every=every).snapshot()
            wrong = differing(resumed.run(RUN // 2, boundary_every=every).snapshot(), ahead)
            if wrong:
                raise Mismatch(
                    f"the same bits {RUN // 2} steps after resuming",
                    f"{network} network: {listed(wrong)} differ; keep all that is remembered in `state`",
                )


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
    method = _method(component)
    snapshots = []
    for seed in (1, 2):
        with _seeded(seed):
            before = _global_state()
            snapshots.append(Bench(method).run(RUN, boundary_every=_every(method)).snapshot())
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
    method = _method(component)
    ours, theirs = (Bench(m).learner.view.initial for m in (method, None))
    shared = [name for name in theirs if name in ours and ours[name].shape == theirs[name].shape]
    wrong = [name for name in shared if not same(ours[name], theirs[name])]
    if wrong:
        raise Mismatch("the initial weights of the plain network", f"others in {listed(wrong)}")
    try:
        dropped = Bench(method, network=with_dropout)
    except UnsupportedError:
        return
    streams = [bench.run(RUN).snapshot()["generator/layers"] for bench in (dropped, Bench(None, network=with_dropout))]
    if not torch.equal(*streams):
        raise Mismatch("the dropout of the network to draw as without the method", "its stream stands elsewhere")


@check(
    "What a replica computes does not depend on which others run beside it.",
    lesson="DESIGN 4; a norm or a random number taken over the whole stack couples independent learners",
)
def replicas_are_independent(component: Component) -> None:
    """Compare three replicas together with each alone, in float64."""
    method = _method(component)
    every = _every(method)
    refusal: UnsupportedError | None = None
    compared = 0
    for network in ("plain", "normalised"):
        options: dict[str, Any] = {"network": NETWORKS[network], "dtype": torch.float64, "dead": True}
        try:
            together = Bench(method, seeds=(3, 4, 5), **options).run(RUN, boundary_every=every).learner
        except UnsupportedError as error:
            refusal = error
            continue
        stack = {**together.view.parameters, **together.view.buffers}
        for replica, seed in enumerate((3, 4, 5)):
            alone = Bench(method, seeds=(seed,), **options).run(RUN, boundary_every=every).learner.view
            for name, value in {**alone.parameters, **alone.buffers}.items():
                _close(stack[name][replica], value[0], 1e-8, f"{network} network, seed {seed}: {name} alone")
        compared += 1
    if not compared:
        raise NotApplicable(f"its seeds run one after another: {refusal}")


def _close(found: Tensor, expected: Tensor, tolerance: float, what: str) -> None:
    difference = float((found.double() - expected.double()).abs().nan_to_num(nan=float("inf")).max())
    if found.shape != expected.shape or not difference <= tolerance:
        raise Mismatch(f"{what}, to {tolerance:g}", f"a difference of {difference:.2g}")


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
    lesson="DESIGN 4: a number read on the host while tracing is frozen into the program",
)
def traced_equals_steps(component: Component) -> None:
    """Compare the graph of a program with steps in float64, three replicas with one, and a sweep with its values."""
    method = _method(component)
    options: dict[str, Any] = {"network": small, "dtype": torch.float64, "dead": True}
    stepped, traced = Bench(method, **options), Bench(method, **options)
    reason = why_not(traced.learner, traced.problems[0], [traced.batch()])
    if reason is not None:
        raise NotApplicable(reason)
    for bench in (stepped, traced):
        for state in bench.learner.states:
            state.noise = _Steady(state.generators)
    stepped.run(RUN)
    learner = _program(traced, RUN, _SteadyProgram)
    for name, value in stepped.learner.view.parameters.items():
        _close(learner.view.parameters[name], value, 1e-8, f"{name} as step by step")
    names = fields.swept(type(method))
    changed = replace(method, **{f: getattr(next(alternatives(method, f), method), f) for f in names})
    alone = _program(Bench(changed, seeds=(4,), **options), RUN)
    swept = stacked_method([method, changed, method])
    together = _program(Bench(swept, seeds=(3, 4, 5), **options), RUN)
    for name, value in alone.view.parameters.items():
        values = ", ".join(f"{field}={getattr(changed, field)}" for field in names)
        what = f"{name} in a program of three as alone" + (f", with {values} in a sweep" if values else "")
        _close(together.view.parameters[name][1], value[0], 1e-8, what)


def _program(bench: Bench, steps: int, make: type[Program] = Program) -> StackLearner:
    """Train the bench's learner by a program, on its next batches."""
    program = make(bench.learner, bench.problems[0], [bench.batch()], unroll=2, compiled=False)
    program.advance(bench.learner, [bench.block(steps)])
    return bench.learner


@check(
    "Parameters stay the same objects, in the network and in the optimizer.",
    lesson="PyTorch 101, and yet: a parameter that is replaced is trained no more",
)
def parameters_stay_the_same_objects(component: Component) -> None:
    """Compare objects and storage before and after a run."""
    method = _method(component)
    bench = Bench(method)
    learner = bench.learner
    leaves = dict(learner.leaves)
    places = {name: leaf.data_ptr() for name, leaf in leaves.items()}
    bench.run(RUN, boundary_every=_every(method))
    registered = dict(learner.network.module.named_parameters())
    for name, leaf in leaves.items():
        for where, found in (
            ("the network", registered.get(name)),
            ("the learner", learner.leaves.get(name)),
            ("the optimizer", learner.optimizer.leaves.get(name)),
        ):
            if found is not leaf:
                raise Mismatch(f"{name} to be one object from beginning to end", f"another one in {where}")
        if leaf.data_ptr() != places[name] or learner.view.parameters[name].data_ptr() != places[name]:
            raise Mismatch(f"{name} to be changed in place", "its storage is another; use copy_ and the like")


@check(
    "What the method remembers shares no memory with parameters, buffers, gradients, the optimizer or itself.",
    lesson="Hare & Tortoise's code sets fast.data = slow.data: from then on there is one network (METHODS F1)",
)
def copies_share_no_memory(component: Component) -> None:
    """Compare the storage of all tensors after the beginning, a step and a run."""
    method = _method(component)
    bench = Bench(method)
    for steps in (0, 1, RUN - 1):
        bench.run(steps, boundary_every=_every(method))
        learner = bench.learner
        owners: dict[int, str] = {}
        sections: dict[str, Mapping[str, Tensor]] = {
            "parameter": learner.view.parameters,
            "initial weights": learner.view.initial,
            "buffer": learner.view.buffers,
            "optimizer's": learner.optimizer.state_dict(),
            **{f"state[{key!r}]": {"": value} for state in learner.states for key, value in state.tensors.items()},
        }
        for section, tensors in sections.items():
            for name, tensor in tensors.items():
                if tensor.numel() == 0:
                    continue
                what = f"{section} {name}".strip()
                place = tensor.untyped_storage().data_ptr()
                other = owners.setdefault(place, what)
                if other != what:
                    raise Mismatch("memory of its own for each tensor", f"{what} shares that of {other}; clone it")


@check(
    "Initial weights are captured before the first step, and never change.",
    lesson="weight-clipping's decoupled L2-Init captures them after the first step (METHODS F2)",
)
def initial_weights_are_captured_first(component: Component) -> None:
    """Look in the state for the weights as they were after a step."""
    method = _method(component)
    moments = []

    @contextmanager
    def around(learner: Learner) -> Iterator[None]:
        moments.append({name: value.clone() for name, value in learner.parameters.items()})
        yield
        moments.append({name: value.clone() for name, value in learner.parameters.items()})

    bench = Bench(watched(method, ("after_step",), around), optimizer=OPTIMIZERS["sgd"])
    learner = bench.learner
    built = {name: value.clone() for name, value in learner.view.parameters.items()}
    known = {key for state in learner.states for key in state.tensors}
    for _ in range(3):
        bench.run(1)
        moments.append({name: value.clone() for name, value in learner.view.parameters.items()})
        for state in learner.states:
            for key in state.tensors.keys() - known:
                for moment in moments:
                    for name, value in moment.items():
                        if same(state[key].reshape(-1), value.reshape(-1)) and not same(value, built[name]):
                            raise Mismatch(
                                "weights to be remembered as they were built",
                                f"state[{key!r}] is {name} as it was after a step; fill it in `begin`, or read "
                                "`learner.initial`",
                            )
    wrong = [name for name, value in built.items() if not same(learner.view.initial[name], value)]
    if wrong:
        raise Mismatch("learner.initial to stay as built", f"{listed(wrong)} was changed")


@check("`begin` changes no weights and works in the middle of a run.")
def begin_changes_nothing(component: Component) -> None:
    """Turn the method on after some steps."""
    method = _method(component)
    if method.has("configure"):
        raise NotApplicable("it is built into the network")
    bench = Bench(method, waiting=True).run(5)
    before = bench.snapshot()
    wrong = differing(before, Bench(None).run(5).snapshot(), "parameter", "optimizer", "buffer")
    bench.learner.turn_on()
    wrong = wrong or differing(bench.snapshot(), before, "parameter", "optimizer", "buffer")
    if wrong:
        raise Mismatch("the network to stay as it is until the next step", f"{listed(wrong)} changed")
    bench.run(5)


@check("Evaluating between steps leaves training as it is, and gives finite scores of the right parameters.")
def evaluation_is_free(component: Component) -> None:
    """Compare a run with evaluations and probes to one without."""
    method = _method(component)
    bench = Bench(method)
    for _ in range(RUN):
        bench.run(1, boundary_every=_every(method))
        bench.learner.evaluate(0, bench.problems[0])
        bench.learner.probe(0, bench.problems[0])
    theirs = Bench(method).run(RUN, boundary_every=_every(method)).snapshot()
    wrong = differing(bench.snapshot(), theirs)
    if wrong:
        raise Mismatch("the same bits with and without evaluations in between", f"{listed(wrong)} differ")


@check(
    "A penalty is one number for each replica, differentiable in the parameters.",
    lesson="METHODS F9, F10: factors of 1/2, sums of norms and means over entries are all called L2-Init",
)
def penalty_is_per_replica(component: Component) -> None:
    """Look at its shape and its gradient."""
    method = _method(component)
    if not method.has("penalty"):
        raise NotApplicable("it adds no penalty")

    def penalty(original: Any, learner: Learner, state: State) -> Tensor:
        value: Tensor = original(learner, state)
        if value.shape != (2,):
            raise Mismatch("shape (R,)", f"shape {tuple(value.shape)} with two replicas")
        if not value.requires_grad:
            raise Mismatch("a penalty that has a gradient", "one without; compute it from learner.differentiable")
        parameters = [p for p in learner.differentiable.values() if p.requires_grad]
        grads = torch.autograd.grad(value[0], parameters, allow_unused=True, retain_graph=True)
        if any(g is not None and bool(g[1].any()) for g in grads):
            raise Mismatch("the first replica's penalty to depend on its own weights", "it depends on the other's too")
        return value

    Bench(replaced(method, penalty=penalty), seeds=(0, 1)).run(3)


# -- units


def _sightings(component: Component) -> Iterator[Sighting]:
    """Yield what was seen of the method, run by run, in some of which units must have been reset."""
    method = _method(component)
    if not _asks_for_units(method):
        raise NotApplicable("it asks for no units")
    acted = False
    for seen in audit(method):
        acted = acted or bool(seen.events)
        yield seen
    if not acted:
        raise Mismatch(
            f"a unit to be reset within {STEPS} steps", "none on any network; say in `examples` when there is"
        )


def _events(component: Component) -> Iterator[Event]:
    """Yield the calls in which units were reset, at least one."""
    for seen in _sightings(component):
        yield from seen.events


@check(
    "The incoming weights of a unit that is reset are all redrawn.",
    lesson="Joudaki et al. 2025: the initialiser fills a copy; 0 changes in 2,871 replacements (finding 6)",
)
def resets_redraw_incoming_weights(component: Component) -> None:
    """Look at every row."""
    for event in _events(component):
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
    for event in _events(component):
        rows = touched(replace_masks(event, outgoing=False))
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


def replace_masks(event: Event, *, outgoing: bool) -> Event:
    """Return the event with groups that have no consumers, so that only incoming rows count as touched."""
    groups = event.groups if outgoing else tuple(replace(group, consumers=()) for group in event.groups)
    return replace(event, groups=groups)


@check(
    "A reset touches nothing of other units.",
    lesson="Joudaki et al. 2025: CBP zeroes all hidden biases at each replacement (finding 6)",
)
def resets_touch_nothing_else(component: Component) -> None:
    """Compare all other entries before and after."""
    for event in _events(component):
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
    for event in _events(component):
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
    for event in _events(component):
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
    method = _method(component)
    next(_events(component))  # refuses what resets nothing
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
    "No unit is reset before it is older than the method's field `maturity`, and some are soon after.",
    lesson="published bit-flipping CBP runs with maturity 10, not 100: the key is `mt` there (finding 8, METHODS F7)",
)
def units_are_safe_until_mature(component: Component) -> None:
    """Count the age of every unit."""
    method = _method(component)
    maturity = getattr(method, "maturity", None)
    if not isinstance(maturity, int):
        raise NotApplicable("it has no field `maturity`")
    for seen in _sightings(component):
        for group, ages in seen.ages.items():
            early = [age for age in ages if age <= maturity]
            if early:
                raise Mismatch(
                    f"no reset at an age of at most {maturity} steps",
                    f"{seen.where}, {group}: {len(early)} of {len(ages)}, the youngest {min(early)} steps old",
                )


@check(
    "The field `replacement_rate` is the share of mature units that is replaced in a step.",
    lesson="Joudaki et al. 2025: at least one unit goes in every step, whatever the rate (finding 6)",
)
def replacement_rate_is_kept(component: Component) -> None:
    """Compare the number of replacements with the sum of rate times mature units, within chance."""
    method = _method(component)
    rate, maturity = getattr(method, "replacement_rate", None), getattr(method, "maturity", None)
    if not isinstance(rate, float) or not isinstance(maturity, int):
        raise NotApplicable("it has no fields `replacement_rate` and `maturity`")
    for seen in _sightings(component):
        for group in seen.learner.boundary.groups:
            counts = seen.counts[group.name]
            expected = 0.0
            for step in range(maturity + 1, len(counts) + 1):
                young = sum(counts[max(0, step - 1 - maturity) : step - 1])
                expected += rate * (group.size - young)
            slack = 1 + 5 * expected**0.5  # a rate may also be a probability
            if abs(sum(counts) - expected) > slack:
                raise Mismatch(
                    f"{expected:.1f} replacements in {len(counts)} steps, within {slack:.1f}",
                    f"{seen.where}, {group.name}: {sum(counts)}",
                )


@check(
    "With `bias_transfer`, replacing a unit of constant activation leaves the outputs alone.",
    lesson="loss-of-plasticity's transfer adds zero: 321 replacements moved the bias by 0.0 (finding 7, METHODS F5)",
)
def transferred_means_arrive(component: Component) -> None:
    """Train on one image, on which every activation is constant, without moving the weights."""
    method = _method(component)
    if not isinstance(getattr(method, "bias_transfer", None), bool):
        raise NotApplicable("it has no field `bias_transfer`")
    method = replace(method, bias_transfer=True)  # type: ignore[call-arg]
    worst, moved = 0.0, 0.0

    @contextmanager
    def around(learner: Learner) -> Iterator[None]:
        nonlocal worst, moved
        image = Bench(None, constant=True, dtype=torch.float64).problems[0].batch(0)[0]
        weights = {name: value.clone() for name, value in learner.parameters.items()}
        with torch.no_grad():
            before = learner.module(image)
            yield
            after = learner.module(image)
        worst = max(worst, float((after - before).abs().max()))
        moved += sum(float((value - weights[name]).abs().sum()) for name, value in learner.parameters.items())

    made = watched(method, ("after_step",), around)
    Bench(made, optimizer=STILL, constant=True, dtype=torch.float64).run(STEPS)
    if not moved > 1e-6:
        raise Mismatch(f"a unit to be replaced within {STEPS} steps", "none; say in `examples` when there is")
    if worst > 1e-9:
        raise Mismatch("the same outputs after a replacement as before", f"a difference of {worst:.2g}")


@check(
    "A network without units that could be reset is refused, not trained as if there were no method.",
    lesson="METHODS 0.3(g); residual streams and attention have no private outgoing weights",
)
def networks_without_units_are_refused(component: Component) -> None:
    """Ask for a linear network, and for one that is all residual stream."""
    method = _method(component)
    if not _asks_for_units(method):
        raise NotApplicable("it asks for no units")
    for name, network in WITHOUT_UNITS.items():
        try:
            Bench(method, network=network).run(2)
        except UnsupportedError:
            continue
        raise Mismatch(f"UnsupportedError for the {name} network", "it trains, and the method does nothing")


@check(
    "Every kind of layer is served or refused: batch normalisation, shared layers, several consumers, residual "
    "streams, attention.",
    lesson="METHODS F10, weight clipping on 1-D parameters: public code skips layers it does not know in silence",
)
def layers_are_served_or_refused(component: Component) -> None:
    """Train every network; where all linear layers are acted on, all others must be."""
    method = _method(component)
    every = 2 if method.has("on_task_start") else 0
    units = _asks_for_units(method)
    everywhere = None
    for name, network in {**NETWORKS, **({} if units else WITHOUT_UNITS)}.items():
        theirs = Bench(None, network=network, optimizer=OPTIMIZERS["sgd"])
        try:
            ours = Bench(method, network=network, optimizer=OPTIMIZERS["sgd"])
            if units or ours.learner.view.parameters.keys() != theirs.learner.view.parameters.keys():
                ours.run(RUN, boundary_every=every)
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


def _first_acted_on(ours: Bench, theirs: Bench, every: int) -> set[str]:
    """Return the parameters that differ at the first step at which any does."""
    for _ in range(RUN):
        mine, other = (b.run(1, boundary_every=every).learner.view.parameters for b in (ours, theirs))
        found = {name for name, value in mine.items() if not same(value, other[name])}
        if found:
            return found
    return set()


# -- boundaries


@check("The track follows from what the method does: replay, acting at boundaries, or neither.")
def track_follows_from_the_hooks(component: Component) -> None:
    """Look at the class."""
    method = _method(component)
    track = "replay" if method.uses_replay else "boundary-aware" if method.has("on_task_start") else "boundary-free"
    if method.track != track:
        raise Mismatch(f"track {track}", method.track)


@check(
    "A method without `on_task_start` behaves the same whether there are boundaries, and does not wait for them.",
    lesson="METHODS 0.6, E6, E14: hidden resets at boundaries are boundary information, whatever they are called",
)
def boundaries_stay_unknown(component: Component) -> None:
    """Compare a run with boundaries to one without, and how much the hooks move when the problem changes."""
    method = _method(component)
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
    method = _method(component)
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


# -- numerics


@check("Parameters, gradients and what is remembered stay on their device and in their type.")
def device_and_dtype_are_kept(component: Component) -> None:
    """Train in float32 and float64, and on a GPU if there is one."""
    method = _method(component)
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    for device in devices:
        for dtype in (torch.float32, torch.float64):
            bench = Bench(method, dtype=dtype, device=device)
            for problem in bench.problems:
                problem.batch = _moved(problem.batch, device)  # type: ignore[method-assign]
            learner = bench.run(RUN, boundary_every=_every(method)).learner
            for name, value in {**learner.view.parameters, **evaluation.replica(learner, 0)[0]}.items():
                if value.dtype != dtype or value.device.type != device:
                    raise Mismatch(f"{name} in {dtype} on {device}", f"{value.dtype} on {value.device.type}")
            for state in learner.states:
                for key, value in state.tensors.items():
                    if value.device.type != device:
                        raise Mismatch(f"state[{key!r}] on {device}", value.device.type)


def _moved(batch: Any, device: str) -> Any:
    return lambda step: tuple(tensor.to(device) for tensor in batch(step))


@check(
    "Weights stay finite on a constant input, a batch of one, and with a dead layer.",
    lesson="METHODS F12: utilities and scores divide by sums that may be zero",
)
def hard_inputs_stay_finite(component: Component) -> None:
    """Train on each for some steps."""
    method = _method(component)
    cases: Mapping[str, dict[str, Any]] = {
        "a constant input": {"constant": True},
        "a batch of one": {"size": 1},
        "a dead layer": {"kill": True},
    }
    for name, options in cases.items():
        kill = options.pop("kill", False)
        bench = Bench(method, **options)
        for key, value in bench.learner.view.parameters.items():
            if kill and key not in bench.learner.view.head and value.ndim == 2:
                value.fill_(-100.0)  # silences ReLU; tanh saturates
        bench.run(RUN, boundary_every=_every(method))
        wrong = [key for key, value in bench.snapshot().items() if value.is_floating_point() and _infinite(key, value)]
        if wrong:
            raise Mismatch(f"finite weights on {name}", f"{listed(wrong)} are not")


def _infinite(name: str, value: Tensor) -> bool:
    return name.split("/")[0] in ("parameter", "evaluated", "buffer") and not bool(value.isfinite().all())


# -- what it costs


def _wide() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(32, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 3))


@check("Time and memory of a step, as multiples of those without the method.")
def overhead(component: Component) -> str:
    """Measure both, alternately, on a network of two layers of 256 units and batches of 32; the least times count."""
    method = _method(component)
    every = _every(method)
    benches = [Bench(m, network=_wide, size=32) for m in (method, None)]
    times: list[list[float]] = [[], []]
    for _ in range(5):
        for bench, taken in zip(benches, times, strict=True):
            batches = [bench.problems[0].batch(step) for step in range(10)]
            if every:
                bench.begin_task(1)
            began = time.perf_counter()
            for batch in batches:
                bench.learner.step([batch])
            taken.append((time.perf_counter() - began) / len(batches))
    memory = [bench.learner.state_bytes() for bench in benches]
    return f"{min(times[0]) / min(times[1]):.2f}x time, {memory[0] / memory[1]:.2f}x memory"


@check(
    "Every hyperparameter changes the run; none is ignored.",
    lesson="a configured maturity of 100 that the runner never reads (finding 8, METHODS F7)",
)
def fields_matter(component: Component) -> None:
    """Change each field and compare runs."""
    method = _method(component)
    every = _every(method)
    settings = [method, *(replace(method, **dict(example)) for example in _examples_of(method))]
    ignored = []
    for field in dataclasses.fields(method):
        if not field.init:
            continue
        others = [(setting, other) for setting in settings for other in alternatives(setting, field.name)]
        if others and not any(_matters(setting, other, every) for setting, other in others):
            ignored.append(field.name)
    if ignored:
        raise Mismatch(
            "each field to change the run at some value",
            f"{listed(ignored)} changes nothing; say in `examples` where it matters",
        )


def _examples_of(method: Perturbation) -> Sequence[Mapping[str, object]]:
    return [example for example in type(method).examples if example]


def _matters(method: Perturbation, other: Perturbation, every: int) -> bool:
    snapshots = []
    for each in (method, other):
        try:
            snapshots.append(Bench(each, dead=True).run(RUN, boundary_every=every).snapshot())
        except UnsupportedError:
            snapshots.append({})
    return bool(differing(snapshots[0], snapshots[1], "parameter", "evaluated", "buffer"))


CHECKS: tuple[Check, ...] = (
    *SHARED,
    acts,
    fields_matter,
    zero_is_none,
    resumes,
    private_randomness,
    moves_no_other_stream,
    replicas_are_independent,
    traced_equals_steps,
    parameters_stay_the_same_objects,
    copies_share_no_memory,
    initial_weights_are_captured_first,
    begin_changes_nothing,
    evaluation_is_free,
    penalty_is_per_replica,
    resets_redraw_incoming_weights,
    resets_erase_outgoing_weights,
    resets_touch_nothing_else,
    resets_clear_the_optimizer,
    resets_renew_normalisations,
    resets_follow_the_law_of_construction,
    units_are_safe_until_mature,
    replacement_rate_is_kept,
    transferred_means_arrive,
    networks_without_units_are_refused,
    layers_are_served_or_refused,
    track_follows_from_the_hooks,
    boundaries_stay_unknown,
    boundary_resets_clear_the_optimizer,
    device_and_dtype_are_kept,
    hard_inputs_stay_finite,
    overhead,
)
