"""Fields of methods that mean the same everywhere, `maturity`, `replacement_rate`, `bias_transfer`; grid and cost."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from lopbench.core.errors import InvalidInputError
from lopbench.core.fields import types_of
from lopbench.core.interfaces import Component, Learner
from lopbench.core.perturbation import COSTS
from lopbench.learner.program import why_not
from lopbench.testing.bench import STILL, Bench
from lopbench.testing.check import Mismatch, NotApplicable, check
from lopbench.testing.methods.common import method_of
from lopbench.testing.methods.resets import STEPS, sightings
from lopbench.testing.networks import small
from lopbench.testing.watching import watched

#: Most configurations that are tried in tuning a method, and how many learning rates there are among them.
_CONFIGURATIONS, _RATES = 16, 4


@check(
    "The grid `grid` is of fields of the method and values that they accept, and has at most 4 settings, so that with "
    "4 learning rates there are at most 16.",
    lesson="reviews of 2025 and 2026: methods are compared under unequal tuning budgets",
)
def grid_can_be_searched(component: Component) -> None:
    """Make the method in each setting of its grid."""
    method = method_of(component)
    grid = type(method).grid
    if not grid:
        raise NotApplicable("it has no grid: nothing but the learning rate is tuned")
    unknown = sorted(set(grid) - types_of(type(method)).keys())
    if unknown:
        raise Mismatch("names of fields", f"{', '.join(unknown)}; the fields are {', '.join(types_of(type(method)))}")
    for name, values in grid.items():
        if not isinstance(values, tuple) or not values or len(set(values)) < len(values):
            raise Mismatch("a tuple of one value or more, each once", f"{name}: {values!r}")
    settings = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    if len(settings) * _RATES > _CONFIGURATIONS:
        raise Mismatch(f"at most {_CONFIGURATIONS // _RATES} settings", f"{len(settings)}")
    for setting in settings:
        try:
            made = replace(method, **setting)
        except InvalidInputError as error:
            raise Mismatch("values that the fields accept", str(error)) from error
        if not made.active:
            raise Mismatch("settings in which the method is on", f"strength zero: {setting}")


@check(
    "What the method says it costs, `cost`, are multiples of plain learning, above 0: of time and memory of a step, "
    "and of a sample's time in a program if its steps can be one.",
)
def cost_is_told_in_multiples(component: Component) -> None:
    """Read them, and trace a step of what is said to be a program."""
    method = method_of(component)
    cost = type(method).cost
    if not cost:
        raise NotApplicable("it does not say what it costs; the check `overhead` measures it")
    unknown = sorted(map(str, set(cost) - set(COSTS)))
    if unknown:
        raise Mismatch(", ".join(COSTS), f"{', '.join(unknown)}, which nobody reads")
    for name, value in cost.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:  # also no NaN
            raise Mismatch("multiples above 0, such as 1.2", f"{name}: {value!r}")
    if "program" in cost:
        bench = Bench(method, network=small)
        reason = why_not(bench.learner, bench.problems[0], [bench.batch()])
        if reason is not None:
            raise Mismatch("no cost in a program of what is none", f"program: {cost['program']:g}, and yet {reason}")


@check(
    "No unit is reset before it is older than the method's field `maturity`, and some are soon after.",
    lesson="published bit-flipping CBP runs with maturity 10, not 100: the key is `mt` there (finding 8, METHODS F7)",
)
def units_are_safe_until_mature(component: Component) -> None:
    """Count the age of every unit."""
    method = method_of(component)
    maturity = getattr(method, "maturity", None)
    if not isinstance(maturity, int):
        raise NotApplicable("it has no field `maturity`")
    for seen in sightings(component):
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
    method = method_of(component)
    rate, maturity = getattr(method, "replacement_rate", None), getattr(method, "maturity", None)
    if not isinstance(rate, float) or not isinstance(maturity, int):
        raise NotApplicable("it has no fields `replacement_rate` and `maturity`")
    for seen in sightings(component):
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
    method = method_of(component)
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
