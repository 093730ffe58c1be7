"""Norms of features, parameters and gradients."""

import pytest
import torch

from lopbench.core.errors import InvalidInputError
from lopbench.core.probe import LayerProbe, NetworkProbe
from lopbench_plugins.metrics.distance_from_init import DistanceFromInit
from lopbench_plugins.metrics.feature_norm import FeatureNorm
from lopbench_plugins.metrics.gradient_norm import GradientNorm
from lopbench_plugins.metrics.weight_norm import WeightNorm

TRAINED = {"body.weight": torch.tensor([[1.0, 2.0], [0.0, 0.0]]), "head.bias": torch.tensor([2.0])}
BUILT = {"body.weight": torch.tensor([[1.0, 0.0], [3.0, 0.0]]), "head.bias": torch.tensor([8.0])}


def probe(parameters=TRAINED, initial=BUILT, gradients=BUILT):
    return NetworkProbe(parameters, initial, gradients, (), head=("head.bias",))


def test_feature_norm_is_the_mean_of_the_rows_norms():
    assert FeatureNorm().compute(LayerProbe(torch.tensor([[3.0, 4.0], [0.0, -1.0]]))) == 3


def test_weight_norm_is_of_all_parameters_with_the_head():
    assert WeightNorm().compute(probe()) == 3  # 1 + 4 + 4


def test_gradient_norm_is_of_all_gradients_with_the_head():
    assert GradientNorm().compute(probe()) == pytest.approx(74**0.5)  # 1 + 9 + 64


def test_distance_is_of_all_parameters_with_the_head():
    assert DistanceFromInit().compute(probe()) == 7  # 4 + 9 + 36


def test_untrained_network_has_distance_zero():
    assert DistanceFromInit().compute(probe(parameters=BUILT)) == 0


def test_probe_without_gradients_is_refused():
    with pytest.raises(InvalidInputError, match="gradients"):
        GradientNorm().compute(probe(gradients={}))


def test_parameters_without_their_initial_values_are_named():
    with pytest.raises(InvalidInputError, match=r"head\.bias"):
        DistanceFromInit().compute(probe(initial={"body.weight": BUILT["body.weight"]}))


def test_gradient_that_cannot_pass_a_zero_head_is_not_measured():
    parameters = {"body.weight": torch.ones(2, 2), "head.weight": torch.zeros(2, 2)}
    gradients = {"body.weight": torch.zeros(2, 2), "head.weight": torch.ones(2, 2)}
    blocked = NetworkProbe(parameters, parameters, gradients, (), head=("head.weight",))
    assert GradientNorm().compute(blocked) is None
    alone = NetworkProbe({"head.weight": torch.zeros(2, 2)}, {}, {"head.weight": torch.ones(2, 2)}, (), blocked.head)
    assert GradientNorm().compute(alone) == 2
