"""Sharpness: the largest eigenvalue of the Hessian."""

from dataclasses import replace
from math import isnan, nan

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.autograd.functional import hessian
from torch.nn import functional as F

from lopbench.core.errors import InvalidInputError
from lopbench.core.probe import NetworkProbe
from lopbench.learner import probing
from lopbench_plugins.metrics import samples
from lopbench_plugins.metrics.sharpness import Sharpness

EXACT = Sharpness(products=200, tolerance=0.0)


def quadratic(matrix, dtype=torch.float64):
    """Return the probe of a loss of which ``matrix`` is the Hessian."""
    matrix = torch.as_tensor(matrix, dtype=dtype)
    parameters = {"a": torch.ones(1, dtype=dtype), "b": torch.ones(len(matrix) - 1, 1, dtype=dtype)}

    def loss(parameters, rows=None):
        at = torch.cat([parameters["a"], parameters["b"].flatten()])
        return at @ matrix.to(at.dtype) @ at / 2

    return NetworkProbe(parameters, parameters, {}, (), inputs=torch.zeros(3, 1, dtype=dtype), loss=loss)


@settings(max_examples=30)
@given(st.lists(st.integers(-20, 20), min_size=2, max_size=8), st.integers(0, 99))
def test_top_eigenvalue_of_a_quadratic_is_exact(values, seed):
    generator = torch.Generator().manual_seed(seed)
    basis, _ = torch.linalg.qr(torch.randn(len(values), len(values), generator=generator, dtype=torch.float64))
    matrix = basis @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ basis.T
    assert EXACT.compute(quadratic((matrix + matrix.T) / 2)) == pytest.approx(max(values), abs=1e-9)


def test_it_is_the_largest_and_not_the_one_of_largest_magnitude():
    assert EXACT.compute(quadratic(torch.diag(torch.tensor([-9.0, 2.0, 1.0])))) == pytest.approx(2, rel=1e-9)
    assert EXACT.compute(quadratic(torch.diag(torch.tensor([-9.0, -2.0, -1.0])))) == pytest.approx(-1, rel=1e-9)


def test_a_linear_loss_is_flat():
    probe = replace(quadratic(torch.eye(3)), loss=lambda parameters, rows=None: parameters["a"].sum())
    assert EXACT.compute(probe) == 0


def test_few_products_bound_it_from_below():
    matrix = torch.diag(torch.arange(1.0, 41.0))
    found = [Sharpness(products=count, tolerance=0.0).compute(quadratic(matrix)) for count in (1, 2, 5, 40)]
    assert found == sorted(found)
    assert found[0] < 40
    assert found[-1] == pytest.approx(40, rel=1e-9)


def test_the_tolerance_bounds_the_error():
    matrix = torch.diag(torch.arange(1.0, 41.0))
    rough = Sharpness(products=200, tolerance=0.05).compute(quadratic(matrix))
    assert rough != pytest.approx(40, rel=1e-9)
    assert rough == pytest.approx(40, rel=0.05)


def test_single_precision_is_enough():
    values = torch.tensor([-3.0, 0.5, 1.0, 7.0])
    assert Sharpness().compute(quadratic(torch.diag(values), torch.float32)) == pytest.approx(7, rel=1e-3)


class Task:
    """A few samples of two kinds."""

    classes = None

    def probe(self):
        generator = torch.Generator().manual_seed(0)
        return torch.randn(9, 3, generator=generator, dtype=torch.float64), torch.arange(9) % 2

    def loss(self, outputs, targets):
        return F.cross_entropy(outputs, targets)


def network():
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    with torch.no_grad():
        for index, parameter in enumerate(module.parameters()):
            parameter.normal_(generator=torch.Generator().manual_seed(index))
    parameters = {name: value.detach() for name, value in module.named_parameters()}
    subject = probing.Subject(module=module, parameters=parameters, buffers={}, layers=("1",))
    return probing.take(subject, Task(), initial=parameters, head=(), lr=0.1)


def top_of(probe, rows=None):
    """Return the largest eigenvalue of the whole Hessian, taken by autograd one entry after another."""
    shapes = {name: value.shape for name, value in probe.parameters.items()}

    def flat(vector):
        parts = vector.split([shape.numel() for shape in shapes.values()])
        return probe.loss({n: p.view(s) for (n, s), p in zip(shapes.items(), parts, strict=True)}, rows)

    at = torch.cat([value.flatten() for value in probe.parameters.values()])
    return torch.linalg.eigvalsh(hessian(flat, at))[-1].item()


@pytest.mark.parametrize("activations", [1, 60, 2**22])
def test_network_has_the_top_eigenvalue_of_its_hessian_however_its_samples_are_cut(activations, monkeypatch):
    monkeypatch.setattr(samples, "_ACTIVATIONS", activations)
    probe = network()
    assert EXACT.compute(probe) == pytest.approx(top_of(probe), rel=1e-9)
    assert Sharpness().compute(probe) == pytest.approx(top_of(probe), rel=1e-3)


def test_a_few_samples_are_those_chosen():
    probe = network()
    rows = samples.chosen(probe, 4, "sharpness")
    assert replace(EXACT, samples=4).compute(probe) == pytest.approx(top_of(probe, rows), rel=1e-9)


def test_it_leaves_the_parameters_outside_autograd():
    probe = network()
    Sharpness().compute(probe)
    assert not any(value.requires_grad for value in probe.parameters.values())


def test_a_loss_that_is_not_finite_is_nan():
    probe = quadratic(torch.eye(3))
    assert isnan(Sharpness().compute(replace(probe, loss=lambda parameters, rows=None: parameters["a"].sum() * nan)))


def test_a_probe_without_its_network_is_refused():
    with pytest.raises(InvalidInputError, match="take it from a learner"):
        Sharpness().compute(NetworkProbe({"w": torch.ones(1)}, {}, {}, (), inputs=torch.ones(2, 1)))


@pytest.mark.parametrize("fields", [{"samples": 0}, {"products": 0}, {"tolerance": -1.0}, {"tolerance": nan}])
def test_fields_out_of_range_are_refused(fields):
    with pytest.raises(InvalidInputError, match=f"{next(iter(fields))} must be"):
        Sharpness(**fields)
