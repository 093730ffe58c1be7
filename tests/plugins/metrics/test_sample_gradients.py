"""Metrics of the gradients of single samples: the products they share, ranks of the tangent kernel and of cosines."""

from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from lopbench.core.errors import InvalidInputError
from lopbench.core.probe import NetworkProbe
from lopbench.learner import probing
from lopbench_plugins.architectures.cnn import CNN
from lopbench_plugins.architectures.mlp import MLP
from lopbench_plugins.architectures.resnet18 import ResNet18
from lopbench_plugins.architectures.vit import ViT
from lopbench_plugins.metrics import samples
from lopbench_plugins.metrics.gradient_covariance_rank import GradientCovarianceRank
from lopbench_plugins.metrics.ntk_rank import NtkRank

SHAPE = (3, 16, 16)
METRICS = [NtkRank(), GradientCovarianceRank()]
each = pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)


@dataclass(frozen=True)
class Given:
    """A task of which everything is given."""

    inputs: torch.Tensor
    targets: torch.Tensor
    error: object = F.cross_entropy
    classes: None = None

    def probe(self):
        return self.inputs, self.targets

    def loss(self, outputs, targets):
        return self.error(outputs, targets)


def probe_of(module, inputs, targets=None, error=F.cross_entropy, head=()):
    """Return the probe of a network in float64."""
    parameters = {name: value.detach().double() for name, value in module.named_parameters()}
    buffers = {name: value.double() for name, value in module.named_buffers() if value.is_floating_point()}
    subject = probing.Subject(module=module, parameters=parameters, buffers=buffers, layers=())
    if targets is None:
        targets = torch.arange(len(inputs)) % 2
    return probing.take(subject, Given(inputs, targets, error), initial=parameters, head=head, lr=0.1)


def total(outputs, targets):
    return outputs.sum()


def linear(inputs, outputs=2):
    return probe_of(nn.Linear(inputs.shape[1], outputs, bias=False), inputs.double(), error=total)


def summed(probe):
    return lambda parameters, row: probe.forward(parameters, probe.inputs[row]).sum()


def small(seed=0, count=7):
    generator = torch.Generator().manual_seed(seed)
    module = MLP(width=5, depth=2).build(SHAPE, 4, generator=generator)
    return probe_of(module, torch.randn(count, *SHAPE, generator=generator, dtype=torch.float64))


def jacobian(probe, scalars):
    """Return the gradients of each scalar in all parameters, by one backward pass for each."""
    at = {name: value.clone().requires_grad_() for name, value in probe.parameters.items()}
    found = [
        torch.autograd.grad(each, list(at.values()), retain_graph=True, materialize_grads=True) for each in scalars(at)
    ]
    return torch.stack([torch.cat([part.flatten() for part in row]) for row in found])


def rank_by_hand(kernel):
    values = torch.linalg.eigvalsh(kernel).clamp(min=0)
    share = values / values.sum()
    return torch.exp(-(share * share.clamp(min=1e-300).log()).sum()).item()


@pytest.mark.parametrize("held", [1, 2000, 2**27])
@pytest.mark.parametrize("activations", [1, 2**22])
def test_products_are_those_of_the_jacobian_however_it_is_cut(held, activations, monkeypatch):
    probe = small()
    monkeypatch.setattr(samples, "_HELD", held)
    monkeypatch.setattr(samples, "_ACTIVATIONS", activations)
    monkeypatch.setattr(samples, "_COLUMNS", 7)
    rows = torch.tensor([3, 0, 6, 1, 2])
    found = samples.gradient_products(summed(probe), probe, rows)
    expected = jacobian(probe, lambda at: [probe.forward(at, probe.inputs[row[None]]).sum() for row in rows])
    torch.testing.assert_close(found, expected @ expected.T, rtol=1e-12, atol=1e-12)
    assert torch.equal(found, found.T) or torch.allclose(found, found.T, rtol=1e-14)


def test_a_choice_of_samples_is_fixed_and_has_none_twice():
    probe = small(count=40)
    rows = samples.chosen(probe, 16, "name")
    assert torch.equal(rows, samples.chosen(probe, 16, "name"))
    assert len(set(rows.tolist())) == 16
    assert set(samples.chosen(probe, 128, "name").tolist()) == set(range(40))
    assert not torch.equal(rows, samples.chosen(probe, 16, "other"))


@pytest.mark.parametrize("outputs", [1, 3])
def test_ntk_of_a_linear_network_is_the_gram_matrix_of_its_inputs(outputs):
    # d sum_k (W x)_k / d W_kj = x_j for each k: K = outputs * X X^T.
    inputs = torch.randn(6, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = NtkRank().compute(linear(inputs, outputs))
    assert found == pytest.approx(rank_by_hand(outputs * inputs @ inputs.T), rel=1e-9)
    condition = NtkRank(samples=3, kind="condition")
    three = inputs[samples.chosen(linear(inputs), 3, "ntk_rank")]
    values = torch.linalg.eigvalsh(three @ three.T)
    assert condition.compute(linear(inputs, outputs)) == pytest.approx((values[-1] / values[0]).item(), rel=1e-9)


def test_ntk_of_orthonormal_inputs_has_full_rank_and_condition_one():
    probe = linear(torch.eye(5))
    assert NtkRank().compute(probe) == pytest.approx(5, rel=1e-12)
    assert NtkRank(kind="condition").compute(probe) == pytest.approx(1, rel=1e-12)


def test_ntk_of_equal_inputs_has_rank_one_and_no_condition():
    probe = linear(torch.ones(5, 3))
    assert NtkRank().compute(probe) == pytest.approx(1, rel=1e-9)
    assert NtkRank(kind="condition").compute(probe) is None


def test_ntk_of_a_network_is_that_of_its_jacobian():
    probe = small()
    rows = jacobian(probe, lambda at: probe.forward(at, probe.inputs).sum(dim=1))
    assert NtkRank().compute(probe) == pytest.approx(rank_by_hand(rows @ rows.T), rel=1e-9)


def test_gradient_covariance_is_the_cosine_of_the_gradients_of_the_loss():
    probe = small()
    rows = jacobian(probe, lambda at: F.cross_entropy(probe.forward(at, probe.inputs), probe.targets, reduction="none"))
    rows = rows / rows.norm(dim=1, keepdim=True)
    assert GradientCovarianceRank().compute(probe) == pytest.approx(rank_by_hand(rows @ rows.T), rel=1e-9)


def test_samples_that_pull_alike_have_rank_one_however_strongly_they_pull():
    # Gradient of (w x - y)^2 is 2 (w x - y) x: parallel for parallel x, or opposite.
    inputs = torch.tensor([[1.0, 2.0], [2.0, 4.0], [-3.0, -6.0]]).double()
    probe = probe_of(nn.Linear(2, 1, bias=False), inputs, torch.tensor([[5.0], [1.0], [7.0]]).double(), F.mse_loss)
    assert GradientCovarianceRank().compute(probe) == pytest.approx(1, rel=1e-9)


def test_samples_without_a_gradient_are_left_out():
    module = nn.Linear(3, 1, bias=False)
    inputs = torch.cat([torch.eye(3), torch.zeros(2, 3)]).double()
    targets = module.weight.detach().double() @ inputs.T + torch.tensor([1.0, 3.0, 0.1, 1.0, 1.0])
    probe = probe_of(module, inputs, targets.T, F.mse_loss)
    assert GradientCovarianceRank().compute(probe) == pytest.approx(3, rel=1e-9)
    fitted = probe_of(module, inputs, (module.weight.detach().double() @ inputs.T).T, F.mse_loss)
    assert GradientCovarianceRank().compute(fitted) == 0


@each
@settings(max_examples=15)
@given(seed=st.integers(0, 999), count=st.integers(2, 9))
def test_ranks_are_at_least_one_and_at_most_the_samples(metric, seed, count):
    assert 1 - 1e-9 <= metric.compute(small(seed, count)) <= count + 1e-9


@each
@settings(max_examples=10)
@given(exponent=st.integers(-20, 20))
def test_scale_of_a_linear_network_is_irrelevant(metric, exponent):
    inputs = torch.randn(6, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    targets = torch.ones(6, 1, dtype=torch.float64)
    scale = 2.0**exponent
    module = nn.Linear(4, 1, bias=False)
    found = [
        metric.compute(probe_of(module, inputs, targets, lambda out, y, c=c: c * F.mse_loss(out, y) + 0 * y.sum()))
        for c in (1.0, scale)
    ]
    assert found[1] == pytest.approx(found[0], rel=1e-9)


@each
@pytest.mark.parametrize(
    "architecture",
    [MLP(width=8, depth=2, normalization="batch"), CNN(), ResNet18(), ViT()],
    ids=lambda architecture: architecture.name,
)
def test_all_architectures_are_measured(metric, architecture):
    generator = torch.Generator().manual_seed(0)
    shape = (3, 64, 64) if architecture.name == "vit" else (3, 32, 32)
    module = architecture.build(shape, 3, generator=generator)
    probe = probe_of(module, torch.randn(3, *shape, generator=generator))
    assert 1 <= replace(metric, samples=3).compute(probe) <= 3


class Sequences(nn.Module):
    """One output at each of several places."""

    def __init__(self):
        super().__init__()
        self.out = nn.Linear(3, 2)

    def forward(self, x):
        return self.out(x)


@each
def test_sequences_are_samples(metric):
    inputs = torch.randn(5, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    targets = torch.arange(20).reshape(5, 4) % 2

    def error(outputs, targets):
        return F.cross_entropy(outputs.flatten(0, 1), targets.flatten())

    assert 1 <= metric.compute(probe_of(Sequences(), inputs, targets, error)) <= 5


def test_ntk_of_a_sequence_is_of_the_sum_over_its_places():
    inputs = torch.randn(5, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    together = inputs.sum(dim=1)  # and the bias counts each of the 4 places
    kernel = 2 * (together @ together.T + 16)
    found = NtkRank().compute(probe_of(Sequences(), inputs, error=total))
    assert found == pytest.approx(rank_by_hand(kernel), rel=1e-9)


@each
def test_nothing_is_measured_behind_a_zero_head(metric):
    probe = small()
    zero = {**probe.parameters, "out.weight": torch.zeros_like(probe.parameters["out.weight"])}
    assert metric.compute(replace(probe, parameters=zero, head=("out.weight", "out.bias"))) is None


@each
def test_what_is_not_finite_is_nan(metric):
    probe = small()
    broken = {name: value * float("inf") for name, value in probe.parameters.items()}
    value = metric.compute(replace(probe, parameters=broken))
    assert value != value


@each
def test_a_probe_without_its_network_is_refused(metric):
    probe = small()
    alone = NetworkProbe(probe.parameters, probe.initial, probe.gradients, (), inputs=probe.inputs)
    with pytest.raises(InvalidInputError, match="take it from a learner"):
        metric.compute(alone)


@each
def test_too_few_samples_are_refused(metric):
    with pytest.raises(InvalidInputError, match="samples must be at least 2"):
        replace(metric, samples=1)


class Scaled(nn.Module):
    """A parameter that is one number."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        return self.scale * x


def test_parameters_of_one_number_count():
    inputs = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).double()  # the gradients are 3 and 7
    probe = probe_of(Scaled(), inputs)
    found = samples.gradient_products(summed(probe), probe, torch.arange(2))
    assert found.tolist() == [[9.0, 21.0], [21.0, 49.0]]
