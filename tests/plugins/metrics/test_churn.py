"""Churn of the outputs between probes."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lopbench.core.errors import InvalidInputError
from lopbench.core.probe import NetworkProbe
from lopbench.learner import probing
from lopbench_plugins.metrics import samples
from lopbench_plugins.metrics.churn import Churn

INPUTS = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]]).double()


class Task:
    """Three samples."""

    classes: torch.Tensor | None = None

    def probe(self):
        return INPUTS, torch.tensor([0, 0, 0])

    def loss(self, outputs, targets):
        return F.cross_entropy(outputs, targets)


def probe_of(module, recall=lambda: None, classes=None):
    parameters = {name: value.detach().double() for name, value in module.named_parameters()}
    buffers = dict(module.named_buffers())
    subject = probing.Subject(module=module, parameters=parameters, buffers=buffers, layers=())
    task = Task()
    task.classes = classes
    return probing.take(subject, task, initial=parameters, head=(), lr=0.1, recall=recall)


def linear(weight, bias):
    module = nn.Linear(2, 2)
    module.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
    return module


ZERO = linear([[0.0, 0.0], [0.0, 0.0]], [0.0, 0.0])
#: Outputs (1, -1), (4, 0), (3, -1) on the inputs.
ONE = linear([[1.0, 2.0], [-1.0, 0.0]], [0.0, 0.0])


def kept(module):
    return lambda: {name: value.detach().clone() for name, value in module.state_dict().items()}


def test_the_first_probe_measures_nothing():
    assert Churn().compute(probe_of(ONE)) is None


def test_churn_is_the_mean_absolute_change_of_the_outputs():
    assert Churn().compute(probe_of(ONE, kept(ZERO))) == pytest.approx(10 / 6, rel=1e-15)
    assert Churn().compute(probe_of(ZERO, kept(ONE))) == pytest.approx(10 / 6, rel=1e-15)


def test_a_network_that_has_not_changed_has_no_churn():
    assert Churn().compute(probe_of(ONE, kept(ONE))) == 0


@pytest.mark.parametrize("shift", [0.0, -3.0, 1e-9])
def test_a_shift_of_all_outputs_is_the_churn(shift):
    shifted = linear([[1.0, 2.0], [-1.0, 0.0]], [shift, shift])
    assert Churn().compute(probe_of(shifted, kept(ONE))) == pytest.approx(abs(shift), rel=1e-6)


def test_only_outputs_that_count_are_compared():
    probe = probe_of(ONE, kept(ZERO), classes=torch.tensor([0]))
    assert Churn().compute(probe) == pytest.approx(8 / 3, rel=1e-15)


def test_churn_does_not_depend_on_how_many_samples_pass_at_once(monkeypatch):
    whole = Churn().compute(probe_of(ONE, kept(ZERO)))
    monkeypatch.setattr(samples, "_ACTIVATIONS", 1)
    assert Churn().compute(probe_of(ONE, kept(ZERO))) == pytest.approx(whole, rel=1e-15)


def test_running_statistics_count_as_they_were():
    module = nn.Sequential(nn.BatchNorm1d(2, affine=False), nn.Linear(2, 2))
    then = kept(module)()
    module[0].running_mean.fill_(1.0)
    change = (module[1].weight.detach().double() / (1 + 1e-5) ** 0.5).sum(dim=1).abs().mean()
    found = Churn().compute(probe_of(module, lambda: then))
    assert found == pytest.approx(change.item(), rel=1e-6)


def test_a_probe_without_its_network_is_refused():
    alone = NetworkProbe({"w": torch.ones(1)}, {}, {}, (), inputs=INPUTS, recall=lambda: {"w": torch.ones(1)})
    with pytest.raises(InvalidInputError, match="take it from a learner"):
        Churn().compute(alone)
