"""What holds for every registered metric, and what they share."""

import importlib
import subprocess
import sys
from dataclasses import FrozenInstanceError
from math import isnan, nan

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import lopbench_plugins.metrics
from lopbench.core.measuring import measured
from lopbench.core.metric import LayerMetric, NetworkMetric
from lopbench.core.probe import LayerProbe, NetworkProbe, as_units
from lopbench.core.profile import Partition, Profile
from lopbench_plugins.metrics.base import fewest, total_norm


def registered():
    found = {}

    def register(name, target, summary):
        assert name not in found
        assert summary
        module, _, attribute = target.partition(":")
        found[name] = getattr(importlib.import_module(module), attribute)

    lopbench_plugins.metrics.lopbench_metrics(register)
    return found


METRICS = {name: cls() for name, cls in registered().items()}
LAYER = {name: metric for name, metric in METRICS.items() if isinstance(metric, LayerMetric)}
NETWORK = {name: metric for name, metric in METRICS.items() if isinstance(metric, NetworkMetric)}
PROBED = LAYER | NETWORK

matrices = hnp.arrays(
    np.float64,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=3, max_side=9),
    elements=st.integers(-8, 8).map(lambda k: k / 4),
)
quick = settings(max_examples=15)


def layer(h, gradient=None):
    """Return the probe of a layer whose first two units are clones."""
    if gradient is None:
        gradient = torch.linspace(-1, 1, h.numel(), dtype=h.dtype).reshape(h.shape).flip(0) ** 9
    units = as_units(h).shape[1]
    return LayerProbe(h, gradient, clones=Partition(tuple(max(0, unit - 1) for unit in range(units))))


def network(**changes):
    """Return the probe of a network of one layer of four units, of which each has a clone."""
    generator = torch.Generator().manual_seed(0)
    parts = {
        kind: {name: torch.randn(shape, generator=generator) for name, shape in (("w", (4, 3)), ("b", (4,)))}
        for kind in ("parameters", "initial", "gradients")
    }
    parts.update(changes)
    clones = Partition.clones(2, 2)
    inputs = torch.randn(6, 3, generator=generator)

    def units(parameters, inputs=inputs):
        return inputs.to(parameters["w"]) @ parameters["w"].T + parameters["b"]

    def loss(parameters, rows=None):
        return (units(parameters, inputs if rows is None else inputs[rows]) ** 4).mean()

    h = units(parts["parameters"])
    return NetworkProbe(
        **parts,
        layers=(LayerProbe(h, h**3, "unit", clones),),
        profile=Profile({}, {"": clones, "unit": clones}, {"w": (clones, None), "b": (clones,)}),
        inputs=inputs,
        outputs=h,
        loss=loss,
        forward=units,
        recall=lambda: parts["initial"],
        score_former=lambda: h.square().mean().item(),
        modules=lambda names: (LayerProbe(h, h**3, "unit", clones),),
    )


def probe_for(metric):
    generator = torch.Generator().manual_seed(1)
    return layer(torch.rand(12, 5, generator=generator)) if isinstance(metric, LayerMetric) else network()


def each(metrics):
    return pytest.mark.parametrize("metric", metrics.values(), ids=metrics.keys())


def test_listing_imports_no_torch():
    code = (
        "import sys, lopbench_plugins.metrics as m; names = [];"
        "m.lopbench_metrics(lambda name, *_: names.append(name)); assert len(names) > 10;"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_defaults_are_the_documented_ones():
    assert {name for name, metric in METRICS.items() if metric.default} == {
        "dead_fraction",
        "dormant_fraction",
        "duplicate_fraction",
        "saturated_fraction",
        "effective_rank",
        "participation_ratio",
        "stable_rank",
        "weight_norm",
        "feature_norm",
        "gradient_norm",
        "distance_from_init",
    }


@pytest.mark.parametrize("name", METRICS)
def test_class_bears_the_registered_name_and_is_never_ranked(name):
    assert METRICS[name].name == name
    assert METRICS[name].higher_is_better is None


@each(METRICS)
def test_metric_is_immutable(metric):
    with pytest.raises(FrozenInstanceError):
        metric.anything = 1


@each(PROBED)
def test_value_is_a_finite_number_on_ordinary_input(metric):
    value = measured(metric, probe_for(metric))
    assert type(value) is float
    assert abs(value) < 1e6


@pytest.mark.parametrize("bad", [nan, float("inf"), -float("inf")])
@each(LAYER)
def test_one_bad_activation_makes_a_layer_nan(metric, bad):
    h = torch.rand(12, 5)
    h[7, 2] = bad
    assert isnan(measured(metric, layer(h)))


@pytest.mark.parametrize("bad", [nan, float("inf"), -float("inf")])
@each(NETWORK)
def test_one_bad_number_makes_a_network_nan(metric, bad):
    kind = "gradients" if metric.name == "gradient_norm" else "parameters"
    changed = {name: tensor.clone() for name, tensor in getattr(network(), kind).items()}
    changed["b"][1] = bad
    assert isnan(measured(metric, network(**{kind: changed})))


@each(PROBED)
def test_inputs_and_random_state_are_untouched(metric):
    probe = probe_for(metric)
    if isinstance(probe, LayerProbe):
        tensors = [probe.activation, probe.gradient]
    else:
        tensors = [*probe.parameters.values(), *probe.initial.values(), *probe.gradients.values()]
    copies = [tensor.clone() for tensor in tensors]
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = measured(metric, probe)
    assert measured(metric, probe) == first
    assert all(map(torch.equal, tensors, copies))
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)


@each({name: metric for name, metric in LAYER.items() if name != "duplicate_fraction_first"})
@quick
@given(matrix=matrices, seed=st.integers(0, 99))
def test_order_of_units_is_irrelevant(metric, matrix, seed):
    probe = layer(torch.tensor(matrix))
    order = torch.randperm(matrix.shape[1], generator=torch.Generator().manual_seed(seed))
    clones = Partition(tuple(probe.clones.blocks[unit] for unit in order))
    permuted = LayerProbe(probe.activation[:, order], probe.gradient[:, order], clones=clones)
    assert measured(metric, permuted) == pytest.approx(measured(metric, probe), rel=1e-6, abs=1e-9)


@each(LAYER)
@quick
@given(matrix=matrices, seed=st.integers(0, 99))
def test_order_of_rows_is_irrelevant(metric, matrix, seed):
    probe = layer(torch.tensor(matrix))
    order = torch.randperm(matrix.shape[0], generator=torch.Generator().manual_seed(seed))
    permuted = layer(probe.activation[order], probe.gradient[order])
    assert measured(metric, permuted) == pytest.approx(measured(metric, probe), rel=1e-6, abs=1e-9)


@each({name: metric for name, metric in LAYER.items() if name not in ("feature_norm", "dead_fraction")})
@quick
@given(matrix=matrices, exponent=st.integers(-30, 30))
def test_scale_of_the_activations_is_irrelevant(metric, matrix, exponent):
    # Gradients with respect to c * h are 1 / c as large; their ratio is what saturation measures, so scale both by c.
    probe, scale = layer(torch.tensor(matrix)), 2.0**exponent
    scaled = layer(probe.activation * scale, probe.gradient * scale)
    if metric.name == "saturated_fraction" and (probe.mean_magnitude == 0).any():
        return  # such units are measured against the absolute 1e-12
    assert measured(metric, scaled) == pytest.approx(measured(metric, probe), rel=1e-6, abs=1e-9)


@each(LAYER)
@pytest.mark.parametrize("shape", [(6, 5, 3, 4), (6, 7, 5)], ids=["convolution", "tokens"])
def test_layer_of_any_kind_is_measured_as_rows_of_units(metric, shape):
    raw = torch.randn(shape, generator=torch.Generator().manual_seed(2)).relu()
    flat = raw.permute(0, 2, 3, 1).reshape(-1, 5) if len(shape) == 4 else raw.reshape(-1, 5)
    assert measured(metric, layer(raw, raw)) == measured(metric, layer(flat, flat))


@each(LAYER)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_precision_of_the_activations_hardly_matters(metric, dtype):
    h = torch.randn(40, 6, generator=torch.Generator().manual_seed(3)).relu().to(dtype)
    wide = layer(h.double(), h.double())
    assert measured(metric, layer(h, h)) == pytest.approx(measured(metric, wide), rel=1e-6)


@each({name: metric for name, metric in LAYER.items() if name != "non_gaussianity"})
@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (4, 1)])
def test_smallest_layers_are_measured(metric, shape):
    if shape[1] == 1 and metric.name in ("cloning_r2_forward", "cloning_r2_backward"):
        return  # a single unit has no clone
    value = measured(metric, layer(torch.full(shape, 2.0), torch.ones(shape)))
    assert 0 <= value <= 4


def test_total_norm_is_of_all_entries_together():
    assert total_norm([torch.tensor([3.0]), torch.tensor([[0.0, 4.0], [12.0, 0.0]])]) == pytest.approx(13, rel=1e-15)
    assert total_norm([]) == 0


def test_total_norm_counts_every_entry_of_a_large_tensor():
    # In float32 a running sum of ones stops at 2**24.
    assert total_norm([torch.ones(1).expand(2**25)]) == 2**12.5


def test_total_norm_of_large_numbers_is_finite():
    assert total_norm([torch.tensor([3e30, 4e30])]) == pytest.approx(5e30, rel=1e-6)


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([98.0, 1.0, 1.0], 0.99, 2),  # 98 + 1 is exactly the share
        ([98.0, 0.9, 0.9, 0.2], 0.99, 3),
        ([1.0] * 10, 0.7, 7),
        ([5.0, 0.0], 0.99, 1),
        ([0.0, 0.0], 0.99, 0),
    ],
)
def test_fewest_values_that_hold_a_share(values, share, expected):
    assert fewest(torch.tensor(values, dtype=torch.float64), share) == expected


def test_rounding_decides_no_tie_of_shares():
    for scale in range(1, 200):
        assert fewest(torch.full((10,), scale / 7, dtype=torch.float64), 0.7) == 7


def test_fewest_of_nan_is_nan():
    assert isnan(fewest(torch.tensor([nan, nan]), 0.99))
