"""What is made of a metric's value, and of one that breaks its contract."""

from dataclasses import dataclass
from math import inf, isnan, nan
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from lopbench.core.errors import InvalidInputError, UnsupportedError
from lopbench.core.measuring import MetricFailure, measured, measured_in_step
from lopbench.core.metric import LayerMetric, Metric, NetworkMetric, TrainingMetric
from lopbench.core.probe import LayerProbe, NetworkProbe


def returns(value: Any, base: type = LayerMetric) -> Any:
    """Return a metric that returns ``value``, or raises it."""

    @dataclass(frozen=True, kw_only=True)
    class Returns(base):  # type: ignore[misc]
        name: ClassVar[str] = "returns"

        def compute(self, *given: object) -> Any:
            if isinstance(value, Exception):
                raise value
            return value

    return Returns()


LAYER = LayerProbe(torch.ones(2, 2), name="hidden")
NETWORK = NetworkProbe({"w": torch.ones(2)}, {}, {}, ())


@pytest.mark.parametrize(("base", "probe"), [(LayerMetric, LAYER), (NetworkMetric, NETWORK)])
@pytest.mark.parametrize("value", [0.5, 3, np.float64(0.5)])
def test_a_number_becomes_a_float(base: type, probe: Any, value: Any) -> None:
    found = measured(returns(value, base), probe)
    assert type(found) is float
    assert found == value


@pytest.mark.parametrize(("base", "probe"), [(LayerMetric, LAYER), (NetworkMetric, NETWORK)])
@pytest.mark.parametrize("value", [nan, inf, -inf])
def test_what_is_not_finite_becomes_nan(base: type, probe: Any, value: float) -> None:
    found = measured(returns(value, base), probe)
    assert found is not None
    assert isnan(found)


def test_nothing_to_measure_stays_nothing() -> None:
    assert measured(returns(None), LAYER) is None
    assert measured(returns(None, NetworkMetric), NETWORK) is None


def test_layers_that_are_not_finite_are_nan_and_no_metric_sees_them() -> None:
    found = measured(returns(AssertionError()), LayerProbe(torch.tensor([[1.0], [inf]])))
    assert found is not None
    assert isnan(found)


@pytest.mark.parametrize("value", [torch.ones(()), "0.5", True, {"a": 1.0}])
def test_what_is_no_number_is_told_with_metric_plugin_and_layer(value: Any) -> None:
    kind = type(value).__name__
    with pytest.raises(
        MetricFailure, match=f"metric returns of tests, at layer 'hidden', returned a {kind} where a float"
    ):
        measured(returns(value), LAYER)


def test_what_a_metric_raises_is_told_with_metric_plugin_and_layer() -> None:
    with pytest.raises(
        MetricFailure, match=r"metric returns of tests, at layer 'hidden', raised KeyError: 'w'"
    ) as caught:
        measured(returns(KeyError("w")), LAYER)
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(MetricFailure, match="metric returns of tests raised ZeroDivisionError: by zero"):
        measured(returns(ZeroDivisionError("by zero"), NetworkMetric), NETWORK)


@pytest.mark.parametrize("error", [UnsupportedError("not here"), MemoryError(), torch.OutOfMemoryError()])
def test_refusals_and_a_lack_of_memory_are_no_faults_of_the_metric(error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        measured(returns(error), LAYER)
    assert caught.value is error


def test_a_probe_of_the_other_kind_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="returns is a LayerMetric, which a NetworkProbe cannot serve"):
        measured(returns(0.5), NETWORK)
    with pytest.raises(InvalidInputError, match="returns is a NetworkMetric, which a LayerProbe cannot serve"):
        measured(returns(0.5, NetworkMetric), LAYER)


def test_a_metric_that_does_not_say_what_it_measures_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="metric returns does not say what it measures; let it subclass Layer"):
        returns(0.5, Metric)


def test_of_a_step_the_value_is_one_for_each_replica() -> None:
    losses = torch.tensor([0.5, 0.25])
    assert measured_in_step(returns(losses, TrainingMetric), losses, losses) is losses
    wrong = {r"shape \(\)": losses.sum(), r"shape \(1,\)": losses[:1], "a float": 0.5, "a NoneType": None}
    for got, value in wrong.items():
        sentence = rf"metric returns of tests returned {got} where a number for each replica belongs, shape \(2,\)"
        with pytest.raises(MetricFailure, match=sentence):
            measured_in_step(returns(value, TrainingMetric), losses, losses)
    with pytest.raises(MetricFailure, match="metric returns of tests raised KeyError: 'w'") as caught:
        measured_in_step(returns(KeyError("w"), TrainingMetric), losses, losses)
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(UnsupportedError, match="not here"):
        measured_in_step(returns(UnsupportedError("not here"), TrainingMetric), losses, losses)
