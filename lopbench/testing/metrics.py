"""The checks of metrics."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from lopbench.core import rng
from lopbench.core.errors import LopbenchError
from lopbench.core.interfaces import Component, Metric
from lopbench.core.probe import LayerProbe, NetworkProbe
from lopbench.core.profile import Partition
from lopbench.testing.bench import NETWORKS, Bench, listed, same
from lopbench.testing.check import Check, Mismatch, NotApplicable, check
from lopbench.testing.shared import SHARED, alternatives

#: Relative difference up to which two values are the same.
_CLOSE = 1e-6
#: Rows and units of the layers on which invariances are tried.
_SHAPES = ((40, 6), (12, 10), (5, 8))


def _metric(component: Component) -> Metric:
    assert isinstance(component, Metric)
    return component


def layer(rows: int, units: int, *, dtype: torch.dtype = torch.float64, seed: int = 0) -> LayerProbe:
    """Return a layer after ReLU with a dead unit and a duplicate, and gradients of which some are tiny."""
    generator = rng.derive(seed, "conformance", "layer", rows, units)
    mixing = torch.randn(units, units, generator=generator, dtype=torch.float64)
    activation = (torch.randn(rows, units, generator=generator, dtype=torch.float64) @ mixing).relu()
    gradient = torch.randn(rows, units, generator=generator, dtype=torch.float64)
    if units > 2:
        activation[:, 0] = 0.0
        activation[:, 2] = 1.5 * activation[:, 1]
        gradient[:, 0] = 1e-9
        gradient[: rows // 2, 3] = 1e-9
    partition = Partition.clones(units // 2, 2)
    return LayerProbe(activation.to(dtype), gradient.to(dtype), "layer", partition)


def network(seed: int = 0, dtype: torch.dtype = torch.float64) -> NetworkProbe:
    """Return a probe of a convolutional network after some training."""
    bench = Bench(None, network=NETWORKS["convolutional"], seeds=(seed,), dtype=dtype).run(5)
    return bench.learner.probe(0, bench.problems[0])


def _probes(metric: Metric) -> Iterator[LayerProbe | NetworkProbe]:
    if metric.scope == "network":
        yield from (network(seed) for seed in range(3))
    else:
        yield from (layer(*shape) for shape in _SHAPES)


def _value(metric: Metric, probe: LayerProbe | NetworkProbe) -> float:
    """Return what the metric makes of an ordinary probe.

    Raises:
        NotApplicable: If it serves cloned networks only.
    """
    try:
        return metric.compute(probe)
    except LopbenchError as error:
        raise NotApplicable(f"it refuses the probe of an ordinary network: {error}") from error


@check(
    "Known inputs have the values that the class gives as `known`.",
    lesson="four formulas are called stable rank, and give 3 to 42 on the same activations (METHODS H1b, F14)",
)
def known_values_are_met(component: Component) -> None:
    """Compute them."""
    metric = _metric(component)
    if not metric.known:
        raise NotApplicable("it gives no `known` values")
    for rows, expected in metric.known:
        found = metric.compute(LayerProbe(torch.tensor(rows, dtype=torch.float64), name="known"))
        if not math.isclose(found, expected, rel_tol=_CLOSE, abs_tol=1e-9):
            raise Mismatch(f"{expected} for {rows}", str(found))


@check("The value is a Python float, the same at every call, in float32 and float64.")
def values_are_numbers(component: Component) -> None:
    """Compute it on layers of many shapes, or on networks."""
    metric = _metric(component)
    if metric.scope == "network":
        probes: list[LayerProbe | NetworkProbe] = [network(dtype=dtype) for dtype in (torch.float32, torch.float64)]
    else:
        shapes = (*_SHAPES, (200, 4), (8, 2))
        probes = [layer(*shape, dtype=dtype) for shape in shapes for dtype in (torch.float32, torch.float64)]
    for probe in probes:
        value = _value(metric, probe)
        if type(value) is not float:
            raise Mismatch("a float", f"{type(value).__name__}")
        if not math.isfinite(value):
            raise Mismatch("a finite value for finite activations", f"{value} for {_describe(probe)}")
        again = metric.compute(probe)
        if again != value:
            raise Mismatch("the same value at the second call", f"{value}, then {again}")


def _describe(probe: LayerProbe | NetworkProbe) -> str:
    return f"activations {tuple(probe.activation.shape)}" if isinstance(probe, LayerProbe) else "a network"


@check("Activations that are not finite give NaN or a refusal, no crash and no number.")
def divergence_is_told(component: Component) -> None:
    """Put NaN and infinity into a layer."""
    metric = _metric(component)
    if metric.scope == "network":
        raise NotApplicable("it reads the whole network")
    _value(metric, layer(*_SHAPES[0]))
    for bad in (math.nan, math.inf):
        probe = layer(*_SHAPES[0])
        activation = probe.activation.clone()
        activation[1, 1] = bad
        try:
            value = metric.compute(dataclasses.replace(probe, activation=activation))
        except LopbenchError:
            continue
        if not math.isnan(value):
            raise Mismatch(f"NaN for an activation of {bad}", str(value))


@check("The invariances that the class declares hold.")
def declared_invariances_hold(component: Component) -> None:
    """Scale by two, permute units or rows, duplicate units."""
    metric = _metric(component)
    if not metric.invariances:
        raise NotApplicable("it declares no `invariances`")
    for shape in _SHAPES:
        probe = layer(*shape)
        value = _value(metric, probe)
        for invariance in metric.invariances:
            other = metric.compute(_transformed(probe, invariance))
            if not math.isclose(value, other, rel_tol=_CLOSE, abs_tol=1e-9):
                raise Mismatch(f"the same value under {invariance}", f"{value} and {other}, layer of shape {shape}")


def _transformed(probe: LayerProbe, invariance: str) -> LayerProbe:
    assert probe.gradient is not None
    rows, units = probe.activation.shape
    generator = rng.derive(0, "conformance", "permutation")
    if invariance == "scale":
        return LayerProbe(8 * probe.activation, 8 * probe.gradient, probe.name)
    if invariance == "units":
        order = torch.randperm(units, generator=generator)
        return LayerProbe(probe.activation[:, order], probe.gradient[:, order], probe.name)
    if invariance == "rows":
        order = torch.randperm(rows, generator=generator)
        return LayerProbe(probe.activation[order], probe.gradient[order], probe.name)
    return LayerProbe(
        probe.activation.repeat_interleave(2, dim=1), probe.gradient.repeat_interleave(2, dim=1), probe.name
    )


@check(
    "Measuring leaves weights, buffers, gradients, mode, activations and random numbers as they are.",
    lesson="a diagnostic that changes what it measures is a method",
)
def measuring_changes_nothing(component: Component) -> None:
    """Measure a network in training and go on."""
    metric = _metric(component)
    bench = Bench(None, network=NETWORKS["normalised"], dtype=torch.float64).run(5)
    before, state = bench.snapshot(), torch.get_rng_state()
    probe = bench.learner.probe(0, bench.problems[0])
    copies = [(value, value.clone()) for value in _tensors(probe)]
    for each in [probe] if metric.scope == "network" else probe.layers:
        _value(metric, each)
    after = bench.snapshot()
    wrong = [name for name in before if not same(before[name], after[name])]
    if wrong or any(leaf.grad is not None for leaf in bench.learner.leaves.values()):
        raise Mismatch("the network left as it is", f"{listed(wrong) or 'a gradient'} changed")
    if any(not same(value, copy) for value, copy in copies):
        raise Mismatch("the probe left as it is, for the metrics that come after", "one of its tensors changed")
    if not bench.learner.module.training:
        raise Mismatch("a network in training mode", "evaluation mode")
    if not torch.equal(torch.get_rng_state(), state):
        raise Mismatch("torch's global generator left alone", "it has advanced")


def _tensors(probe: NetworkProbe) -> Iterator[Tensor]:
    for tensors in (probe.parameters, probe.initial, probe.gradients):
        yield from tensors.values()
    for each in probe.layers:
        yield each.activation
        if each.gradient is not None:
            yield each.gradient


@check("A probe of the other scope is refused with a sentence.")
def wrong_probes_are_refused(component: Component) -> None:
    """Give a layer to a metric of networks, and the other way round."""
    metric = _metric(component)
    probe = layer(*_SHAPES[0]) if metric.scope == "network" else network()
    try:
        value = metric.compute(probe)
    except LopbenchError:
        return
    except Exception as error:
        raise Mismatch("InvalidInputError", f"{type(error).__name__}: {error}") from error
    raise Mismatch("InvalidInputError", str(value))


@check(
    "Every hyperparameter changes the value somewhere; none is ignored.",
    lesson="a configured maturity of 100 that the runner never reads (finding 8, METHODS F7)",
)
def fields_matter(component: Component) -> None:
    """Change each field and compare values."""
    metric = _metric(component)
    values = [_value(metric, probe) for probe in _probes(metric)]
    for field in dataclasses.fields(metric):
        others = list(alternatives(metric, field.name))
        if others and all([_value(other, p) for p in _probes(metric)] == values for other in others):
            raise Mismatch("each field to change the value at some probe", f"{field.name} changes nothing")


CHECKS: tuple[Check, ...] = (
    *SHARED,
    known_values_are_met,
    values_are_numbers,
    divergence_is_told,
    declared_invariances_hold,
    measuring_changes_nothing,
    wrong_probes_are_refused,
    fields_matter,
)
