"""The checks of metrics."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from lopbench.core import rng
from lopbench.core.errors import LopbenchError
from lopbench.core.interfaces import Component, LayerMetric, Metric, NetworkMetric, TrainingMetric
from lopbench.core.measuring import measured
from lopbench.core.probe import LayerProbe, NetworkProbe
from lopbench.core.profile import Partition
from lopbench.testing.bench import Bench
from lopbench.testing.check import Check, Mismatch, NotApplicable, check
from lopbench.testing.comparing import listed, same
from lopbench.testing.networks import NETWORKS
from lopbench.testing.shared import SHARED, alternatives

#: Relative difference up to which two values are the same.
_CLOSE = 1e-6
#: Rows and units of the layers on which invariances are tried.
_SHAPES = ((40, 6), (12, 10), (5, 8))


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
    """Return a probe of a convolutional network after some training, in which it was probed before."""
    bench = Bench(None, network=NETWORKS["convolutional"], seeds=(seed,), dtype=dtype).run(5)
    _ = bench.learner.probe(0, bench.problems[0]).previous
    bench.run(5)
    return bench.learner.probe(0, bench.problems[0])


def losses(replicas: int, *, dtype: torch.dtype = torch.float64, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return losses before and after an update, ``(R,)`` each: some fell, some rose."""
    generator = rng.derive(seed, "conformance", "losses", replicas)
    before, after = (torch.rand(2, replicas, generator=generator, dtype=torch.float64) + 0.1).to(dtype)
    return before, after


def _probes(metric: LayerMetric | NetworkMetric) -> Iterator[LayerProbe | NetworkProbe]:
    if isinstance(metric, NetworkMetric):
        yield from (network(seed) for seed in range(3))
    else:
        yield from (layer(*shape) for shape in _SHAPES)


def _probed(component: Component) -> LayerMetric | NetworkMetric:
    """Return the metric, if it reads probes.

    Raises:
        NotApplicable: If it does not.
    """
    if isinstance(component, LayerMetric | NetworkMetric):
        return component
    raise NotApplicable("it reads training steps and no probe")


def _layered(component: Component) -> LayerMetric:
    """Return the metric, if it is of layers.

    Raises:
        NotApplicable: If it is not.
    """
    if isinstance(component, LayerMetric):
        return component
    raise NotApplicable("it is not of layers")


def _value(metric: LayerMetric | NetworkMetric, probe: LayerProbe | NetworkProbe) -> float | None:
    """Return what is recorded of an ordinary probe.

    Raises:
        NotApplicable: If the metric serves cloned networks only.
    """
    try:
        return measured(metric, probe)
    except LopbenchError as error:
        raise NotApplicable(f"it refuses the probe of an ordinary network: {error}") from error


def _close(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=_CLOSE, abs_tol=1e-9)


@check(
    "Known inputs have the values that the class gives as `known`.",
    lesson="four formulas are called stable rank, and give 3 to 42 on the same activations (METHODS H1b, F14)",
)
def known_values_are_met(component: Component) -> None:
    """Compute them."""
    metric = _layered(component)
    if not metric.known:
        raise NotApplicable("it gives no `known` values")
    for rows, expected in metric.known:
        found = measured(metric, LayerProbe(torch.tensor(rows, dtype=torch.float64), name="known"))
        if not _close(found, expected):
            raise Mismatch(f"{expected} for {rows}", str(found))


@check("The value is a Python float, the same at every call, in float32 and float64.")
def values_are_numbers(component: Component) -> None:
    """Compute it on layers of many shapes, on networks, or of steps of many replicas."""
    if isinstance(component, TrainingMetric):
        _steps_are_numbers(component)
    else:
        _probes_are_numbers(_probed(component))


def _probes_are_numbers(metric: LayerMetric | NetworkMetric) -> None:
    if isinstance(metric, NetworkMetric):
        probes: list[LayerProbe | NetworkProbe] = [network(dtype=dtype) for dtype in (torch.float32, torch.float64)]
    else:
        shapes = (*_SHAPES, (200, 4), (8, 2))
        probes = [layer(*shape, dtype=dtype) for shape in shapes for dtype in (torch.float32, torch.float64)]
    values = []
    for probe in probes:
        try:
            value = metric.compute(probe)  # type: ignore[arg-type]
        except LopbenchError as error:
            raise NotApplicable(f"it refuses the probe of an ordinary network: {error}") from error
        if not (value is None or type(value) is float):
            raise Mismatch("a float, or None where there is nothing to measure", f"{type(value).__name__}")
        if value is not None and not math.isfinite(value):
            raise Mismatch("a finite value for finite activations", f"{value} for {_describe(probe)}")
        again = metric.compute(probe)  # type: ignore[arg-type]
        if again != value:
            raise Mismatch("the same value at the second call", f"{value}, then {again}")
        values.append(value)
    if all(value is None for value in values):
        raise Mismatch("a value for some ordinary probe", "None for all")


def _steps_are_numbers(metric: TrainingMetric) -> None:
    for replicas in (1, 4):
        for dtype in (torch.float32, torch.float64):
            before, after = losses(replicas, dtype=dtype)
            value = metric.compute(before, after)
            if not isinstance(value, Tensor) or value.shape != (replicas,):
                shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise Mismatch(f"a tensor of shape ({replicas},)", str(shape))
            if not value.isfinite().all():
                raise Mismatch("finite values for finite losses", str(value))
            if not same(metric.compute(before, after), value):
                raise Mismatch("the same values at the second call", "others")


def _describe(probe: LayerProbe | NetworkProbe) -> str:
    return f"activations {tuple(probe.activation.shape)}" if isinstance(probe, LayerProbe) else "a network"


@check("Values that are not finite give NaN, nothing or a refusal: no crash and no number.")
def divergence_is_told(component: Component) -> None:
    """Put NaN and infinity into gradients, losses, or the parameters of a network."""
    for bad in (math.nan, math.inf):
        if isinstance(component, TrainingMetric):
            before, after = losses(3)
            after[1] = bad
            if component.compute(before, after).isfinite().tolist() != [True, False, True]:
                raise Mismatch(f"NaN for a loss of {bad}, and numbers for the others", "otherwise")
            continue
        metric = _probed(component)
        # Of activations that are not finite no metric is asked.
        layered = isinstance(metric, LayerMetric)
        expected = _value(metric, layer(*_SHAPES[0]) if layered else network())
        try:
            found = measured(metric, _diverged_layer(bad) if layered else _diverged_network(bad))
        except LopbenchError:
            continue
        untouched = layered and found == expected  # it reads no gradient
        if not (found is None or math.isnan(found) or untouched):
            raise Mismatch(f"NaN for a {'gradient' if layered else 'weight'} of {bad}", str(found))


def _diverged_layer(bad: float) -> LayerProbe:
    probe = layer(*_SHAPES[0])
    assert probe.gradient is not None
    return dataclasses.replace(probe, gradient=torch.full_like(probe.gradient, bad))


def _diverged_network(bad: float) -> NetworkProbe:
    bench = Bench(None, network=NETWORKS["convolutional"], dtype=torch.float64).run(5)
    _ = bench.learner.probe(0, bench.problems[0]).previous
    for parameter in bench.learner.view.parameters.values():
        parameter.fill_(bad)
    return bench.learner.probe(0, bench.problems[0])


@check("The invariances that the class declares hold.")
def declared_invariances_hold(component: Component) -> None:
    """Scale by two, permute units or rows, duplicate units."""
    metric = _layered(component)
    if not metric.invariances:
        raise NotApplicable("it declares no `invariances`")
    for shape in _SHAPES:
        probe = layer(*shape)
        value = _value(metric, probe)
        for invariance in metric.invariances:
            other = measured(metric, _transformed(probe, invariance))
            if not _close(value, other):
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
    "Nothing is measured of a gradient that cannot flow because the head is zero.",
    lesson="at the start of a task every unit read as saturated, which curves averaged in",
)
def blocked_gradients_are_not_measured(component: Component) -> None:
    """Put a layer behind a head of zeros."""
    metric = _layered(component)
    probe = layer(*_SHAPES[0])
    assert probe.gradient is not None
    expected = _value(metric, probe)
    found = measured(metric, dataclasses.replace(probe, gradient=torch.zeros_like(probe.gradient), blocked=True))
    if found is not None and found != expected:
        raise Mismatch("None where the metric reads gradients, the same value where it does not", str(found))


@check(
    "Measuring leaves weights, buffers, gradients, mode, activations and random numbers as they are.",
    lesson="a diagnostic that changes what it measures is a method",
)
def measuring_changes_nothing(component: Component) -> None:
    """Measure a network in training and go on."""
    if isinstance(component, TrainingMetric):
        _steps_change_nothing(component)
    else:
        _probes_change_nothing(_probed(component))


def _probes_change_nothing(metric: LayerMetric | NetworkMetric) -> None:
    bench = Bench(None, network=NETWORKS["normalised"], dtype=torch.float64).run(5)
    before, state = bench.snapshot(), torch.get_rng_state()
    probe = bench.learner.probe(0, bench.problems[0])
    copies = [(value, value.clone()) for value in _tensors(probe)]
    for each in [probe] if isinstance(metric, NetworkMetric) else probe.layers:
        _value(metric, each)
    after = bench.snapshot()
    wrong = [name for name in before if not same(before[name], after[name])]
    if wrong or any(leaf.grad is not None for leaf in bench.learner.leaves.values()):
        raise Mismatch("the network left as it is", f"{listed(wrong) or 'a gradient'} changed")
    if any(not same(value, copy) for value, copy in copies):
        raise Mismatch("the probe left as it is, for the metrics that come after", "one of its tensors changed")
    if not bench.learner.network.module.training:
        raise Mismatch("a network in training mode", "evaluation mode")
    if not torch.equal(torch.get_rng_state(), state):
        raise Mismatch("torch's global generator left alone", "it has advanced")


def _steps_change_nothing(metric: TrainingMetric) -> None:
    state, values = torch.get_rng_state(), losses(3)
    copies = [value.clone() for value in values]
    metric.compute(*values)
    if not all(map(same, values, copies)):
        raise Mismatch("the losses left as they are", "one of them changed")
    if not torch.equal(torch.get_rng_state(), state):
        raise Mismatch("torch's global generator left alone", "it has advanced")


def _tensors(probe: NetworkProbe) -> Iterator[Tensor]:
    for tensors in (probe.parameters, probe.initial, probe.gradients):
        yield from tensors.values()
    yield from (probe.inputs, probe.targets, probe.outputs)
    for each in probe.layers:
        yield each.activation
        if each.gradient is not None:
            yield each.gradient


@check(
    "A metric of training steps makes of each replica what it makes of that replica alone.",
    lesson="a mean over the stack mixes the seeds that are compared",
)
def replicas_are_independent(component: Component) -> None:
    """Compute it of a stack and of its rows."""
    if not isinstance(component, TrainingMetric):
        raise NotApplicable("it reads the probe of one network")
    before, after = losses(4)
    together = component.compute(before, after)
    alone = torch.cat([component.compute(before[i : i + 1], after[i : i + 1]) for i in range(4)])
    if not same(together, alone):
        raise Mismatch(f"{alone.tolist()} for replicas one by one", f"{together.tolist()} for their stack")


@check(
    "Every hyperparameter changes the value somewhere; none is ignored.",
    lesson="a configured maturity of 100 that the runner never reads (finding 8, METHODS F7)",
)
def fields_matter(component: Component) -> None:
    """Change each field and compare values."""
    assert isinstance(component, Metric)
    for field in dataclasses.fields(component):
        others = list(alternatives(component, field.name))
        if others and all(_values(other) == _values(component) for other in others):
            raise Mismatch("each field to change the value at some probe", f"{field.name} changes nothing")


def _values(metric: Metric) -> list[float | None]:
    """Return what the metric makes of a few probes, or of a few steps."""
    if isinstance(metric, TrainingMetric):
        return [value for seed in range(3) for value in metric.compute(*losses(4, seed=seed)).tolist()]
    probed = _probed(metric)
    return [_value(probed, probe) for probe in _probes(probed)]


CHECKS: tuple[Check, ...] = (
    *SHARED,
    known_values_are_met,
    values_are_numbers,
    divergence_is_told,
    declared_invariances_hold,
    blocked_gradients_are_not_measured,
    measuring_changes_nothing,
    replicas_are_independent,
    fields_matter,
)
